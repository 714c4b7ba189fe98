"""Picture files to uint8 arrays and back.

Inside rdcodec a picture is uint8 of shape (H, W, 3), sRGB, rows from the top. What a `.rdc` file cannot hold
(transparency, more than 8 bits, CMYK, several frames) is refused here rather than dropped in silence. Sample
values are kept as they are stored: colour profiles are not applied.
"""

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.system import write_whole

Picture = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
MAX_SIDE = 1 << 24  # the container's limit

READ_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".npy")
)
WRITE_SUFFIXES = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".ppm": "ppm",
    ".npy": "npy",
}
WRITE_FORMATS = ("png", "jpeg", "webp", "ppm", "npy")
WRITE_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383}  # libjpeg and the WebP format

_PILLOW_FORMATS = ("Png", "Jpeg", "WebP", "Tiff", "Ppm", "Avif")  # as its modules are called
_READABLE = "PNG, JPEG, WebP, TIFF, PPM, AVIF or NPY"
_NPY_MAGIC = b"\x93NUMPY"
_RGB_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "YCbCr"})  # 8 bits, no alpha, a defined way to RGB
_MODE_REFUSALS = {
    "CMYK": "is CMYK, which needs a colour profile to become RGB: convert it to 8-bit RGB first",
    "LAB": "is CIE Lab: convert it to 8-bit RGB first",
}
_TOO_DEEP = "has more than 8 bits per sample: convert it to 8-bit RGB first"
_TRANSPARENT = "has transparency, which a .rdc file cannot hold: flatten it onto a background first"


def read_image(source: Path | bytes | BinaryIO, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Picture:
    """Read a picture as uint8 (H, W, 3) RGB, turned upright by its EXIF orientation.

    PNG, JPEG, WebP, TIFF, PPM (PGM, PBM), AVIF, and NPY that holds uint8 (H, W, 3), told apart by content.
    Grey and palette pictures become RGB. `source` is a path, the bytes of a file, or a seekable binary file;
    `name` stands for it in messages. The declared size is checked before pixels are allocated.

    Raises BadInput for an unreadable, foreign, too large or unsupported picture; RdcError if the file cannot
    be opened.
    """
    if isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise RdcError(f"{source}: cannot be read: {error.strerror}") from error
        with file:
            return _read(file, max_pixels, name or str(source))
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), max_pixels, name or "picture")
    return _read(source, max_pixels, name or "picture")


def write_image(image: Picture, target: Path | BinaryIO, format: str | None = None, quality: int | None = None) -> None:
    """Write uint8 (H, W, 3) as PNG, JPEG, WebP, PPM or NPY; the format defaults to the suffix of a path.

    `quality` as in `encode_image`. A path is overwritten; the command line adds its own safeguards.
    """
    if isinstance(target, Path):
        write_whole(target, encode_image(image, format or format_of(target), quality))
    elif format is None:
        raise UsageError("a stream has no suffix: name the picture format, one of " + ", ".join(WRITE_FORMATS))
    else:
        target.write(encode_image(image, format, quality))


