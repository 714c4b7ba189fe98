"""Whether two figures put the same models in the same order: FLOPs and time, or the times of two machines."""

import math
from collections.abc import Sequence
from itertools import combinations


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation of two figures of the same things, -1 to 1; 1 where both give one order, ties and all.

    Tau-b (Kendall 1945, "The treatment of ties in ranking problems"). NaN where one of them tells nothing apart.
    Raises ValueError for sequences of different lengths.
    """
    signs = [(_sign(x, u), _sign(y, v)) for (x, y), (u, v) in combinations(zip(a, b, strict=True), 2)]
    told_apart = sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs)
    return sum(x * y for x, y in signs) / math.sqrt(told_apart) if told_apart else math.nan


def inversions(names: Sequence[str], flops: Sequence[float], seconds: Sequence[float]) -> list[tuple[str, str]]:
    """Pairs of which the first has more FLOPs and yet takes less time; a tie in either is no inversion.

    Raises ValueError for sequences of different lengths.
    """
    rows = sorted(zip(names, flops, seconds, strict=True), key=lambda row: row[1])
    return [(more[0], less[0]) for less, more in combinations(rows, 2) if more[1] > less[1] and more[2] < less[2]]


def ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value, 1 for the least; equal values share the mean of their ranks."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def _sign(x: float, y: float) -> int:
    return (x > y) - (x < y)
