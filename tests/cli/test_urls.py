"""Pictures and files behind URLs that fsspec knows: read, written, listed, refused as files are."""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rdcodec
from conftest import Rdc, photo
from rdcodec.cli import batch, remote
from rdcodec.cli.io import MAX_PIXELS, place
from rdcodec.cli.tasks import CompressTask, Rate, Reading, compress_one

fsspec = pytest.importorskip("fsspec", reason="the extra `remote` is not installed")
pytest.importorskip("upath", reason="the extra `remote` is not installed")


@pytest.fixture
def memory() -> Iterator[object]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    for seed, name in enumerate(("a.png", "b.png", "deep/c.png")):
        data = io.BytesIO()
        photo(seed=seed).save(data, "PNG")
        system.pipe_file(f"/in/{name}", data.getvalue())
    system.pipe_file("/in/text.txt", b"no picture")
    yield system
    system.store.clear()


def test_a_folder_behind_a_url(rdc: Rdc, memory: "fsspec.AbstractFileSystem") -> None:
    done = rdc("compress", "memory://in", "-r", "-o", "memory://out", "-m", "J")
    assert done.code == 0 and "3 files" in done.err and "1 passed over (1 .txt)" in done.err, done.err
    assert memory.find("/out") == ["/out/a.rdc", "/out/b.rdc", "/out/deep/c.rdc"]
    again = rdc("compress", "memory://in", "-r", "-o", "memory://out", "-m", "J")
    assert again.code == 2 and "exists already" in again.err
    assert rdc("compress", "memory://in", "-r", "-o", "memory://out", "--skip-existing").code == 0
    done = rdc("decompress", "memory://out/deep/c.rdc", "-o", "here.png")
    assert done.code == 0
    with Image.open("here.png") as image:
        assert np.array_equal(np.asarray(image), rdcodec.decompress(memory.cat_file("/out/deep/c.rdc")))


def test_one_file_beside_its_input(rdc: Rdc, memory: "fsspec.AbstractFileSystem") -> None:
    done = rdc("compress", "memory://in/a.png", "-m", "J", "--keep-times", "--verify")
    assert done.code == 0 and memory.exists("/in/a.rdc"), done.err


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("memory://in/none.png", 1, "memory:/"),
        ("memory://in/text.txt", 3, "is not a picture"),
        ("nosuch://in/a.png", 2, "cannot be used as a URL"),
    ],
)
def test_what_cannot_be_had(rdc: Rdc, memory: "fsspec.AbstractFileSystem", url: str, code: int, words: str) -> None:
    done = rdc("compress", url, "-o", "x.rdc")
    assert done.code == code and words in done.message


def test_a_task_with_urls_travels_to_other_processes(
    work: Path, memory: "fsspec.AbstractFileSystem", monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Ray cluster sends it and carries it out."""
    item = batch.Item(place("memory://in/a.png"), place("memory://out/a.rdc"))
    task = CompressTask(item, "J", "cpu", Rate(), Reading(False, False, None, False), 1, False, True, False, MAX_PIXELS)
    record = remote.carry_out(compress_one, pickle.loads(pickle.dumps(task)), work, 1)
    assert isinstance(record, dict) and memory.cat_file("/out/a.rdc")


def test_a_file_url_is_a_path(rdc: Rdc, picture: object) -> None:
    assert rdc("compress", f"file://{picture}", "-o", "x.rdc").code == 0
