"""scripts/entropy_alone.py: a finished run of one rate goes on with its entropy model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from test_start import convolutional
from tiny_runs import RECIPE, make_quick, start

from rdcodec.cli.main import main
from rdcodec.models.weights import FILE_NAME, read_weights
from rdcodec.training.plan import Plan


@pytest.fixture
def go_on(
    script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, picture_folder: Path
) -> Callable[[], int]:
    """The script on tmp_path / "run", for half a second."""
    module = script("entropy_alone")
    make_quick(monkeypatch.setattr)
    new, data = str(tmp_path / "new"), str(picture_folder)
    asked = [str(tmp_path / "run"), "-o", new, "--data", data, "--minutes", "0.01", "--crops", "16"]
    monkeypatch.setattr(sys, "argv", ["entropy_alone.py", *asked])
    monkeypatch.setattr(module, "LOG_STEPS", 2)
    return lambda: int(module.main())


def test_only_the_rate_is_learned(go_on: Callable[[], int], tmp_path: Path, picture_folder: Path) -> None:
    """Analysis and synthesis stay, the entropy model learns, the count goes on, and a run of it is finished."""
    config = convolutional().model_copy(update={"name": "Small"})
    start(Plan(config, RECIPE, (str(picture_folder),), seed=0), tmp_path / "run", 2)
    assert go_on() == 0
    assert main(["train", "--resume", str(tmp_path / "new"), "--no-anchors", "--no-progress"]) == 0
    old, new = (read_weights(tmp_path / name / FILE_NAME) for name in ("run", "new"))
    for name, tensor in old.state.items():
        same = torch.equal(tensor, new.state[name])
        assert same or name.startswith("entropy."), name
    assert not torch.equal(old.state["entropy.hyper_analysis.0.weight"], new.state["entropy.hyper_analysis.0.weight"])
    assert old.eflop is not None and new.eflop is not None and new.eflop > old.eflop
    log = [json.loads(line) for line in (tmp_path / "new" / "log.jsonl").read_text("utf-8").splitlines()]
    steps = [record["step"] for record in log]
    assert steps == sorted(steps) and steps[-1] > 2 and log[-1]["kind"] == "validation"
    before, after = [record for record in log if record["kind"] == "validation"][-2:]
    assert after["bpp"][0] < before["bpp"][0]
    assert after["psnr_db"][0] == pytest.approx(before["psnr_db"][0], abs=0.1)  # what is rounded to depends on means


def test_what_is_there_is_not_written_over(
    go_on: Callable[[], int], tmp_path: Path, six_rates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = convolutional().model_copy(update={"name": "Small"})
    run = json.loads((six_rates / "run.json").read_text("utf-8"))
    (six_rates / "run.json").write_text(json.dumps(run | {"config": config.model_dump()}), "utf-8")
    (tmp_path / "new").mkdir()
    assert go_on() == 2
    assert "exists already" in capsys.readouterr().err and not list((tmp_path / "new").iterdir())


def test_models_of_all_rates_are_refused(
    go_on: Callable[[], int], tmp_path: Path, six_rates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go_on() == 2
    assert "Tiny has all rates" in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.fixture
def six_rates(tiny_config: object, tmp_path: Path, picture_folder: Path) -> Path:
    """A finished run of a light model."""
    start(Plan(tiny_config, RECIPE, (str(picture_folder),), seed=0), tmp_path / "run", 1)  # type: ignore[arg-type]
    return tmp_path / "run"
