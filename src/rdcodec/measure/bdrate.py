"""Bjontegaard deltas between rate-distortion curves, and relative rates at one point: negative is smaller.

A curve is interpolated by PCHIP: piecewise cubic, monotone, through every point (Fritsch and Carlson,
SIAM J. Numer. Anal. 17, 1980; slopes of Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5, 1984). Rates
enter as logarithms. The delta rate of a test curve against an anchor is, over the PSNR range both cover,

    100 * (exp(mean of [ln R_test(PSNR) - ln R_anchor(PSNR)]) - 1)    per cent,

negative where the test needs fewer bits (Bjontegaard, VCEG-M33, 2001, who fitted one cubic instead).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rdcodec.errors import UsageError

Array: TypeAlias = NDArray[np.float64]
MIN_POINTS = 4
REPORTING_WINDOW = (29.0, 36.0)
"""PSNR range in dB that stands beside the full overlap in every report."""


@dataclass(frozen=True)
class Curve:
    """Rate-distortion points of one codec, rising strictly in both.

    bpp: bits per pixel, all bytes of the file; psnr_db: RGB PSNR; each a mean over the images at one
    setting. metric: short name of another metric of `metrics.CURVES`, which psnr_db then holds in place of PSNR.
    pictures: name of the set they are means over, "" where it is not known. by_picture: the curve of each picture by
    name, where these are known; others: those of the same points over other metrics, by their short names. Raises
    ValueError for points that are not finite, not positive in bpp, or do not rise.
    """

    name: str
    bpp: tuple[float, ...]
    psnr_db: tuple[float, ...]
    metric: str = "psnr"
    pictures: str = ""
    by_picture: Mapping[str, Curve] = field(default_factory=dict, repr=False, compare=False)
    others: Mapping[str, Curve] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.bpp) != len(self.psnr_db) or not self.bpp:
            raise ValueError(f"{self.name}: {len(self.bpp)} rates and {len(self.psnr_db)} PSNR values")
        if not all(map(math.isfinite, (*self.bpp, *self.psnr_db))) or min(self.bpp) <= 0:
            raise ValueError(f"{self.name}: rates must be positive, rates and PSNR finite")
        if any(a >= b for values in (self.bpp, self.psnr_db) for a, b in itertools.pairwise(values)):
            raise ValueError(f"{self.name}: rate and PSNR must rise from point to point")

    @classmethod
    def from_points(
        cls, name: str, points: Iterable[tuple[float, float]], metric: str = "psnr", pictures: str = ""
    ) -> Curve:
        """Curve of (bpp, dB) in any order; a point that costs more and gains nothing is left out."""
        kept: list[tuple[float, float]] = []
        for rate, quality in sorted(points):
            if not kept or (rate > kept[-1][0] and quality > kept[-1][1]):
                kept.append((float(rate), float(quality)))
        rates, qualities = tuple(rate for rate, _ in kept), tuple(quality for _, quality in kept)
        return cls(name, rates, qualities, metric, pictures)

    @property
    def log_rate(self) -> Array:
        """Natural logarithms of the rates."""
        return np.log(self.bpp)


@dataclass(frozen=True)
class BDResult:
    """A Bjontegaard delta and what it rests on.

    value: per cent of rate (`bd_rate`) or dB (`bd_psnr`), test against anchor. low, high: the range both
    curves cover, in dB (`bd_rate`) or bpp (`bd_psnr`). points: how many points (test, anchor) have.
    warning: set where the range is less than half of the shorter curve's own, else None.
    """

    value: float
    low: float
    high: float
    points: tuple[int, int]
    warning: str | None


def bd_rate(test: Curve, anchor: Curve, window: tuple[float, float] | None = None) -> BDResult:
    """Mean difference of rate at equal PSNR, in per cent; negative where `test` needs fewer bits.

    window: PSNR range in dB to use in place of the whole overlap. Raises UsageError for a curve of fewer
    than four points, for curves that do not overlap, and for a window that the overlap does not contain.
    """
    x, y = np.array(test.psnr_db), np.array(anchor.psnr_db)
    low, high = _common_range(test, anchor, x, y, window, "dB")
    delta = _mean(x, test.log_rate, low, high) - _mean(y, anchor.log_rate, low, high)
    warning = None if window else _narrow(test, anchor, x, y, low, high)
    return BDResult(100 * math.expm1(delta), low, high, (len(x), len(y)), warning)


def bd_rate_by(test: Curve, anchor: Curve, metric: str) -> float | None:
    """`bd_rate` of the same points by a metric; None where one of the curves lacks it, or they share no range."""
    try:
        pair = (test, anchor) if metric == test.metric else (test.others[metric], anchor.others[metric])
        return bd_rate(*pair).value
    except (KeyError, UsageError):
        return None


def bd_psnr(test: Curve, anchor: Curve, window: tuple[float, float] | None = None) -> BDResult:
    """Mean difference of PSNR at equal rate, in dB; positive where `test` is better.

    window: range in bpp to use in place of the whole overlap. Errors as for `bd_rate`.
    """
    x, y = test.log_rate, anchor.log_rate
    log_window = None if window is None else (math.log(window[0]), math.log(window[1]))
    low, high = _common_range(test, anchor, x, y, log_window, "ln bpp")
    delta = _mean(x, test.psnr_db, low, high) - _mean(y, anchor.psnr_db, low, high)
    warning = None if window else _narrow(test, anchor, x, y, low, high)
    return BDResult(delta, math.exp(low), math.exp(high), (len(x), len(y)), warning)


def psnr_at(curve: Curve, bpp: float) -> float:
    """PSNR in dB of the curve at a rate in bpp. Raises UsageError outside the curve."""
    if not curve.bpp[0] <= bpp <= curve.bpp[-1]:
        raise UsageError(f"{curve.name}: {bpp:g} bpp is outside {_span(curve.bpp)} bpp; choose a rate inside")
    return float(pchip(curve.log_rate, curve.psnr_db, math.log(bpp)))


def rate_at(curve: Curve, psnr_db: float) -> float:
    """Rate in bpp of the curve at a PSNR in dB. Raises UsageError outside the curve."""
    if not curve.psnr_db[0] <= psnr_db <= curve.psnr_db[-1]:
        raise UsageError(f"{curve.name}: {psnr_db:.2f} dB is outside {_span(curve.psnr_db)} dB; no rate there")
    return float(np.exp(pchip(curve.psnr_db, curve.log_rate, psnr_db)))


def relative_rate(bpp: float, psnr_db: float, anchor: Curve) -> float:
    """Rate of one point against the anchor's at the point's PSNR, in per cent; negative where it needs fewer bits.

    This is the figure for a single-rate model, which has no BD-rate. Raises UsageError where the anchor
    does not reach that PSNR.
    """
    return 100 * (bpp / rate_at(anchor, psnr_db) - 1)


def relative_rate_at(test: Curve, anchor: Curve, bpp: float = 0.46) -> float:
    """Rate of the test curve, read at `bpp`, against the anchor's at the same PSNR, in per cent; negative is smaller.

    Raises UsageError where `bpp` is outside the test or its PSNR there outside the anchor.
    """
    return relative_rate(bpp, psnr_at(test, bpp), anchor)


def excess_at_one_rate(point: tuple[float, float], best: tuple[float, float], lmbda: float) -> float:
    """Rate of one point over another's at the better one's PSNR, in per cent, for a model of one rate.

    Points (bpp, PSNR in dB) of two states of a model whose loss is bpp + lmbda * MSE. To first order: along the curve
    that such a model would have, an MSE lower by one costs lmbda bpp, so that the losses differ as the rates would.
    """
    (bpp, psnr_db), (best_bpp, best_psnr_db) = point, best
    more_error = 255**2 * (10 ** (-psnr_db / 10) - 10 ** (-best_psnr_db / 10))
    return 100 * (bpp + lmbda * more_error - best_bpp) / best_bpp


def pchip(x: ArrayLike, y: ArrayLike, at: ArrayLike) -> Array:
    """Monotone piecewise-cubic interpolant through (x, y), read at points inside [x[0], x[-1]].

    x rises strictly. Through one point it is a constant, through two a line.
    """
    x, y, at = (np.asarray(v, dtype=np.float64) for v in (x, y, at))
    if len(x) == 1:
        return np.broadcast_to(y[0], at.shape).copy()
    slope = _pchip_slopes(x, y)
    k = np.searchsorted(x[1:-1], at, side="right")
    h = x[k + 1] - x[k]
    t = (at - x[k]) / h
    value: Array = (
        (1 + 2 * t) * (1 - t) ** 2 * y[k]
        + t * (1 - t) ** 2 * h * slope[k]
        + t**2 * (3 - 2 * t) * y[k + 1]
        + t**2 * (t - 1) * h * slope[k + 1]
    )
    return value


def _common_range(
    test: Curve, anchor: Curve, x: Array, y: Array, window: tuple[float, float] | None, unit: str
) -> tuple[float, float]:
    if test.metric != anchor.metric:
        raise UsageError(
            f"{test.name} and {anchor.name}: one is of {test.metric}, one of {anchor.metric}; take one metric"
        )
    for curve in (test, anchor):
        if len(curve.bpp) < MIN_POINTS:
            raise UsageError(f"{curve.name}: {len(curve.bpp)} points, BD needs {MIN_POINTS}; measure more")
    low, high = float(max(x[0], y[0])), float(min(x[-1], y[-1]))
    if low >= high:
        raise UsageError(f"{test.name} and {anchor.name} share no range: {_span(x)} and {_span(y)} {unit}")
    if window is None:
        return low, high
    if not low <= window[0] < window[1] <= high:
        raise UsageError(
            f"{test.name} and {anchor.name} share {_span((low, high))} {unit}, which does not hold the "
            f"window {_span(window)}; choose a smaller one"
        )
    return window


def _narrow(test: Curve, anchor: Curve, x: Array, y: Array, low: float, high: float) -> str | None:
    shares = [((high - low) / (v[-1] - v[0]), curve.name) for v, curve in ((x, test), (y, anchor))]
    share, name = max(shares)
    if share >= 0.5:
        return None
    return f"compared over {100 * share:.0f} % of the range of {name}"


def _mean(x: Array, y: ArrayLike, low: float, high: float) -> float:
    """Mean of the interpolant over [low, high]; Simpson's rule is exact on each cubic."""
    knots = np.concatenate([[low], x[(x > low) & (x < high)], [high]])
    a, b = knots[:-1], knots[1:]
    middle = (a + b) / 2
    at = pchip(x, y, np.concatenate([knots, middle]))
    pieces = at[: len(a)] + 4 * at[len(knots) :] + at[1 : len(knots)]
    return float(np.sum(pieces * (b - a)) / 6 / (high - low))


def _pchip_slopes(x: Array, y: Array) -> Array:
    h = np.diff(x)
    delta = np.diff(y) / h
    if len(x) == 2:
        return np.repeat(delta, 2)
    before, after = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    rising = delta[:-1] * delta[1:] > 0
    safe = np.where(rising, delta[:-1] * delta[1:], 1.0)
    inner = np.where(rising, (before + after) * safe / (before * delta[1:] + after * delta[:-1]), 0.0)
    return np.array([_end_slope(h, delta), *inner, _end_slope(h[::-1], delta[::-1])])


def _end_slope(h: Array, delta: Array) -> float:
    """Three-point slope at the end, cut so that the interpolant stays monotone."""
    slope = float(((2 * h[0] + h[1]) * delta[0] - h[0] * delta[1]) / (h[0] + h[1]))
    if slope * delta[0] <= 0:
        return 0.0
    if delta[0] * delta[1] < 0 and abs(slope) > 3 * abs(delta[0]):
        return 3 * float(delta[0])
    return slope


def _span(values: Array | tuple[float, ...]) -> str:
    return f"{values[0]:.2f} to {values[-1]:.2f}"
