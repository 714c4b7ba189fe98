"""What programs call: `compress`, `decompress` and `info`, for whatever a caller can mean by a picture or a file."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdcodec.codec.container import ALPHA, MAX_PIXELS, SINGLE_RATE, as_bytes, read_header, unpack
from rdcodec.codec.picture import Picture, Pixels
from rdcodec.codec.picture_reader import of_array, of_pillow, read_picture
from rdcodec.codec.pipeline import codec_for, load
from rdcodec.codec.sections import picture_of, sections_of
from rdcodec.errors import RdcError, UsageError

logger = logging.getLogger("rdcodec")


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
    grey: bool
    transparent: bool
    icc: bytes | None = field(repr=False)  # colour profile; None: sRGB
    exif: bytes | None = field(repr=False)
    xmp: bytes | None = field(repr=False)

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

    `picture`: uint8 or uint16 of shape (H, W), (H, W, 1), (H, W, 3), or (H, W, 4) with alpha; a PIL picture; a picture
    file as a path, its bytes or a binary file object. Of pictures and files the colour profile, EXIF and XMP are kept,
    and they are turned upright; what has to change is logged as a warning. Files of more than `max_pixels` are
    refused; arrays and PIL pictures are here already.

    Raises BadInput for a picture that cannot be read or coded, UsageError for what is none, NeedsModel as `load`;
    RdcError for a file that cannot be opened. Threads may call it at the same time.
    """
    _check_limit(max_pixels)
    read = _picture(picture, max_pixels)
    for note in read.notes:
        logger.warning(note)
    return load(model).compress(read.pixels, quality, effort, max_pixels, sections_of(read))


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
        ids = tuple(section.id for section in header.sections)
        said = picture_of(np.zeros((1, 1, 3), np.uint8), [part for part in header.sections if part.id != ALPHA])
        about = said.grey, ALPHA in ids, said.icc, said.exif, said.xmp
        return Info(header.width, header.height, header.tag, quality, len(data), ids, *about)


def _check_limit(max_pixels: int) -> None:
    if not isinstance(max_pixels, Integral) or max_pixels < 1:
        raise UsageError(f"max_pixels is a whole number from 1 on, not {max_pixels!r}")


def _picture(source: PictureSource, max_pixels: int) -> Picture:
    if isinstance(source, Image.Image):
        return of_pillow(source)
    if hasattr(source, "__array__"):
        try:
            array = np.asarray(source)
        except (TypeError, ValueError, RuntimeError) as error:  # a tensor of a card, one that wants gradients
            raise UsageError(f"{type(source).__name__} gives no array: {error}") from error
        return of_array(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    with _bytes_of(source, "a picture is an array, a PIL picture, or a file as bytes, path or file object") as data:
        return read_picture(data, max_pixels)


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
