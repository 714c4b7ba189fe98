"""Wall time of a call, and what the machine can do at most."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

ROOFLINE_SIDES = (4096, 2048, 1024)
ROOFLINE_SECONDS = 0.5  # a product that takes longer gives way to a smaller one


class Timing(NamedTuple):
    """Median and quartiles of repeated measurements of one thing, in seconds."""

    seconds: float
    low_s: float
    high_s: float


def summarise(seconds: Sequence[float]) -> Timing:
    """Median and quartiles, linear between the two nearest values. Raises StatisticsError for none."""
    if len(seconds) == 1:
        return Timing(seconds[0], seconds[0], seconds[0])
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, low, high)


def seconds_per_call(call: Callable[[], object], repeats: int = 10, warm_up: int = 2) -> float:
    """Median wall time of a call after warm-up, in seconds; waits for CUDA where it is in use."""
    for _ in range(warm_up):
        call()
    return statistics.median(timed(call) for _ in range(repeats))


def timed(call: Callable[[], object]) -> float:
    """Wall time of one call in seconds, begun and ended with an idle GPU where CUDA is in use."""
    _wait()
    started = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_gflop_per_s(device: torch.device, dtype: torch.dtype, side: int = 4096) -> float:
    """Speed of a square matrix product, 2 side^3 operations: the roofline that achieved speeds are held against.

    Of random numbers: a product of ones draws less power, and so runs at a higher clock than any network reaches.
    """
    a = torch.rand(side, side, device=device, generator=torch.Generator(device).manual_seed(0)).to(dtype)
    return 2e-9 * side**3 / seconds_per_call(lambda: a @ a, repeats=3, warm_up=1)


def roofline(device: torch.device, dtype: torch.dtype) -> tuple[float, int]:
    """Speed of the largest matrix product that does not take too long, in GFLOP/s, and its side."""
    guess = matmul_gflop_per_s(device, dtype, ROOFLINE_SIDES[-1] // 2)
    quick = (side for side in ROOFLINE_SIDES if 2e-9 * side**3 / guess < ROOFLINE_SECONDS)
    side = next(quick, ROOFLINE_SIDES[-1])
    return matmul_gflop_per_s(device, dtype, side), side
