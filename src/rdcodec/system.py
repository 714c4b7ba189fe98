"""What is asked of the operating system: files written whole, and the cores that there are."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends: whole, or not at all after an error.

    It is written beside `path` (through symbolic links) and flushed to the disk before it is renamed, so that a power
    cut leaves the old file or the new one. The last of several writers wins. Raises OSError.
    """
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".rdc-{secrets.token_hex(8)}.partial")
    try:
        with beside.open("xb") as file:
            yield file
        put_in_place(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def put_in_place(finished: Path, path: Path) -> None:
    """Let a finished file of the same folder take the place of `path`, once it is on the disk. Raises OSError."""
    with finished.open("r+b") as file:
        os.fsync(file.fileno())
    finished.replace(path)
    _flush_folder(path.parent)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file as `replacing` does, but a device or a pipe directly; text in UTF-8. Raises OSError."""
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # there is nothing to rename onto
        return
    with replacing(path) as file:
        file.write(data)


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    import psutil  # here: where it is not needed, it would only cost time

    process = psutil.Process()
    return len(process.cpu_affinity() or ()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def _flush_folder(folder: Path) -> None:
    """The new name, to the disk; Windows and some file systems need or allow no such thing."""
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
