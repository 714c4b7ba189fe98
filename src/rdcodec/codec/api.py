"""What programs call: `compress`, `decompress` and `info`, for whatever a caller can mean by a picture or a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdcodec.codec.container import MAX_PIXELS, SINGLE_RATE, as_bytes, read_header, unpack
from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import codec_for, load
from rdcodec.codec.sections import picture_of
from rdcodec.errors import BadInput, RdcError, UsageError

Pixels = NDArray[np.uint8]


class Readable(Protocol):
    """A file object opened for reading bytes."""

    def read(self) -> bytes:
        """All that is left."""
        ...


FileSource = bytes | bytearray | memoryview | str | os.PathLike[str] | Readable
PictureSource = NDArray[Any] | Image.Image | FileSource


@dataclass(frozen=True)
class Info:
    """What an .rdc file says of itself."""

    width: int  # pixels
    height: int
    model: str  # the tag of its weights: I.3
    quality: float | None  # 0..100; None: the model has one rate
    file_bytes: int
    sections: tuple[int, ...]  # ids of the optional parts

    @property
    def bpp(self) -> float:
        """All bytes of the file, per pixel."""
        return 8 * self.file_bytes / (self.width * self.height)


def compress(
    picture: PictureSource,
    model: str | Path = "I",
    quality: float | None = None,
    effort: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> bytes:
    """Code a picture as the bytes of an .rdc file; quality 0..100 in tenths (default 50), effort as `Codec.compress`.

    `picture`: uint8 of shape (H, W), (H, W, 1), (H, W, 3), or (H, W, 4) if nothing is transparent; a PIL picture; a
    picture file as a path, its bytes or a binary file object. What has an EXIF orientation is turned upright. Files of
    more than `max_pixels` are refused; arrays and PIL pictures are here already.

    Raises BadInput for a picture that cannot be read or coded, UsageError for what is none, NeedsModel as `load`;
    RdcError for a file that cannot be opened. Threads may call it at the same time.
    """
    _check_limit(max_pixels)
    return load(model).compress(_pixels(picture, max_pixels), quality, effort, max_pixels)


def decompress(file: FileSource, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode an .rdc file, given as bytes, path or binary file object, to uint8 (H, W, 3).

    (H, W, 4) for a file with transparency, (H, W) for one that was grey.

    Raises BadInput for a foreign, damaged or too large file, NeedsModel if its weights are not here, UsageError for
    what is no file, RdcError for a file that cannot be opened. Threads may call it at the same time.
    """
    _check_limit(max_pixels)
    with _bytes_of(file) as data:
        header, stream = unpack(data, max_pixels)
        return picture_of(codec_for(header).decode(header, stream, max_pixels), header.sections).array


def info(file: FileSource) -> Info:
    """What an .rdc file says of itself, without decoding it; no model is needed. Errors as `decompress`."""
    with _bytes_of(file) as data:
        header = read_header(data, max_pixels=1 << 60).header  # nothing is allocated
        quality = None if header.quality == SINGLE_RATE else header.quality / 10
        sections = tuple(section.id for section in header.sections)
        return Info(header.width, header.height, header.tag, quality, len(data), sections)


def _check_limit(max_pixels: int) -> None:
    if not isinstance(max_pixels, Integral) or max_pixels < 1:
        raise UsageError(f"max_pixels is a whole number from 1 on, not {max_pixels!r}")


def _pixels(picture: PictureSource, max_pixels: int) -> Pixels:
    if isinstance(picture, Image.Image):
        return of_pillow(picture)
    if hasattr(picture, "__array__"):
        return _of_array(picture)
    with _bytes_of(picture, "a picture is an array, a PIL picture, or a file as bytes, path or file object") as data:
        return read_image(data, max_pixels)


def _of_array(array: Any) -> Pixels:
    try:
        samples = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:  # a tensor of a card, one that wants gradients
        raise UsageError(f"{type(array).__name__} gives no array: {error}") from error
    if samples.dtype != np.uint8 or samples.ndim not in (2, 3) or 0 in samples.shape:
        raise UsageError(f"{_SHAPES}, not {samples.dtype} {samples.shape}")
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.shape[2] == 1:
        return np.repeat(samples, 3, axis=2)
    if samples.shape[2] == 4:
        if samples[..., 3].min() < 255:
            raise UsageError("the array is transparent in places: flatten it onto a background first")
        return samples[..., :3]
    if samples.shape[2] != 3:
        raise UsageError(f"{_SHAPES}, not {samples.dtype} {samples.shape}")
    return samples


_SHAPES = "an array of a picture is uint8 (height, width, 3), or with 1 or 4 channels"


def of_pillow(image: Image.Image, exif: bytes | Image.Exif | None = None) -> Pixels:
    """Pixels of a PIL picture, turned upright by its EXIF, or by that given. BadInput for what cannot be coded.

    By way of a file that loses nothing: what is refused and converted is that of files.
    """
    form = "TIFF" if image.mode in ("CMYK", "LAB", "YCbCr", "F", "RGBX") else "PNG"  # TIFF for what PNG has no word for
    file = BytesIO()
    try:
        image.save(file, form, exif=image.getexif() if exif is None else exif, compress_level=0)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError) as error:  # Pillow's of broken and of odd pictures
        raise BadInput(f"the PIL picture cannot be taken as it is: {error}") from error
    return read_image(file.getvalue(), image.width * image.height, "PIL picture")


@contextmanager
def _bytes_of(source: Any, expected: str = "a file is bytes, a path or a binary file object") -> Iterator[bytes]:
    """The bytes of a file; errors about them begin with its name if it has one."""
    if not isinstance(source, str | os.PathLike):
        yield _read(source, expected)
        return
    name = os.fsdecode(source)
    try:
        data = Path(name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise RdcError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        yield data
    except RdcError as error:
        raise type(error)(f"{name}: {error}") from error


def _read(source: Any, expected: str) -> bytes:
    if hasattr(source, "read"):
        try:
            source = source.read()
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise RdcError(f"the file object cannot be read: {error}") from error
        if isinstance(source, str):
            raise UsageError("the file object gives text: open it in binary mode")
    try:
        return as_bytes(source)
    except UsageError:
        raise UsageError(f"{expected}, not {type(source).__name__}") from None
