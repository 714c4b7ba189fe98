"""Which points nobody beats: the frontier of a cost and a gain."""

import math
from collections.abc import Sequence


def frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points that no other dominates, by rising cost; equal points in the order given.

    A point dominates another where it costs no more, gains no less, and differs. Equal points thus stand or fall
    together; of points of one cost only those of the highest gain stay, of points of one gain only the cheapest.
    For a figure of which more is better on both axes (speed), give its negative as cost. Raises ValueError for
    sequences of different lengths and for NaN.
    """
    points = list(zip(costs, gains, strict=True))
    if any(math.isnan(value) for point in points for value in point):
        raise ValueError("a frontier needs numbers, not NaN")
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i)):
        if not kept or points[index][1] > points[kept[-1]][1] or points[index] == points[kept[-1]]:
            kept.append(index)
    return kept
