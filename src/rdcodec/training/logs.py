"""The log of a run: JSON lines, and the same in TensorBoard's form."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"  # folder in that of the run


def whole_records(folder: Path) -> list[dict[str, Any]]:
    """The records of RUN/log.jsonl; none without one. Damaged lines are left out: a power cut may leave some."""
    path, found = folder / LOG, []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [record for record in found if isinstance(record, dict) and "step" in record]


def open_tensorboard(folder: Path) -> Callable[[dict[str, Any]], None]:
    """What writes a log record to RUN/tensorboard; does nothing where the extra `train` is not installed.

    The first record of a resumed run hides what an interrupted one had logged from there on.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda record: None
    writers: list[Any] = []

    def write(record: dict[str, Any]) -> None:
        step = record["step"]
        if not writers:
            writers.append(SummaryWriter(str(folder / TENSORBOARD), purge_step=step))
        for tag, value in scalars(record).items():
            writers[0].add_scalar(tag, value, step)
        writers[0].flush()

    return write


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The figures of a log record by TensorBoard tag: train/loss, validation/q40/bpp, validation/bd_rate/jpeg."""
    kind = record["kind"]
    found = {f"{kind}/{key}": value for key, value in record.items() if isinstance(value, int | float)}
    del found[f"{kind}/step"]  # the axis of all of them
    for key in ("bpp", "psnr_db") if kind == "validation" else ():
        for quality, value in zip(record["quality"], record[key], strict=True):
            found[f"{kind}/q{quality:g}/{key}"] = value
    for anchor, delta in record.get("bd_rate_percent", {}).items():
        if delta is not None:
            found[f"{kind}/bd_rate/{anchor}"] = delta
    return found
