"""Releases: weights under a tag that never changes, with a card that says where they come from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_start import convolutional, started

from made_up import metrics
from rdcodec.codec.pipeline import Codec, load
from rdcodec.errors import BadInput, NeedsModel, UsageError
from rdcodec.exact.tables import LEVELS
from rdcodec.export.weights import export
from rdcodec.measure.bdrate import rate_at
from rdcodec.measure.rd import Evaluation, Row
from rdcodec.measure.reading import load_curve
from rdcodec.models.config import ModelConfig
from rdcodec.models.weights import FILE_NAME, Weights, read_weights, save_weights
from rdcodec.training.plan import RUN_FILE, Plan
from rdcodec.training.recipe import Stage, load_recipe
from rdcodec.training.record import training_result
from rdcodec.training.release import _of_tag, release, retire

Picture = NDArray[np.uint8]
CURVE = {"quality": [10.0, 40.0, 70.0, 85.0], "bpp": [0.1, 0.3, 0.7, 1.1], "psnr_db": [28.0, 31.0, 35.0, 37.0]}
LATER = {**CURVE, "bpp": [0.09, 0.27, 0.63, 0.99]}


def record(kind: str, step: int, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "step": step, "seconds": 60.0 * step, "eflop": 1e-6 * step, **more}


RECIPE = load_recipe("short").model_copy(
    update={
        "stages": (Stage(until=0.8, batch=8, crop=256), Stage(until=1.0, batch=8, crop=384)),
        "optimizer": "adam",
        "learning_rate": 1.5e-3,
    }
)


@pytest.fixture
def finished(fair_run: Path, tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path) -> Path:
    """A run folder as training leaves it, but for its checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes((fair_run / FILE_NAME).read_bytes())
    Plan(tiny_config, RECIPE, (str(picture_folder),), seed=0).save(folder)
    write_log(
        folder,
        record("validation", 0, **CURVE, bd_rate_percent={"jpeg": 5.0, "webp": None}),
        record("train", 50, loss=1.0),
        record("validation", 60, **LATER, bd_rate_percent={"jpeg": -12.34, "webp": None}),
    )
    return folder


def write_log(folder: Path, *records: dict[str, Any]) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


def same_shortcut(new: Weights, old: Weights) -> bool:
    """Whether both have the part of the synthesis that no release makes narrower."""
    name = "synthesis.shortcut.weight"
    return np.array_equal(new.raw[name], old.raw[name])


def test_released_weights_are_those_of_the_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    path = release(finished, "Tiny.3", shelf, notes="Trained on nothing.")
    assert path == shelf / "Tiny.3.safetensors"
    assert sorted(p.name for p in shelf.iterdir()) == ["Tiny.3.md", "Tiny.3.safetensors"]
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(shelf))
    run, codec = read_weights(finished / FILE_NAME), load("Tiny")
    assert codec.info.tag == "Tiny.3"
    assert same_shortcut(read_weights(path), run)


def test_the_card(finished: Path, picture_folder: Path, tmp_path: Path) -> None:
    path = release(finished, "Tiny.3", tmp_path, notes="Trained on nothing.")
    text, weights = path.with_suffix(".md").read_text("utf-8"), read_weights(path)
    assert text.startswith("# Tiny.3\n") and text.endswith("Trained on nothing.\n")
    for part in (weights.entropy_hash, weights.synthesis_hash, weights.tables.hash()):
        assert part.hex() in text
    assert picture_folder.name in text and "| 40 | 0.270 | 31.00 |" in text
    assert "jpeg -12.3 %" in text and "webp" not in text
    assert str(picture_folder.parent) not in text  # paths of a machine


def test_the_card_names_the_gpu(finished: Path, tmp_path: Path) -> None:
    plan = json.loads((finished / RUN_FILE).read_text("utf-8"))
    plan["machine"] |= {"gpu": "Some GPU", "cpu": "Some CPU", "cores": 16, "torch": "2.11.0"}
    (finished / RUN_FILE).write_text(json.dumps(plan), "utf-8")
    text = release(finished, "Tiny.3", tmp_path).with_suffix(".md").read_text("utf-8")
    assert "| machine | Some GPU, Some CPU, 16 cores, torch 2.11.0 |" in text


def test_the_card_counts_what_the_start_had_cost(
    finished: Path, tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path
) -> None:
    def card_from(start: str, eflop: float | None, tag: str) -> str:
        Plan(
            tiny_config, RECIPE, (str(picture_folder),), 0, warm_start=f"/home/{start}.safetensors", earlier_eflop=eflop
        ).save(finished)
        return release(finished, tag, tmp_path).with_suffix(".md").read_text("utf-8")

    text = card_from("I.1", 2e-6, "Tiny.1")
    assert "| start | the weights I.1 |" in text and "0.000060 EFLOP, forward and backward; 0.000062 EFLOP with" in text
    values = training_result(finished).values
    assert (values["eflop"], values["own_eflop"]) == pytest.approx((62e-6, 60e-6))
    text = card_from("weights", None, "Tiny.2")
    assert "| start | the weights of an earlier run |" in text and "that of the start is not known" in text


