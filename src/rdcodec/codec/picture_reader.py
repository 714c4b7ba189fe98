"""Picture files, arrays and PIL pictures to `Picture`.

Formats are told by content. The picture is turned upright, and what a `.rdc` file can hold is kept: alpha, grey, ICC
profile, EXIF and XMP. Whatever else has to change (more than 8 bits, CMYK, further pictures in the file, metadata that
cannot be read) is said in `Picture.notes`; what would be lost altogether is refused.
"""

import contextlib
import importlib
import io
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, PngImagePlugin

from rdcodec.codec import colour, damage, jxl, metadata, png
from rdcodec.codec.picture import MAX_PIXELS, Picture, Pixels, check_size
from rdcodec.codec.plugins import load_plugin
from rdcodec.errors import BadInput, RdcError, UsageError

_SUFFIXES = ".png .jpg .jpeg .webp .tif .tiff .ppm .pgm .pbm .pnm .avif .npy .bmp .gif .heic .heif .jxl .jp2 .tga .ico"
READ_SUFFIXES = frozenset(_SUFFIXES.split())

_JPEG_MAGIC = b"\xff\xd8\xff"
_NPY_MAGIC = b"\x93NUMPY"
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"))
_FIRST = ("Jpeg", "WebP", "Tiff", "Ppm", "Avif")  # Pillow's modules of what is common, beside PNG
_NEVER = frozenset({"EPS", "WMF", "RDC"})  # two that are programs, and our own by its plug-in
_MODE_REFUSALS = {
    "F": "has floating-point samples, which are not supported: convert it to 8-bit RGB first",
    "I": "has samples of 32 bits, which are not supported: convert it to 8-bit RGB first",
    "LAB": "is CIE Lab, which is not supported: convert it to 8-bit RGB first",
}


_UNSUPPORTED = re.compile("supported|not available|unknown .* mode|cannot handle", re.IGNORECASE)


def read_picture(
    source: Path | bytes | BinaryIO, max_pixels: int = MAX_PIXELS, name: str | None = None, allow_damaged: bool = False
) -> Picture:
    """Read any picture that Pillow and its installed plug-ins read, or NPY, told by content.

    NPY holds uint8 or uint16 of shape (H, W), (H, W, 3) or (H, W, 4). `source` is a path, the bytes of a file, or a
    seekable binary file; `name` stands for it in messages. The declared size is checked before pixels are allocated.
    With `allow_damaged`, what can be read of a damaged file is taken, with a note.

    Raises BadInput for a damaged, foreign, too large or unsupported picture; NeedsModel where a plug-in is missing;
    RdcError if the file cannot be opened.
    """
    if isinstance(source, Path):
        try:
            file = source.open("rb")
        except OSError as error:
            raise RdcError(f"{name or source}: cannot be read: {error.strerror}") from error
        with file:
            return _read(file, max_pixels, name or str(source), allow_damaged)
    file_name = name or "picture"
    return _read(io.BytesIO(source) if isinstance(source, bytes) else source, max_pixels, file_name, allow_damaged)


def _read(file: BinaryIO, max_pixels: int, name: str, allow_damaged: bool) -> Picture:
    prefix = file.read(32)
    file.seek(0)
    with _parsing(name, allow_damaged):
        if not prefix:
            raise BadInput("is empty")
        if prefix.startswith(_NPY_MAGIC):
            return _read_npy(file, max_pixels)
        if prefix.startswith(png.SIGNATURE):
            return _read_png(file.read(), max_pixels, allow_damaged)
        try:
            return _read_other(file, max_pixels, name, None)
        except (OSError, SyntaxError, ValueError) as error:
            if not allow_damaged:
                raise
            return _read_other(file, max_pixels, name, _taken(error))


def _read_other(file: BinaryIO, max_pixels: int, name: str, taken: str | None) -> Picture:
    """Any format but PNG and NPY; with `taken`, a note, as much as can be had of a damaged file."""
    file.seek(0)
    _refuse_jxl(_head(file))
    if file.read(3) == _JPEG_MAGIC:
        file = io.BytesIO(_all(file) + damage.END_OF_JPEG)  # it may lack its own
    elif taken:
        file = io.BytesIO(damage.mended(_all(file), _pixels_announced(file, max_pixels, name)))
    file.seek(0)
    with _open(file, name) as image, damage.counted_errors() as errors:
        check_size(*image.size, max_pixels)
        found = _found(image, file)
        if taken:
            found = found.but(taken)
        elif wrong := _damage(image, file):
            raise OSError(wrong)
        picture = _finished(image, found, allow_damaged=taken is not None)
    if errors[0] and not taken:
        raise OSError("its samples cannot be decompressed")
    return picture


