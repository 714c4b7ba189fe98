"""The head of a JPEG XL file: Pillow's plug-in gives one frame of an animation, and 8 bits of any sample, unsaid."""

from collections.abc import Callable
from typing import NamedTuple

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"


class Said(NamedTuple):
    """What the header of a codestream says (ISO/IEC 18181-1, D.3)."""

    animation: bool = False
    floats: bool = False
    depth: int = 8  # bits of a sample


def said(head: bytes) -> Said:
    """Of a JPEG XL file by its first bytes; of any other file, what is said by default."""
    stream = _codestream(head)
    if stream is None:
        return Said()
    bits = _Bits(stream)
    _skip_size(bits)
    if bits.take(1):  # all_default
        return Said()
    if bits.take(1):  # extra_fields
        bits.take(3)  # orientation
        if bits.take(1):
            _skip_size(bits)  # intrinsic
        if bits.take(1):
            _skip_preview(bits)
        if bits.take(1):
            return Said(animation=True)
    floats = bits.take(1) == 1
    choice = bits.take(2)
    depth = 1 + bits.take(6) if choice == 3 else ((32, 16, 24) if floats else (8, 10, 12))[choice]
    return Said(False, floats, depth)


class _Bits:
    """Bits from the lowest of each byte; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data[:64], "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def _codestream(head: bytes) -> bytes | None:
    if head.startswith(_CODESTREAM):
        return head[2:]
    position = 0
    while head.startswith(_CONTAINER) and position + 8 <= len(head):
        length, kind = int.from_bytes(head[position : position + 4]), head[position + 4 : position + 8]
        start = position + (16 if length == 1 else 8)
        if kind in (b"jxlc", b"jxlp"):
            return head[start + (4 if kind == b"jxlp" else 0) + 2 :]
        if length < 8:  # up to the end, or beyond 4 GiB
            return None
        position += length
    return None


def _skip_size(bits: _Bits) -> None:
    _skip_sides(bits, (lambda: bits.take(5)) if bits.take(1) else lambda: _take_of(bits, 9, 13, 18, 30))


def _skip_preview(bits: _Bits) -> None:
    small = bits.take(1)
    _skip_sides(bits, lambda: _take_of(bits, 0, 0, 5, 9) if small else _take_of(bits, 6, 8, 10, 12))


def _skip_sides(bits: _Bits, take_side: Callable[[], int]) -> None:
    take_side()
    if bits.take(3) == 0:  # no fixed ratio: the width follows
        take_side()


def _take_of(bits: _Bits, *widths: int) -> int:
    return bits.take(widths[bits.take(2)])
