"""What TensorBoard reads back is what was logged."""

import sys
from pathlib import Path
from typing import Any

import pytest

from rdcodec.training.logs import open_tensorboard

VALIDATION = {
    "kind": "validation",
    "step": 0,
    "loss": 0.8,
    "quality": [10.0, 40.0],
    "bpp": [0.1, 0.4],
    "psnr_db": [27.0, 30.0],
    "mse": [130.0, 65.0],
    "bd_rate_percent": {"jpeg": -33.5, "x265_444": None},
}


def train(step: int, loss: float) -> dict[str, Any]:
    return {"kind": "train", "step": step, "loss": loss, "bpp": 0.5, "psnr_db": 30.0, "steps_per_s": 2.0}


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag."""
    reason = "TensorBoard comes with the extra `train`"
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason=reason)
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)] for tag in tags}


def test_records_are_read_back(tmp_path: Path) -> None:
    write = open_tensorboard(tmp_path)
    for record in (VALIDATION, train(50, 3.5), train(100, 2.5)):
        write(record)
    assert read(tmp_path) == {
        "validation/loss": [(0, 0.8)],
        "validation/q10/bpp": [(0, 0.1)],
        "validation/q10/psnr_db": [(0, 27.0)],
        "validation/q40/bpp": [(0, 0.4)],
        "validation/q40/psnr_db": [(0, 30.0)],
        "validation/bd_rate/jpeg": [(0, -33.5)],
        "train/loss": [(50, 3.5), (100, 2.5)],
        "train/bpp": [(50, 0.5), (100, 0.5)],
        "train/psnr_db": [(50, 30.0), (100, 30.0)],
        "train/steps_per_s": [(50, 2.0), (100, 2.0)],
    }


def test_a_resumed_run_takes_the_place_of_what_was_lost(tmp_path: Path) -> None:
    """The first run went on to step 100 after its last checkpoint."""
    for records in ([train(50, 3.5), train(100, 2.5)], [train(100, 2.25), train(150, 1.5)]):
        write = open_tensorboard(tmp_path)
        for record in records:
            write(record)
    assert read(tmp_path)["train/loss"] == [(50, 3.5), (100, 2.25), (150, 1.5)]


def test_without_tensorboard_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it fails
    open_tensorboard(tmp_path)(VALIDATION)
    assert list(tmp_path.iterdir()) == []
