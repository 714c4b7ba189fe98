"""The number formats of the entropy path, and its one rounding rule.

Everything that decides which table a symbol is coded with is an integer. Integers travel in float32 tensors
("carriers"), where sums and products are exact in any order while every partial sum stays below 2^24; layers
prove that bound from their weights before they run.

    activation       0..511, after a ReLU; +-511 after a LeakyReLU
    hyper-latent     the symbol, clipped to +-127 on its way into the networks; to +-511 where its density is free
    mean, y_hat      steps of 1/64 of a quantisation step
    latent as input  steps of 1/16, clipped to +-4095
    log-scale        steps of 1/16 of a level of the scale table
"""

import numpy as np
from numpy.typing import NDArray

CARRIER_LIMIT = 1 << 24
SUM_LIMIT = 1 << 31  # of sums whose parts are added in float64
ACTIVATION_MAX = 511
HYPER_MAX = 127
FREE_HYPER_MAX = 511
MEAN_ONE = 64  # a quantisation step, in steps of a mean
MEAN_MAX = 32767
LATENT_ONE = 16
LATENT_MAX = 4095
LEVEL_ONE = 16  # a level of the scale table, in steps of a log-scale
QUALITIES = 1000  # tenths of quality


def interpolate(anchors: NDArray[np.int32], tenths: int) -> NDArray[np.int32]:
    """Row of (A, C) integers at a quality of 0..1000 tenths: linear between evenly spaced rows, floored."""
    position = tenths * (len(anchors) - 1)
    low = min(position // QUALITIES, len(anchors) - 2)
    part = position - low * QUALITIES
    wide = anchors.astype(np.int64)
    mixed = (wide[low] * (QUALITIES - part) + wide[low + 1] * part) // QUALITIES
    out: NDArray[np.int32] = mixed.astype(np.int32)
    return out
