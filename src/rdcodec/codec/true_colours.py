"""Quality that means the same in every colour profile: a sample of the picture is coded in its colours and in sRGB."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec import colour
from rdcodec.codec.engine import Image
from rdcodec.codec.picture import shown

BLOCKS, BLOCK = 4, 64  # of a sample, along each side of the picture
STEP, MOST = 5.0, 10.0  # of quality: what is tried, and how much at most it is raised by


def quality(asked: float, image: Image, icc: bytes, decoded: Callable[[Image, float], Image]) -> float:
    """The quality to code (H, W, 3) with, so that in sRGB it is as good as if it had been coded in sRGB.

    Errors grow on the way from a wide space to sRGB, and a model knows the channels of sRGB best. decoded: what becomes
    of a picture at a quality.
    """
    if colour.space(icc) not in ("RGB", "GRAY"):
        return asked
    own = sample(image)
    in_srgb = shown(own, icc)
    if np.abs(in_srgb.astype(np.int16) - own).max() <= 1:  # sRGB itself, and its like
        return asked
    tried = min(100.0, asked + STEP)
    wanted = _db(in_srgb, decoded(in_srgb, asked))
    found, better = (_db(in_srgb, shown(decoded(own, at), icc)) for at in (asked, tried))
    if wanted <= found or better <= found:
        return asked
    return min(100.0, asked + min(MOST, (tried - asked) * (wanted - found) / (better - found)))


def sample(pixels: Image) -> Image:
    """Blocks from all over a picture (H, W, 3), put together to one of at most 256 x 256."""
    return pixels[np.ix_(*(_spread(side) for side in pixels.shape[:2]))]


def _spread(side: int) -> NDArray[np.intp]:
    if side <= BLOCKS * BLOCK:
        return np.arange(side)
    starts = np.linspace(0, side - BLOCK, BLOCKS).astype(np.intp)
    return (starts[:, None] + np.arange(BLOCK)).ravel()


def _db(pixels: Image, other: Image) -> float:
    """Minus the mean squared error, in dB."""
    return -10 * math.log10(max(1e-3, np.mean(np.square(pixels.astype(np.float32) - other), dtype=np.float64)))
