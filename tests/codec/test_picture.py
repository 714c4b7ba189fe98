"""What a picture has beside its colours, read and written: alpha, grey, profile, EXIF, XMP; what is said of losses."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from rdcodec.codec import colour, metadata
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import of_array, read_picture
from rdcodec.codec.picture_writer import encode_picture, losses, write_picture
from rdcodec.errors import BadInput, UsageError

H, W = 24, 40
SMOOTH = Image.fromarray(np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8))
PIXELS = np.asarray(SMOOTH.resize((W, H), Image.Resampling.BICUBIC))
ALPHA = np.random.default_rng(2).integers(0, 256, (H, W), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = colour.of_code_points(12, 13)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="a"/></x:xmpmeta>'


def exif(orientation: int, kind: int = 3, order: str = ">") -> bytes:
    """A TIFF structure with a maker, and an orientation of SHORT (3) or LONG (4)."""
    value = struct.pack(f"{order}HH", orientation, 0) if kind == 3 else struct.pack(f"{order}I", orientation)
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, 2)
    maker = struct.pack(f"{order}HHI", 0x010F, 2, 4) + b"rdc\0"
    return head + maker + struct.pack(f"{order}HHI", 0x0112, kind, 1) + value + bytes(4)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def with_chunk(png: bytes, kind: bytes, payload: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    crc = zlib.crc32(kind + payload)
    return png[:33] + struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", crc) + png[33:]


PNG = saved(Image.fromarray(PIXELS), "PNG")
WHOLE = Picture(PIXELS, ALPHA, False, P3, exif(1), XMP.replace(b'"6"', b'"1"'))


# There and back


@pytest.mark.parametrize("format", ["png", "webp", "avif", "tiff", "heic", "jpeg", "jxl"])
def test_metadata_comes_back_from_every_format_that_holds_it(format: str) -> None:
    opaque = Picture(PIXELS, None, False, P3, exif(1), WHOLE.xmp)
    back = read_picture(encode_picture(opaque, format))
    assert back.notes == () and (format == "jxl" or back.icc == P3)  # JPEG XL's plug-in writes no profile
    assert back.exif is not None and b"rdc\0" in back.exif
    assert format == "jxl" or (back.xmp and b'title="a"' in back.xmp)


@pytest.mark.parametrize("format", ["png", "webp", "avif", "tiff", "heic", "jpeg", "jxl"])
def test_what_a_camera_says_comes_back(format: str) -> None:
    """Exposure and place stand in directories of their own; an orientation that is none is no obstacle."""
    camera = Image.Exif()
    camera[0x0112], camera[0x010F] = 9, "rdc"
    camera.get_ifd(0x8769).update({0x9003: "2024:01:02 03:04:05", 0x927C: b"note" * 20})
    camera.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    source = read_picture(saved(Image.fromarray(PIXELS), "JPEG", exif=camera))
    back = read_picture(encode_picture(source, format))
    found = Image.Exif()
    found.load(back.exif)
    assert found[0x010F] == "rdc" and found.get(0x0112, 1) == 1
    assert found.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05" and found.get_ifd(0x8825)[2] == (1, 2, 3)


@pytest.mark.parametrize("format", ["png", "webp", "avif", "tiff", "heic", "jpeg", "jxl"])
def test_exif_that_leads_nowhere_is_no_obstacle(format: str) -> None:
    """Of a directory beyond the end, and of a fraction there."""
    entries = struct.pack(">HHII", 0x011A, 5, 1, 0xFFFFFF), struct.pack(">HHII", 0x8769, 4, 1, 0xFFFFFF)
    exif = b"MM\0*" + struct.pack(">IH", 8, 2) + b"".join(entries) + bytes(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's
        assert read_picture(encode_picture(Picture(PIXELS, exif=exif), format)).pixels.shape == (H, W, 3)


@pytest.mark.parametrize("format", ["png", "webp", "tiff", "npy", "jxl"])
def test_alpha_comes_back_exactly(format: str) -> None:
    back = read_picture(encode_picture(Picture(PIXELS, ALPHA), format))
    assert np.array_equal(back.alpha, ALPHA) and np.array_equal(back.pixels, PIXELS)


@pytest.mark.parametrize("format", ["png", "tiff", "npy", "jxl", "jpeg"])
def test_grey_comes_back_as_one_channel(format: str) -> None:
    grey = of_array(PIXELS[..., 1])
    data = encode_picture(grey, format)
    assert format == "npy" or Image.open(io.BytesIO(data)).mode == "L"
    back = read_picture(data)
    assert back.grey and back.array.shape == (H, W)
    assert format == "jpeg" or np.array_equal(back.array, PIXELS[..., 1])


def test_grey_with_alpha_is_both() -> None:
    data = encode_picture(Picture(PIXELS[..., :1].repeat(3, 2), ALPHA, True), "png")
    assert Image.open(io.BytesIO(data)).mode == "LA"
    back = read_picture(data)
    assert back.grey and np.array_equal(back.alpha, ALPHA)


def test_what_a_format_cannot_hold_is_said_or_refused() -> None:
    assert losses(WHOLE, "png") == ()
    assert losses(WHOLE, "ppm") == (
        "ppm cannot hold its colour profile: converted to sRGB",
        "ppm cannot hold its EXIF, which is dropped",
        "ppm cannot hold its XMP, which is dropped",
    )
    wide = Picture(PIXELS, icc=P3)
    assert np.array_equal(read_picture(encode_picture(wide, "ppm")).pixels, wide.in_srgb().pixels)
    assert losses(Picture(PIXELS, exif=exif(1) + bytes(70_000)), "jpeg") == (
        "jpeg cannot hold its EXIF, which is dropped",
    )
    encode_picture(Picture(PIXELS, exif=exif(1) + bytes(70_000), xmp=bytes(70_000)), "jpeg")
    with pytest.raises(UsageError, match="jpeg holds no transparency"):
        encode_picture(WHOLE, "jpeg")


def test_paths_files_and_streams(tmp_path: Path) -> None:
    write_picture(WHOLE, tmp_path / "a.png")
    stream = io.BytesIO()
    write_picture(WHOLE, stream, "png")
    for source in (tmp_path / "a.png", stream.getvalue(), stream):
        if isinstance(source, io.BytesIO):
            source.seek(0)
        assert np.array_equal(read_picture(source).array, WHOLE.array)


@pytest.mark.parametrize("format", ["BMP", "GIF", "JPEG2000", "TGA", "ICO", "PCX", "HEIF", "JXL", "QOI"])
def test_whatever_pillow_and_its_plugins_read_is_read(format: str, tmp_path: Path) -> None:
    import pillow_heif
    import pillow_jxl  # noqa: F401

    pillow_heif.register_heif_opener()
    Image.init()
    path = tmp_path / "a.tga"  # TGA alone is told by its name
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {format}")
    Image.fromarray(PIXELS).save(path, format, **({"sizes": [(W, H)]} if format == "ICO" else {}))
    assert read_picture(path).pixels.shape == (H, W, 3)


# Transparency


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_of_255_everywhere_is_none(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("L" if mode == "LA" else "RGB").convert("RGBA" if mode == "PA" else mode)
    assert read_picture(saved(image.convert(mode), "TIFF" if mode == "PA" else "PNG")).alpha is None
    assert of_array(np.dstack([PIXELS, np.full((H, W), 255, np.uint8)])).alpha is None


def test_a_background_flattens() -> None:
    flat = Picture(PIXELS, ALPHA).on("white")
    share = ALPHA[..., None] / 255
    assert flat.alpha is None
    assert np.abs(flat.pixels - (PIXELS * share + 255 * (1 - share))).max() <= 0.51
    assert np.array_equal(Picture(PIXELS, np.zeros_like(ALPHA)).on("#102030").pixels[0, 0], [16, 32, 48])
    assert not Picture(PIXELS, ALPHA, True).on("red").grey


# Colour


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_profiles_come_as_they_are(format: str) -> None:
    for profile in (P3, SRGB):
        assert read_picture(saved(Image.fromarray(PIXELS), format, icc_profile=profile)).icc == profile


@pytest.mark.parametrize("profile", [b"garbage" * 30, P3[: len(P3) // 3], b"\0" * 200])
def test_a_profile_that_cannot_be_read_is_dropped_with_a_note(profile: bytes) -> None:
    for format in ("PNG", "JPEG"):
        back = read_picture(saved(Image.fromarray(PIXELS), format, icc_profile=profile))
        assert back.icc is None and "colour profile cannot be read" in back.notes[0]


def test_a_profile_for_another_space_is_dropped_with_a_note() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    back = read_picture(saved(Image.fromarray(PIXELS), "PNG", icc_profile=lab))
    assert back.icc is None and "is for Lab" in back.notes[0]


def test_conversion_to_srgb() -> None:
    assert P3 is not None
    same = Picture(PIXELS, None, False, SRGB).in_srgb()
    assert same.icc is None and np.abs(same.pixels.astype(int) - PIXELS).max() <= 1
    # P3's red lies outside sRGB, whose own red is (234, 51, 35) in P3
    red = Picture(np.full((2, 2, 3), (234, 51, 35), np.uint8), None, False, P3).in_srgb()
    assert np.abs(red.pixels[0, 0].astype(int) - (255, 0, 0)).max() <= 3
    assert Picture(PIXELS).in_srgb().pixels is PIXELS


def test_gamma_and_primaries_of_png_become_a_profile() -> None:
    linear = read_picture(with_chunk(PNG, b"gAMA", struct.pack(">I", 100_000)))
    assert linear.icc is not None
    expected = 255 * np.where(
        PIXELS / 255 <= 0.0031308, PIXELS / 255 * 12.92, 1.055 * (PIXELS / 255) ** (1 / 2.4) - 0.055
    )
    assert np.abs(linear.in_srgb().pixels - expected).max() <= 2
    wide = read_picture(
        with_chunk(PNG, b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    )
    assert wide.icc is not None
    assert np.abs(wide.in_srgb().pixels.astype(int) - Picture(PIXELS, icc=P3).in_srgb().pixels).max() <= 1
    of_p3 = read_picture(with_chunk(PNG, b"cICP", bytes([12, 13, 0, 1])))
    assert of_p3.icc == P3


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"gAMA", struct.pack(">I", 45455)),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
        (b"sRGB", b"\0"),
        (b"cICP", bytes([1, 13, 0, 1])),
        (b"cICP", bytes([2, 2, 0, 1])),
        (b"gAMA", bytes(4)),
        (b"cHRM", bytes(32)),
    ],
)
def test_what_says_srgb_or_nothing_makes_no_profile(kind: bytes, payload: bytes) -> None:
    assert read_picture(with_chunk(PNG, kind, payload)).icc is None


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused_in_words(transfer: int) -> None:
    avif = saved(Image.fromarray(PIXELS), "AVIF")
    place = avif.index(b"colrnclx") + 10
    for data in (
        with_chunk(PNG, b"cICP", bytes([9, transfer, 0, 1])),
        avif[:place] + struct.pack(">H", transfer) + avif[place + 2 :],
    ):
        with pytest.raises(BadInput, match=r"x: is HDR \(PQ or HLG\), which is not supported"):
            read_picture(data, name="x")


def test_cmyk_is_converted_and_said() -> None:
    for format in ("JPEG", "TIFF"):
        image = Image.fromarray(PIXELS).convert("CMYK")
        back = read_picture(saved(image, format))
        assert "CMYK without a profile" in back.notes[0] and back.icc is None
        assert np.abs(back.pixels.astype(int) - PIXELS).mean() < 8


def cmyk_profile() -> bytes:
    """Of a press that prints grey alone: a table of 2^4 points from CMYK to the lightness of Lab."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    points = bytes(value for c, m, y, k in corners for value in (round(255 * (1 - k) * (3 - c - m - y) / 3), 128, 128))
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * ramp + points + 3 * ramp
    head = struct.pack(">I4xI", 128 + 4 + 12 + len(table), 0x02400000) + b"prtrCMYKLab " + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_converted_by_its_own_profile(format: str) -> None:
    image = Image.fromarray(PIXELS).convert("CMYK")
    back = read_picture(saved(image, format, icc_profile=cmyk_profile()))
    assert back.notes == ("CMYK is converted to sRGB by its profile",) and back.icc is None
    assert np.ptp(back.pixels.astype(int), axis=2).max() <= 2 and np.ptp(back.pixels) > 100


