"""Damage that Pillow passes over: what is wrong with a picture file, in words, and a mended copy of what is there.

Pillow hides the warnings of libjpeg and decodes what it can; libtiff's errors it leaves to standard error.
"""

import ctypes
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import simplejpeg
from PIL import ImageFile, _imaging

END_OF_JPEG = b"\xff\xd9"
_SERIOUS = re.compile(r"Corrupt JPEG data: (?!bad ICC)|Premature end|Inconsistent progression|Invalid SOS")
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_CUT_OFF = "its end is missing"
_DEFLATE = (8, 32946)  # of TIFF's compressions
_PIECE = 1 << 20
_MOST = 64 << 20  # bytes that a WebP file may lack: more than any has


def of_jpeg(data: bytes) -> str | None:
    """What is wrong with the coded samples of a JPEG that ends with `END_OF_JPEG`: libjpeg's own strict reading.

    Changed bytes that are valid code again cannot be found. Kinds that simplejpeg does not know are left to Pillow.
    """
    try:
        kind = simplejpeg.decode_jpeg_header(data)[2]
        colours = {"CMYK": "CMYK", "YCCK": "CMYK", "Gray": "GRAY"}.get(kind, "RGB")
        simplejpeg.decode_jpeg(data, colours, min_height=1, min_width=1, min_factor=8)  # as small as can be: 1/8
    except ValueError as error:
        if _SERIOUS.match(str(error)) and not _is_padding(str(error), data):
            return str(error).removeprefix("Corrupt JPEG data: ")
        return None
    return None if _has_every_scan(data) else "some of its scans are missing"


def _is_padding(warning: str, data: bytes) -> bool:
    """Whether the bytes that libjpeg has no use for are zeros before the end, as some cameras write them."""
    found = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    end = data.find(END_OF_JPEG, data.rfind(b"\xff\xda"))
    return found is not None and not data[end - int(found[1]) : end].strip(b"\0")


def _has_every_scan(data: bytes) -> bool:
    """Whether the scans of a progressive JPEG bring every bit of every coefficient, and others every component."""
    missing: dict[int, list[int]] = {}  # of each component, the bits that each of 64 coefficients still lacks
    progressive, place = False, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        segment = data[place + 4 : place + 2 + length]
        place += 2 + length
        if marker in (0xC0, 0xC1, 0xC2):
            progressive = marker == 0xC2
            missing = {segment[6 + 3 * n]: [14] * 64 for n in range(segment[5])}
        elif marker == 0xDA:
            count = segment[0]
            first, last, shift = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
            for n in range(count):
                bits = missing.get(segment[1 + 2 * n])
                if bits is not None:
                    bits[first : last + 1] = [shift] * (last + 1 - first) if progressive else [0] * 64
            found = _NEXT_MARKER.search(data, place)
            place = len(data) if found is None else found.start()
        elif marker == 0xD9:
            break
    return not any(any(bits) for bits in missing.values())


def of_tiff(image: ImageFile.ImageFile, data: bytes) -> str | None:
    """What is wrong with the strips or tiles of a TIFF: one that lies beyond its end, a wrong checksum of Deflate."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    for starts, sizes in ((273, 279), (324, 325)):
        for start, size in zip(tags.get(starts, ()), tags.get(sizes, ()), strict=False):
            if start + size > len(data):
                return _CUT_OFF
            if tags.get(259) in _DEFLATE and not _inflates(data[start : start + size]):
                return "a strip cannot be decompressed"
    return None


def _inflates(strip: bytes) -> bool:
    inflate = zlib.decompressobj()
    try:
        while not inflate.eof and (inflate.decompress(strip, _PIECE) or inflate.unconsumed_tail):
            strip = inflate.unconsumed_tail
    except zlib.error:
        return False
    return True


def mended(data: bytes, pixels: int) -> bytes:
    """A cut file with zeros in the place of what is missing, as far as a decoder of so many pixels can ask for them."""
    if data.startswith(b"RIFF"):
        size = 8 + int.from_bytes(data[4:8], "little")
        return data.ljust(min(size + size % 2, len(data) + _MOST), b"\0")
    return data + bytes(6 * pixels)


# libtiff's errors

_local = threading.local()


def _count(module: bytes | None, words: bytes | None, arguments: object) -> None:
    _local.errors = getattr(_local, "errors", 0) + 1


_heard = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_count)  # kept: libtiff holds it


@contextmanager
def counted_errors() -> Iterator[list[int]]:
    """How many errors libtiff meets in this thread, when it is over; they do not reach standard error.

    Where libtiff cannot be reached, as on Windows, none is counted.
    """
    with suppress(OSError, AttributeError):  # the handler is the process's; setting it again does no harm
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_heard)
    count: list[int] = []
    before = getattr(_local, "errors", 0)
    yield count
    count.append(getattr(_local, "errors", 0) - before)
