"""Picture files in and out: what is read exactly, what is turned upright, what is refused and how."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rdcodec.codec.image import encode_image, format_of, read_image, write_image
from rdcodec.errors import BadInput, RdcError, UsageError

H, W = 11, 17
PICTURE = np.random.default_rng(1).integers(0, 256, (H, W, 3), dtype=np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def as_npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes], data: bytes = b"") -> bytes:
    """A PNG by hand: colour 0 grey, 2 RGB, 6 RGBA; filter bytes are the caller's."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = b"".join(
        struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
        for kind, payload in ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


# What is read


@pytest.mark.parametrize("format", ["PNG", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_read_exactly(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    assert np.array_equal(read_image(saved(Image.fromarray(PICTURE), format, **options)), PICTURE)


@pytest.mark.parametrize("format", ["JPEG", "AVIF"])
def test_lossy_formats_read_as_pillow_decodes_them(format: str) -> None:
    data = saved(Image.fromarray(PICTURE), format, quality=80)
    image = read_image(data)
    assert image.shape == (H, W, 3)
    assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_npy_reads_exactly() -> None:
    assert np.array_equal(read_image(as_npy(PICTURE)), PICTURE)


def test_path_bytes_and_file_read_the_same(tmp_path: Path) -> None:
    data = saved(Image.fromarray(PICTURE), "PNG")
    path = tmp_path / "named.jpg"  # content decides, not the name
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        image = read_image(source)
        assert np.array_equal(image, PICTURE)
        assert image.flags.writeable and image.flags.c_contiguous


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_become_rgb(mode: str) -> None:
    source = Image.fromarray(PICTURE).convert(mode)
    assert np.array_equal(read_image(saved(source, "PNG")), np.asarray(source.convert("RGB")))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format: str, orientation: int) -> None:
    # Four flat quadrants survive lossy coding; each orientation puts them elsewhere.
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32], upright[:16, 32:], upright[16:, :32], upright[16:, 32:] = 20, 90, 160, 230
    # How a camera stores the upright picture under each tag (EXIF 2.32, table 6).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(saved(Image.fromarray(np.ascontiguousarray(stored)), format, exif=exif))
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= 12


def test_phone_multi_picture_file_gives_its_first_picture() -> None:
    main, preview = Image.new("RGB", (32, 32), (200, 30, 30)), Image.new("RGB", (8, 8))
    image = read_image(saved(main, "MPO", save_all=True, append_images=[preview]))
    assert image.shape == (32, 32, 3)
    assert image[..., 0].min() > 180


# What is refused


RGBA = Image.fromarray(np.dstack([PICTURE, PICTURE[..., :1]]))
GREY = Image.fromarray(PICTURE[..., 0])
FRAMES = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]


def transparent_palette() -> bytes:
    image = Image.fromarray(PICTURE).convert("P")
    return saved(image, "PNG", transparency=image.getpixel((0, 0)))


REFUSED = {
    "alpha": (saved(RGBA, "PNG"), "transparency"),
    "alpha in WebP": (saved(RGBA, "WEBP"), "transparency"),
    "alpha in AVIF": (saved(RGBA, "AVIF"), "transparency"),
    "grey with alpha": (saved(RGBA.convert("LA"), "PNG"), "transparency"),
    "transparent palette": (transparent_palette(), "transparency"),
    "transparent colour": (
        saved(Image.fromarray(PICTURE), "PNG", transparency=tuple(PICTURE[0, 0].tolist())),
        "transparency",
    ),
    "float TIFF": (saved(GREY.convert("F"), "TIFF"), "floating-point"),
    "PFM": (b"PF\n2 1\n-1.0\n" + bytes(24), "picture"),
    "Lab TIFF": (saved(Image.new("LAB", (4, 4)), "TIFF"), "Lab"),
    "animated PNG": (saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "2 frames"),
    "animated WebP": (saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), "2 frames"),
    "animated AVIF": (saved(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:]), "2 frames"),
    "pages": (saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), "2 pages"),
    "animated GIF": (saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), "2 frames"),
    "text": (b"Dear picture,", "is not a picture"),
    "empty": (b"", "is empty"),
    "no pixels": (png(0, 5, 8, 2), "x.png"),
    "float NPY": (as_npy(PICTURE.astype(np.float32)), "(H, W, 3)"),
    "NPY with four channels": (as_npy(np.zeros((2, 2, 4), np.uint8)), "transparency"),
    "NPY with five channels": (as_npy(np.zeros((2, 2, 5), np.uint8)), "(H, W, 3)"),
    "NPY in Fortran order": (as_npy(np.asfortranarray(PICTURE)), "(H, W, 3)"),
    "NPY of no rows": (as_npy(np.zeros((0, 4, 3), np.uint8)), "no pixels"),
    "NPY with pickled objects": (as_npy(np.array([[["a"] * 3]], object)), "(H, W, 3)"),
    "NPY with bytes behind": (as_npy(PICTURE) + b"!", "foreign"),
    "NPY with a broken header": (as_npy(PICTURE).replace(b"'shape'", b"'sh(pe'"), "x.png"),
    "NPY of another version": (b"\x93NUMPY\x09\x00" + bytes(20), "x.png"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_that_names_the_file(case: str) -> None:
    data, word = REFUSED[case]
    with pytest.raises(BadInput) as caught:
        read_image(data, name="x.png")
    message = str(caught.value)
    assert message.startswith("x.png: ") and word in message
    assert "\n" not in message


def test_ten_bit_avif_is_refused() -> None:
    # Pillow writes 8 bits only; the same file with av1C's high_bitdepth flag set declares ten.
    data = bytearray(saved(Image.fromarray(PICTURE), "AVIF"))
    data[data.index(b"av1C") + 6] |= 0x40
    with pytest.raises(BadInput):
        read_image(bytes(data))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "PPM", "AVIF", "NPY"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7])
