"""Sizes, names of outputs, whole or no files."""

import stat
from pathlib import Path

import pytest
import typer

from conftest import listing
from rdcodec.cli import io
from rdcodec.errors import RdcError, UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [("58213", 58213), ("58kB", 58_000), ("58k", 58_000), ("1.5MB", 1_500_000), ("64KiB", 65_536), (" 7 B ", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert io.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "kB", "5 GB", "-3", "0", "1e999", "nan", "5.5.5"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a size"):
        io.parse_bytes(text)


def test_outputs_are_written_whole(work: Path) -> None:
    io.write_output(Path("new/deep/a"), b"first", force=False)
    with pytest.raises(UsageError, match="exists already"):
        io.write_output(Path("new/deep/a"), b"second", force=False)
    assert Path("new/deep/a").read_bytes() == b"first"
    io.write_output(Path("new/deep/a"), b"second", force=True)
    assert Path("new/deep/a").read_bytes() == b"second"
    assert listing(work / "new" / "deep") == ["a"]
    Path("plain").touch()
    assert stat.S_IMODE(Path("new/deep/a").stat().st_mode) == stat.S_IMODE(Path("plain").stat().st_mode)


def test_a_link_is_written_through(work: Path) -> None:
    Path("real").write_bytes(b"old")
    Path("link").symlink_to("real")
    io.write_output(Path("link"), b"new", force=True)
    assert Path("link").is_symlink() and Path("real").read_bytes() == b"new"


def test_a_folder_is_no_file(work: Path) -> None:
    Path("there").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        io.write_output(Path("there"), b"x", force=True)
    Path("file").touch()
    with pytest.raises(RdcError, match="cannot be written"):
        io.write_output(Path("file/x"), b"x", force=True)


def test_a_foreign_file_is_not_read_to_its_end(work: Path) -> None:
    Path("a").write_bytes(b"MAGIC and more")
    assert io.read_bytes(Path("a"), b"MAGIC") == b"MAGIC and more"
    assert io.read_bytes(Path("a"), b"OTHER") == b"MAGIC"


def test_messages_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert io.report(ValueError("two\nlines\n")) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_json_has_no_infinities(capsys: pytest.CaptureFixture[str]) -> None:
    io.json_line("x", {"psnr_db": float("inf"), "bpp": 1.5})
    assert capsys.readouterr().out == '{"schema": "rdcodec.x/1", "psnr_db": null, "bpp": 1.5}\n'