# Bits


def test_sixteen_bits_are_coded_from_eight_with_a_note() -> None:
    deep = PIXELS.astype(np.uint16) * 257
    ppm = b"P6\n%d %d\n65535\n" % (W, H) + deep.astype(">u2").tobytes()
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = struct.pack(">IIBBBBB", W, H, 16, 2, 0, 0, 0)
    png = with_chunk(with_chunk(PNG[:33] + PNG[-12:], b"IDAT", zlib.compress(rows)), b"tEXt", b"a\0b")
    png = png[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + png[33:]
    npy = io.BytesIO()
    np.save(npy, deep)
    for data in (ppm, png, npy.getvalue()):
        back = read_picture(data)
        assert np.array_equal(back.pixels, PIXELS) and back.notes == ("16 bits a sample are coded from the upper 8",)
    for format in ("PNG", "TIFF"):
        back = read_picture(saved(Image.fromarray(deep[..., 0]), format))
        assert back.grey and np.array_equal(back.array, PIXELS[..., 0]) and "16 bits" in back.notes[0]


# EXIF and XMP


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_applied_once_and_reset(order: str, kind: int) -> None:
    once = read_picture(saved(Image.fromarray(PIXELS), "PNG", exif=exif(6, kind, order)))
    assert once.pixels.shape == (W, H, 3) and once.exif == exif(1, kind, order)
    for format in ("png", "webp", "tiff", "avif", "heic", "jpeg", "jxl"):
        again = read_picture(encode_picture(once, format))
        assert again.pixels.shape == (W, H, 3) and again.exif is not None
        assert metadata.orientation(again.exif) == 1


def test_a_jpeg_inside_jpeg_xl_is_turned_and_other_jpeg_xl_is_not(tmp_path: Path) -> None:
    import pillow_jxl  # noqa: F401

    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif(6))
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(tmp_path / "a.jxl", lossless_jpeg=True)
        image.save(tmp_path / "b.jxl", lossless_jpeg=False, exif=b"Exif\0\0" + exif(6))
    turned, same = (read_picture(tmp_path / name) for name in ("a.jxl", "b.jxl"))
    assert turned.pixels.shape == (W, H, 3) and same.pixels.shape == (H, W, 3)
    assert turned.exif == same.exif == exif(1)


