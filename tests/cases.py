"""Awkward pictures, made from scratch: what each must come to, what it comes to, and the table of both.

    python tests/cases.py docs/results/cases.md

Each stands for a kind of file that people have. No picture comes from anywhere else.
"""

import contextlib
import io
import re
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from rdcodec.cli.main import main
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import read_picture
from rdcodec.codec.plugins import load_plugin

W, H = 320, 240
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A file, and what `rdc compress` must make of it."""

    data: bytes
    expected: str  # "coded", "coded, note: WORDS", "refused: WORDS"
    truth: Pixels | None = None  # the colours of the picture in sRGB, (H, W, 3); None: not compared
    alpha: Pixels | None = None
    found: str | None = None  # where that is not what is expected
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    words: str  # as Case.expected
    coded: Path | None
    stderr: str


def photo(seed: int = 0) -> Pixels:
    """Coloured noise with the spectrum of photographs, (240, 320, 3)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(H)[:, None], np.fft.fftfreq(W))
    spectrum = 1 / np.maximum(frequency, 1 / W) ** 1.4
    light, red, blue = (np.real(np.fft.ifft2(np.fft.fft2(rng.standard_normal((H, W))) * spectrum)) for _ in range(3))
    colours = np.stack([light + 0.6 * red, light - 0.2 * red - 0.2 * blue, light + 0.6 * blue], -1)
    return np.clip(128 + 55 * (colours - colours.mean()) / colours.std(), 0, 255).astype(np.uint8)


P = photo()
IMAGE = Image.fromarray(P)
GREY = np.asarray(IMAGE.convert("L"))


QUICK = {"AVIF": {"speed": 10}, "JXL": {"effort": 1}, "HEIF": {"enc_params": {"preset": "ultrafast"}}}


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """A file of it, as small as its encoder makes it at once."""
    file = io.BytesIO()
    image.save(file, format, **QUICK.get(format, {}), **options)
    return file.getvalue()


def as_grey(samples: Pixels) -> Pixels:
    return samples[..., None].repeat(3, 2)


# Colour profiles of a matrix and curves


