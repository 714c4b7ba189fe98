"""What a user gets when something is wrong: one line, the right code, no traceback, no file left behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rdcodec
from conftest import Pipe, Rdc, command, listing, photo, shell
from rdcodec.cli import io
from rdcodec.codec.picture import Picture
from rdcodec.codec.pipeline import Codec, Encoded
from rdcodec.codec.sections import sections_of
from rdcodec.errors import CheckFailed

RGBA = photo().convert("RGBA")
PHOTO = np.asarray(photo())

# arguments, exit code, what the line must say; the folder holds photo.png and photo.rdc
ERRORS = {
    "missing picture": (["compress", "none.png"], 1, "none.png: cannot be read: No such file"),
    "missing file": (["decompress", "none.rdc"], 1, "none.rdc: cannot be read: No such file"),
    "missing file of info": (["info", "none.rdc"], 1, "none.rdc"),
    "no parent": (
        ["compress", "photo.png", "-o", "photo.png/x.rdc"],
        1,
        "photo.png/x.rdc: cannot be written",
    ),
    "no input": (["compress"], 2, "missing argument"),
    "unknown command": (["compres"], 2, "Did you mean 'compress'"),
    "unknown option": (["compress", "photo.png", "--qualty", "5"], 2, "--quality"),
    "quality out of range": (["compress", "photo.png", "-q", "101"], 2, "100"),
    "not a number": (["compress", "photo.png", "-q", "good"], 2, "-q"),
    "two targets": (["compress", "photo.png", "-q", "5", "--target-bpp", "1"], 2, "only one of"),
    "not a size": (["compress", "photo.png", "--target-size", "big"], 2, "is not a size"),
    "exists": (["compress", "photo.png"], 2, "photo.rdc: exists already"),
    "input is output": (["compress", "photo.png", "-o", "photo.png", "-f"], 2, "photo.png: is an input too"),
    "force and skip": (["compress", "photo.png", "-f", "--skip-existing"], 2, "--skip-existing"),
    "several to one file": (["compress", "photo.png", "alpha.png", "-o", "photo.rdc"], 2, "need a folder"),
    "several to stdout": (["compress", "photo.png", "alpha.png", "-o", "-"], 2, "one standard output"),
    "dash among others": (["compress", "-", "photo.png"], 2, "only input"),
    "json beside payload": (["compress", "photo.png", "-o", "-", "--json"], 2, "--json"),
    "stdout without a format": (["decompress", "photo.rdc", "-o", "-"], 2, "--format"),
    "unknown format": (["decompress", "photo.rdc", "--format", "gif"], 2, "choose one of"),
    "unknown suffix": (["decompress", "photo.rdc", "-o", "x.gif"], 2, "x.gif: cannot tell"),
    "output is a folder": (["compress", "photo.png", "-o", "-", "--json"], 2, "--json"),
    "bad geometry": (["flops", "I", "--size", "large"], 2, "768x512"),
    "unknown anchor": (["eval", "I", "--data", ".", "--anchors", "jepg"], 2, "choose from"),
    "new run without a budget": (["train", "I", "-o", "run"], 2, "--steps, --minutes or --tflop"),
    "new run without an end": (["train", "I", "-o", "run", "--minutes", "inf"], 2, "give a finite number"),
    "foreign picture": (["compress", "photo.rdc", "-o", "x.rdc"], 3, "photo.rdc: is not a picture"),
    "no colour": (["compress", "alpha.png", "--background", "reddish"], 2, "is not a colour"),
    "transparent picture to JPEG": (
        ["decompress", "alpha.rdc", "-o", "x.jpg"],
        2,
        "alpha.rdc: jpeg holds no transparency",
    ),
    "animation": (["compress", "moves.gif"], 3, "moves.gif: holds 2 frames"),
    "many bits": (["compress", "float.tif"], 3, "float.tif: has floating-point samples"),
    "empty picture": (["compress", "empty.png"], 3, "empty.png: is empty"),
    "large picture": (["compress", "photo.png", "-o", "x.rdc", "--max-pixels", "99"], 3, "--max-pixels"),
    "large file": (["decompress", "photo.rdc", "-o", "x.png", "--max-pixels", "99"], 3, "--max-pixels"),
    "foreign file": (["decompress", "photo.png", "-o", "x.png"], 3, "photo.png: not an .rdc file"),
    "foreign file of info": (["info", "photo.png"], 3, "photo.png: not an .rdc file"),
    "truncated file": (["decompress", "short.rdc"], 3, "short.rdc: cut off"),
    "damaged file": (["decompress", "hurt.rdc"], 3, "hurt.rdc: damaged"),
    "folder without pictures": (["compress", "deep/empty"], 3, "deep/empty: holds no"),
    "folder without files": (["decompress", "deep"], 3, "deep: holds no .rdc"),
    "other sizes": (["compare", "photo.png", "small.png"], 3, "differ in size"),
    "unknown model": (["compress", "photo.png", "-o", "x.rdc", "-m", "Q"], 4, "no model Q"),
    "folder without weights": (["compress", "photo.png", "-o", "x.rdc", "-m", "deep"], 4, "weights"),
    "other weights": (["decompress", "other.rdc"], 4, "other.rdc: "),
    "failed check": (["info", "hurt.rdc", "--check"], 5, "hurt.rdc: damaged"),
}


@pytest.fixture
def furnished(coded: Path) -> Path:
    """The folder that the cases speak of."""
    folder = coded.parent
    data = coded.read_bytes()
    (folder / "deep" / "empty").mkdir(parents=True)
    photo().save(folder / "deep" / "photo.png")
    photo(30, 20).save(folder / "small.png")
    RGBA.save(folder / "alpha.png")
    (folder / "alpha.rdc").write_bytes(
        rdcodec.load("J").compress(PHOTO, sections=sections_of(Picture(PHOTO, PHOTO[..., 0])))
    )
    photo().save(folder / "moves.gif", save_all=True, append_images=[photo(seed=1)])
    photo().convert("F").save(folder / "float.tif")
    (folder / "empty.png").touch()
    (folder / "short.rdc").write_bytes(data[:-3])
    (folder / "hurt.rdc").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (folder / "other.rdc").write_bytes(other_weights(data))
    return folder


def other_weights(data: bytes) -> bytes:
    """The same file as if its synthesis had other weights."""
    from dataclasses import replace

    from rdcodec.codec.container import pack, unpack

    header, stream = unpack(data)
    return pack(replace(header, synthesis_hash=b"ABCD"), stream)


@pytest.mark.parametrize("case", ERRORS)
def test_one_line_the_code_and_nothing_left(rdc: Rdc, furnished: Path, case: str) -> None:
    arguments, code, words = ERRORS[case]
    before = listing(furnished)
    done = rdc(*arguments)
    assert done.code == code
    assert words in done.message  # `message` asserts that there is one line
    assert done.out == ""
    assert listing(furnished) == before


def test_verbose_shows_the_traceback_first(rdc: Rdc, work: Path) -> None:
    for arguments in (["compress", "none.png", "-v"], ["-v", "compress", "none.png"]):
        done = rdc(*arguments)
        assert done.code == 1 and done.err.startswith("Traceback ")
        assert done.err.splitlines()[-1].startswith("rdc: none.png: ")
    assert rdc("compress", "none.png").message, "and the next run is quiet again"


def test_nothing_is_overwritten_without_force(rdc: Rdc, coded: Path) -> None:
    before = coded.read_bytes()
    assert rdc("compress", "photo.png", "-q", "10").code == 2
    assert coded.read_bytes() == before
    assert rdc("compress", "photo.png", "-q", "10", "--force").code == 0
    assert coded.read_bytes() != before
    Path("out.png").write_text("precious")
    assert rdc("decompress", coded, "-o", "out.png").code == 2
    assert Path("out.png").read_text() == "precious"


def test_input_is_output_through_a_link(rdc: Rdc, picture: Path) -> None:
    Path("link.rdc").symlink_to(picture)
    done = rdc("compress", picture, "-o", "link.rdc", "-f")
    assert done.code == 2 and "is an input too" in done.message


def test_failed_verify_keeps_no_file(rdc: Rdc, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(codec: Codec, data: bytes, max_pixels: int = 0) -> np.ndarray:
        return np.zeros((50, 70, 3), np.uint8)

    monkeypatch.setattr(Codec, "decompress", wrong)
    done = rdc("compress", picture, "--verify")
    assert done.code == 5 and "photo.png: the file decodes to another picture" in done.message
    assert listing(picture.parent) == ["photo.png"]


def test_verify_counts_an_undecodable_file_as_a_failed_check(
    rdc: Rdc, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Codec.encode

    def hurt(codec: Codec, image: np.ndarray, *arguments: object, **options: object) -> Encoded:
        from dataclasses import replace

        encoded = encode(codec, image, *arguments, **options)
        return replace(encoded, data=encoded.data[:-1])

    monkeypatch.setattr(Codec, "encode", hurt)
    done = rdc("compress", picture, "--verify")
    assert done.code == 5 and "does not decode" in done.message
    assert listing(picture.parent) == ["photo.png"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "out of memory"),
        (OSError(errno.EIO, "Input/output error", "photo.png"), 1, "photo.png: Input/output error"),
        (ZeroDivisionError("division by zero"), 1, "unexpected ZeroDivisionError"),
    ],
)
def test_whatever_happens_inside(
    rdc: Rdc, picture: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Codec, "encode", fail)
    done = rdc("compress", picture)
    assert done.code == code and words in done.message
    assert listing(picture.parent) == ["photo.png"]


@pytest.mark.parametrize("moment", ["open", "replace"])
def test_full_disk_leaves_the_old_file_and_no_other(
    rdc: Rdc, coded: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = coded.read_bytes()
    original = getattr(Path, moment)

    def full(path: Path, *arguments: object, **options: object) -> object:
        if not path.name.endswith(".partial"):
            return original(path, *arguments, **options)
        if moment == "open":
            original(path, "xb").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, moment, full)
        done = rdc("compress", "photo.png", "-q", "10", "-f")
    assert done.code == 1
    assert done.message == f"rdc: {coded.name}: cannot be written: No space left on device\n"
    assert coded.read_bytes() == before
    assert listing(coded.parent) == ["photo.png", "photo.rdc"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_stream(work: Path, picture: Path) -> None:
    for arguments in (
        ["compress", "photo.png", "-o", "-"],
        ["compress", "photo.png", "-o", "x.rdc", "--json"],
    ):
        with Path("/dev/full").open("wb") as full:
            done = shell(*arguments, stdout=full)
        assert done.returncode == 1
        last = done.stderr.decode().splitlines()[-1]
        assert last == "rdc: standard output: cannot be written: No space left on device"
        assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


def test_a_device_is_written_to_and_not_replaced(rdc: Rdc, picture: Path) -> None:
    assert rdc("compress", picture, "-o", "/dev/null").code == 0
    assert not Path("/dev/null").is_file() and Path("/dev/null").exists()
    if Path("/dev/full").exists():
        done = rdc("compress", picture, "-o", "/dev/full")
        assert done.code == 1 and "/dev/full: cannot be written: No space left" in done.message


def test_reader_that_goes_away(work: Path) -> None:
    process = subprocess.Popen(**command("compress", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    assert process.wait() == 1


def test_no_binary_to_a_terminal(rdc: Rdc, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    done = rdc("compress", picture, "-o", "-")
    assert done.code == 2 and "terminal" in done.message and done.out == ""


def test_no_waiting_for_a_terminal(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = Pipe(b"")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    done = rdc("compress", "-")
    assert done.code == 2 and "terminal" in done.message


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("jobs", "name", "code", "word"),
    [
        (1, "SIGINT", 130, "interrupted"),
        (2, "SIGINT", 130, "interrupted"),
        (1, "SIGTERM", 143, "terminated"),
        (2, "SIGTERM", 143, "terminated"),
        (1, "SIGHUP", 129, "terminated"),
    ],
)
def test_interrupt(work: Path, jobs: int, name: str, code: int, word: str) -> None:
    sent = signal.Signals[name]
    (work / "in").mkdir()
    photo(1000, 1000).save(work / "in" / "0.png", compress_level=1)
    count = 2000  # many minutes of work; the signal comes when the first file is there
    for n in range(1, count):
        (work / "in" / f"{n}.png").symlink_to("0.png")
    process = subprocess.Popen(
        **command("compress", "in", "-o", "out", "--jobs", jobs),
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),  # a shell's background jobs ignore SIGINT
    )
    while process.poll() is None and not list(work.glob("out/*.rdc")):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1].decode()
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)  # as a terminal does
    else:
        process.send_signal(sent)
    _, err = process.communicate()
    assert process.returncode == code
    assert b"Traceback" not in err and err.decode().splitlines()[-1] == f"rdc: {word}"
    assert not list(work.glob("out/.*"))
    assert len(list(work.glob("out/*.rdc"))) < count


def test_every_error_class_has_its_code() -> None:
    from rdcodec import errors

    codes = {name: kind.exit_code for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert codes == {"RdcError": 1, "UsageError": 2, "BadInput": 3, "NeedsModel": 4, "CheckFailed": 5}
    assert io.explain(CheckFailed("x: y")) == ("x: y", 5)
