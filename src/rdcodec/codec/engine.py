"""What computes a codec: the core (`native_engine.py`) or torch (`torch_engine.py`), with the same symbols from both.

Latents are arrays (rows, columns, channels), float32.
"""

import sys
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec import rans
from rdcodec.errors import UsageError
from rdcodec.models.sizes import ANCHORS
from rdcodec.system import core_count

Image = NDArray[np.uint8]
Latents = NDArray[np.float32]


class Symbols(NamedTuple):
    """Latents as they are coded."""

    stream: bytes
    crc: int  # CRC-32C over the symbols as 16-bit little-endian integers, in coding order
    symbols: Sequence[NDArray[np.integer[Any]]]  # of z and of each pass of y, in coding order
    indexes: Sequence[rans.Indexes]  # table rows of the symbols


class Engine(Protocol):
    """The parts of a codec. Threads may share one."""

    name: str

    def analyse(self, image: Image, rows: int, columns: int) -> Latents:
        """uint8 (H, W, 3), its last row and column repeated -> y (rows, columns, M) in units of the picture."""
        ...

    def hyper_analyse(self, y: Latents, gain: Latents, tenths: int) -> Latents:
        """y times gain (M,), in quantisation steps -> z (rows / 4, columns / 4, N), sides rounded up, as floats."""
        ...

    def encode(self, y: Latents, gain: Latents, z: Latents, tenths: int, worth: Latents | None = None) -> Symbols:
        """Code y times gain, and z, in quantisation steps, not yet rounded. Only exact integers decide a table row.

        worth (M,): bits that a squared step of error in y is worth. A symbol of y is then the nearest integer, or the
        next one towards 0 where that costs less in bits and error together; without it always the nearest.
        """
        ...

    def decode(self, stream: bytes, rows: int, columns: int, tenths: int) -> tuple[Latents, int]:
        """y_hat in quantisation steps, and the checksum of the symbols. BadInput for a damaged stream."""
        ...

    def synthesise(self, y_hat: Latents, gain: Latents, tenths: int, height: int, width: int) -> Image:
        """y_hat in quantisation steps, which are 1 / gain (M,) wide -> uint8 (height, width, 3)."""
        ...


def at_quality(anchors: NDArray[np.float32], tenths: int) -> NDArray[np.float32]:
    """Row of (ANCHORS, C) at a quality in tenths: linear between the anchors, as `models.rate.RateVector`."""
    position = np.float32(tenths / 10) * np.float32((ANCHORS - 1) / 100)
    low = min(int(position), ANCHORS - 2)
    part = position - np.float32(low)
    mixed: NDArray[np.float32] = anchors[low] * (1 - part) + anchors[low + 1] * part
    return mixed


_threads = 0
_torch_threads = 0  # torch's own, from before it was told another number


def set_threads(count: int) -> None:
    """How many threads each call of a codec uses in this process; 0, the default: every core. UsageError for less."""
    if not isinstance(count, Integral) or count < 0:
        raise UsageError(f"threads are a whole number from 0 on, not {count!r}")
    global _threads, _torch_threads
    _threads = count
    if torch := sys.modules.get("torch"):
        _torch_threads = _torch_threads or torch.get_num_threads()
        torch.set_num_threads(count or _torch_threads)


def threads() -> int:
    """Threads that codecs of this process use."""
    return _threads or core_count()


def asked_threads() -> int:
    """What `set_threads` was given; 0 if nothing."""
    return _threads
