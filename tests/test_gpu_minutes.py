"""Some minutes of a GPU, on a CPU: scripts/gpu_minutes.py as a program, and the crops that it takes on the card."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rdcodec.cli.main import main
from rdcodec.errors import UsageError
from rdcodec.models.base import ImageModel
from rdcodec.models.config import load_config
from rdcodec.models.weights import FILE_NAME, read_weights
from rdcodec.training import run
from rdcodec.training.checkpoint import RESTART
from rdcodec.training.plan import RUN_FILE, Plan
from rdcodec.training.recipe import Stage, load_recipe

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_minutes.py"
RECIPE = """
stages = [{ until = 0.5, batch = 8, crop = 128 }, { until = 1.0, batch = 8, crop = 256 }]
start = "random"
optimizer = "muon"
learning_rate = 2e-3
matrix_rate = 0.5
shortcut_rate = 0.1
weight_decay = 0.0
warmup_steps = 2
decay_share = 0.5
clip_norm = 1.0
average_decay = 0.5
lmbda_weight = -0.5
stratified = true
"""
MODEL = """
name = "Tiny"
summary = "for tests"
latent_channels = 8
analysis = {{ kind = "light", stride8 = {{ width = 8, blocks = 1 }}, stride16 = {{ width = {width}, blocks = 1 }} }}
synthesis = {{ kind = "light", stride8 = {{ width = 8, blocks = 1 }}, stride16 = {{ width = {width}, blocks = 1 }} }}
entropy = {{ kind = "checkerboard", hyper_channels = 8, features = 8, hidden = 8 }}
"""
CROP = 64

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs a checkout with scripts/")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Models, a recipe, and an empty data/."""
    (tmp_path / "small.toml").write_text(MODEL.format(width=8))
    (tmp_path / "large.toml").write_text(MODEL.format(width=16))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "data").mkdir()
    return tmp_path


def pack(path: Path, pictures: list[Path]) -> None:
    """A zip file that is there at once and whole."""
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        for picture in pictures:
            archive.write(picture, picture.name)
    partial.rename(path)