def _damage(image: ImageFile.ImageFile, file: BinaryIO) -> str | None:
    """What Pillow would pass over."""
    if image.format not in ("JPEG", "MPO", "TIFF"):
        return None
    return damage.of_tiff(image, _all(file)) if image.format == "TIFF" else damage.of_jpeg(_all(file))


def _pixels_announced(file: BinaryIO, max_pixels: int, name: str) -> int:
    """0 where not even the header can be read."""
    file.seek(0)
    with contextlib.suppress(OSError, SyntaxError, ValueError, BadInput), _open(file, name) as image:
        check_size(*image.size, max_pixels)
        return image.width * image.height
    return 0


def _all(file: BinaryIO) -> bytes:
    return _head(file, -1)


def _read_png(data: bytes, max_pixels: int, allow_damaged: bool) -> Picture:
    """Chunks by our own reader: Pillow gives up the picture for metadata that it cannot read, and skips checksums."""
    parsed = png.parse(data)
    check_size(parsed.width, parsed.height, max_pixels)
    if parsed.frames > 1:
        raise BadInput(f"holds {parsed.frames} frames: save the one you want as a picture of its own")
    notes = (*parsed.notes, _deep(parsed.depth)) if parsed.depth > 8 else parsed.notes
    found = _Found(parsed.icc, parsed.exif, parsed.xmp, notes)
    try:
        if wrong := png.damage(parsed):
            raise OSError(wrong)
        return _finished(_pillow_png(parsed), found)
    except (OSError, SyntaxError, ValueError) as error:
        if not allow_damaged:
            raise
        return _finished(_pillow_png(png.mended(parsed)), found.but(_taken(error)))


def _pillow_png(parsed: png.Png) -> ImageFile.ImageFile:
    """Opened, with the transparent colour in 8 bits: Pillow leaves one of 2, 4 or 16 as it is."""
    image = PngImagePlugin.PngImageFile(io.BytesIO(png.bare(parsed)))
    clear = image.info.get("transparency")
    if isinstance(clear, int) and image.mode == "L":
        image.info["transparency"] = clear * 255 // ((1 << parsed.depth) - 1)
    elif isinstance(clear, tuple) and parsed.depth == 16:
        image.info["transparency"] = tuple(sample >> 8 for sample in clear)
    return image


def _taken(error: Exception) -> str:
    return f"damaged ({_reason(error)}): what is there is taken"


def _reason(error: Exception) -> str:
    if isinstance(error, struct.error | IndexError):  # of a parser beyond the end
        return "it ends too early"
    words = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return "its samples cannot be decoded" if re.fullmatch(r"-?\d+|.*decoder error -\d+.*", words) else words


@dataclass(frozen=True)
class _Found:
    """Metadata as it stands in a file, not yet looked at."""

    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    notes: tuple[str, ...]

    def but(self, note: str) -> "_Found":
        return replace(self, notes=(*self.notes, note))


