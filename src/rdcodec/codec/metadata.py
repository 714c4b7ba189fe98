"""EXIF and XMP: whether they can be read, which way up they say the picture is, and saying that it is upright."""

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WORDS = {"icc": "colour profile", "exif": "EXIF", "xmp": "XMP"}
MAX_BYTES = 16 << 20  # of a profile, of EXIF, of XMP: what a file carries and what is read of one
ORIENTATION = 0x0112
_PREFIX = b"Exif\0\0"
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF types of whole numbers
_OF_CAMERA = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)  # description, make, model, ..., copyright
_SUB_DIRECTORIES = (0x8769, 0x8825)  # EXIF and GPS
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:=["']|>))[2-8](?=["'<])""")


def is_empty(raw: bytes) -> bool:
    """Whether EXIF is a prefix with nothing behind it."""
    return not _without_prefix(raw)


def clean(raw: bytes | None) -> bytes | None:
    """EXIF as a TIFF structure without prefixes; None for what cannot be read."""
    if raw is None:
        return None
    exif = _without_prefix(raw)
    return None if _directory(exif) is None else exif


def orientation(exif: bytes) -> int:
    """1 to 8 as EXIF has it, of any whole type; 1 for what is absent or no orientation."""
    place = _orientation_place(exif)
    value = 1 if place is None else struct.unpack_from(place[1], exif, place[0])[0]
    return value if 1 <= value <= 8 else 1


def reset(exif: bytes) -> bytes:
    """The same EXIF with an orientation of 1, every other byte as it was."""
    place = _orientation_place(exif)
    if place is None:
        return exif
    changed = bytearray(exif)
    struct.pack_into(place[1], changed, place[0], 1)
    return bytes(changed)


def reset_xmp(xmp: bytes) -> bytes:
    """The same XMP with an orientation of 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def turned(samples: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """(H, W, ...) as stored to what is upright, by the orientation of EXIF 2.32, table 6."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(samples[::rows, ::columns])


def of_tiff(image: Image.Image) -> bytes | None:
    """What a TIFF says of camera, exposure and place, as EXIF. Its other tags are about how its samples lie."""
    try:
        found, exif = image.getexif(), Image.Exif()
        for tag in _OF_CAMERA:
            if tag in found:
                exif[tag] = found[tag]
        for tag in _SUB_DIRECTORIES:
            if directory := found.get_ifd(tag):
                exif.get_ifd(tag).update(directory)
                exif[tag] = exif.get_ifd(tag)
        return exif.tobytes() if len(exif) else None
    except Exception:  # Pillow meets odd tags with errors of every kind; metadata never costs the picture
        return b"unreadable"


def is_plain(exif: bytes) -> bool:
    """Whether Pillow can take it apart and put it together again, as it does for TIFF and AVIF."""
    try:
        for_tiff(exif)
    except Exception:  # Pillow meets odd tags with errors of every kind
        return False
    return True


def for_tiff(exif: bytes | None) -> Image.Exif:
    """The tags of EXIF that a TIFF can have beside those of its own samples."""
    found, tags = Image.Exif(), Image.Exif()
    found.load(exif or b"")
    for tag in _OF_CAMERA:
        if isinstance(value := found.get(tag), str):
            tags[tag] = value
    for tag in _SUB_DIRECTORIES:
        if directory := found.get_ifd(tag):
            tags.get_ifd(tag).update(directory)
    whole = Image.Exif()
    whole.load(tags.tobytes())
    return whole


def _without_prefix(raw: bytes) -> bytes:
    while raw.startswith(_PREFIX):
        raw = raw[len(_PREFIX) :]
    return raw


def _directory(exif: bytes) -> tuple[str, int, int] | None:
    """Byte order, place of the first entry and number of entries of the first directory; None if there is none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start < 8 or start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    return (order, start + 2, count) if start + 2 + 12 * count <= len(exif) else None


def _orientation_place(exif: bytes) -> tuple[int, str] | None:
    """Where the orientation stands, and the form of its number."""
    directory = _directory(exif)
    if directory is None:
        return None
    order, first, count = directory
    for place in range(first, first + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", exif, place)
        form: Any = _INTEGERS.get(kind)
        if tag == ORIENTATION and form and values == 1:
            return place + 8, order + form
    return None
