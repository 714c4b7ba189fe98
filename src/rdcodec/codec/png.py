"""Chunks of a PNG: what it says of colour and metadata, its damage, and the bare picture for a decoder.

PNG, third edition (https://www.w3.org/TR/png-3/).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from rdcodec.codec import colour
from rdcodec.codec.metadata import MAX_BYTES
from rdcodec.errors import BadInput

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


@dataclass(frozen=True)
class Png:
    """What the chunks say; the samples are still compressed."""

    header: bytes  # payload of IHDR
    palette: tuple[tuple[bytes, bytes], ...]  # PLTE and tRNS, kind and payload
    samples: tuple[bytes, ...]  # payloads of IDAT
    frames: int
    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    notes: tuple[str, ...]
    broken: str | None  # a critical chunk that is not as it was written

    @property
    def width(self) -> int:
        return int.from_bytes(self.header[:4])

    @property
    def height(self) -> int:
        return int.from_bytes(self.header[4:8])

    @property
    def depth(self) -> int:
        return self.header[8]


def parse(data: bytes) -> Png:
    """ValueError for what has no header; BadInput for colour that is not supported, as `colour.of_code_points`."""
    chunks, broken = _chunks(data)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("no header")
    found: dict[bytes, bytes] = {}
    for kind, payload in chunks:
        found.setdefault(kind, payload)
    notes: list[str] = []
    icc = None
    if b"cICP" not in found and b"iCCP" in found:
        icc = _inflated(found[b"iCCP"].partition(b"\0")[2][1:])
        if icc is None:
            notes.append("the colour profile cannot be read and is dropped: colours are taken as sRGB")
    if b"cICP" in found and len(found[b"cICP"]) == 4:
        icc = colour.of_code_points(found[b"cICP"][0], found[b"cICP"][1])
    elif icc is None and not notes and b"sRGB" not in found:
        icc = colour.of_gamma(found.get(b"gAMA"), found.get(b"cHRM"))
    texts = [text for kind, payload in chunks if (text := _text(kind, payload))]
    raw_exif = next(
        (value for key, value in texts if key in (b"Raw profile type exif", b"Raw profile type APP1")), None
    )
    exif = found.get(b"eXIf", None if raw_exif is None else _raw_profile(raw_exif))
    if raw_exif is not None and exif is None:
        notes.append("EXIF cannot be read and is dropped")
    xmp = next((value for key, value in texts if key == b"XML:com.adobe.xmp"), None)
    frames = 1
    if len(animation := found.get(b"acTL", b"")) == 8:
        first_is_apart = next((kind for kind, _ in chunks if kind in (b"fcTL", b"IDAT")), b"") == b"IDAT"
        frames = int.from_bytes(animation[:4]) + first_is_apart
    return Png(
        header=chunks[0][1],
        palette=tuple((kind, found[kind]) for kind in (b"PLTE", b"tRNS") if kind in found),
        samples=tuple(payload for kind, payload in chunks if kind == b"IDAT"),
        frames=frames,
        icc=icc,
        exif=exif,
        xmp=xmp,
        notes=tuple(notes),
        broken=broken,
    )


def bare(png: Png) -> bytes:
    """The same picture without all that a decoder of samples does not need."""
    parts = [(b"IHDR", png.header), *png.palette, *((b"IDAT", part) for part in png.samples), (b"IEND", b"")]
    return SIGNATURE + b"".join(_chunk(kind, payload) for kind, payload in parts)


def damage(png: Png) -> str | None:
    """What is wrong with the samples, in words. What is no image in a whole stream is left to the decoder."""
    if png.broken:
        return png.broken
    left = _expected(png)
    for part in _rows(png):
        left -= len(part)
        if left <= 0:
            return None
    return "rows are missing"


def mended(png: Png) -> Png:
    """With samples that a decoder accepts: what could be decompressed, then zeros."""
    size = _expected(png)
    rows = bytearray()
    for part in _rows(png):
        rows += part
        if len(rows) >= size:
            break
    samples = np.frombuffer(rows.ljust(size, b"\0"), np.uint8, size).copy()
    start = 0
    for height, stride in _passes(png):
        filters = samples[start : start + height * stride : stride]
        filters[filters > 4] = 0
        start += height * stride
    return replace(png, samples=(zlib.compress(samples.tobytes(), 1),), broken=None)


def _chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], str | None]:
    """Kind and payload of each chunk to the end of the picture, and what is wrong with a critical one."""
    chunks, broken, place = [], None, len(SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, payload = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        end = place + 12 + length
        whole = end <= len(data) and zlib.crc32(kind + payload) == int.from_bytes(data[end - 4 : end])
        if kind in _CRITICAL and not whole:
            broken = broken or ("its end is missing" if end > len(data) else "a checksum is wrong")
        if whole or kind in _CRITICAL:
            chunks.append((kind, payload))
        place = end
        if kind == b"IEND":
            break
    return chunks, broken


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _passes(png: Png) -> list[tuple[int, int]]:
    """Rows of each pass and the bytes of one, with its filter byte. BadInput for a foreign header."""
    if png.header[9] not in _CHANNELS or png.header[12] > 1:
        raise BadInput("has a header that is no PNG's: get the file again from its source")
    bits = png.depth * _CHANNELS[png.header[9]]
    grids = _ADAM7 if png.header[12] else ((0, 0, 1, 1),)
    sides = ((-(-(png.width - x) // dx), -(-(png.height - y) // dy)) for x, y, dx, dy in grids)
    return [(height, 1 + (width * bits + 7) // 8) for width, height in sides if width > 0 and height > 0]


def _expected(png: Png) -> int:
    """Bytes of all decompressed samples."""
    return sum(height * stride for height, stride in _passes(png))


def _rows(png: Png) -> Iterator[bytes]:
    """Decompressed samples in parts, as far as they can be had."""
    inflate = zlib.decompressobj()
    for payload in png.samples:
        for start in range(0, len(payload), 1 << 14):
            try:
                yield inflate.decompress(payload[start : start + (1 << 14)])
            except zlib.error:
                return


def _inflated(data: bytes) -> bytes | None:
    """Decompressed, at most MAX_BYTES; None for what is damaged or larger."""
    inflate = zlib.decompressobj()
    try:
        found = inflate.decompress(data, MAX_BYTES)
    except zlib.error:
        return None
    return found if inflate.eof else None


def _text(kind: bytes, payload: bytes) -> tuple[bytes, bytes] | None:
    """Keyword and text of tEXt, zTXt and iTXt."""
    key, _, rest = payload.partition(b"\0")
    if kind == b"tEXt":
        return key, rest
    if kind == b"zTXt":
        text = _inflated(rest[1:])
        return None if text is None else (key, text)
    if kind == b"iTXt" and len(rest) > 2:
        text = rest[2:].split(b"\0", 2)[-1]
        found = _inflated(text) if rest[0] else text
        return None if found is None else (key, found)
    return None


def _raw_profile(text: bytes) -> bytes | None:
    """ImageMagick's way to keep EXIF: a name, a length, hexadecimal digits."""
    parts = text.split(None, 2)
    try:
        return bytes.fromhex(parts[2].decode("ascii"))[: int(parts[1])]
    except (ValueError, IndexError):
        return None
