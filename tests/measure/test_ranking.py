"""Rank correlation against SciPy, and by its laws."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kendalltau, rankdata  # type: ignore[import-untyped]

from rdcodec.measure.ranking import inversions, kendall_tau, ranks

few_values = st.integers(-3, 3).map(float)  # so that ties are common
pairs = st.lists(st.tuples(few_values, few_values), min_size=2, max_size=12)


@given(pairs)
def test_tau_is_scipys(rows: list[tuple[float, float]]) -> None:
    a, b = zip(*rows, strict=True)
    assert kendall_tau(a, b) == pytest.approx(kendalltau(a, b).statistic, nan_ok=True)


@given(st.lists(few_values, min_size=2, max_size=12))
def test_ranks_are_scipys_and_keep_the_order(values: list[float]) -> None:
    found = ranks(values)
    assert found == rankdata(values).tolist()
    assume(len(set(values)) > 1)
    assert kendall_tau(values, found) == pytest.approx(1)


def test_tau_of_known_orders() -> None:
    assert kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == 1
    assert kendall_tau([1, 2, 3, 4], [40, 30, 20, 10]) == -1
    assert kendall_tau([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(4 / 6)
    assert math.isnan(kendall_tau([1, 2], [5, 5]))
    with pytest.raises(ValueError, match="argument"):
        kendall_tau([1, 2], [1])


@given(st.lists(st.tuples(few_values, few_values), min_size=2, max_size=8))
def test_inversions_are_the_discordant_pairs(rows: list[tuple[float, float]]) -> None:
    names = [str(index) for index in range(len(rows))]
    flops, seconds = zip(*rows, strict=True)
    found = inversions(names, flops, seconds)
    for more, less in found:
        assert flops[int(more)] > flops[int(less)]
        assert seconds[int(more)] < seconds[int(less)]
    discordant = sum((x - u) * (y - v) < 0 for i, (x, y) in enumerate(rows) for u, v in rows[:i])
    assert len(set(found)) == len(found) == discordant


def test_an_inversion_names_the_larger_model_first() -> None:
    assert inversions(["small", "large", "huge"], [1, 2, 3], [0.2, 0.1, 0.4]) == [("large", "small")]