@contextlib.contextmanager
def _parsing(name: str, allow_damaged: bool) -> Iterator[None]:
    """Put the name before errors, and turn whatever a parser raises on damaged data into BadInput.

    Parsers meet hostile bytes with OSError, SyntaxError, ValueError, struct.error, KeyError and more; no list
    of them holds from one version of Pillow or NumPy to the next.
    """
    try:
        yield
    except RdcError as error:
        raise type(error)(f"{name}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:
        reason = _reason(error)
        if _UNSUPPORTED.search(reason) or isinstance(error, NotImplementedError):
            raise BadInput(f"{name}: is of a kind that is not supported ({reason}): convert it to PNG first") from error
        else_ = "nothing can be had of it" if allow_damaged else "--allow-damaged takes what is there"
        raise BadInput(f"{name}: is damaged ({reason}): {else_}") from error


def _open(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Parse the header. Not by `Image.open`: its pixel limit belongs to the process, ours to the call."""
    prefix = file.read(64)
    file.seek(0)
    _load_plugin(prefix)
    if _is_heic(prefix):
        return Image.OPEN["HEIF"][0](file, "")
    for module in _FIRST:
        importlib.import_module(f"PIL.{module}ImagePlugin")
        if _accepts(module.upper(), prefix):
            return Image.OPEN[module.upper()][0](file, "")
    Image.init()  # imports all of them
    for format in Image.ID:
        if format not in _NEVER and _accepts(format, prefix):
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Pillow: not this one
                file.seek(0)
                return Image.OPEN[format][0](file, "")
    by_suffix = Image.EXTENSION.get(Path(name).suffix.lower(), "")
    if by_suffix in Image.OPEN and Image.OPEN[by_suffix][1] is None:  # no magic number: only the name tells
        file.seek(0)
        return Image.OPEN[by_suffix][0](file, "")
    raise BadInput("is not a picture that can be read here: rdc compress --help lists formats")


def _accepts(format: str, prefix: bytes) -> bool:
    """Whether a file begins as the format does. Some plug-ins answer with a sentence for want of a library."""
    accept = Image.OPEN[format][1] if format in Image.OPEN else None
    return accept is not None and accept(prefix) is True


def _load_plugin(prefix: bytes) -> None:
    """Register the plug-in that a file needs; NeedsModel where it is not installed."""
    is_jxl = prefix.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"))
    if is_jxl or _is_heic(prefix):
        load_plugin("JPEG XL" if is_jxl else "HEIC", "is ")


def _is_heic(prefix: bytes) -> bool:
    """Whether a file of the HEIF family is not AVIF, which may begin with the same general brand."""
    if prefix[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(prefix[:4]), len(prefix))
    brands = {prefix[at : at + 4] for at in (8, *range(16, end - 3, 4))}
    return bool(brands & _HEIF_BRANDS) and not brands & {b"avif", b"avis"}


def _found(image: ImageFile.ImageFile, file: BinaryIO) -> _Found:
    """What an opened file, not PNG, says of itself; BadInput for several frames."""
    notes: tuple[str, ...] = ()
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and (image.format == "MPO" or (image.format == "HEIF" and b"ster" in _head(file))):
        notes += (_further(frames - 1),)  # of a phone's file: views or gain maps of the first
    elif frames > 1:
        kind = "pages" if image.format == "TIFF" else "frames"
        raise BadInput(f"holds {frames} {kind}: save the one you want as a picture of its own")
    exif = metadata.of_tiff(image) if image.format == "TIFF" else image.info.get("exif")
    icc, xmp = image.info.get("icc_profile"), image.info.get("xmp")
    if icc is None and image.format in ("AVIF", "HEIF"):
        icc = colour.of_nclx(_head(file))
    return _Found(icc, exif, xmp.encode() if isinstance(xmp, str) else xmp, (*notes, *_remarks(image, file)))


def _remarks(image: Image.Image, file: BinaryIO | None) -> tuple[str, ...]:
    """Notes on what Pillow changes or leaves out unsaid, as far as can be known; BadInput for misread kinds."""
    notes: tuple[str, ...] = ()
    auxiliary = [kind for kind in image.info.get("aux") or () if "alpha" not in str(kind)]  # of HEIC
    if beside := len(auxiliary) + len(image.info.get("depth_images") or ()):
        notes += (_further(beside),)
    if image.format == "TIFF":
        _refuse_misread(image)
    if image.format == "AVIF" and b"clap" in _head(file):
        notes += ("the file's crop is not applied: the whole picture is coded",)
    if (bits := _depth(image, file)) > 8:
        notes += (_deep(bits),)
    return notes


def _refuse_jxl(head: bytes) -> None:
    """BadInput for kinds of JPEG XL of which Pillow's plug-in gives something else."""
    said = jxl.said(head)
    if said.animation:
        raise BadInput("is an animation: save the frame you want as a picture of its own")
    if said.floats:
        raise BadInput(_MODE_REFUSALS["F"])


def _refuse_misread(image: Image.Image) -> None:
    """BadInput for kinds of TIFF whose samples Pillow takes for others."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if 2 in tags.get(339, ()):
        raise BadInput("has signed samples, which are not supported: convert it to 8-bit RGB first")
    if tags.get(284) == 2 and max(tags.get(258, (1,))) > 8 and _codec(image) == "raw":
        raise BadInput("has 16 bits in separate planes, which is not supported: convert it to 8-bit RGB first")


def _codec(image: Image.Image) -> str:
    """The decoder that Pillow uses, as long as it has not done so."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0].codec_name) if tiles else ""


def _further(count: int) -> str:
    what, verb = ("a further picture", "is") if count == 1 else (f"{count} further pictures", "are")
    return f"{what} in the file (gain map, second view or preview) {verb} dropped"


def _deep(bits: int) -> str:
    return f"{bits} bits a sample are coded from the upper 8"


def _depth(image: Image.Image, file: BinaryIO | None) -> int:
    """Bits per sample. Pillow narrows many of these to 8 and says nothing."""
    if image.format == "TIFF":
        bits_per_sample: tuple[int, ...] = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return max(bits_per_sample)
    if image.format == "HEIF":
        return int(image.info.get("bit_depth", 8))
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "JXL":
        return jxl.said(_head(file)).depth
    if image.format == "AVIF":
        box = (head := _head(file)).find(b"av1C")
        flags = head[box + 6] if box >= 0 else 0
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8  # twelve_bit, high_bitdepth (AV1-ISOBMFF 2.3)
    if image.format == "PPM" and _codec(image):
        arguments = image.tile[0].args  # type: ignore[attr-defined]
        return 16 if isinstance(arguments, tuple) and int(arguments[-1]) > 255 else 8  # maxval
    return 8


def _head(file: BinaryIO | None, count: int = 1 << 16) -> bytes:
    """The first 64 KiB, where headers stand."""
    if file is None:
        return b""
    position = file.tell()
    file.seek(0)
    head = file.read(count)
    file.seek(position)
    return head


def _finished(image: Image.Image, found: _Found, allow_damaged: bool = False) -> Picture:
    """Decode the pixels, look at the metadata, turn all upright."""
    if refusal := _MODE_REFUSALS.get("" if image.format == "PPM" else image.mode):
        raise BadInput(refusal)
    try:
        image.load()
    except OSError:
        if not allow_damaged or getattr(image, "tile", None):
            raise  # else libtiff's decoder has given up, and what it had is there
    notes = found.notes
    icc, xmp = found.icc or None, found.xmp or None
    exif = metadata.clean(found.exif)
    if found.exif and exif is None and not metadata.is_empty(found.exif):
        notes += ("EXIF cannot be read and is dropped",)
    space = colour.space(icc) if icc else None
    if icc and space is None:
        notes, icc = (*notes, "the colour profile cannot be read and is dropped: colours are taken as sRGB"), None
    for field, value in (("icc", icc), ("exif", exif), ("xmp", xmp)):
        if value and len(value) > metadata.MAX_BYTES:
            notes += (f"{metadata.WORDS[field]} of {len(value)} bytes is too large and is dropped",)
            icc, exif, xmp = (None if part is value else part for part in (icc, exif, xmp))
    if icc and colour.is_hdr(icc):
        raise BadInput(colour.HDR)
    if image.mode == "CMYK":
        pixels, note = colour.from_cmyk(image, icc if space == "CMYK" else None)
        return _upright(Picture(pixels, None, False, None, exif, xmp, (*notes, note)), image)
    pixels, alpha, grey = _samples(image)
    if icc and not (space == "RGB" or (space == "GRAY" and grey)):
        notes, icc = (*notes, f"the colour profile is for {space} and is dropped: colours are taken as sRGB"), None
    return _upright(Picture(pixels, alpha, grey, icc, exif, xmp, notes), image)


def _samples(image: Image.Image) -> tuple[Pixels, Pixels | None, bool]:
    """Pixels, alpha and whether the picture is grey, of a decoded picture."""
    if image.mode.startswith("I"):
        deep, most = np.asarray(image).astype(np.uint32), _most(image)
        pixels = ((deep * 255 + most // 2) // most).astype(np.uint8)[..., None].repeat(3, 2)
        clear = image.info.get("transparency")
        opaque = None if clear is None or (deep != clear).all() else (deep != clear).astype(np.uint8) * 255
        return pixels, opaque, True
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "YCbCr"):
        raise BadInput(f"has colour mode {image.mode}, which is not supported: convert it to 8-bit RGB first")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode == "La":  # alpha multiplied in; Pillow has no other way from it
        image = image.convert("LA")
    if not image.has_transparency_data:
        return np.array(image.convert("RGB")), None, grey
    both = np.array(image.convert("RGBA"))
    alpha = both[..., 3].copy()
    return both[..., :3].copy(), None if alpha.min() == 255 else alpha, grey


def _most(image: Image.Image) -> int:
    """The value of white in a grey picture of more than 8 bits."""
    bits = image.tag_v2.get(258, (16,))[0] if image.format == "TIFF" else 16  # type: ignore[attr-defined]
    return (1 << int(bits)) - 1 if 8 < bits < 16 else 65535


def _upright(picture: Picture, image: Image.Image) -> Picture:
    """Turned as EXIF says, which then says 1. TIFF and JPEG XL are turned by their decoders, a JPEG in JXL is not."""
    if picture.exif is None:
        return picture
    orientation = metadata.orientation(picture.exif)
    picture = replace(picture, exif=metadata.reset(picture.exif))
    if orientation == 1:
        return picture
    if picture.xmp is not None:
        picture = replace(picture, xmp=metadata.reset_xmp(picture.xmp))
    if image.format == "TIFF" or (image.format == "JXL" and not getattr(image, "jpeg", False)):
        return picture
    alpha = None if picture.alpha is None else metadata.turned(picture.alpha, orientation)
    return replace(picture, pixels=metadata.turned(picture.pixels, orientation), alpha=alpha)


def _read_npy(file: BinaryIO, max_pixels: int) -> Picture:
    """A bare array; the header alone is parsed before the size is known to be right."""
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran_order, dtype = read_header(file)
    fits = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if dtype not in (np.uint8, np.uint16) or not fits or fortran_order:
        asked = "uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4), in C order"
        raise BadInput(f"holds {dtype} {shape}, which is not supported: an NPY picture is {asked}")
    height, width = shape[:2]
    check_size(width, height, max_pixels)
    expected = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    samples = file.read(expected + 1)
    if len(samples) != expected:
        relation = "truncated" if len(samples) < expected else "followed by foreign bytes"
        raise BadInput(f"the samples are {relation}: {expected} bytes belong to {width}x{height}")
    array = np.frombuffer(samples, dtype).reshape(shape).copy()
    return of_array(array)


def of_array(array: NDArray[Any]) -> Picture:
    """uint8 or uint16 (H, W), (H, W, 3) or (H, W, 4) as a picture; UsageError for anything else.

    16 bits are rounded to 8, with a note; an alpha of 255 everywhere is none.
    """
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype not in (np.uint8, np.uint16) or not fits or 0 in array.shape:
        raise UsageError(f"a picture is uint8 (H, W), (H, W, 3) or (H, W, 4), not {array.dtype} {array.shape}")
    notes: tuple[str, ...] = ()
    if array.dtype == np.uint16:
        notes = (_deep(16),)
        array = ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if array.ndim == 2:
        return Picture(array[..., None].repeat(3, 2), None, True, notes=notes)
    alpha = array[..., 3] if array.shape[2] == 4 else None
    return Picture(array[..., :3], None if alpha is None or alpha.min() == 255 else alpha, notes=notes)


def of_pillow(image: Image.Image, options: Mapping[str, Any] | None = None) -> Picture:
    """A PIL picture with the metadata of its file; BadInput for one that cannot be coded.

    As long as Pillow has not decoded it, its file is looked at as `read_picture` does; after that only what Pillow
    keeps is known. `options`: as Pillow's `save` takes them, EXIF and XMP are then those given there, or none; the
    colour profile is that of the picture if no other is given.
    """
    with _parsing("PIL picture", allow_damaged=True):
        check_size(*image.size, image.width * image.height)
        file = _file_of(image)
        icc, notes = _looked_at(image, file)
        with damage.counted_errors() as errors:
            image.load()  # some metadata stand behind the pixels
        if errors[0] and not ImageFile.LOAD_TRUNCATED_IMAGES:
            raise OSError("its samples cannot be decompressed")
        icc = image.info.get("icc_profile") or icc
        found = image.info if options is None else {"icc_profile": icc, **options}
        exif, xmp = found.get("exif"), found.get("xmp")
        if options is None and image.format == "TIFF":
            exif = metadata.of_tiff(image)
        elif options is None and exif is None and (read := image.getexif()):
            exif = read.tobytes()
        if isinstance(exif, Image.Exif):
            exif = exif.tobytes()
        icc = found.get("icc_profile", icc)
        return _finished(image, _Found(icc, exif, xmp.encode() if isinstance(xmp, str) else xmp, notes))


def _file_of(image: Image.Image) -> BinaryIO | None:
    """The file that Pillow has still to read; None where it has."""
    file = getattr(image, "fp", None)
    return file if hasattr(file, "seek") else None


def _looked_at(image: Image.Image, file: BinaryIO | None) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile that Pillow does not know of, and notes; OSError for damage, BadInput for what cannot be coded."""
    icc: bytes | None = None
    wrong: str | None = None
    notes: tuple[str, ...] = ()
    if image.format == "PNG" and file is not None:
        parsed = png.parse(_all(file))
        icc, wrong = parsed.icc, png.damage(parsed)
        notes = (_deep(parsed.depth),) if parsed.depth > 8 else ()
    else:
        _refuse_jxl(_head(file))
        notes = _remarks(image, file)
        if isinstance(image, ImageFile.ImageFile) and file is not None:
            kept = io.BytesIO(_all(file) + (damage.END_OF_JPEG if image.format in ("JPEG", "MPO") else b""))
            wrong = _damage(image, kept)
    if wrong and not ImageFile.LOAD_TRUNCATED_IMAGES:
        raise OSError(wrong)
    return icc, notes