def test_heic_of_ten_bits_is_coded_from_eight_with_a_note(tmp_path: Path) -> None:
    import pillow_heif

    deep = PIXELS.astype(np.uint16) << 8
    pillow_heif.encode("RGB;16", (W, H), deep.tobytes(), tmp_path / "a.heic", quality=95)
    back = read_picture(tmp_path / "a.heic")
    assert back.notes == ("10 bits a sample are coded from the upper 8",)
    assert np.abs(back.pixels.astype(int) - PIXELS).mean() < 8


def test_the_orientation_in_xmp_is_reset_with_it() -> None:
    data = encode_picture(Picture(PIXELS, exif=exif(6), xmp=XMP), "png")
    assert read_picture(data).xmp == XMP.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    assert read_picture(saved(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0" + exif(orientation))).pixels.shape == (
        H,
        W,
        3,
    )


def test_unreadable_metadata_never_costs_the_picture() -> None:
    garbage = b"Lorem ipsum dolor sit amet"
    raw = b"Raw profile type exif\0\nexif\n      40\n45786966zzzz\n"
    for data in (
        with_chunk(PNG, b"eXIf", garbage),
        with_chunk(PNG, b"tEXt", raw),
        saved(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0" + garbage),
    ):
        back = read_picture(data)
        assert back.exif is None and back.notes == ("EXIF cannot be read and is dropped",)
    for data in (
        saved(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0"),
        with_chunk(PNG, b"zTXt", b"a\0\0garbage"),
        with_chunk(PNG, b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0garbage"),
        with_chunk(PNG, b"tEXt", b""),
    ):
        assert read_picture(data).notes == ()


def test_doubled_prefixes_and_hexadecimal_exif_are_read() -> None:
    doubled = saved(Image.fromarray(PIXELS), "JPEG", exif=b"Exif\0\0Exif\0\0" + exif(6))
    text = b"Raw profile type exif\0\nexif\n%8d\n%b\n" % (len(exif(6)) + 6, (b"Exif\0\0" + exif(6)).hex().encode())
    for data in (doubled, with_chunk(PNG, b"tEXt", text)):
        back = read_picture(data)
        assert back.pixels.shape == (W, H, 3) and back.exif == exif(1)


def test_a_bomb_in_a_profile_or_text_is_dropped() -> None:
    bomb = zlib.compress(bytes(metadata.MAX_BYTES + 1), 9)
    back = read_picture(with_chunk(PNG, b"iCCP", b"a\0\0" + bomb))
    assert back.icc is None and "colour profile" in back.notes[0]
    assert read_picture(with_chunk(PNG, b"zTXt", b"Raw profile type exif\0\0" + bomb)).exif is None


def test_second_pictures_of_a_phone_are_said_to_be_dropped() -> None:
    data = saved(Image.fromarray(PIXELS), "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert read_picture(data).notes == ("a further picture in the file (gain map, second view or preview) is dropped",)
