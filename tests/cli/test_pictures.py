"""What a picture has beside its colours goes through compress and decompress, is converted or left out on request."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import rdcodec
from conftest import Rdc, photo
from rdcodec.codec import colour, metadata
from rdcodec.codec.container import read_header
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import read_picture
from rdcodec.codec.picture_writer import encode_picture, write_picture

P3 = colour.of_code_points(12, 13)
EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x0f\0\2\0\0\0\4rdc\0\0\0\0\0"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
PIXELS = np.asarray(photo())
ALPHA = np.tri(50, 70, dtype=np.uint8) * 200
WHOLE = Picture(PIXELS, ALPHA, False, P3, EXIF, XMP)


@pytest.fixture
def whole(work: Path) -> Path:
    write_picture(WHOLE, work / "whole.png")
    return work / "whole.png"


def test_all_of_a_picture_comes_back(rdc: Rdc, whole: Path) -> None:
    assert rdc("compress", whole, "--verify").code == 0
    for name in ("back.png", "back.webp", "back.tif", "back.avif"):
        done = rdc("decompress", "whole.rdc", "-o", name)
        assert done.code == 0 and "note" not in done.err
        back = read_picture(Path(name))
        assert back.icc == P3 and back.xmp == XMP and back.exif is not None and b"rdc\0" in back.exif
        assert back.alpha is not None and (name == "back.avif" or np.array_equal(back.alpha, ALPHA))
    done = rdc("info", "whole.rdc")
    assert "sections  colour profile, EXIF, XMP, transparency\n" in done.out


def test_what_a_format_cannot_hold_is_said(rdc: Rdc, whole: Path) -> None:
    rdc("compress", whole, "--background", "white")
    done = rdc("decompress", "whole.rdc", "-o", "back.ppm", "--json")
    notes = json.loads(done.out)["notes"]
    assert [note.split(":")[0] for note in notes] == [
        "ppm cannot hold its colour profile",
        "ppm cannot hold its EXIF, which is dropped",
        "ppm cannot hold its XMP, which is dropped",
    ]
    assert all(f"  note: whole.rdc: {note}\n" in done.err for note in notes)


def test_strip_convert_and_flatten(rdc: Rdc, whole: Path) -> None:
    assert rdc("compress", whole, "--strip", "--to-srgb", "--background", "#ff0000", "-q", "85").code == 0
    assert "sections  none\n" in rdc("info", "whole.rdc").out
    expected = WHOLE.on("red").in_srgb()
    assert Path("whole.rdc").read_bytes() == rdcodec.load("I").compress(expected.pixels, 85)


def test_grey_comes_back_grey(rdc: Rdc, work: Path) -> None:
    photo().convert("L").save(work / "grey.jpg", quality=95)
    rdc("compress", "grey.jpg")
    for name in ("back.png", "back.jpg", "back.tif"):
        rdc("decompress", "grey.rdc", "-o", name)
        assert Image.open(name).mode == "L"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(rdc: Rdc, work: Path, format: str, orientation: int) -> None:
    """Four flat quadrants tell every turn; the file that comes back turns no further."""
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32], upright[:16, 32:], upright[16:, :32], upright[16:, 32:] = 20, 90, 160, 230
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    suffix = {"jpeg": "jpg", "tiff": "tif"}.get(format, format)
    Image.fromarray(metadata.turned(upright, inverse)).save(work / f"turned.{suffix}", exif=exif)
    as_read = read_picture(Path(f"turned.{suffix}"))
    assert np.abs(as_read.pixels.astype(int) - upright).max() <= 12

    assert rdc("compress", f"turned.{suffix}").code == 0
    coded = Path("turned.rdc").read_bytes()
    assert read_header(coded).header.symbols_crc == read_header(rdcodec.compress(as_read.pixels)).header.symbols_crc
    rdc("decompress", "turned.rdc", "-o", f"back.{suffix}")
    with Image.open(f"back.{suffix}") as image:
        shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    decoded = rdcodec.load("I").decompress(coded)
    assert shown.shape == upright.shape and np.abs(shown.astype(int) - decoded).mean() < 8


def test_damage_is_an_error_unless_it_is_allowed(rdc: Rdc, work: Path) -> None:
    file = io.BytesIO()
    photo(200, 150).save(file, "JPEG", quality=90)
    (work / "cut.jpg").write_bytes(file.getvalue()[: len(file.getvalue()) * 2 // 3])
    done = rdc("compress", "cut.jpg")
    assert done.code == 3 and not Path("cut.rdc").exists()
    assert done.message.startswith("rdc: cut.jpg: is damaged (premature end of data segment): --allow-damaged takes")
    done = rdc("compress", "cut.jpg", "--allow-damaged")
    assert (
        done.code == 0
        and "  note: cut.jpg: damaged (premature end of data segment): what is there is taken\n" in done.err
    )


def test_a_missing_plugin_is_named(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (work / "a.heic").write_bytes(encode_picture(Picture(PIXELS), "heic"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    done = rdc("compress", "a.heic")
    assert done.code == 4 and "a.heic: is HEIC, which needs a plug-in: pip install pillow-heif" in done.message
