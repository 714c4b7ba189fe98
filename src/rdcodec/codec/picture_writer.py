"""`Picture` to the bytes of a picture file."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from rdcodec.codec import colour, metadata
from rdcodec.codec.picture import MAX_SIDE, Picture, luma
from rdcodec.codec.plugins import load_plugin
from rdcodec.errors import RdcError, UsageError
from rdcodec.system import write_whole

WRITE_SUFFIXES = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".avif": "avif",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".heic": "heic",
    ".jxl": "jxl",
    ".ppm": "ppm",
    ".npy": "npy",
}
WRITE_FORMATS = tuple(dict.fromkeys(WRITE_SUFFIXES.values()))
WRITE_MAX_SIDE = {"jpeg": 65_500, "webp": 16_383, "avif": 65_536, "heic": 65_536}  # of the formats, or their libraries
HOLDS = {  # what a format can hold beside colours
    "png": {"alpha", "grey", "icc", "exif", "xmp"},
    "jpeg": {"grey", "icc", "exif", "xmp"},
    "webp": {"alpha", "icc", "exif", "xmp"},
    "avif": {"alpha", "icc", "exif", "xmp"},
    "tiff": {"alpha", "grey", "icc", "exif", "xmp"},
    "heic": {"alpha", "icc", "exif", "xmp"},
    "jxl": {"alpha", "grey", "exif", "xmp"},  # by its plug-in
    "ppm": set(),
    "npy": {"alpha", "grey"},
}
_QUALITY = {"jpeg": 95, "avif": 95, "heic": 95, "webp": None, "jxl": None}  # None: lossless unless given
_JPEG_SEGMENT = 65_502  # bytes of metadata that every kind of segment has room for


def write_picture(
    picture: Picture, target: Path | BinaryIO, format: str | None = None, quality: int | None = None
) -> None:
    """Write a picture; the format defaults to the suffix of a path. `quality` and errors as `encode_picture`.

    A path is overwritten; the command line adds its own safeguards.
    """
    if isinstance(target, Path):
        write_whole(target, encode_picture(picture, format or format_of(target), quality))
    elif format is None:
        raise UsageError("a stream has no suffix: name the picture format, one of " + ", ".join(WRITE_FORMATS))
    else:
        target.write(encode_picture(picture, format, quality))


def encode_picture(picture: Picture, format: str, quality: int | None = None) -> bytes:
    """The bytes of a picture file with all of the picture that the format holds: `losses` names the rest.

    PNG, TIFF, PPM and NPY are lossless, WebP and JPEG XL too unless `quality` 1..100 is given; JPEG, AVIF and HEIC
    are coded without subsampling of colours, at quality 95 unless given.
    Raises UsageError for an unknown format, a quality it does not have, or transparency that it cannot hold; RdcError
    for a picture too large for it; NeedsModel where it needs a plug-in that is not installed.
    """
    check_format(format, quality)
    height, width = picture.pixels.shape[:2]
    if max(height, width) > WRITE_MAX_SIDE.get(format, MAX_SIDE):
        raise RdcError(f"{width}x{height} is too large for {format}: choose png, tiff, ppm or npy")
    if picture.alpha is not None and "alpha" not in HOLDS[format]:
        able = ", ".join(name for name, what in HOLDS.items() if "alpha" in what)
        raise UsageError(f"{format} holds no transparency: choose one of {able}")
    if "icc" not in HOLDS[format] or (colour.space(picture.icc) == "GRAY" and "grey" not in HOLDS[format]):
        picture = picture.in_srgb()
    lost = _unheld(picture, format)
    kept = (None if "exif" in lost else picture.exif), (None if "xmp" in lost else picture.xmp)
    picture = replace(picture, exif=kept[0], xmp=kept[1])
    file = io.BytesIO()
    if format == "npy":
        np.save(file, np.ascontiguousarray(picture.array), allow_pickle=False)
    elif format == "ppm":
        file.write(b"P6\n%d %d\n255\n" % (width, height))
        file.write(np.ascontiguousarray(picture.pixels).data)
    else:
        if format in ("heic", "jxl"):
            load_plugin("HEIC" if format == "heic" else "JPEG XL", f"{format} is ")
        pillow = {"heic": "HEIF"}.get(format, format)
        _to_pillow(picture, format).save(file, pillow, **_coding(picture, format, quality), **_carried(picture, format))
    return file.getvalue()


def losses(picture: Picture, format: str) -> tuple[str, ...]:
    """What of a picture a format cannot hold, and what becomes of it, in words."""
    words = [f"{format} cannot hold its {metadata.WORDS[what]}, which is dropped" for what in _unheld(picture, format)]
    if picture.icc and "icc" not in HOLDS[format]:
        words.insert(0, f"{format} cannot hold its colour profile: converted to sRGB")
    return tuple(words)


def _unheld(picture: Picture, format: str) -> list[str]:
    """Which of EXIF and XMP a format cannot hold."""
    there = {what: payload for what in ("exif", "xmp") if (payload := getattr(picture, what))}
    return [
        what
        for what, payload in there.items()
        if what not in HOLDS[format]
        or (format == "jpeg" and len(payload) > _JPEG_SEGMENT)
        or (what == "exif" and format in ("tiff", "avif") and not metadata.is_plain(payload))
    ]


def check_format(format: str, quality: int | None) -> None:
    """UsageError for a format that cannot be written, or a quality that it does not have."""
    if format not in WRITE_FORMATS:
        raise UsageError(f"cannot write {format!r}: choose one of {', '.join(WRITE_FORMATS)}")
    if quality is not None and format not in _QUALITY:
        raise UsageError(f"{format} is lossless and takes no quality")
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"{format} quality is 1..100, got {quality}")


def format_of(path: Path) -> str:
    """The format that a file name asks for; UsageError if its suffix is none that can be written."""
    try:
        return WRITE_SUFFIXES[path.suffix.lower()]
    except KeyError:
        suffixes = " ".join(WRITE_SUFFIXES)
        raise UsageError(f"{path}: cannot tell the picture format: use one of {suffixes}, or --format") from None


def _to_pillow(picture: Picture, format: str) -> Image.Image:
    grey = picture.grey and "grey" in HOLDS[format]
    image = Image.fromarray(luma(picture.pixels) if grey else picture.pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def _coding(picture: Picture, format: str, quality: int | None) -> dict[str, Any]:
    """Options of Pillow that decide how samples are coded."""
    quality = quality or _QUALITY.get(format)
    if format == "png":
        return {"compress_level": 3}  # of photographs as small as zlib's default, in half the time
    if format == "jpeg":
        return {"quality": quality, "subsampling": 0, "optimize": True}
    if format == "webp":
        return {"lossless": True, "exact": True} if quality is None else {"quality": quality, "method": 4}
    if format == "avif":
        return {"quality": quality, "subsampling": "4:4:4"}
    if format == "heic":
        return {"quality": quality, "chroma": 444}
    if format == "jxl":
        return {"lossless": True} if quality is None else {"quality": quality}
    return {} if picture.exif else {"compression": "tiff_adobe_deflate"}  # libtiff writes no EXIF for Pillow


def _carried(picture: Picture, format: str) -> dict[str, Any]:
    """Options of Pillow that carry metadata, as each format has them."""
    options: dict[str, Any] = {"icc_profile": picture.icc} if picture.icc else {}
    exif, xmp = picture.exif, picture.xmp
    if format == "tiff":
        tags = metadata.for_tiff(exif)
        if xmp:
            tags[700] = xmp
        return {**options, "exif": tags}
    if exif:
        options["exif"] = exif if format in ("png", "avif") else b"Exif\0\0" + exif
    if xmp and format == "png":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
        options["pnginfo"] = info
    elif xmp:
        options["xmp"] = xmp
    return options
