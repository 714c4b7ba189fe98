"""Laws of the frontier."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdcodec.measure.frontier import frontier

points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(points)
def test_exactly_the_points_that_nothing_dominates(found: list[tuple[int, int]]) -> None:
    kept = frontier([x for x, _ in found], [y for _, y in found])
    best = {i for i, point in enumerate(found) if not any(dominates(other, point) for other in found)}
    assert set(kept) == best and len(kept) == len(best)


@given(points)
def test_it_rises_and_ties_keep_their_order(found: list[tuple[int, int]]) -> None:
    kept = frontier([x for x, _ in found], [y for _, y in found])
    assert [(*found[i], i) for i in kept] == sorted((*found[i], i) for i in kept)


@given(points, st.permutations(range(20)))
def test_the_order_of_the_points_does_not_matter(found: list[tuple[int, int]], order: list[int]) -> None:
    moved = [found[i] for i in order if i < len(found)]
    one, other = (frontier([x for x, _ in p], [y for _, y in p]) for p in (found, moved))
    assert [found[i] for i in one] == [moved[i] for i in other]


def test_what_cannot_be_compared_is_refused() -> None:
    assert frontier([], []) == []
    with pytest.raises(ValueError, match="NaN"):
        frontier([1.0], [math.nan])
    with pytest.raises(ValueError, match="argument"):
        frontier([1.0], [])
