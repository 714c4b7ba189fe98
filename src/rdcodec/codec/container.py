"""The `.rdc` container, version 1: bytes around one coded picture. `docs/format.md` is its law.

     0  magic           4  8A 52 44 43
     4  version         u8  1
     5  tag             length u8, then ASCII: model name, dot, number of its weights
        width, height   varint each
        quality         u16, tenths 0..1000, or FFFF for a model with one rate
        tables_hash     4   of the entropy tables
        entropy_hash    4   of the weights of the entropy networks
        synthesis_hash  4   of the weights of the synthesis transform
        symbols_crc     u32 CRC-32C of the decoded symbols
        stream length   varint
        stream_crc      u32 CRC-32C of the stream
        section count   u8
        header_crc      u32 CRC-32C of everything above
        sections        each: id u8 (bit 7: critical), length varint, u32 CRC-32C of id, length and payload,
                        payload
        stream          states and words of the entropy coder

Little-endian. Varints are LEB128 in their shortest form, below 2^32.
"""

import re
from dataclasses import dataclass
from typing import Any

from rdcodec.codec.crc import crc32c
from rdcodec.errors import BadInput, UsageError

MAGIC = b"\x8aRDC"
VERSION = 1
MAX_SIDE = 1 << 24
MAX_PIXELS = 100_000_000
SINGLE_RATE = 0xFFFF
CRITICAL = 0x80
ICC, EXIF, XMP, GREY, ALPHA = 1, 2, 3, 4, 128  # section ids, see `sections.py`
KNOWN_CRITICAL = frozenset({ALPHA})  # section ids with bit 7 set that this version can honour

_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,47}\.(0|[1-9][0-9]{0,8})")
_AGAIN = "get the file again from its source"


@dataclass(frozen=True)
class Section:
    """An optional part of a file. Who does not know a critical one (id 128..255) must refuse the file."""

    id: int  # 0..255
    payload: bytes


@dataclass(frozen=True)
class Header:
    """What a file says of its picture. ValueError for a value that the format cannot hold."""

    tag: str  # "I.1": model name, dot, number of its weights
    width: int  # pixels, 1..2^24
    height: int
    quality: int  # tenths, 0..1000, or SINGLE_RATE
    tables_hash: bytes  # 4 bytes each
    entropy_hash: bytes
    synthesis_hash: bytes
    symbols_crc: int  # CRC-32C of the decoded symbols
    sections: tuple[Section, ...] = ()

    def __post_init__(self) -> None:
        if not _TAG.fullmatch(self.tag):
            raise ValueError(f"{self.tag!r} is not a model tag such as I.1")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ValueError(f"{self.width}x{self.height} pixels, sides are 1..{MAX_SIDE}")
        if not (0 <= self.quality <= 1000 or self.quality == SINGLE_RATE):
            raise ValueError(f"quality {self.quality}, tenths are 0..1000")
        if any(len(digest) != 4 for digest in (self.tables_hash, self.entropy_hash, self.synthesis_hash)):
            raise ValueError("a hash is not 4 bytes long")
        if not 0 <= self.symbols_crc < 1 << 32:
            raise ValueError(f"symbols_crc {self.symbols_crc} is not 32 bits")
        if len(self.sections) > 255 or any(not 0 <= section.id <= 255 for section in self.sections):
            raise ValueError("more than 255 sections, or an id outside 0..255")


@dataclass(frozen=True)
class Parsed:
    """A header, and the stream that it announces."""

    header: Header
    stream_start: int  # bytes from the start of the file
    stream_bytes: int
    stream_crc: int


def pack(header: Header, stream: bytes) -> bytes:
    """The bytes of a file."""
    head = MAGIC + bytes([VERSION, len(header.tag)]) + header.tag.encode("ascii")
    head += _varint(header.width) + _varint(header.height) + header.quality.to_bytes(2, "little")
    head += header.tables_hash + header.entropy_hash + header.synthesis_hash + _u32(header.symbols_crc)
    head += _varint(len(stream)) + _u32(crc32c(stream)) + bytes([len(header.sections)])
    parts = [head, _u32(crc32c(head))]
    for section in header.sections:
        start = bytes([section.id]) + _varint(len(section.payload))
        parts += [start, _u32(crc32c(start + section.payload)), section.payload]
    return b"".join([*parts, stream])