def started(folder: Path, model: str, output: str, *options: str, seconds: float = 0.2) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), f"{model}.toml", "--recipe", "recipe.toml", "--data", "data", "-o", output]
    small = ["--batch", "2", "--crop", str(CROP), "--pool", "0.01", "--device", "cpu", "--no-compile"]
    environment = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*command, *small, "--seconds", str(seconds), *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """What it said."""
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def test_a_run_and_a_larger_one_after_it(folder: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is ready before the first is done, waits for it, and grows from it; photographs join the first."""
    data, pictures = folder / "data", sorted(picture_folder.iterdir())
    pack(data / "first.zip", pictures[:4])
    second = started(folder, "large", "large", "--start", "small/last.pt", "--after", "small/done")
    first = started(folder, "small", "small", seconds=4)
    assert first.stdout is not None
    assert any("step 2," in line for line in iter(first.stdout.readline, ""))
    pack(data / "second.zip", pictures[4:])
    finished(first)
    finished(second)
    files = {RUN_FILE, "log.jsonl", RESTART, "last.pt", "done"}
    for name in ("small", "large"):
        assert {path.name for path in (folder / name).iterdir()} == files
        records = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records] == list(range(2, 2 * len(records) + 1, 2))
        assert records[-1]["done"] == 1 and records[-1]["skipped_steps"] <= 0.2 * records[-1]["step"]
        assert all(records[0][figure] > 0 for figure in ("loss", "bpp", "psnr_db", "eflop", "gflop_per_s"))

    # What run.json says is what was done.
    small, large = (Plan.read(folder / name) for name in ("small", "large"))
    assert small.recipe.stages == (Stage(until=1.0, batch=2, crop=CROP),)
    assert small.sources == (str(data / "first.zip"), str(data / "second.zip"))
    assert small.warm_start is None and small.earlier_eflop is None
    kept = torch.load(folder / "small" / "last.pt", weights_only=True)
    assert large.warm_start == str(folder / "small" / "last.pt") and large.earlier_eflop == kept["eflop"] > 0

    # rdc train makes weights of it, without another step.
    monkeypatch.setattr(run, "matmul_gflop_per_s", lambda *_: 100.0)
    monkeypatch.chdir(folder)
    assert main(["train", "--resume", "large", "--data", "data", "--no-anchors", "--no-progress"]) == 0
    weights = read_weights(folder / "large" / FILE_NAME)
    assert weights.tag == "Tiny.0"
    log = [json.loads(line) for line in (folder / "large" / "log.jsonl").read_text().splitlines()]
    assert weights.eflop == pytest.approx(kept["eflop"] + log[-1]["eflop"])


@pytest.fixture(scope="module")
def minutes(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("gpu_minutes")


def test_what_is_larger_is_no_start(minutes: ModuleType, folder: Path) -> None:
    large, small = (load_config(folder / f"{name}.toml") for name in ("large", "small"))
    model, start = ImageModel(large), folder / "last.pt"
    torch.save({"model": str(folder / "large.toml"), "state": model.state_dict(), "eflop": 0.5}, start)
    recipe = load_recipe(str(folder / "recipe.toml"))
    state, eflop = minutes.first_state(Plan(large, recipe, (), 0, str(start)), folder)
    assert eflop == 0.5 and all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(UsageError, match="Tiny cannot grow from Tiny"):
        minutes.first_state(Plan(small, recipe, (), 0, str(start)), folder)


# Crops


def numbered(height: int, width: int, first: int) -> NDArray[np.uint8]:
    """A picture in which every pixel says which one it is."""
    number = first + np.arange(height * width).reshape(height, width)
    return np.stack([number >> 16, number >> 8 & 255, number & 255], 2).astype(np.uint8)


def test_crops_are_those_of_the_photographs(minutes: ModuleType) -> None:
    """In all eight positions, up to every border: each is a numpy slice, flipped and transposed."""
    pool = minutes.Pool(torch.device("cpu"), CROP, 0.001)
    photos = [numbered(66, 70, 0), numbered(CROP, CROP, 10_000), numbered(80, 65, 20_000)]
    for photo in photos:
        pool.add(photo, scale=2.0)  # too small to be scaled down
    assert len(pool.whole) == 3 and not pool.scaled
    drawn = pool.draw(np.random.default_rng(0), 600)
    seen, corners = set(), set()
    for crop in pool.crops(torch.from_numpy(drawn)).permute(0, 2, 3, 1).numpy():
        number = (crop @ [1 << 16, 1 << 8, 1]).astype(int)
        which = int(number.min()) // 10_000
        height, width = photos[which].shape[:2]
        top, left = divmod(int(number.min()) - 10_000 * which, width)
        cut = photos[which][top : top + CROP, left : left + CROP]
        found = [way for way in product((1, -1), (1, -1), (False, True)) if np.array_equal(crop, turned(cut, *way))]
        assert len(found) == 1
        seen.add((which, *found[0]))
        corners |= {(which, top, left)} & {(which, 0, 0), (which, height - CROP, width - CROP)}
    assert len(seen) == 3 * 8 and len(corners) == 5  # of the second photograph there is one crop alone


def turned(cut: NDArray[np.uint8], down: int, right: int, transposed: bool) -> NDArray[np.uint8]:
    flipped = cut[::down, ::right]
    return flipped.transpose(1, 0, 2) if transposed else flipped


def test_some_crops_are_of_photographs_scaled_down(minutes: ModuleType) -> None:
    pool = minutes.Pool(torch.device("cpu"), CROP, 0.001)
    pool.add(numbered(160, 140, 0), scale=2.0)
    assert [place[1:] for place in pool.scaled] == [(80, 70)]
    first = pool.draw(np.random.default_rng(0), 2000)[:, 0]
    assert 0.2 < (first >= 160 * 140).mean() < 0.3


def test_a_full_pool_takes_no_more(minutes: ModuleType) -> None:
    pool = minutes.Pool(torch.device("cpu"), CROP, 3 * 100 * 100 * 1e-9)
    for _ in range(3):
        pool.add(numbered(90, 90, 0), scale=1.2)
    assert pool.whole == [(0, 90, 90)] and not pool.scaled and pool.used == 8100


def test_a_gradient_that_is_no_number_changes_nothing(minutes: ModuleType, folder: Path) -> None:
    """Not the weights, not the usual norm, and not what the optimisers remember."""
    recipe, config = load_recipe(str(folder / "recipe.toml")), load_config(folder / "small.toml")
    stepper = minutes.Stepper(config, recipe, minutes.Pool(torch.device("cpu"), CROP, gigabytes=0.001))
    gradients = [torch.ones_like(parameter) for parameter in stepper.model.parameters()]
    for parameter, gradient in zip(stepper.model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    assert stepper._clip() and all(gradient.any() for gradient in gradients)
    usual = stepper.usual_norm.clone()
    gradients[3].view(-1)[0] = torch.nan
    assert not stepper._clip()
    assert not any(gradient.any() for gradient in gradients) and torch.equal(stepper.usual_norm, usual)


def test_a_zip_file_that_is_none_does_not_end_the_watch(
    minutes: ModuleType, folder: Path, picture_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and no source of the run; alone it is an error."""
    pool = minutes.Pool(torch.device("cpu"), CROP, 0.01)
    watch = minutes.Watch(folder / "data", pool, 0)
    (folder / "data" / "bad.zip").write_text("no archive")
    watch.look()
    with pytest.raises(UsageError, match="photographs cannot be read"):
        minutes.wait(watch, None)
    pack(folder / "data" / "good.zip", sorted(picture_folder.iterdir())[:2])
    watch.look()
    assert pool.whole and watch.seen == [folder / "data" / "good.zip"]
    assert capsys.readouterr().out.count("skipped: ") == 1
