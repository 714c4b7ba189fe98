"""What a file carries beside the coded pixels: a picture to sections of the container, and back.

`docs/format.md` is the law of them.
"""

import io
import struct
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from rdcodec.codec import colour, metadata
from rdcodec.codec.container import ALPHA, EXIF, GREY, ICC, XMP, Section
from rdcodec.codec.picture import Picture, Pixels
from rdcodec.errors import BadInput

TILE = 16_383  # sides of a WebP file
_DAMAGED = "damaged: the transparency is not as it was coded: get the file again from its source"


def sections_of(picture: Picture) -> tuple[Section, ...]:
    """The sections that a picture needs, in the order of their numbers; none for opaque sRGB without metadata."""
    payloads = {
        ICC: picture.icc,
        EXIF: picture.exif,
        XMP: picture.xmp,
        GREY: b"" if picture.grey else None,
        ALPHA: None if picture.alpha is None else _pack_alpha(picture.alpha),
    }
    return tuple(Section(number, payload) for number, payload in payloads.items() if payload is not None)


def picture_of(pixels: Pixels, sections: Sequence[Section]) -> Picture:
    """Decoded pixels (H, W, 3) with what the sections of their file say.

    BadInput for transparency that is damaged; other payloads that cannot be read are dropped with a note.
    """
    payloads: dict[int, bytes] = {}
    for section in sections:
        payloads.setdefault(section.id, section.payload)
    notes: list[str] = []
    for number in (ICC, EXIF, XMP):
        if len(payloads.get(number, b"")) > metadata.MAX_BYTES:
            notes.append(f"section {number} of {len(payloads.pop(number))} bytes is too large and is dropped")
    icc = payloads.get(ICC)
    space, grey = colour.space(icc), GREY in payloads
    if icc is not None and not (space == "RGB" or (space == "GRAY" and grey)):
        notes.append("the colour profile in the file cannot be used and is dropped")
        icc = None
    exif = metadata.clean(payloads.get(EXIF))
    if EXIF in payloads and exif is None:
        notes.append("EXIF in the file cannot be read and is dropped")
    alpha = None
    if ALPHA in payloads:
        alpha = _unpack_alpha(payloads[ALPHA], *pixels.shape[:2])
    return Picture(pixels, alpha, grey, icc, exif, payloads.get(XMP), tuple(notes))


def _pack_alpha(alpha: Pixels) -> bytes:
    """A lossless WebP file for each tile, one after another."""
    parts = io.BytesIO()
    for rows, columns in _tiles(*alpha.shape):
        tile = Image.fromarray(np.ascontiguousarray(alpha[rows, columns])).convert("RGB")
        tile.save(parts, "WEBP", lossless=True, quality=100, method=4)
    return parts.getvalue()


def _unpack_alpha(payload: bytes, height: int, width: int) -> Pixels:
    """BadInput unless every tile is a lossless WebP file of its size: nothing larger is ever decompressed."""
    alpha = np.empty((height, width), np.uint8)
    start = 0
    for rows, columns in _tiles(height, width):
        size = (columns.stop - columns.start, rows.stop - rows.start)
        end = start + 8 + int.from_bytes(payload[start + 4 : start + 8], "little")
        tile = payload[start:end]
        if len(tile) != end - start or _size(tile) != size:
            raise BadInput(_DAMAGED)
        try:
            with Image.open(io.BytesIO(tile), formats=["WEBP"]) as image:
                alpha[rows, columns] = np.asarray(image.convert("RGB"))[..., 1]
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(_DAMAGED) from error
        start = end
    if start != len(payload):
        raise BadInput(_DAMAGED)
    return alpha


def _size(tile: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file that is one VP8L chunk and nothing else."""
    if tile[:4] != b"RIFF" or tile[8:16] != b"WEBPVP8L" or len(tile) < 26 or tile[20] != 0x2F:
        return None
    (chunk,) = struct.unpack_from("<I", tile, 16)
    (bits,) = struct.unpack_from("<I", tile, 21)
    is_all = 20 + chunk + chunk % 2 == len(tile)
    return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) if is_all else None


def _tiles(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each tile, row by row."""
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))
