"""The search for a target, on curves that are known."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdcodec.codec.target import START, TENTHS, largest_below, smallest_above
from rdcodec.errors import RdcError

MOST_CALLS = 32  # six by the secant rule, then every second one halves what is left of 1001; none is asked twice


class Curve:
    """A value for every tenth of quality, and what was asked of it."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = [float(value) for value in values]
        assert len(self.values) == TENTHS + 1
        self.asked: list[int] = []

    def code(self, tenths: int) -> int:
        self.asked.append(tenths)
        return tenths

    def at(self, tenths: int) -> float:
        return self.values[tenths]

    def largest_below(self, target: float, start: int = START) -> int:
        return largest_below(self.code, self.at, target, "bytes", start)

    def smallest_above(self, target: float, start: int = START) -> int:
        return smallest_above(self.code, self.at, target, "dB", start)


@st.composite
def rising(draw: st.DrawFn) -> Curve:
    """Anything that does not fall: flat parts, cliffs, straight lines."""
    knots = draw(st.lists(st.integers(0, TENTHS), min_size=0, max_size=6))
    at = np.unique([0, *knots, TENTHS])
    values = np.cumsum([draw(st.floats(1, 1e4))] + [draw(st.floats(0, 1e6)) for _ in at[1:]])
    smooth = np.interp(np.arange(TENTHS + 1), at, values)
    stairs = values[np.searchsorted(at, np.arange(TENTHS + 1), "right") - 1]
    return Curve(draw(st.sampled_from([smooth, stairs])))


@given(rising(), st.floats(0, 1), st.integers(0, TENTHS))
@settings(max_examples=300)
def test_size_is_the_largest_below(curve: Curve, part: float, start: int) -> None:
    target = curve.at(0) + part * (curve.at(TENTHS) - curve.at(0))
    found = curve.largest_below(target, start)
    assert curve.at(found) <= target * (1 + 1e-12)
    assert curve.at(found) >= 0.99 * target or curve.at(found + 1) > 0.995 * target
    assert len(curve.asked) == len(set(curve.asked)) <= MOST_CALLS


@given(rising(), st.floats(0, 1), st.integers(0, TENTHS))
@settings(max_examples=300)
def test_psnr_is_the_smallest_above(curve: Curve, part: float, start: int) -> None:
    target = curve.at(0) + part * (curve.at(TENTHS) - curve.at(0))
    found = curve.smallest_above(min(target, curve.at(TENTHS)), start)
    assert curve.at(found) >= target * (1 - 1e-12)
    assert curve.at(found) <= target + 0.05 or found == 0 or curve.at(found - 1) < target + 0.05
    assert len(curve.asked) == len(set(curve.asked)) <= MOST_CALLS


@pytest.mark.parametrize("bend", [-0.5, 0.0, 0.7])
@pytest.mark.parametrize("growth", [6, 12, 40])
def test_usual_curves_take_few_trials(bend: float, growth: float) -> None:
    """From 0.07 bpp to `growth` times that, bent to either side in the logarithm."""
    x = np.arange(TENTHS + 1) / TENTHS
    x += bend * x * (1 - x)
    for target in np.geomspace(0.0701, 0.0699 * growth, 40):
        curve = Curve(0.07 * growth**x)
        assert 0.99 * target <= curve.at(curve.largest_below(target)) <= target
        assert len(curve.asked) <= 7
        curve = Curve(27 + 13 * x)
        goal = 27 + 13 * math.log(target / 0.07, growth)
        assert goal <= curve.at(curve.smallest_above(goal)) <= goal + 0.05
        assert len(curve.asked) <= 7


def test_a_near_start_takes_three_trials() -> None:
    """Where the curve is as much better as a search makes it."""
    curve = Curve(0.07 * 14 ** (np.arange(TENTHS + 1) / TENTHS))
    for target in np.geomspace(0.08, 0.9, 30):
        start = curve.largest_below(target)
        better = Curve(0.93 * np.array(curve.values))
        assert 0.99 * target <= better.at(better.largest_below(target, start)) <= target
        assert len(better.asked) <= 3


def test_small_steps_back_do_no_harm() -> None:
    wobble = np.where(np.arange(TENTHS + 1) % 7 == 3, -12, 0)
    for target in range(1000, 4900, 130):
        curve = Curve(900 + 4 * np.arange(TENTHS + 1) + wobble)
        assert 0.98 * target <= curve.at(curve.largest_below(target)) <= target
        assert len(curve.asked) <= 12


def test_out_of_reach() -> None:
    curve = Curve(np.linspace(1000, 9000, TENTHS + 1))
    with pytest.raises(RdcError, match=r"^999 bytes is out of reach: this picture needs 1000 or more$"):
        curve.largest_below(999)
    with pytest.raises(RdcError, match=r"^9001 dB is out of reach: this picture can have 9000 or less$"):
        curve.smallest_above(9001)
    assert len(curve.asked) <= 2 * 7


def test_a_target_that_every_quality_meets() -> None:
    curve = Curve(np.linspace(1000, 9000, TENTHS + 1))
    assert curve.largest_below(1e9) == TENTHS
    assert curve.smallest_above(-1e9) == 0


@pytest.mark.parametrize("target", [20.0, 60.0])
def test_pictures_without_loss(target: float) -> None:
    """Infinite PSNR from some quality on, as flat pictures have it."""
    curve = Curve([30.0] * 400 + [math.inf] * 601)
    assert curve.smallest_above(target) == (400 if target > 30 else 0)
    assert len(curve.asked) <= MOST_CALLS


@pytest.mark.parametrize("value", [50.0, 5000.0])
def test_flat_curves(value: float) -> None:
    curve = Curve([value] * (TENTHS + 1))
    assert curve.largest_below(1.02 * value) == TENTHS
    with pytest.raises(RdcError):
        curve.largest_below(0.98 * value)
    assert len(curve.asked) <= 2 * MOST_CALLS
