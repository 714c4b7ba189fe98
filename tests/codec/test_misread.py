"""Kinds of files that Pillow takes for others without a word, found in other projects' test pictures."""

import io
import struct
import zlib
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from rdcodec.codec import colour, jxl, metadata
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import of_pillow, read_picture
from rdcodec.codec.picture_writer import encode_picture
from rdcodec.errors import BadInput

SAMPLES = np.arange(64, dtype=np.uint8).reshape(8, 8)


def tiff(samples: bytes, tags: Sequence[tuple[int, int, int]]) -> bytes:
    """A TIFF of 8x8 in one strip with further tags (number, type, value)."""
    common = [(256, 4, 8), (257, 4, 8), (259, 3, 1), (278, 4, 8)]
    entries = sorted([*common, *tags])
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    return (
        head + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4) + samples
    )


def one_strip(samples: bytes, bits: int, *tags: tuple[int, int, int]) -> bytes:
    """A grey TIFF."""
    all_tags = [(258, 3, bits), (262, 3, 1), (277, 3, 1), (279, 4, len(samples)), *tags]
    start = 14 + 12 * (len(all_tags) + 5)
    return tiff(samples, [*all_tags, (273, 4, start)])


def png(depth: int, colour: int, rows: Sequence[bytes], transparent: bytes) -> bytes:
    def chunk(kind: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

    header = struct.pack(">IIBBBBB", 4, len(rows), depth, colour, 0, 0, 0)
    samples = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", samples), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jxl_head(animated: bool, in_container: bool) -> bytes:
    """The first bits of a codestream of 8x8 with an intrinsic size and a preview of 16x16."""
    fields = [(1, 1), (0, 5), (1, 3), (0, 1), (1, 1), (0, 3)]  # size, not default, further fields, orientation
    fields += [(1, 1), (0, 1), (2, 2), (600, 18), (0, 3), (0, 2), (7, 9)]  # intrinsic: 601 x 8
    fields += [(1, 1), (0, 1), (1, 2), (0, 8), (1, 3), (int(animated), 1)]  # preview of 65 x 65
    bits, position = 0, 0
    for value, width in fields:
        bits, position = bits | value << position, position + width
    stream = b"\xff\x0a" + bits.to_bytes(16, "little")
    if not in_container:
        return stream
    boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
    return boxes + struct.pack(">I4sI", 12 + len(stream), b"jxlp", 0) + stream


@pytest.mark.parametrize("in_container", [False, True])
def test_an_animated_jpeg_xl_is_refused(in_container: bool) -> None:
    assert jxl.said(jxl_head(False, in_container)) == jxl.Said()
    with pytest.raises(BadInput, match="is an animation"):
        read_picture(jxl_head(True, in_container))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([(0, 1), (1, 2)], jxl.Said(depth=10)),
        ([(0, 1), (3, 2), (8, 6)], jxl.Said(depth=9)),
        ([(1, 1), (1, 2)], jxl.Said(floats=True, depth=16)),
    ],
)
def test_the_samples_of_a_jpeg_xl_are_told(fields: list[tuple[int, int]], expected: jxl.Said) -> None:
    bits, position = 0, 0
    for value, width in [(1, 1), (0, 5), (1, 3), (0, 1), (0, 1), *fields]:
        bits, position = bits | value << position, position + width
    assert jxl.said(b"\xff\x0a" + bits.to_bytes(8, "little")) == expected
    if expected.floats:
        with pytest.raises(BadInput, match="floating-point"):
            read_picture(b"\xff\x0a" + bits.to_bytes(8, "little"))


def test_a_heic_of_the_general_brand_is_no_avif() -> None:
    """Nokia's own files begin with mif1, as some of AVIF do."""
    pytest.importorskip("pillow_heif")
    for kind in ("heic", "avif"):
        data = bytearray(encode_picture(Picture(np.zeros((20, 40, 3), np.uint8)), kind))
        data[8:12] = b"mif1"
        assert read_picture(bytes(data)).pixels.shape == (20, 40, 3)


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_a_turn_of_heif_is_applied_once(kind: str) -> None:
    """As irot and imir say it, with the EXIF beside them that says it again."""
    if kind == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32], upright[:16, 32:], upright[16:, :32], upright[16:, 32:] = 20, 90, 160, 230
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = io.BytesIO()
        turned = metadata.turned(upright, {6: 8, 8: 6}.get(orientation, orientation))
        Image.fromarray(turned).save(file, {"heic": "HEIF"}.get(kind, kind), exif=exif.tobytes(), quality=95)
        assert (b"irot" in file.getvalue() or b"imir" in file.getvalue()) == (orientation > 1)
        read = read_picture(file.getvalue())
        again = read_picture(encode_picture(read, kind))
        for picture in (read, again):
            assert picture.pixels.shape == upright.shape
            assert np.abs(picture.pixels.astype(int) - upright).max() <= 12