def encode_image(image: Picture, format: str, quality: int | None = None) -> bytes:
    """The bytes of a picture file. PNG, PPM and NPY are lossless.

    JPEG: 4:4:4, `quality` 1..100, 95 unless given. WebP: lossless unless `quality` 1..100 is given.
    Raises UsageError for an unknown format or a quality it does not have, RdcError for a picture too large
    for the format.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if format not in WRITE_FORMATS:
        raise UsageError(f"cannot write {format!r}: choose one of {', '.join(WRITE_FORMATS)}")
    if quality is not None and format not in ("jpeg", "webp"):
        raise UsageError(f"{format} is lossless and takes no quality")
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"{format} quality is 1..100, got {quality}")
    height, width = image.shape[:2]
    if max(height, width) > WRITE_MAX_SIDE.get(format, MAX_SIDE):
        raise RdcError(f"{width}x{height} is too large for {format}: choose png, ppm or npy")

    file = io.BytesIO()
    if format == "npy":
        np.save(file, np.ascontiguousarray(image), allow_pickle=False)
    elif format == "ppm":
        file.write(b"P6\n%d %d\n255\n" % (width, height))
        file.write(np.ascontiguousarray(image).data)
    else:
        Image.fromarray(image).save(file, format, **_save_options(format, quality))
    return file.getvalue()


def format_of(path: Path) -> str:
    """The format that a file name asks for; UsageError if its suffix is none that can be written."""
    try:
        return WRITE_SUFFIXES[path.suffix.lower()]
    except KeyError:
        suffixes = " ".join(WRITE_SUFFIXES)
        raise UsageError(f"{path}: cannot tell the picture format: use one of {suffixes}, or --format") from None


def _save_options(format: str, quality: int | None) -> dict[str, Any]:
    if format == "png":
        return {"compress_level": 3}  # of photographs as small as zlib's default, in half the time
    if format == "jpeg":
        return {"quality": 95 if quality is None else quality, "subsampling": 0, "optimize": True}
    if format == "webp":
        return {"lossless": True} if quality is None else {"quality": quality, "method": 4}
    return {}


def _read(file: BinaryIO, max_pixels: int, name: str) -> Picture:
    prefix = file.read(len(_NPY_MAGIC))
    file.seek(0)
    if not prefix:
        raise BadInput(f"{name}: is empty")
    if prefix == _NPY_MAGIC:
        return _read_npy(file, max_pixels, name)
    with _parsing(name), _open(file, name) as image:
        _check_size(*image.size, max_pixels, name)
        if refusal := _refusal(image, file):
            raise BadInput(f"{name}: {refusal}")
        image.load()
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


@contextlib.contextmanager
def _parsing(name: str) -> Iterator[None]:
    """Turn whatever a parser raises on damaged data into BadInput.

    Parsers meet hostile bytes with OSError, SyntaxError, ValueError, struct.error, KeyError and more; no list
    of them holds from one version of Pillow or NumPy to the next.
    """
    try:
        yield
    except (RdcError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise BadInput(f"{name}: cannot be decoded ({reason}): the file is damaged or truncated") from error


def _open(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Parse the header. Not by `Image.open`: its pixel limit belongs to the process, ours to the call."""
    for format in _PILLOW_FORMATS:  # the others need not be imported
        importlib.import_module(f"PIL.{format}ImagePlugin")
    prefix = file.read(16)
    file.seek(0)
    for format in _PILLOW_FORMATS:
        factory, accept = Image.OPEN[format.upper()]
        # Some plugins answer with a sentence when their library is missing from this build of Pillow.
        if accept is not None and accept(prefix) is True:
            return factory(file, "")
    raise BadInput(f"{name}: is not a {_READABLE} picture")


def _check_size(width: int, height: int, max_pixels: int, name: str) -> None:
    if width < 1 or height < 1:
        raise BadInput(f"{name}: has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE:
        raise BadInput(f"{name}: {width}x{height} is more than {MAX_SIDE} pixels along a side: crop it first")
    if width * height > max_pixels:
        raise BadInput(f"{name}: {width}x{height} is more than {max_pixels} pixels: raise --max-pixels if you trust it")


def _refusal(image: ImageFile.ImageFile, file: BinaryIO) -> str | None:
    """Why an opened picture cannot become 8-bit RGB without loss, or None."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the further frames of a phone's MPO are previews of the first
        kind = "pages" if image.format == "TIFF" else "frames"
        return f"holds {frames} {kind}: save the one you want as a picture of its own"
    if image.has_transparency_data:
        return _TRANSPARENT
    if _is_deep(image, file):
        return _TOO_DEEP
    if image.mode not in _RGB_MODES:
        return _MODE_REFUSALS.get(image.mode, f"has colour mode {image.mode}: convert it to 8-bit RGB first")
    return None


def _is_deep(image: ImageFile.ImageFile, file: BinaryIO) -> bool:
    """Whether samples have more than 8 bits. Pillow narrows many of these to 8 bits and says nothing."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format == "TIFF":
        bits_per_sample: tuple[int, ...] = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return max(bits_per_sample) > 8
    if image.format in ("PNG", "AVIF"):
        return _header_depth(image.format, file) > 8
    if image.format == "PPM":
        decoder_arguments = image.tile[0].args
        return isinstance(decoder_arguments, tuple) and int(decoder_arguments[-1]) > 255  # maxval
    return False


def _header_depth(format: str, file: BinaryIO) -> int:
    """Bits per sample by the file's own header: PNG's IHDR, AV1's configuration box (AV1-ISOBMFF 2.3)."""
    position = file.tell()
    file.seek(0)
    head = file.read(1 << 16)
    file.seek(position)
    if format == "PNG":
        return head[24]
    box = head.find(b"av1C")
    return 10 if box >= 0 and head[box + 6] & 0x40 else 8  # high_bitdepth: 10 or 12 bits


def _read_npy(file: BinaryIO, max_pixels: int, name: str) -> Picture:
    """A bare uint8 (H, W, 3) array; the header alone is parsed before the size is known to be right."""
    with _parsing(name):
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran_order, dtype = read_header(file)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or fortran_order:
        raise BadInput(f"{name}: holds {dtype} {shape}: an NPY picture is uint8 (H, W, 3) in C order")
    height, width, _ = shape
    _check_size(width, height, max_pixels, name)
    expected = height * width * 3
    samples = file.read(expected + 1)
    if len(samples) != expected:
        relation = "truncated" if len(samples) < expected else "followed by foreign bytes"
        raise BadInput(f"{name}: the samples are {relation}: {expected} bytes belong to {width}x{height}")
    return np.frombuffer(samples, np.uint8).reshape(shape).copy()
