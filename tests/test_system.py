"""Files are written whole or not at all, whoever writes them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from made_up import metrics
from rdcodec.cli.io import write_output
from rdcodec.codec.image import write_image
from rdcodec.measure import speed
from rdcodec.measure.rd import Evaluation, Row
from rdcodec.models.weights import FILE_NAME, read_weights, save_weights
from rdcodec.store.records import Provenance, Result
from rdcodec.system import core_count, write_whole
from rdcodec.training.trial import Job

ROWS = (Row("1.png", 8, 8, 50.0, 100, metrics(30.0, 31.0, 0.9), 0.1, 0.1),)
RESULT = Result("speed", "I", "I.1", {}, Provenance("rdcodec"))


def save_job(path: Path) -> None:
    Job("t", str(path.with_suffix("")), {}, {}, {}, (), 0, 1, "cpu", "").save()


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda path: write_whole(path, "new"),
    "output": lambda path: write_output(path, b"new", force=True),
    "picture": lambda path: write_image(np.zeros((8, 8, 3), np.uint8), path, "png"),
    "evaluation": lambda path: Evaluation("I", "I.1", {"name": "x", "sha256": ""}, 1, "", {}, ROWS).save(path),
    "speeds": lambda path: speed.save([RESULT], path),
    "job": save_job,
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS.keys())
def test_a_full_disk_leaves_the_old_file(
    writer: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many file systems tell of a full disk only when data are flushed to it."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(Exception, match="No space left"):
            writer(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    writer(path)
    assert path.read_bytes() != b"old" and list(tmp_path.iterdir()) == [path]


def test_weights_are_written_whole(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, path = read_weights(tiny_run / FILE_NAME), tmp_path / "Tiny.0.safetensors"
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    save_weights(path, weights)
    assert path.stat().st_size in sizes and list(tmp_path.iterdir()) == [path]


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    write_whole(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()


def test_cores_are_those_of_this_process() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    all_cores = os.sched_getaffinity(0)
    assert core_count() == len(all_cores)
    os.sched_setaffinity(0, {min(all_cores)})
    try:
        assert core_count() == 1
    finally:
        os.sched_setaffinity(0, all_cores)
