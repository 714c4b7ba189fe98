"""CRC-32C (Castagnoli): reflected polynomial 0x82F63B78, start and final XOR 0xFFFFFFFF."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdcodec import _native


def crc32c(data: bytes | NDArray[Any]) -> int:
    """The checksum, 0..2^32-1, of bytes or of an array's elements in C order, each little-endian."""
    if isinstance(data, np.ndarray):
        data = data.astype(data.dtype.newbyteorder("<"), order="C", copy=False).reshape(-1).view(np.uint8)
    return _native.crc32c(data)
