"""Damaged pictures are errors, what is there of them can be had, and what is no damage is none."""

import io
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import read_picture
from rdcodec.errors import BadInput

H, W = 120, 160
SMALL = Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 16, 3), dtype=np.uint8))
SMOOTH = np.asarray(SMALL.resize((W, H), Image.Resampling.BICUBIC)).astype(int)
PIXELS = (SMOOTH + np.random.default_rng(4).integers(-9, 10, SMOOTH.shape)).clip(0, 255).astype(np.uint8)


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format, **options)
    return file.getvalue()


FILES = {
    "png": saved("PNG"),
    "jpeg": saved("JPEG", quality=90),
    "progressive jpeg": saved("JPEG", quality=90, progressive=True),
    "jpeg with restarts": saved("JPEG", quality=90, restart_marker_blocks=4),
    "webp": saved("WEBP", quality=90),
    "lossless webp": saved("WEBP", lossless=True),
    "tiff": saved("TIFF"),
    "tiff lzw": saved("TIFF", compression="tiff_lzw"),
    "tiff deflate": saved("TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": saved("TIFF", compression="jpeg"),
    "ppm": saved("PPM"),
    "bmp": saved("BMP"),
    "gif": saved("GIF"),
}
NOTHING_LEFT = ("tiff lzw", "tiff deflate", "tiff jpeg", "gif")  # a directory at the end; a decoder that gives up


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_a_file_that_is_cut_is_an_error_and_what_is_there_can_be_had(kind: str, kept: float) -> None:
    data = FILES[kind][: int(len(FILES[kind]) * kept)]
    with pytest.raises(BadInput, match=r"x: is damaged \(.*\): --allow-damaged takes what is there"):
        read_picture(data, name="x")
    if kind in NOTHING_LEFT:
        with pytest.raises(BadInput, match="nothing can be had of it"):
            read_picture(data, allow_damaged=True)
        return
    whole = read_picture(FILES[kind])
    taken = read_picture(data, allow_damaged=True)
    assert taken.notes[-1].startswith("damaged (") and taken.notes[-1].endswith("what is there is taken")
    if kind not in ("lossless webp", "bmp"):  # one decodes zeros as anything, the other begins with its last row
        rows = int(H * kept * 0.4)
        assert np.abs(taken.pixels[:rows].astype(int) - whole.pixels[:rows]).mean() < 10
    assert taken.pixels.shape == (H, W, 3)


@pytest.mark.parametrize("kind", FILES)
def test_a_sound_file_has_no_note_even_where_damage_is_allowed(kind: str) -> None:
    for allow_damaged in (False, True):
        picture = read_picture(FILES[kind], allow_damaged=allow_damaged)
        assert picture.notes == () and picture.pixels.shape == (H, W, 3)


@pytest.mark.parametrize("kind", ["jpeg", "progressive jpeg", "jpeg with restarts"])
def test_an_end_in_the_middle_of_a_jpeg_is_damage(kind: str) -> None:
    data = bytearray(FILES[kind])
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\xd9"
    with pytest.raises(BadInput, match="is damaged"):
        read_picture(bytes(data))
    assert read_picture(bytes(data), allow_damaged=True).pixels.shape == (H, W, 3)


def test_a_progressive_jpeg_without_its_last_scans_is_damaged() -> None:
    data = FILES["progressive jpeg"]
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    tables = data.rindex(b"\xff\xc4", 0, starts[-1])  # of the last scan
    with pytest.raises(BadInput, match="some of its scans are missing"):
        read_picture(data[:tables] + b"\xff\xd9")


def test_missing_last_markers_and_bytes_behind_the_end_are_no_damage() -> None:
    for kind in ("jpeg", "progressive jpeg", "jpeg with restarts"):
        same_picture(FILES[kind][:-2], kind)
        same_picture(FILES[kind] + bytes(3000) + b"trailer", kind)
        same_picture(FILES[kind][:-2] + bytes(50) + b"\xff\xd9", kind)
        with pytest.raises(BadInput, match="extraneous bytes"):
            read_picture(FILES[kind][:-2] + b"garbage" * 9 + b"\xff\xd9")
    same_picture(FILES["png"][:-12], "png")
    same_picture(FILES["png"] + b"trailer", "png")


def same_picture(data: bytes, kind: str) -> None:
    picture = read_picture(data)
    assert picture.notes == () and np.array_equal(picture.pixels, read_picture(FILES[kind]).pixels)


def test_every_changed_byte_of_a_pngs_picture_is_found() -> None:
    data = FILES["png"]
    rng = np.random.default_rng(5)
    for at in rng.integers(data.index(b"IDAT") + 4, len(data) - 16, 40):
        hurt = bytearray(data)
        hurt[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(BadInput, match="is damaged"):
            read_picture(bytes(hurt))
        assert read_picture(bytes(hurt), allow_damaged=True).pixels.shape == (H, W, 3)


def test_changes_in_a_jpegs_scan_are_found_unless_they_are_valid_code_again() -> None:
    data = FILES["jpeg"]
    rng, found = np.random.default_rng(6), 0
    for at in rng.integers(len(data) // 3, len(data) * 2 // 3, 40):
        hurt = data[:at] + bytes(8) + data[at + 8 :]
        try:
            read_picture(hurt)
        except BadInput:
            found += 1
    assert 8 <= found < 40  # Huffman codes find their place again; where the blocks add up, no decoder can tell


def test_a_strip_of_deflate_with_a_wrong_checksum_is_damage() -> None:
    data = FILES["tiff deflate"]
    with Image.open(io.BytesIO(data)) as image:
        end = image.tag_v2[273][0] + image.tag_v2[279][0]
    hurt = bytearray(data)
    hurt[end - 1] ^= 1
    with pytest.raises(BadInput, match="a strip cannot be decompressed"):
        read_picture(bytes(hurt))


def test_libtiffs_errors_are_errors_and_do_not_reach_standard_error(tmp_path: Path) -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(7).integers(0, 2, (H, W)) > 0
    Image.fromarray(noise).save(file, "TIFF", compression="group4")
    data = bytearray(file.getvalue())
    data[len(data) // 2 : len(data) // 2 + 24] = b"\x55" * 24
    (tmp_path / "hurt.tif").write_bytes(data)
    program = (
        "import sys, pathlib; from rdcodec.codec.picture_reader import read_picture, BadInput\n"
        "try: read_picture(pathlib.Path(sys.argv[1]))\nexcept BadInput as error: print(error)\n"
        "print(read_picture(pathlib.Path(sys.argv[1]), allow_damaged=True).notes)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "hurt.tif"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "hurt.tif: is damaged (its samples cannot be decompressed)" in done.stdout.splitlines()[0]
    assert "what is there is taken" in done.stdout.splitlines()[1]


def test_damaged_and_not_supported_are_different_sentences() -> None:
    compressed = bytearray(FILES["bmp"])
    compressed[30] = 99  # a compression that no BMP has
    with pytest.raises(BadInput, match=r"is of a kind that is not supported \(.*\): convert"):
        read_picture(bytes(compressed))
    with pytest.raises(BadInput, match="is not a picture"):
        read_picture(b"neither of both")


def test_a_png_with_more_or_less_data_than_its_size() -> None:
    def png(rows: bytes) -> Picture:
        data = FILES["png"]
        parts = [b"IDAT" + zlib.compress(rows), b"IEND"]
        body = b"".join(
            (len(part) - 4).to_bytes(4, "big") + part + zlib.crc32(part).to_bytes(4, "big") for part in parts
        )
        return read_picture(data[:33] + body)

    row = b"\0" + bytes(3 * W)
    assert png(row * H).notes == () and png(row * (H + 5)).notes == ()
    with pytest.raises(BadInput, match="is damaged"):
        png(row * (H - 1))
