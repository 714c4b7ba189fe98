"""The scale table and the integer CDFs of a model, built from floats once, when it is exported."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from rdcodec.exact.tables import LEVELS, SCALE_MAX, SCALE_MIN, TOTAL, Tables
from rdcodec.models.entropy.factorized import DeepFactorizedPrior

# What a row may leave to its escape. More, and escapes cost bits; less, and the frequencies of at least 1 far
# out take too much from the middle. With 2^-13 rows of scale 0.2 and up cost at most 0.04 % more than their
# Gaussian's entropy.
TAIL_MASS = 2.0**-13

# Levels 0, 1 and 2 (scales 0.110, 0.117, 0.124) are not coded. A Gaussian of scale 0.124 leaves +-0.5 once in
# 18,000 positions and has an entropy of 0.0009 bit: coding it costs time and saves nothing.
SKIP_BELOW = 3

# As many symbols, distributed as the row was, beside those counted: rows that hardly occur stay as they are. Anything
# from 30 to 10,000 gives the same on held-out photographs.
PRIOR_SYMBOLS = 1000.0

MORE_REACH = 16  # columns on each side that a fitted row may gain: tables stay below 80 kB, in the cache

RADIUS_MAX = 255  # of a channel's row in the tables; what lies beyond is escaped


def scale_table() -> NDArray[np.float64]:
    """The scales of the Gaussian rows: (128,) float64, evenly spaced in the logarithm from 0.11 to 256."""
    return np.geomspace(SCALE_MIN, SCALE_MAX, LEVELS)


def build_gaussian_tables(
    scales: NDArray[np.float64] | None = None,
    tail_mass: float = TAIL_MASS,
    skip_below: int = SKIP_BELOW,
    more: Sequence[NDArray[np.float64]] = (),
) -> Tables:
    """Integer CDFs of zero-mean Gaussians that are rounded to integers, one row per scale, and rows of other masses.

    Scales are in symbols (quantisation steps). A row reaches as far as both tails together hold at most
    `tail_mass`; what lies beyond is escaped. more: as `build_tables` takes them, for rows behind the Gaussians'.
    """
    scales = scale_table() if scales is None else scales
    rows = [*(_gaussian_row(float(scale), tail_mass) for scale in scales), *map(_frequencies, more)]
    return _tables_of(rows, skip_below)


def build_tables(masses: Sequence[NDArray[np.float64]], skip_below: int) -> Tables:
    """Integer CDFs from the probabilities of -radius..radius and the escape, one (2 * radius + 2,) per row.

    Uses floats: run it when a model is exported, never to read a file.
    """
    return _tables_of([_frequencies(mass) for mass in masses], skip_below)


def _tables_of(rows: Sequence[NDArray[np.int64]], skip_below: int) -> Tables:
    tables = Tables(
        cdf=np.concatenate([np.cumsum(row) - row for row in rows]).astype(np.uint16),
        radius=np.array([len(row) // 2 - 1 for row in rows], np.int32),
        skip_below=skip_below,
    )
    return Tables.from_arrays(tables.to_arrays())


@cache
def _gaussian_row(scale: float, tail_mass: float) -> NDArray[np.int64]:
    """Frequencies of -radius..radius and of the escape, (2 * radius + 2,)."""
    tail = [1.0]  # tail[k] is the probability of |s| >= k
    while tail[-1] > tail_mass or len(tail) < 3:
        tail.append(math.erfc((len(tail) - 0.5) / (scale * math.sqrt(2))))
    sides = -np.diff(tail) / 2
    return _frequencies(np.concatenate([sides[:0:-1], [2 * sides[0]], sides[1:], [tail[-1]]]))


def _frequencies(mass: NDArray[np.float64]) -> NDArray[np.int64]:
    """Integers >= 1 of sum 65536, with which symbols of these probabilities cost all but the fewest bits."""
    frequency = np.maximum(1, np.rint(mass * TOTAL)).astype(np.int64)
    while rest := TOTAL - int(frequency.sum()):
        step = 1 if rest > 0 else -1
        saved_bits = mass * np.log2(np.maximum(frequency + step, 0.5) / frequency)
        frequency[np.argmax(np.where(frequency + step > 0, saved_bits, -np.inf))] += step
    return frequency


@torch.no_grad()
def free_masses(prior: DeepFactorizedPrior) -> list[NDArray[np.float64]]:
    """Of each channel the probabilities of -radius..radius and of what lies beyond, (2 * radius + 2,) each.

    As `build_tables` takes them; the radius is at most RADIUS_MAX.
    """
    limits = torch.arange(-RADIUS_MAX - 1, RADIUS_MAX + 1, device=prior.matrices[0].device) + 0.5
    logits = prior.logits(limits.expand(len(prior.matrices[0]), 1, -1)).double().cpu()
    mass = torch.sigmoid(logits).diff(dim=-1).clamp(min=0).numpy()[:, 0]
    return [_within_reach(channel) for channel in mass]


def _within_reach(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle of symmetric columns, with so many that what is beyond them is at most TAIL_MASS, or all; its rest."""
    centre = len(mass) // 2
    inside = mass[centre] + np.concatenate([[0], np.cumsum(mass[centre + 1 :] + mass[centre - 1 :: -1])])
    radius = min(int(np.sum(inside < 1 - TAIL_MASS)), centre)
    return np.append(mass[centre - radius : centre + radius + 1], max(1 - inside[radius], 0))


def widen(tables: Tables) -> Tables:
    """Rows of further reach: what photographs put beyond a Gaussian's costs four bits less than an escape of it."""
    return build_tables([_widened(mass) for mass in _masses(tables)], tables.skip_below)


def _widened(mass: NDArray[np.float64]) -> NDArray[np.float64]:
    radius = len(mass) // 2 - 1
    more = min(2 + radius // 2, MORE_REACH)
    return np.append(np.pad(mass[:-1], more), mass[-1])


def _masses(tables: Tables) -> list[NDArray[np.float64]]:
    """Shares of the columns of each row."""
    rows = np.split(tables.cdf.astype(np.int64), tables.start[1:-1])
    return [np.diff(row, append=TOTAL) / TOTAL for row in rows]


def fit(tables: Tables, counts: NDArray[np.int64]) -> Tables:
    """Tables of the same rows, reach and escapes, for symbols as counted, (start[-1],)."""
    seen = np.split(counts.astype(np.float64), tables.start[1:-1])
    masses = [_blend(n, prior) for n, prior in zip(seen, _masses(tables), strict=True)]
    return build_tables(masses, tables.skip_below)


def _blend(seen: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the columns -radius..radius and the escape, from counts and what is expected without any."""
    mass: NDArray[np.float64] = (seen + PRIOR_SYMBOLS * prior) / (seen.sum() + PRIOR_SYMBOLS)
    return mass
