"""Find the quality that meets a target in few trials: the secant rule inside a bracket, in tenths of quality."""

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from rdcodec.errors import RdcError

TENTHS = 1000
START = 500
T = TypeVar("T")


class Goal(NamedTuple):
    """Values from `least` to `most` will do; `slope` is the usual rise of the value per tenth of quality."""

    least: float
    most: float
    slope: float


class Trial(NamedTuple, Generic[T]):
    """A quality, the value there, and what was coded."""

    tenths: int
    value: float
    coded: T


def largest_below(
    code: Callable[[int], T], measure: Callable[[T], float], target: float, unit: str, start: int = START
) -> T:
    """The coded picture of highest quality whose size is at most `target`, and within 1 % of it.

    start: tenths of quality to try first. A target above the whole range gives the highest quality. RdcError if the
    smallest file is over it.
    """
    goal = Goal(math.log(target) - 0.01, math.log(target), 0.003)
    low, high = _bracket(code, lambda coded: math.log(measure(coded)), goal, start)
    if low is None:
        assert high is not None
        raise RdcError(f"{target:.6g} {unit} is out of reach: this picture needs {measure(high.coded):.6g} or more")
    return low.coded


def smallest_above(
    code: Callable[[int], T], measure: Callable[[T], float], target: float, unit: str, start: int = START
) -> T:
    """The coded picture of lowest quality whose PSNR is at least `target`, and within 0.05 dB of it.

    start: tenths of quality to try first. A target below the whole range gives the lowest quality. RdcError if the
    largest file does not reach it.
    """
    # Where nothing is lost the PSNR is infinite; some decibels beyond the target are as good.
    goal = Goal(target, target + 0.05, 0.013)
    low, high = _bracket(code, lambda coded: min(measure(coded), target + 20), goal, start)
    if high is None:
        assert low is not None
        raise RdcError(f"{target:.6g} {unit} is out of reach: this picture can have {low.value:.6g} or less")
    return high.coded


def _bracket(
    code: Callable[[int], T], measure: Callable[[T], float], goal: Goal, start: int
) -> tuple[Trial[T] | None, Trial[T] | None]:
    """The trials at both sides of the goal: neighbours, or both the same trial that is in it.

    None on a side where the range of qualities ended first. The value grows with quality but for small steps
    back; those can end the search at another neighbouring pair, never at a value on the wrong side.
    """
    aim = (goal.least + goal.most) / 2
    low: Trial[T] | None = None
    high: Trial[T] | None = None
    last: Trial[T] | None = None
    guess = start
    for count in range(TENTHS):
        coded = code(guess)
        trial = Trial(guess, measure(coded), coded)
        if goal.least <= trial.value <= goal.most:
            return trial, trial
        low, high = (trial, high) if trial.value < aim else (low, trial)
        left, right = low.tenths if low else -1, high.tenths if high else TENTHS + 1
        if right - left <= 1:
            break
        slope = _slope(last, trial) if last else goal.slope
        guess = trial.tenths + _step(aim - trial.value, slope, least=0 if low and high else 2**count)
        if low and high and (not left < guess < right or (count > 5 and count % 2)):
            guess = (left + right) // 2
        guess = min(max(guess, left + 1), right - 1)
        last = trial
    return low, high


def _slope(one: Trial[T], other: Trial[T]) -> float:
    return (other.value - one.value) / (other.tenths - one.tenths)


def _step(rise: float, slope: float, least: int) -> int:
    """Tenths to go for a rise; as far as can be where the slope says nothing."""
    size = abs(rise) / slope if slope > abs(rise) / TENTHS else TENTHS
    return round(math.copysign(max(size, least), rise))
