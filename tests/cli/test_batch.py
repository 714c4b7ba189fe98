"""Folders as people have them: what is found, where results go, what is passed over or refused."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Rdc, listing, photo
from rdcodec.cli import batch
from rdcodec.errors import BadInput, RdcError, UsageError

PICTURES = frozenset({".png", ".jpg"})


@pytest.mark.parametrize(
    ("inputs", "output", "targets"),
    [
        (["a.png"], None, ["a.rdc"]),
        (["in/a.b.png"], None, ["in/a.b.rdc"]),
        (["a"], None, ["a.rdc"]),
        (["a.png"], "b.rdc", ["b.rdc"]),
        (["a.png"], "new/", ["new/a.rdc"]),
        (["a.png"], "there", ["there/a.rdc"]),
        (["a.png", "c/b.png"], "new", ["new/a.rdc", "new/b.rdc"]),
        (["a.png", "c/b.png"], None, ["a.rdc", "c/b.rdc"]),
        (["there"], None, ["there/x.rdc", "there/y.rdc"]),
        (["there"], "new", ["new/x.rdc", "new/y.rdc"]),
        (["-"], None, [None]),
        (["-"], "b.rdc", ["b.rdc"]),
        (["a.png"], "-", [None]),
    ],
)
def test_where_results_go(work: Path, inputs: list[str], output: str | None, targets: list[str | None]) -> None:
    (work / "there").mkdir()
    for name in ("y.png", "x.JPG", "notes.txt"):
        (work / "there" / name).touch()
    items = batch.plan(inputs, output, PICTURES, ".rdc").items
    assert [item.target for item in items] == [target and Path(target) for target in targets]


def test_folders_without_pictures(work: Path) -> None:
    with pytest.raises(BadInput, match="holds no"):
        batch.plan(["."], None, PICTURES, ".rdc")


def test_folders_of_folders(work: Path) -> None:
    for name in ("in/a.png", "in/x/b.png", "in/x/y/a.png", "in/out/c.png", "in/x/notes.txt"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    Path("in/x/round").symlink_to("..")
    found = batch.plan(["in"], "in/out", PICTURES, ".rdc", recursive=True)
    assert [str(item.target) for item in found.items] == ["in/out/a.rdc", "in/out/x/b.rdc", "in/out/x/y/a.rdc"]
    assert found.passed_over == {".txt": 1, "link to a folder": 1} and not found.refused
    found = batch.plan(["in"], None, PICTURES, ".rdc", recursive=True)
    assert [str(item.target) for item in found.items] == ["in/a.rdc", "in/out/c.rdc", "in/x/b.rdc", "in/x/y/a.rdc"]
    found = batch.plan(["in"], None, PICTURES, ".rdc")
    assert [str(item.target) for item in found.items] == ["in/a.rdc"] and found.passed_over == {"folder": 2}
    Path("in/a.png").unlink()
    with pytest.raises(BadInput, match="-r looks into its folders"):
        batch.plan(["in"], None, PICTURES, ".rdc")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_passed_over_has_a_kind(work: Path) -> None:
    for name in ("a.png", "b.RAW", "c.raw", "noext", ".hidden", "._a.png"):
        Path(name).touch()
    os.mkfifo("pipe.png")
    Path("gone.png").symlink_to("nowhere")
    Path("deep").mkdir()
    found = batch.plan(["."], None, PICTURES, ".rdc")
    kinds = {".raw": 2, "without a suffix": 2, "pipe or device": 1, "broken link": 1, "folder": 1}
    assert found.passed_over == {**kinds, "metadata of macOS": 1}
    assert len(found.items) == 1


def test_a_clash_refuses_those_files_alone(work: Path) -> None:
    for name in ("IMG_1.jpg", "IMG_1.png", "IMG_2.jpg"):
        Path(name).touch()
    found = batch.plan(["."], "out", PICTURES, ".rdc", keep_suffix=False)
    assert [item.source_name for item in found.items] == ["IMG_2.jpg"]
    (first, error), (second, _) = found.refused
    assert (first, second) == ("IMG_1.jpg", "IMG_1.png") and isinstance(error, UsageError)
    assert "IMG_1.jpg: would become out/IMG_1.rdc, as would IMG_1.png" in str(error) and "--keep-suffix" in str(error)
    found = batch.plan(["."], "out", PICTURES, ".rdc", keep_suffix=True)
    names = ["out/IMG_1.jpg.rdc", "out/IMG_1.png.rdc", "out/IMG_2.jpg.rdc"]
    assert [str(item.target) for item in found.items] == names and not found.refused
    found = batch.plan(["IMG_1.jpg", "./IMG_1.jpg", "."], "out", PICTURES, ".rdc", keep_suffix=True)
    assert [str(item.target) for item in found.items] == names, "a file that is named twice is done once"


def test_an_empty_folder_does_not_stop_the_others(work: Path) -> None:
    Path("a.png").touch()
    Path("empty").mkdir()
    found = batch.plan(["empty", "a.png"], "out", PICTURES, ".rdc")
    assert [item.source_name for item in found.items] == ["a.png"]
    assert [name for name, _ in found.refused] == ["empty"]


def test_a_folder_that_cannot_be_read_does_not_stop_the_others(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in/shut").mkdir(parents=True)
    Path("in/a.png").touch()
    look = Path.iterdir

    def shut(folder: Path) -> Iterator[Path]:
        if folder.name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return look(folder)

    monkeypatch.setattr(Path, "iterdir", shut)
    found = batch.plan(["in"], None, PICTURES, ".rdc", recursive=True)
    assert len(found.items) == 1
    assert str(found.refused[0][1]) == "in/shut: cannot be read: Permission denied"


def test_a_lone_error_is_raised(work: Path) -> None:
    Path("a.png").touch()
    with pytest.raises(RdcError, match="is an input too"):
        batch.plan(["a.png"], "a.png", PICTURES, ".rdc")


def test_the_last_line_tells_everything(rdc: Rdc, work: Path) -> None:
    Path("in/deep").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "b.png", "deep/c.png"):
        photo().save(work / "in" / name)
    Path("in/hurt.png").write_bytes(b"no picture")
    Path("in/notes.txt").touch()
    done = rdc("compress", "in", "-r", "-o", "out", "--json")
    assert done.code == 2, "the first failure decides: the clash"
    *_, last = done.err.splitlines()
    assert last.startswith("2 files  ") and last.endswith("  1 passed over (1 .txt)  3 failed")
    errors = [line for line in done.err.splitlines() if line.startswith("rdc: ")]
    assert [line.split(": ")[1] for line in errors] == ["in/b.jpg", "in/b.png", "in/hurt.png"]
    records = [json.loads(line) for line in done.out.splitlines()]
    assert {record["input"]: record.get("exit_code") for record in records} == {
        "in/b.jpg": 2,
        "in/b.png": 2,
        "in/a.png": None,
        "in/deep/c.png": None,
        "in/hurt.png": 3,
    }
    assert listing(work / "out") == ["a.rdc", "deep"] and listing(work / "out" / "deep") == ["c.rdc"]

    done = rdc("compress", "in", "-r", "-o", "out", "--keep-suffix")
    assert done.code == 3 and done.err.splitlines()[-1].startswith("4 files  ")
    assert listing(work / "out") == ["a.png.rdc", "a.rdc", "b.jpg.rdc", "b.png.rdc", "deep"]
    done = rdc("info", "out", "-r", "--json")
    assert done.code == 0 and len(done.out.splitlines()) == 6
    done = rdc("decompress", "out", "-r", "-o", "back", "--format", "ppm")
    assert done.code == 0 and listing(work / "back" / "deep") == ["c.png.ppm", "c.ppm"]


def test_what_is_there_is_passed_over_on_request(rdc: Rdc, work: Path) -> None:
    for name in ("a.png", "b.png"):
        photo().save(name)
    assert rdc("compress", "a.png", "-o", "out/").code == 0
    before = Path("out/a.rdc").read_bytes()
    assert rdc("compress", ".", "-o", "out").code == 2
    Path("out/b.rdc").unlink()
    done = rdc("compress", ".", "-o", "out", "--skip-existing", "-q", "10")
    assert done.code == 0
    first, last = done.err.splitlines()
    assert first.startswith("out/b.rdc") and "1 there already" in last and last.startswith("1 file  ")
    assert Path("out/a.rdc").read_bytes() == before
    done = rdc("compress", "a.png", "-o", "out", "--skip-existing")
    assert done.code == 0 and done.err.startswith("0 files") and "1 passed over (1 there already)" in done.err
    done = rdc("decompress", "out", "-o", "back", "--skip-existing")
    assert done.code == 0 and listing(work / "back") == ["a.png", "b.png"]
    done = rdc("decompress", "out", "-o", "back", "--skip-existing")
    assert done.code == 0 and "2 there already" in done.err
    done = rdc("compress", "a.png", "--skip-existing", "--force")
    assert done.code == 2 and "give one of them" in done.message


def test_file_times_are_kept_on_request(rdc: Rdc, picture: Path) -> None:
    os.utime(picture, ns=(10**18, 10**18 + 5))
    assert rdc("compress", picture, "--keep-times").code == 0
    coded = picture.with_suffix(".rdc")
    assert coded.stat().st_mtime_ns == 10**18 + 5
    assert rdc("decompress", coded, "-o", "back.png", "--keep-times").code == 0
    assert Path("back.png").stat().st_mtime_ns == 10**18 + 5
    assert rdc("decompress", coded, "-o", "now.png").code == 0
    assert Path("now.png").stat().st_mtime_ns != 10**18 + 5
    assert rdc("compress", picture, "-o", "/dev/null", "--keep-times").code == 0
