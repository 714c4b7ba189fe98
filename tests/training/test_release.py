"""Released weights: tagged, never changed, with a card that says where they come from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import rdcodec
from rdcodec.cli.main import main
from rdcodec.errors import BadInput, UsageError
from rdcodec.models.config import ModelConfig
from rdcodec.training.recipe import load_recipe
from rdcodec.training.release import release
from rdcodec.training.run import Plan

CURVE = {"quality": [10.0, 40.0, 70.0, 85.0], "psnr_db": [25.0, 29.0, 33.0, 35.0]}


@pytest.fixture
def finished(tiny_run: Path, tiny_config: ModelConfig, tmp_path: Path) -> Path:
    """A run folder with the weights of the tiny model, and a log as training writes it."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    Plan(tiny_config, load_recipe("short"), ("photos.zip",), seed=7).save(folder)
    spent = {"seconds": 3600.0, "eflop": 0.001}
    log = [
        {"kind": "validation", "step": 0, **spent, **CURVE, "bpp": [0.2, 0.5, 1.2, 2.2], "bd_rate_percent": {}},
        {"kind": "train", "step": 1000, **spent},
        {"kind": "validation", "step": 1000, **spent, **CURVE, "bpp": [0.1, 0.25, 0.6, 1.1]}
        | {"bd_rate_percent": {"jpeg": -40.0, "webp": None}},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log))
    return folder


def test_a_release_decodes_what_it_codes(
    finished: Path, tiny_config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = f"{tiny_config.name}.3"
    path = release(finished, tag, tmp_path / "weights", notes="Licence: none.")
    assert path == tmp_path / "weights" / f"{tag}.safetensors"
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(path.parent))
    image = np.full((20, 30, 3), 77, np.uint8)
    data = rdcodec.compress(image, model=tag)
    assert tag.encode() in data
    assert np.array_equal(rdcodec.decompress(data), rdcodec.load(tag).encode(image).reconstruction)


def test_the_card_says_what_the_weights_are(finished: Path, tiny_config: ModelConfig, tmp_path: Path) -> None:
    tag = f"{tiny_config.name}.1"
    card = release(finished, tag, tmp_path, notes="Licence: none.").with_suffix(".md").read_text()
    for words in (f"# {tag}", "photos.zip", "1,000 of 8 crops", "| seed | 7 |", "0.001000 EFLOP", "jpeg -40.0 %"):
        assert words in card, words
    assert "| 0 | 1.00 | 0.001000 | +100.0 % |" in card, "twice the rate of the end"
    assert "| 1,000 | 1.00 | 0.001000 | +0.0 % |" in card
    assert card.endswith("Licence: none.\n") and "webp" not in card and str(tmp_path) not in card


def test_a_released_tag_never_changes(finished: Path, tiny_config: ModelConfig, tmp_path: Path) -> None:
    path = release(finished, f"{tiny_config.name}.1", tmp_path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="never change"):
        release(finished, f"{tiny_config.name}.1", tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("tag", ["other.1", "{}.0", "{}", "{}.x"])
def test_tags_that_do_not_fit(finished: Path, tiny_config: ModelConfig, tmp_path: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="a tag of this model"):
        release(finished, tag.format(tiny_config.name), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_runs_that_cannot_be_released(finished: Path, tiny_config: ModelConfig, tmp_path: Path) -> None:
    (finished / "log.jsonl").write_text("{")
    with pytest.raises(BadInput, match="damaged log"):
        release(finished, f"{tiny_config.name}.1", tmp_path / "a")
    (finished / "log.jsonl").unlink()
    with pytest.raises(BadInput, match="no log"):
        release(finished, f"{tiny_config.name}.1", tmp_path / "b")
    assert not list(tmp_path.glob("?/*")), "nothing half-written"


def test_from_the_command_line(finished: Path, tiny_config: ModelConfig, tmp_path: Path) -> None:
    tag = f"{tiny_config.name}.2"
    assert main(["release", str(finished), tag, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / f"{tag}.md").is_file()
    assert main(["release", str(finished), tag, "-o", str(tmp_path / "out")]) == 2
    assert main(["release", str(finished), f"{tiny_config.name}.9", "-o", str(tmp_path), "--notes", "none.md"]) == 1