def test_training_behind_unknown_weights_is_not_known(tiny_config: ModelConfig) -> None:
    """A run's own figure alone would pass for the whole, in its weights and in all that start from them."""
    fresh = Plan(tiny_config, RECIPE, (), 0)
    started = replace(fresh, warm_start="I.1.safetensors")
    known = replace(started, earlier_eflop=0.25)
    assert [plan.whole_eflop(0.5) for plan in (fresh, started, known)] == [0.5, None, 0.75]


def test_weights_say_what_training_they_had(finished: Path, tmp_path: Path) -> None:
    weights = read_weights(finished / FILE_NAME)
    assert weights.eflop is None
    save_weights(tmp_path / "told.safetensors", replace(weights, eflop=1.25e-3))
    assert read_weights(tmp_path / "told.safetensors").eflop == 1.25e-3


def test_the_card_says_how_it_was_trained(
    finished: Path, tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path
) -> None:
    text = release(finished, "Tiny.1", tmp_path).with_suffix(".md").read_text("utf-8")
    stages = "to 80% of the budget 8 crops of 256 pixels, to 100% of the budget 8 crops of 384 pixels"
    for expected in (f"60: {stages}", "adam, learning rate 0.0015", "KLT of the photographs' patches"):
        assert expected in text
    other = RECIPE.model_copy(update={"start": "random", "optimizer": "muon"})
    for warm_start, expected in (
        (None, "| start | random |"),
        ("some/where/Tiny.1.safetensors", "| start | the weights Tiny.1 |"),
    ):
        Plan(tiny_config, other, (str(picture_folder),), seed=0, warm_start=warm_start).save(finished)
        text = release(finished, f"Tiny.{len(expected)}", tmp_path).with_suffix(".md").read_text("utf-8")
        assert expected in text and "muon, learning rate" in text


def test_the_card_of_one_rate(finished: Path, photo: Picture, picture_folder: Path, tmp_path: Path) -> None:
    """A point has no BD-rate: its rate at the same PSNR stands there, on files and over the training."""
    config = convolutional().model_copy(update={"name": "Small"})
    export(started(config, photo), finished / FILE_NAME)
    Plan(config, RECIPE, (str(picture_folder),), seed=0).save(finished)
    look = {"quality": [0.0], "lmbda": [0.013]}
    write_log(
        finished,
        record("validation", 0, **look, bpp=[0.8], psnr_db=[31.0], bd_rate_percent={"jpeg": 80.0}),
        record("validation", 60, **look, bpp=[0.5], psnr_db=[31.0], bd_rate_percent={"jpeg": 12.34}),
    )
    files = (Row(f"{n}.png", 768, 512, None, 24_576, metrics(33.0, 34.0, None), None, None) for n in range(2))
    pictures = {"0.png": photo, "1.png": photo}
    evaluation = Evaluation.stamp(list(files), codec="Small", tag="Small.1", dataset="kodak", images=pictures)
    evaluation.save(tmp_path / "kodak.json")
    path = release(finished, "Small.1", tmp_path, evaluations=[tmp_path / "kodak.json"])
    text = path.with_suffix(".md").read_text("utf-8")
    run, tables = read_weights(finished / FILE_NAME).tables, read_weights(path).tables
    assert tables.hash() != run.hash() and len(tables.radius) > LEVELS  # those of the hyper-latents stand behind
    assert not np.array_equal(tables.cdf[tables.start[LEVELS] :], run.cdf[run.start[LEVELS] :])
    assert "Rate at equal PSNR there against jpeg +12.3 %." in text
    assert "| 0 | 0.00 | 0.000000 | +60.0 % |" in text and "by the tangent at lmbda" in text
    over = 100 * (0.5 / rate_at(load_curve("bpg_444"), 33.0) - 1)
    assert "| 0.5000 | 33.000 |" in text and f"BPG 4:4:4 {over:+.1f} %." in text and "BD-rate" not in text


