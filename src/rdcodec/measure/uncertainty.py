"""How sure a BD-rate is: of each picture alone, with a bootstrap interval, and which ranks are ties.

A BD-rate of mean curves hides how much pictures differ. Where both codecs were measured on the same pictures, each
picture has a BD-rate of its own. Codecs are compared picture by picture, so that what makes a picture hard for both
drops out. The interval is a percentile bootstrap over the pictures of the mean of ln(rate / rate of the anchor),
widened for small samples (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69,
2015, section 3.2): without that, intervals from six pictures are a quarter too narrow. It speaks of pictures like
these, and of nothing else.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import Array, Curve, bd_rate

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 2015
FEWEST_PICTURES = 5
"""Of fewer pictures no interval is given."""


@dataclass(frozen=True)
class Interval:
    """Mean BD-rate over pictures in per cent, with its interval (`LEVEL`). pictures: those it rests on.

    The mean is of logarithms of rates, as within a BD-rate.
    """

    value: float
    low: float
    high: float
    pictures: int


def picture_curves(
    name: str, points: Iterable[tuple[str, float | None, float | None]], metric: str = "psnr"
) -> dict[str, Curve]:
    """A curve for each picture from (picture, bpp, quality) in any order; what is unknown or lossless is left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for picture, bpp, quality in points:
        if bpp and quality is not None and math.isfinite(quality):
            found.setdefault(picture, []).append((bpp, quality))
    return {picture: Curve.from_points(name, some, metric) for picture, some in found.items()}


def bd_rates(test: Curve, anchor: Curve) -> dict[str, float]:
    """BD-rate in per cent of every picture that both curves have and that has one; {} where either has means alone."""
    found = {}
    for picture in test.by_picture.keys() & anchor.by_picture.keys():
        try:
            found[picture] = bd_rate(test.by_picture[picture], anchor.by_picture[picture]).value
        except UsageError:  # too few points, or no common range
            continue
    return dict(sorted(found.items()))


def bd_interval(test: Curve, anchor: Curve) -> Interval | None:
    """Mean BD-rate over the pictures and its paired bootstrap interval; None for under `FEWEST_PICTURES` of them."""
    ratios = [math.log1p(rate / 100) for rate in bd_rates(test, anchor).values()]
    if len(ratios) < FEWEST_PICTURES:
        return None
    low, high = bootstrap_mean(ratios)
    value, low, high = (100 * math.expm1(ratio) for ratio in (float(np.mean(ratios)), low, high))
    return Interval(value, low, high, len(ratios))


def bootstrap_mean(values: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the mean of two or more values; the same values give the same interval."""
    sample = np.asarray(values, np.float64)
    widened = NormalDist().cdf(-math.sqrt(len(sample) / (len(sample) - 1)) * _student(level, len(sample) - 1))
    low, high = np.quantile(_shares(len(sample)) @ sample, [widened, 1 - widened])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _shares(count: int) -> Array:
    """Share of each of `count` pictures in each resample, (RESAMPLES, count); rows add up to one."""
    shares: Array = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, size=RESAMPLES) / count
    return shares


def ranks(curves: Sequence[Curve]) -> list[int]:
    """Rank of each curve by rate at equal quality: one more than the number of curves that are better for certain.

    Curves of one rank are ties. A pair without pictures in common is ordered by its mean curves; one whose curves
    cannot be compared is not ordered.
    """
    found = [1] * len(curves)
    for one, other in itertools.combinations(range(len(curves)), 2):
        order = _order(curves[one], curves[other])
        found[one] += order > 0
        found[other] += order < 0
    return found


def _order(test: Curve, anchor: Curve) -> int:
    """-1 where `test` needs fewer bits, 1 where it needs more, 0 where that is not certain."""
    interval = bd_interval(test, anchor)
    if interval is not None:
        return (interval.low > 0) - (interval.high < 0)
    try:
        value = bd_rate(test, anchor).value
    except UsageError:
        return 0
    return (value > 0) - (value < 0)


def rank_text(rank: int, among: Sequence[int]) -> str:
    """ "1", or "2=" where several have that rank."""
    return f"{rank}{'=' * (among.count(rank) > 1)}"


def _student(level: float, freedom: int) -> float:
    """Two-sided quantile of Student's t by the expansion of Cornish and Fisher; to 0.2 % from five degrees on."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    widened: float = z + sum(term / freedom**power for power, term in enumerate(terms, 1))
    return widened