def test_a_pil_picture_that_is_not_decoded_yet_is_looked_at_as_a_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    cut = file.getvalue()[:-600]
    with pytest.raises(BadInput, match="damaged"), Image.open(io.BytesIO(cut)) as image:
        of_pillow(image)
    with Image.open(io.BytesIO(file.getvalue())) as image:
        assert np.array_equal(of_pillow(image).pixels, read_picture(file.getvalue()).pixels)
    whole = io.BytesIO(file.getvalue())
    least = SimpleNamespace(read=whole.read, seek=whole.seek, tell=whole.tell)  # all that Pillow asks of a file
    with Image.open(least) as image:  # type: ignore[arg-type]
        assert of_pillow(image).pixels.shape == pixels.shape
    signed = one_strip(SAMPLES.tobytes(), 8, (339, 3, 2))
    for decoded in (False, True):  # what Pillow keeps of a TIFF tells even then
        with Image.open(io.BytesIO(signed)) as image, pytest.raises(BadInput, match="signed"):
            if decoded:
                image.load()
            of_pillow(image)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    gamma = struct.pack(">I4sI", 4, b"gAMA", 100_000)
    gamma += struct.pack(">I", zlib.crc32(gamma[4:]))
    linear = file.getvalue()[:33] + gamma + file.getvalue()[33:]
    with Image.open(io.BytesIO(linear)) as image:
        assert of_pillow(image).icc == read_picture(io.BytesIO(linear)).icc == colour.of_gamma(gamma[8:12], None)


def test_one_frame_of_jpeg_xl_is_no_animation() -> None:
    pytest.importorskip("pillow_jxl")
    file = io.BytesIO()
    Image.new("RGB", (300, 20), "red").save(file, "JXL")
    assert read_picture(file.getvalue()).pixels.shape == (20, 300, 3)


@pytest.mark.parametrize(
    "head", [b"", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\0jxlc"]
)
def test_a_cut_head_is_no_animation(head: bytes) -> None:
    assert jxl.said(head) == jxl.Said()


def test_signed_samples_are_refused() -> None:
    assert np.array_equal(read_picture(one_strip(SAMPLES.tobytes(), 8, (339, 3, 1))).pixels[..., 0], SAMPLES)
    with pytest.raises(BadInput, match="signed samples"):
        read_picture(one_strip(SAMPLES.tobytes(), 8, (339, 3, 2)))


def test_white_of_12_bits_is_white() -> None:
    white = read_picture(one_strip(b"\xff" * 96, 12))
    assert white.pixels.min() == 255 and white.grey
    assert white.notes == ("12 bits a sample are coded from the upper 8",)


def test_16_bits_in_planes_are_refused() -> None:
    samples = np.full((3, 8, 8), 40000, "<u2").tobytes()
    count = 11
    behind = 14 + 12 * count
    starts = behind + 6 + 24
    tables = struct.pack("<3H", 16, 16, 16) + struct.pack("<6I", *(starts + 128 * i for i in range(3)), *[128] * 3)
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 3, behind), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 3, behind + 6), (277, 3, 1, 3), (278, 4, 1, 8), (279, 4, 3, behind + 18), (284, 3, 1, 2)]
    entries += [(339, 3, 1, 1)]
    file = struct.pack("<2sHIH", b"II", 42, 8, count) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    with pytest.raises(BadInput, match="separate planes"):
        read_picture(file + bytes(4) + tables + samples)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_of_any_depth(depth: int) -> None:
    most = (1 << depth) - 1
    samples = [most, 0, most, 0]
    bits = 0
    for sample in samples:
        bits = bits << depth | sample
    row = (bits << -4 * depth % 8).to_bytes((4 * depth + 7) // 8)
    picture = read_picture(png(depth, 0, [row], most.to_bytes(2)))
    assert picture.alpha is not None and picture.alpha.tolist() == [[0, 255, 0, 255]]
    assert picture.grey and picture.pixels[0, :, 0].tolist() == [255, 0, 255, 0]


def test_a_transparent_colour_of_16_bits() -> None:
    clear, other = bytes.fromhex("123456789abc"), bytes.fromhex("fedc56789abc")
    picture = read_picture(png(16, 2, [clear + other + clear + other], clear))
    assert picture.alpha is not None and picture.alpha.tolist() == [[0, 255, 0, 255]]


def test_the_crop_of_an_avif_is_said() -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "AVIF")
    data = file.getvalue()
    assert not read_picture(data).notes
    box = struct.pack(">I4s4s", 12, b"free", b"clap")
    assert any("crop" in note for note in read_picture(data + box).notes)
