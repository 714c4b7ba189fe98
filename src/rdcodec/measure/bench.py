"""Wall time of a call, and what the machine can do at most."""

import statistics
import time
from collections.abc import Callable

import torch


def seconds_per_call(call: Callable[[], object], repeats: int = 10, warm_up: int = 2) -> float:
    """Median wall time of a call after warm-up, in seconds; waits for CUDA where it is in use."""
    for _ in range(warm_up):
        call()
    return statistics.median(_timed(call) for _ in range(repeats))


def _timed(call: Callable[[], object]) -> float:
    _wait()
    started = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_gflop_per_s(device: torch.device, dtype: torch.dtype, side: int = 4096) -> float:
    """Speed of a square matrix product, 2 side^3 operations: the roofline that achieved speeds are held against."""
    a = torch.ones(side, side, device=device, dtype=dtype)
    return 2e-9 * side**3 / seconds_per_call(lambda: a @ a, repeats=3, warm_up=1)