@pytest.mark.parametrize("tag", ["Tiny", "Tiny.0", "Other.1", "Tiny.1.1", "../Tiny.1", ""])
def test_tags_that_do_not_fit(finished: Path, tmp_path: Path, tag: str) -> None:
    with pytest.raises(UsageError, match=r"Tiny\.1, Tiny\.2"):
        release(finished, tag, tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()


def test_a_released_tag_never_changes(finished: Path, tmp_path: Path) -> None:
    path = release(finished, "Tiny.1", tmp_path)
    before = path.read_bytes(), path.with_suffix(".md").read_bytes()
    with pytest.raises(UsageError, match="next tag"):
        release(finished, "Tiny.1", tmp_path, notes="other")
    assert (path.read_bytes(), path.with_suffix(".md").read_bytes()) == before


def test_what_is_left_of_a_retired_tag(finished: Path, photo: Picture, tmp_path: Path) -> None:
    """Its files decode as before, from a smaller file without pieces; nothing can be encoded with it."""
    path = tmp_path / "Tiny.1.safetensors"
    weights = replace(read_weights(finished / FILE_NAME), tag="Tiny.1")
    save_weights(path, weights, 20_000)
    assert list(tmp_path.glob("Tiny.1.piece-*"))
    whole = Codec(read_weights(path), torch.device("cpu"))
    data = whole.compress(photo, 50)
    assert "which only decode" in retire("Tiny.1", tmp_path)
    assert sorted(file.name for file in tmp_path.glob("*.safetensors")) == ["Tiny.1.safetensors"]
    left = read_weights(path)
    assert left.decodes_only
    assert (left.entropy_hash, left.synthesis_hash) == (weights.entropy_hash, weights.synthesis_hash)
    np.testing.assert_array_equal(Codec(left, torch.device("cpu")).decompress(data), whole.decompress(data))
    with pytest.raises(UsageError, match="no such weights"):
        retire("Tiny.7", tmp_path)


def test_a_run_that_cannot_be_released_leaves_nothing(finished: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    for text in ("", "{", "3\n"):
        (finished / "log.jsonl").write_text(text)
        with pytest.raises(BadInput, match=r"log\.jsonl"):
            release(finished, "Tiny.1", shelf)
    (finished / "log.jsonl").unlink()
    with pytest.raises(BadInput, match=r"log\.jsonl"):
        release(finished, "Tiny.1", shelf)
    (finished / FILE_NAME).unlink()
    with pytest.raises(NeedsModel):
        release(finished, "Tiny.1", shelf)
    assert not shelf.exists() or not list(shelf.iterdir())


def test_a_released_tag_gets_tables_of_its_own_under_the_next(
    finished: Path, fair_run: Path, picture_folder: Path, tmp_path: Path
) -> None:
    """As a tag is where tables were still Gaussian."""
    first = tmp_path / "Tiny.1.safetensors"
    old = replace(read_weights(fair_run / FILE_NAME), tag="Tiny.1")
    save_weights(first, old)
    first.with_suffix(".md").write_text("# Tiny.1\n\nFor tests.\n\n## Training\n\nNone.\n", encoding="utf-8")
    path = release(first, "Tiny.2", tmp_path / "shelf", notes="More.", sources=[picture_folder])
    new = read_weights(path)
    assert new.tag == "Tiny.2" and new.tables.hash() != old.tables.hash()
    assert same_shortcut(new, old)
    assert new.tables.hash() == read_weights(release(finished, "Tiny.3", tmp_path)).tables.hash()
    text = path.with_suffix(".md").read_text("utf-8")
    assert text.startswith("# Tiny.2\n") and "\n\nMore.\n" in text and new.tables.hash().hex() in text
    assert "\n## Tiny.1\n" in text and "\n### Training\n\nNone.\n" in text


def test_headings_of_cards_within_cards_stay_headings(tmp_path: Path) -> None:
    """Markdown has six levels, and '#' of a command is none."""
    card = "# Tiny.1\n\n##### Data\n\n###### Licence\n\n#!/bin/sh\n"
    (tmp_path / "Tiny.1.md").write_text(card, "utf-8")
    _, text = _of_tag(tmp_path / "Tiny.1.safetensors")
    assert text == "## Tiny.1\n\n###### Data\n\n###### Licence\n\n#!/bin/sh"


def test_a_released_tag_without_photographs_or_card(finished: Path, picture_folder: Path, tmp_path: Path) -> None:
    first = release(finished, "Tiny.1", tmp_path)
    with pytest.raises(UsageError, match="--data"):
        release(first, "Tiny.2", tmp_path)
    with pytest.raises(UsageError, match="next tag"):
        release(first, "Tiny.1", tmp_path / "elsewhere", sources=[picture_folder])
    first.with_suffix(".md").unlink()
    with pytest.raises(BadInput, match=r"Tiny\.1\.md"):
        release(first, "Tiny.2", tmp_path, sources=[picture_folder])
    assert [path.name for path in tmp_path.glob("Tiny*")] == ["Tiny.1.safetensors"]
    assert not (tmp_path / "elsewhere").exists()


def test_photographs_that_are_gone(finished: Path, tiny_config: ModelConfig, tmp_path: Path) -> None:
    Plan(tiny_config, RECIPE, (str(tmp_path / "gone.zip"),), seed=0).save(finished)
    with pytest.raises(UsageError, match=r"gone\.zip"):
        release(finished, "Tiny.1", tmp_path / "shelf")
    assert not (tmp_path / "shelf").exists()


def test_a_run_that_held_nothing_out(finished: Path, tmp_path: Path) -> None:
    write_log(finished, record("train", 50, loss=1.0))
    assert "held out" in release(finished, "Tiny.1", tmp_path).with_suffix(".md").read_text("utf-8")


def test_curves_that_do_not_meet(finished: Path, tmp_path: Path) -> None:
    """A start so far below the end that there is no rate to compare."""
    poor = {**CURVE, "psnr_db": [18.0, 19.0, 20.0, 21.0]}
    write_log(finished, record("validation", 0, **poor), record("validation", 60, **LATER))
    assert release(finished, "Tiny.1", tmp_path).is_file()
