"""CRC-32C (Castagnoli): reflected polynomial 0x82F63B78, start and final XOR 0xFFFFFFFF.

Short inputs go byte by byte in plain Python: reading a header needs no Numba. Long ones go eight bytes at a
time ("slicing by 8": Kounavis and Berry, 2005).
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

POLYNOMIAL = 0x82F63B78
SHORT = 4096  # bytes up to which the plain table is used


def crc32c(data: bytes | NDArray[Any]) -> int:
    """The checksum, 0..2^32-1, of bytes or of an array's elements in C order, each little-endian."""
    if isinstance(data, np.ndarray):
        data = data.astype(data.dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).view(np.uint8)
    if len(data) > SHORT:
        view = np.frombuffer(data, np.uint8)
        view.flags.writeable = False  # one type, and so one compilation, for all inputs
        return _compiled()(view, _slices())
    table = _table()
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> list[int]:
    """What each byte adds, once shifted out."""
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0) for crc in table]
    return table


@cache
def _slices() -> NDArray[np.int64]:
    """Row k: what each byte adds once it and k zero bytes behind it are shifted out. (8, 256) int64.

    Signed and wide like everything in `_slicing`: Numba would turn a mix of int64 and uint64 into floats.
    """
    first = np.array(_table(), np.int64)
    rows = [first]
    for _ in range(7):
        rows.append(rows[-1] >> 8 ^ first[rows[-1] & 0xFF])
    return np.stack(rows)


def _slicing(data: NDArray[np.uint8], t: NDArray[np.int64]) -> int:
    crc = 0xFFFFFFFF
    i = 0
    while i + 8 <= len(data):
        a = crc ^ (data[i] | data[i + 1] << 8 | data[i + 2] << 16 | data[i + 3] << 24)
        crc = t[7, a & 0xFF] ^ t[6, a >> 8 & 0xFF] ^ t[5, a >> 16 & 0xFF] ^ t[4, a >> 24]
        crc ^= t[3, data[i + 4]] ^ t[2, data[i + 5]] ^ t[1, data[i + 6]] ^ t[0, data[i + 7]]
        i += 8
    while i < len(data):
        crc = crc >> 8 ^ t[0, (crc ^ data[i]) & 0xFF]
        i += 1
    return crc ^ 0xFFFFFFFF


@cache
def _compiled() -> Callable[[NDArray[np.uint8], NDArray[np.int64]], int]:
    from rdcodec.codec.jit import compiled

    return compiled(_slicing)
