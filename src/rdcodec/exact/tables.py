"""The scale table and the integer CDFs that symbols are coded with.

A model ships its tables beside its weights. They are built from floats once, when the model is exported; from
then on they are only read, hashed and compared, and no machine's rounding can reach a file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdcodec.errors import NeedsModel

LEVELS = 128
SCALE_MIN = 0.11
SCALE_MAX = 256.0
PRECISION = 16
TOTAL = 1 << PRECISION

MAX_ROWS = 1 << 16  # a table index is at most two bytes
BUCKET_BITS = 8  # a decoder finds the first candidate of a slot by the slot's upper PRECISION - 8 bits


@dataclass(frozen=True, eq=False)
class Tables:
    """Cumulative frequencies, one row per table index.

    Row i has columns for the integers -radius[i]..radius[i], in this order, and one for an escape. A column
    owns the slots from its entry up to the next one, the last column up to 65536. A row starts with 0 and
    grows strictly: so every frequency is at least 1, and they sum to 65536.
    A position whose index is below `skip_below` is not coded, its symbol is 0.
    """

    cdf: NDArray[np.uint16]  # the rows one after another, (start[-1],)
    radius: NDArray[np.int32]  # (L,), 1 <= L <= 65536
    skip_below: int  # 0..L

    @cached_property
    def start(self) -> NDArray[np.int32]:
        """Where each row starts in `cdf`, and its length at the end: (L + 1,) int32."""
        return np.concatenate([[0], np.cumsum(2 * self.radius + 2)]).astype(np.int32)

    @cached_property
    def edges(self) -> NDArray[np.int32]:
        """The rows of `cdf`, each with its closing 65536."""
        return np.insert(self.cdf.astype(np.int32), self.start[1:], TOTAL)

    @cached_property
    def edge_start(self) -> NDArray[np.int32]:
        """Where each row starts in `edges`: (L,) int32."""
        return (self.start[:-1] + np.arange(len(self.radius))).astype(np.int32)

    @cached_property
    def savings(self) -> NDArray[np.float32]:
        """Bits that the next symbol towards 0 costs less, for each of `edges`; 0 for the symbol 0 and for escapes.

        From floats: for what an encoder chooses, never for what a decoder computes.
        """
        savings = np.zeros(len(self.edges), np.float32)
        for first, radius in zip(self.edge_start, self.radius, strict=True):
            row = slice(first, first + 2 * radius + 1)
            bits = -np.log2(np.diff(self.edges[first : first + 2 * radius + 2]))
            step = np.diff(bits)
            savings[row] = np.concatenate([-step[:radius], [0], step[radius:]])
        return savings

    @cached_property
    def bucket(self) -> NDArray[np.uint16]:
        """Which symbol of the row has the first slot of each bucket of 256 slots: (L, 256) uint16."""
        firsts = np.arange(0, TOTAL, 1 << BUCKET_BITS)
        rows = np.split(self.cdf, self.start[1:-1])
        return np.stack([np.searchsorted(row, firsts, side="right") - 1 for row in rows]).astype(np.uint16)

    def hash(self) -> bytes:
        """First 4 bytes of SHA-256 over row count, skip_below, radii (i32) and CDF (u16), little-endian."""
        digest = hashlib.sha256(np.array([len(self.radius), self.skip_below], "<i4").tobytes())
        digest.update(self.radius.astype("<i4").tobytes())
        digest.update(self.cdf.astype("<u2").tobytes())
        return digest.digest()[:4]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """What is shipped: cdf (uint16), radius (int32), skip_below (int32, shape (1,))."""
        return {"cdf": self.cdf, "radius": self.radius, "skip_below": np.array([self.skip_below], np.int32)}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> "Tables":
        """What `to_arrays` gave, verified: NeedsModel if anything is wrong. Other keys are left alone."""
        cdf = _array(arrays, "cdf", np.uint16)
        radius = _array(arrays, "radius", np.int32)
        skip_below = _array(arrays, "skip_below", np.int32)
        _require(1 <= len(radius) <= MAX_ROWS, f"{len(radius)} rows, not 1..{MAX_ROWS}")
        _require(bool(np.all((radius >= 0) & (radius < TOTAL // 2))), "a radius outside 0..32767")
        _require(len(skip_below) == 1 and 0 <= skip_below[0] <= len(radius), "skip_below is no row number")
        asked = int(np.sum(2 * radius.astype(np.int64) + 2))  # before int32 could wrap
        _require(len(cdf) == asked, f"{len(cdf)} entries, radii ask for {asked}")
        tables = Tables(cdf, radius, int(skip_below[0]))
        _require(not cdf[tables.start[:-1]].any(), "a row does not start with 0")
        _require(bool(np.all(np.diff(tables.edges) != 0)), "a symbol of frequency 0")
        _require(int(np.sum(np.diff(tables.edges) < 0)) == len(radius) - 1, "a row does not grow")
        return tables


def _array(arrays: Mapping[str, NDArray[Any]], name: str, dtype: type) -> NDArray[Any]:
    _require(name in arrays, f"{name} is missing")
    array = np.array(arrays[name], order="C")  # a copy: nobody else can change what was verified
    _require(array.dtype == dtype and array.ndim == 1, f"{name} is {array.dtype} {array.shape}")
    return array


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise NeedsModel(f"damaged entropy tables ({what}): fetch or export the model's weights again")