def fixed(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def profile(red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], curve: bytes) -> bytes:
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"made\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
        b"cprt": b"text\0\0\0\0none\0",
        **{
            name: b"XYZ \0\0\0\0" + fixed(*xyz)
            for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), (red, green, blue), strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, payload in tags.items():
        table += name + struct.pack(">II", start + len(body), len(payload))
        body += payload + bytes(-len(payload) % 4)
    head = (
        struct.pack(">I4xI", start + len(body), 0x02400000) + b"mntrRGB XYZ " + struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    )
    head += b"acsp" + bytes(28) + fixed(0.9642, 1, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


CURVE = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
PROFILES = {
    "p3": profile((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), CURVE),
    "adobergb": profile((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), GAMMA),
    "brg": profile((0.14307, 0.06062, 0.7141), (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), CURVE),
    "srgb": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
}


def through(icc: bytes) -> Pixels:
    """The picture's colours if its samples have this profile."""
    source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(IMAGE, source, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert converted is not None
    return np.asarray(converted)


# Files by hand


def chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(depth: int, colour: int, rows: bytes, interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rows_of(samples: NDArray[np.generic]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in samples)


def adam7() -> bytes:
    grids = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    return b"".join(rows_of(P[y::dy, x::dx]) for x, y, dx, dy in grids)


def exif(orientation: int, kind: int = 3) -> bytes:
    value = struct.pack(">HH", orientation, 0) if kind == 3 else struct.pack(">I", orientation)
    return b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12" + struct.pack(">HI", kind, 1) + value + bytes(4)


def turned(orientation: int) -> Pixels:
    """How the stored picture looks upright, by Pillow's own names."""
    names = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # FLIP_LEFT_RIGHT, ROTATE_180, ...
    image = IMAGE.transpose(Image.Transpose(names[orientation])) if orientation in names else IMAGE
    return np.asarray(image)


# The cases

CUT = "refused: is damaged"
NOTE_16 = "coded, note: 16 bits a sample"
NOTE_EXIF = "coded, note: EXIF cannot be read"
FRAMES = "refused: holds"


def colour_cases() -> dict[str, Case]:
    found = {}
    for name, icc in PROFILES.items():
        truth = through(icc)
        found[f"icc_{name}.png"] = Case(saved(IMAGE, "PNG", icc_profile=icc), "coded", truth)
        jpeg = saved(IMAGE, "JPEG", quality=95, subsampling=0, icc_profile=icc)
        found[f"icc_{name}.jpg"] = Case(jpeg, "coded", truth)
    p3, adobe = PROFILES["p3"], PROFILES["adobergb"]
    plain = saved(IMAGE, "PNG")
    linear = np.where(P / 255 <= 0.0031308, P / 255 * 12.92, 1.055 * (P / 255) ** (1 / 2.4) - 0.055)
    return {
        **found,
        "icc_p3.webp": Case(saved(IMAGE, "WEBP", quality=95, icc_profile=p3), "coded", through(p3)),
        "icc_p3.avif": Case(saved(IMAGE, "AVIF", quality=95, icc_profile=p3), "coded", through(p3)),
        "icc_adobergb.tif": Case(saved(IMAGE, "TIFF", icc_profile=adobe), "coded", through(adobe)),
        "icc_broken.png": Case(
            saved(IMAGE, "PNG", icc_profile=b"garbage" * 30), "coded, note: the colour profile cannot be read", P
        ),
        "png_gama_linear.png": Case(
            plain[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + plain[33:],
            "coded",
            np.rint(255 * linear).astype(np.uint8),
        ),
        "png_cicp_pq_bt2020.png": Case(
            plain[:33] + chunk(b"cICP", bytes([9, 16, 0, 1])) + plain[33:], "refused: is HDR"
        ),
        "jpg_cmyk.jpg": Case(saved(IMAGE.convert("CMYK"), "JPEG"), "coded, note: CMYK", P),
        "tif_cmyk.tif": Case(saved(IMAGE.convert("CMYK"), "TIFF"), "coded, note: CMYK", P),
    }


def png_cases() -> dict[str, Case]:
    plain = saved(IMAGE, "PNG")
    palette = IMAGE.convert("P")
    hole = np.full((H, W), 255, np.uint8)
    hole[:40, :40] = 0
    raw = b"Raw profile type exif\0\nexif\n      40\n45786966zzzz\n"
    without_black = np.maximum(GREY, 1)
    hidden = np.where(np.asarray(palette) == 3, 0, 255).astype(np.uint8)
    grey_deep, deep = GREY.astype(np.uint16) * 257, P.astype(">u2") * 257
    return {
        "png_exif_garbage.png": Case(plain[:33] + chunk(b"eXIf", b"LoremIpsum dolor") + plain[33:], NOTE_EXIF, P),
        "png_rawprofile_bad.png": Case(plain[:33] + chunk(b"tEXt", raw) + plain[33:], NOTE_EXIF, P),
        "png_trailing.png": Case(plain + bytes(5000) + b"trailing", "coded", P),
        "png_trunc.png": Case(plain[: len(plain) // 2], CUT),
        "png_noiend.png": Case(plain[:-12], "coded", P),
        "png_pal.png": Case(saved(palette, "PNG"), "coded"),
        "png_pal_trns.png": Case(
            saved(palette, "PNG", transparency=3), "coded", alpha=None if hidden.min() == 255 else hidden
        ),
        "png_1bit.png": Case(saved(IMAGE.convert("1"), "PNG"), "coded"),
        "png_la_opaque.png": Case(saved(IMAGE.convert("LA"), "PNG"), "coded", as_grey(GREY)),
        "png_rgba_opaque.png": Case(saved(IMAGE.convert("RGBA"), "PNG"), "coded", P),
        "png_trns_gray_unused.png": Case(
            saved(Image.fromarray(without_black), "PNG", transparency=0), "coded", as_grey(without_black)
        ),
        "png_rgba_hole.png": Case(saved(Image.fromarray(np.dstack([P, hole])), "PNG"), "coded", P, hole),
        "png_16gray.png": Case(saved(Image.fromarray(grey_deep), "PNG"), NOTE_16, as_grey(GREY)),
        "png_16rgb.png": Case(png(16, 2, rows_of(deep)), NOTE_16, P),
        "png_interlaced.png": Case(png(8, 2, adam7(), 1), "coded", P),
    }


def jpeg_cases() -> dict[str, Case]:
    plain, progressive = saved(IMAGE, "JPEG", quality=90), saved(IMAGE, "JPEG", quality=90, progressive=True)
    middle = len(plain) // 2
    return {
        "jpg_prog.jpg": Case(saved(IMAGE, "JPEG", progressive=True), "coded", P),
        "jpg_gray.jpg": Case(saved(IMAGE.convert("L"), "JPEG"), "coded", as_grey(GREY)),
        "jpg_restart.jpg": Case(saved(IMAGE, "JPEG", restart_marker_blocks=4), "coded", P),
        "jpg_444_rgb.jpg": Case(saved(IMAGE, "JPEG", keep_rgb=True, subsampling=0), "coded", P),
        "jpg_trailing.jpg": Case(plain + bytes(3000) + b"SEFT trailer", "coded", P),
        "jpg_trunc50.jpg": Case(plain[:middle], CUT),
        "jpg_trunc_tail3.jpg": Case(plain[:-3], CUT),
        "jpg_noeoi.jpg": Case(plain[:-2], "coded", P),
        "jpg_corrupt_mid.jpg": Case(
            plain[:middle] + b"\x55" * 24 + plain[middle + 24 :],
            CUT,
            found="coded",
            why="the changed bytes are valid code for as many blocks: no decoder finds a fault",
        ),
        "jpg_early_eoi.jpg": Case(plain[:middle] + b"\xff\xd9" + plain[middle + 2 :], CUT),
        "jpg_prog_early_eoi.jpg": Case(progressive[: len(progressive) // 3] + b"\xff\xd9", CUT),
        "mpo_gainmap.jpg": Case(
            saved(IMAGE, "MPO", save_all=True, append_images=[Image.new("L", (80, 60))], quality=90),
            "coded, note: a further picture in the file",
            P,
        ),
    }


def exif_cases() -> dict[str, Case]:
    zero = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 5, 1, 38)
    rational = b"Exif\0\0II*\0\x08\0\0\0\2\0" + zero + bytes(12)

    def jpeg(payload: bytes) -> bytes:
        return saved(IMAGE, "JPEG", quality=95, exif=payload)

    return {
        **{
            f"exif_o{value}.jpg": Case(jpeg(exif(value)), "coded", turned(value))
            for value in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255)
        },
        "exif_o6_long.jpg": Case(jpeg(exif(6, 4)), "coded", turned(6)),
        "exif_double.jpg": Case(jpeg(b"Exif\0\0" + exif(6)), "coded", turned(6)),
        "exif_empty.jpg": Case(jpeg(b"Exif\0\0"), "coded", P),
        "exif_garbage.jpg": Case(jpeg(b"Exif\0\0garbage-not-tiff"), NOTE_EXIF, P),
        "exif_zero_rational.jpg": Case(jpeg(rational), "coded", turned(6)),
        "exif_o6.png": Case(saved(IMAGE, "PNG", exif=exif(6)[6:]), "coded", turned(6)),
        "exif_o6.webp": Case(saved(IMAGE, "WEBP", quality=95, exif=exif(6)), "coded", turned(6)),
        "exif_o6.tif": Case(saved(IMAGE, "TIFF", exif=exif(6)[6:]), "coded", turned(6)),
        "exif_o6.avif": Case(saved(IMAGE, "AVIF", quality=95, exif=exif(6)[6:]), "coded", turned(6)),
    }


def tiff_and_pnm_cases() -> dict[str, Case]:
    whole = b"P6\n%d %d\n255\n" % (W, H) + P.tobytes()
    text = b"P3\n# a comment\n%d %d\n255\n" % (W, H) + " ".join(map(str, P.ravel())).encode()
    grey_deep = GREY.astype(np.uint16) * 257
    packed = {"lzw": "tiff_lzw", "deflate": "tiff_adobe_deflate", "packbits": "packbits"}
    return {
        **{
            f"tif_{name}.tif": Case(saved(IMAGE, "TIFF", compression=kind), "coded", P) for name, kind in packed.items()
        },
        "tif_jpeg.tif": Case(saved(IMAGE, "TIFF", compression="jpeg", quality=95), "coded", P),
        "tif_g4.tif": Case(saved(IMAGE.convert("1"), "TIFF", compression="group4"), "coded"),
        "tif_multi.tif": Case(saved(IMAGE, "TIFF", save_all=True, append_images=[IMAGE]), FRAMES),
        "tif_float.tif": Case(saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "refused: has floating-point"),
        "tif_16.tif": Case(saved(Image.fromarray(grey_deep), "TIFF"), NOTE_16, as_grey(GREY)),
        "tif_rgba.tif": Case(saved(IMAGE.convert("RGBA"), "TIFF"), "coded", P),
        "tif_pal.tif": Case(saved(IMAGE.convert("P"), "TIFF"), "coded"),
        "tif_ycbcr.tif": Case(saved(IMAGE.convert("YCbCr"), "TIFF"), "coded", P),
        "pnm_16.ppm": Case(b"P6\n%d %d\n65535\n" % (W, H) + (P.astype(">u2") * 257).tobytes(), NOTE_16, P),
        "pnm_max15.ppm": Case(b"P6\n%d %d\n15\n" % (W, H) + (P >> 4).tobytes(), "coded", (P >> 4) * 17),
        "pnm_max1000.pgm": Case(
            b"P5\n%d %d\n1000\n" % (W, H) + (GREY.astype(np.uint16) * 3).astype(">u2").tobytes(),
            NOTE_16,
            as_grey(np.rint(GREY * (3 * 255 / 1000)).astype(np.uint8)),
        ),
        "pnm_ascii.ppm": Case(text, "coded", P),
        "pnm_trunc.ppm": Case(whole[:100_000], CUT),
        "pnm_two.ppm": Case(whole * 2, "coded", P),
        "pam_rgb.pam": Case(
            b"P7\nWIDTH %d\nHEIGHT %d\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" % (W, H) + P.tobytes(),
            "refused: is not a picture",
        ),
        "pfm.pfm": Case(
            b"PF\n%d %d\n-1.0\n" % (W, H) + (P[::-1] / 255).astype("<f4").tobytes(), "refused: is not a picture"
        ),
    }


def other_cases() -> dict[str, Case]:
    load_plugin("HEIC", "")
    load_plugin("JPEG XL", "")
    further = [Image.fromarray(photo(5)), IMAGE]
    frames = {"save_all": True, "append_images": further, "duration": 100}
    grey = {**frames, "append_images": [image.convert("L") for image in further]}  # a palette takes time to choose
    webp = saved(IMAGE, "WEBP", lossless=True)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>'
    return {
        **{f"anim.{kind}": Case(saved(IMAGE, kind.upper(), **frames), FRAMES) for kind in ("webp", "avif", "png")},
        "anim.gif": Case(saved(Image.fromarray(GREY), "GIF", **grey), FRAMES),
        "one_frame_loop.png": Case(
            saved(IMAGE, "PNG", save_all=True, default_image=True, append_images=[Image.fromarray(photo(5))]), FRAMES
        ),
        "x.bmp": Case(saved(IMAGE, "BMP"), "coded", P),
        "x.gif": Case(saved(IMAGE, "GIF"), "coded"),
        "x.jp2": Case(saved(IMAGE, "JPEG2000"), "coded", P),
        "x.ico": Case(saved(IMAGE, "ICO"), "coded"),
        "x.tga": Case(saved(IMAGE, "TGA"), "coded", P),
        "x.webp": Case(webp, "coded", P),
        "x.heic": Case(saved(IMAGE, "HEIF", quality=90), "coded", P),
        "x.jxl": Case(saved(IMAGE, "JXL", lossless=True), "coded", P),
        "half.webp": Case(webp[:2000], CUT),
        "x.svg": Case(svg, "refused: is not a picture"),
        "empty.png": Case(b"", "refused: is empty"),
        "text.png": Case(b"not a picture", "refused: is not a picture"),
        "wrong.png": Case(saved(IMAGE, "JPEG"), "coded", P),
        "noext": Case(saved(IMAGE, "PNG"), "coded", P),
    }


def npy_cases() -> dict[str, Case]:
    def npy(array: NDArray[np.generic]) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    alpha = np.full((H, W), 255, np.uint8)
    alpha[:40, :40] = 0
    return {
        "npy_f4_3.npy": Case(npy(P.astype(np.float32)), "refused: holds float32"),
        "npy_u1_2.npy": Case(npy(GREY), "coded", as_grey(GREY)),
        "npy_u2_3.npy": Case(npy(P.astype(np.uint16) * 257), NOTE_16, P),
        "npy_chw.npy": Case(npy(P.transpose(2, 0, 1).copy()), "refused: holds uint8 (3, 240, 320)"),
        "npy_rgba.npy": Case(npy(np.dstack([P, alpha])), "coded", P, alpha),
        "npy_ok.npy": Case(npy(P), "coded", P),
    }


@cache
def cases() -> dict[str, Case]:
    """By file name."""
    groups = (colour_cases, png_cases, jpeg_cases, exif_cases, tiff_and_pnm_cases, other_cases, npy_cases)
    return {name: case for group in groups for name, case in group().items()}


def outcome(name: str, folder: Path) -> Outcome:
    """What `rdc compress` makes of a case, in a folder of its own."""
    (folder / name).write_bytes(cases()[name].data)
    coded = folder / "coded.rdc"
    coded.unlink(missing_ok=True)
    heard = io.StringIO()
    with contextlib.redirect_stderr(heard):
        code = main(["compress", str(folder / name), "-o", str(coded), "-m", "J", "-q", "90"])
    said = heard.getvalue().replace(f"{folder}/", "")
    notes = re.findall(rf"^  note: {re.escape(name)}: (.*)$", said, re.MULTILINE)
    if code == 0:
        return Outcome("coded" + "".join(f", note: {note}" for note in notes), coded, said)
    words = said.splitlines()[-1].removeprefix(f"rdc: {name}: ")
    return Outcome(f"refused: {words}" if code == 3 else f"exit {code}: {words}", None, said)


def psnr_db(truth: Pixels, decoded: Picture) -> float:
    """Of a decoded picture against the true colours."""
    pixels = decoded.in_srgb().pixels
    assert pixels.shape == truth.shape
    return float(10 * np.log10(255**2 / np.mean((pixels.astype(float) - truth) ** 2)))


def decode(coded: Path) -> Picture:
    """The picture that `rdc decompress` writes as PNG."""
    back = coded.with_suffix(".png")
    with contextlib.redirect_stderr(io.StringIO()):
        assert main(["decompress", str(coded), "-o", str(back), "-f"]) == 0
    return read_picture(back)


def row(name: str, result: Outcome) -> str:
    """Of the table, in Markdown."""
    case, words = cases()[name], result.words
    if not words.startswith(case.expected):
        words = f"**{words}**"
    words = re.sub(r"damaged [(].*[)]:", "damaged:", words)  # the reader's own reason
    words = re.sub(r"[0-9]+ B\b", "... B", words)
    return f"| `{name}` | {case.expected} | {words} |"


def page(rows: Iterable[str]) -> str:
    """The page with its table, in Markdown."""
    missed = [f"`{name}`: {case.why}." for name, case in cases().items() if case.found]
    lines = [
        "# Awkward pictures",
        "",
        f"{len(cases())} pictures made from scratch, each for a kind of file that people have, and what `rdc compress`",
        "makes of them. Colours, transparency and which way is up are compared by a test (`tests/test_cases.py`).",
        "",
        "```text",
        "$ python tests/cases.py docs/results/cases.md",
        "```",
        "",
        "| picture | expected | outcome |",
        "|---|---|---|",
        *rows,
    ]
    return "\n".join([*lines, "", f"Not as expected: {len(missed)}.", *missed, ""])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(sys.argv[1]).write_text(page(row(name, outcome(name, Path(folder))) for name in cases()))