def test_truncated_is_refused(format: str, kept: float) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = as_npy(np.asarray(image)) if format == "NPY" else saved(image, format)
    with pytest.raises(BadInput):
        read_image(data[: int(len(data) * kept)])


HUGE = {
    "PNG": png(100_000, 100_000, 8, 2),
    "PPM": b"P6\n100000 100000\n255\n",
    "PGM": b"P5\n100000 100000\n255\n",
    "NPY": as_npy(np.zeros((1, 1, 3), np.uint8)).replace(b"(1, 1, 3)", b"(100000, 100000, 3)"),
    "side": b"P6\n16777217 1\n255\n",
}


@pytest.mark.parametrize("case", HUGE)
def test_huge_declared_size_is_refused_before_pixels_are_allocated(case: str) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match=r"--max-pixels|along a side"):
        read_image(HUGE[case])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB; the pixels: 30 GB


def test_max_pixels_is_exact() -> None:
    data = saved(Image.fromarray(PICTURE), "PNG")
    assert read_image(data, max_pixels=H * W).shape == (H, W, 3)
    with pytest.raises(BadInput, match="17x11 is more than 186 pixels"):
        read_image(data, max_pixels=H * W - 1)


def test_max_pixels_holds_beside_pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(saved(Image.fromarray(PICTURE), "PNG")).shape == (H, W, 3)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it skips
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "PPM", "AVIF"])
def test_damaged_bytes_give_a_picture_or_bad_input(format: str) -> None:
    data = saved(Image.fromarray(PICTURE), format)
    rng = np.random.default_rng(3)
    for _ in range(60):
        hurt = bytearray(data)
        for place in rng.integers(0, len(hurt), 3):
            hurt[place] = rng.integers(0, 256)
        try:
            image = read_image(bytes(hurt), max_pixels=1_000_000)
        except BadInput:
            continue
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def test_missing_file_and_folder_fail_as_io(tmp_path: Path) -> None:
    for path, word in ((tmp_path / "none.png", "No such file"), (tmp_path, "directory")):
        with pytest.raises(RdcError, match=word) as caught:
            read_image(path)
        assert caught.value.exit_code == 1


# What is written


@pytest.mark.parametrize("format", ["png", "ppm", "npy", "webp"])
def test_lossless_output_comes_back_exactly(format: str, tmp_path: Path) -> None:
    assert np.array_equal(read_image(encode_image(PICTURE, format)), PICTURE)
    path = tmp_path / f"out.{format}"
    write_image(PICTURE, path)
    stream = io.BytesIO()
    write_image(PICTURE, stream, format)
    assert path.read_bytes() == stream.getvalue() == encode_image(PICTURE, format)


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_quality_trades_size_for_error(format: str) -> None:
    smooth = np.asarray(Image.fromarray(PICTURE).resize((128, 96), Image.Resampling.BICUBIC))
    small, large = encode_image(smooth, format, 20), encode_image(smooth, format, 90)
    assert len(small) < len(large)
    errors = [np.square(read_image(data).astype(float) - smooth).mean() for data in (small, large)]
    assert errors[0] > errors[1]


def test_a_view_is_written_like_its_copy() -> None:
    for format in ("png", "ppm", "npy"):
        assert encode_image(PICTURE[::-1, ::2], format) == encode_image(PICTURE[::-1, ::2].copy(), format)


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(UsageError, match="lossless"):
        encode_image(PICTURE, "png", 50)
    with pytest.raises(UsageError, match=r"1\.\.100"):
        encode_image(PICTURE, "jpeg", 101)
    with pytest.raises(UsageError, match="choose one of"):
        encode_image(PICTURE, "bmp")
    with pytest.raises(UsageError, match="suffix"):
        write_image(PICTURE, io.BytesIO())
    with pytest.raises(RdcError, match="too large for webp"):
        encode_image(np.zeros((1, 16_384, 3), np.uint8), "webp")
    with pytest.raises(ValueError, match="uint8"):
        encode_image(PICTURE.astype(np.float32), "png")
    with pytest.raises(ValueError, match="uint8"):
        encode_image(PICTURE[..., 0], "png")


def test_format_of_a_path() -> None:
    assert [format_of(Path(name)) for name in ("a.PNG", "a.jpg", "a.b.jpeg", "a.npy")] == [
        "png",
        "jpeg",
        "jpeg",
        "npy",
    ]
    for name in ("a", "a.bmp", "png"):
        with pytest.raises(UsageError, match="--format"):
            format_of(Path(name))
