"""The entropy coder: four interleaved rANS states over the integer tables of a model.

The core (`native/rans.cpp`) codes and trusts no input; `docs/format.md` defines the format in words, and
`tests/reference_rans.py` in plain Python, with which tests compare it byte for byte.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rdcodec import _native
from rdcodec.errors import BadInput
from rdcodec.exact.tables import Tables

MAX_SYMBOL = 32767
Indexes = NDArray[np.uint8 | np.uint16]


def native_tables(tables: Tables) -> _native.Tables:
    """Tables as the core takes them."""
    return _native.Tables(tables.edges, tables.edge_start, tables.radius, tables.bucket, tables.skip_below)


def encode(symbols: NDArray[np.int32], indexes: Indexes, tables: Tables) -> bytes:
    """Code a whole picture: symbols (N,) int32 in decoding order, with the table index of each, (N,) uint8 or uint16.

    Gives the four states (u32), then the words (u16) in the order of reading, all little-endian.
    ValueError for a symbol beyond +-32767, or one that is not 0 where the index is below `tables.skip_below`.
    """
    _check(indexes)
    if symbols.dtype != np.int32 or symbols.shape != indexes.shape:
        raise ValueError(f"symbols are {symbols.dtype} {symbols.shape}, need int32 {indexes.shape}")
    return _native.encode(np.ascontiguousarray(symbols), np.ascontiguousarray(indexes), native_tables(tables))


class Decoder:
    """Reads one coded picture, in as many calls as its model has passes."""

    def __init__(self, data: bytes, tables: Tables) -> None:
        """BadInput if the data cannot be a stream at all."""
        with damage_told():
            self._decoder = _native.Decoder(data, native_tables(tables))

    def decode(self, indexes: Indexes) -> NDArray[np.int32]:
        """The next symbols: indexes (n,) uint8 or uint16 to (n,) int32, 0 where the index is below `tables.skip_below`.

        BadInput if the stream ends too early or has a symbol beyond +-32767.
        """
        _check(indexes)
        with damage_told():
            return self._decoder.decode(np.ascontiguousarray(indexes))

    def finish(self) -> None:
        """BadInput unless every word was used and every state is back where the encoder started."""
        with damage_told():
            self._decoder.finish()


@contextlib.contextmanager
def damage_told() -> Iterator[None]:
    """The core's word for a damaged stream as BadInput."""
    try:
        yield
    except _native.Damaged as error:
        raise BadInput(f"the coded stream is damaged ({error}): get the file again from its source") from None


def _check(indexes: Indexes) -> None:
    if indexes.dtype not in (np.uint8, np.uint16) or indexes.ndim != 1:
        raise ValueError(f"indexes are {indexes.dtype} {indexes.shape}, need uint8 or uint16 (n,)")