def as_bytes(data: Any) -> bytes:
    """What holds bytes (bytearray, memoryview, ...) as bytes; UsageError for anything else."""
    try:
        return data if isinstance(data, bytes) else bytes(memoryview(data))
    except TypeError:
        raise UsageError(f"a file is its bytes, not {type(data).__name__}") from None


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> tuple[Header, bytes]:
    """Header and stream of a whole file, every length and checksum verified. BadInput as `read_header`."""
    data = as_bytes(data)
    parsed = read_header(data, max_pixels)
    stream = data[parsed.stream_start :]
    if len(stream) < parsed.stream_bytes:
        raise BadInput(f"cut off: {len(stream)} of {parsed.stream_bytes} stream bytes are there: {_AGAIN}")
    if len(stream) > parsed.stream_bytes:
        raise BadInput(f"{len(stream) - parsed.stream_bytes} bytes too many at the end: {_AGAIN}")
    if crc32c(stream) != parsed.stream_crc:
        raise BadInput(f"damaged: the checksum of the stream is wrong: {_AGAIN}")
    return parsed.header, stream


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Parsed:
    """Header and sections of a file, or of its beginning; what follows them is not looked at.

    BadInput for a foreign, newer, cut off or damaged file, and for a picture of more than `max_pixels`.
    """
    data = as_bytes(data)
    if not data.startswith(MAGIC):
        raise BadInput("not an .rdc file: give one that `rdc compress` wrote")
    reader = _Reader(data, len(MAGIC))
    version = reader.byte()
    if version != VERSION:
        raise BadInput(f"format version {version}, this program reads {VERSION}: install a newer rdcodec")
    fields: dict[str, Any] = {
        "tag": reader.take(reader.byte()).decode("ascii", "replace"),
        "width": reader.varint(),
        "height": reader.varint(),
        "quality": reader.number(2),
        "tables_hash": reader.take(4),
        "entropy_hash": reader.take(4),
        "synthesis_hash": reader.take(4),
        "symbols_crc": reader.number(4),
    }
    stream_bytes, stream_crc, section_count = reader.varint(), reader.number(4), reader.byte()
    head = data[: reader.position]
    if reader.number(4) != crc32c(head):
        raise BadInput(f"damaged: the checksum of the header is wrong: {_AGAIN}")
    sections = tuple(reader.section() for _ in range(section_count))
    try:
        header = Header(**fields, sections=sections)
    except ValueError as error:
        raise BadInput(f"impossible header ({error}): {_AGAIN}") from error
    pixels = header.width * header.height
    if pixels > max_pixels:
        raise BadInput(f"{pixels} pixels are more than {max_pixels}: allow more with --max-pixels")
    return Parsed(header, reader.position, stream_bytes, stream_crc)


class _Reader:
    """Takes fields off the front of a file, never past its end."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise BadInput(f"cut off in the header, at byte {len(self.data)}: {_AGAIN}")
        field = self.data[self.position : end]
        self.position = end
        return field

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        start = self.position
        value = 0
        while self.position - start < 5:
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * (self.position - start - 1)
            if byte < 0x80:
                break
        if value >> 32 or _varint(value) != self.data[start : self.position]:
            raise BadInput(f"damaged: malformed number at byte {start}: {_AGAIN}")
        return value

    def section(self) -> Section:
        start = self.position
        number, count = self.byte(), self.varint()
        head = self.data[start : self.position]
        crc, payload = self.number(4), self.take(count)
        if crc32c(head + payload) != crc:
            raise BadInput(f"damaged: the checksum of section {number} is wrong: {_AGAIN}")
        if number >= CRITICAL and number not in KNOWN_CRITICAL:
            raise BadInput(f"section {number} is needed but unknown to this program: install a newer rdcodec")
        return Section(number, payload)


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first; bit 7 is set on all but the last."""
    if not 0 <= value < 1 << 32:
        raise ValueError(f"{value} does not fit into 32 bits")
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
