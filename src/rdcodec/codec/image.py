"""Pixels alone, uint8 of shape (H, W, 3): for what measures and shows pictures. `picture.py` has all of a picture."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from rdcodec.codec.picture import MAX_PIXELS, Picture, Pixels
from rdcodec.codec.picture_reader import READ_SUFFIXES, read_picture
from rdcodec.codec.picture_writer import WRITE_FORMATS, encode_picture, format_of, write_picture
from rdcodec.errors import BadInput

__all__ = ["READ_SUFFIXES", "WRITE_FORMATS", "Pixels", "encode_image", "format_of", "read_image", "write_image"]


def read_image(source: Path | bytes | BinaryIO, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Pixels:
    """Samples of a picture as they are stored, upright, in 8 bits. Arguments and errors as `read_picture`.

    BadInput for transparency too.
    """
    picture = read_picture(source, max_pixels, name)
    if picture.alpha is not None:
        named = name or (source if isinstance(source, Path) else "picture")
        raise BadInput(f"{named}: has transparency, which has no place here: flatten it onto a background first")
    return picture.pixels


def write_image(image: Pixels, target: Path | BinaryIO, format: str | None = None, quality: int | None = None) -> None:
    """Write uint8 (H, W, 3); arguments and errors as `write_picture`."""
    write_picture(_picture(image), target, format, quality)


def encode_image(image: Pixels, format: str, quality: int | None = None) -> bytes:
    """The bytes of a picture file; arguments and errors as `encode_picture`."""
    return encode_picture(_picture(image), format, quality)


def _picture(image: Pixels) -> Picture:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return Picture(image)
