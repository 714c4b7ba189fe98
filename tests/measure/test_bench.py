"""Clocks that tell what they are told: medians, quartiles, and which matrix product is the roofline."""

from collections.abc import Iterator
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rdcodec.measure import bench
from rdcodec.measure.machine import _caches, _onednn_version, machine

CPU = torch.device("cpu")


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20))
def test_the_summary_is_numpys_quartiles(seconds: list[float]) -> None:
    found = bench.summarise(seconds)
    assert found == pytest.approx(tuple(np.percentile(seconds, [50, 25, 75])))
    assert found.low_s <= found.seconds <= found.high_s


def test_a_call_takes_what_the_clock_says_and_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    took = [3.0, 1.0, 2.0]
    ticks: Iterator[float] = accumulate(chain.from_iterable((1.0, seconds) for seconds in took))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(ticks))
    calls: list[None] = []
    assert bench.seconds_per_call(lambda: calls.append(None), repeats=3, warm_up=2) == 2.0
    assert len(calls) == 5


@pytest.mark.parametrize(("gflop_per_s", "side"), [(1e4, 4096), (300.0, 4096), (50.0, 2048), (5.0, 1024), (0.1, 1024)])
def test_the_roofline_is_the_largest_product_that_does_not_take_too_long(
    monkeypatch: pytest.MonkeyPatch, gflop_per_s: float, side: int
) -> None:
    sides: list[int] = []

    def speed(device: torch.device, dtype: torch.dtype, side: int) -> float:
        sides.append(side)
        return gflop_per_s

    monkeypatch.setattr(bench, "matmul_gflop_per_s", speed)
    assert bench.roofline(CPU, torch.float32) == (gflop_per_s, side)
    assert sides[-1] == side and len(sides) == 2


def test_caches_are_read_as_linux_lists_them(tmp_path: Path) -> None:
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "1M"))
    ):
        entry = tmp_path / f"index{index}"
        entry.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size)):
            (entry / name).write_text(text + "\n")
    assert _caches(tmp_path) == {"L1 data": "48K", "L1 instruction": "32K", "L2": "1M"}
    assert _caches(tmp_path / "none") is None


def test_the_version_of_onednn() -> None:
    assert _onednn_version("  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80af)") == "3.12.0"
    assert _onednn_version("  - oneDNN v3.5 (x)") == "3.5"
    assert _onednn_version("no such thing") is None
    here = machine()
    assert here["onednn"] is None or here["onednn"] in torch.__config__.show()
    assert {"caches", "cpu_mhz", "load_average", "gpu_max_mhz"} <= set(here)


def test_the_matrix_product_is_of_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of ones draws less power, and runs faster than any network could."""
    products: list[torch.Tensor] = []
    monkeypatch.setattr(bench, "seconds_per_call", lambda call, **_: products.append(call()) or 1.0)
    assert bench.matmul_gflop_per_s(CPU, torch.bfloat16, 64) == pytest.approx(2e-9 * 64**3)
    assert len(products[0].unique()) > 100
