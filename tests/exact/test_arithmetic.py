"""Sums of integers stay exact whatever the process has switched on, and nothing of the process is written."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rdcodec.codec.pipeline import load
from rdcodec.errors import UsageError
from rdcodec.exact.arithmetic import convolve, convolve_by_products, exact_arithmetic, linear, product
from rdcodec.exact.chain import ACTIVATION, Arrays, Range
from rdcodec.exact.layers import IntegerConv

CPU = torch.device("cpu")
PRODUCTS = ("convolution", "mm", "addmm", "bmm", "baddbmm")


class DtypesOfProducts(TorchDispatchMode):
    """Keeps the types in which matrices are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.__name__.split(".")[0] in PRODUCTS:
            self.seen.add(args[0].dtype)
        return function(*args, **(kwargs or {}))


def backends() -> list:
    return [torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul]


@pytest.fixture
def rounding():
    """A program that lets oneDNN round float32."""
    before = [backend.fp32_precision for backend in backends()]
    for backend in backends():
        backend.fp32_precision = "bf16"
    yield
    for backend, precision in zip(backends(), before, strict=True):
        backend.fp32_precision = precision


def random_conv(seed: int = 0) -> tuple[IntegerConv, torch.Tensor]:
    rng = np.random.default_rng(seed)
    arrays: Arrays = {
        "weight": rng.integers(-100, 101, (24, 24, 3, 3)).astype(np.int16),
        "bias": rng.integers(-9999, 9999, 24).astype(np.int32),
        "shift": np.zeros(24, np.int8),
    }
    x = torch.from_numpy(rng.integers(0, 512, (1, 24, 12, 12))).float()
    return IntegerConv(arrays, 1, ACTIVATION, Range(-(1 << 24), 1 << 24), 1, None), x


@pytest.mark.usefixtures("rounding")
def test_where_the_process_rounds_the_products_are_of_float64():
    with DtypesOfProducts() as products, exact_arithmetic(CPU):
        x, weight = torch.ones(1, 3, 4, 4), torch.ones(3, 3, 3, 3)
        results = [
            convolve(x, weight, torch.ones(3)),
            convolve(x, weight, up=2),
            product(x[0, 0], x[0, 0]),
            linear(x, x[0, 0]),
        ]
    assert products.seen == {torch.float64} and {result.dtype for result in results} == {torch.float32}


def test_where_nothing_rounds_the_products_are_of_float32():
    """float64 costs seven times as much."""
    with DtypesOfProducts() as products, exact_arithmetic(CPU):
        convolve(torch.ones(1, 3, 4, 4), torch.ones(3, 3, 3, 3))
        product(torch.ones(4, 4), torch.ones(4, 4))
    assert products.seen == {torch.float32}


def test_overlapping_threads_are_exact_and_leave_the_callers_settings(rounding):
    """The first to come is the first to go: what it found must not be put back under the second's feet."""
    conv, x = random_conv()
    wanted = torch.nn.functional.conv2d(x.double(), conv.weights[0].double(), conv.bias.double(), padding=1).float()
    inside, gone = threading.Barrier(2, timeout=600), threading.Event()
    found = {}

    def first() -> None:
        with exact_arithmetic(CPU):
            inside.wait()
            found["first"] = conv(x)
        gone.set()

    def second() -> None:
        with exact_arithmetic(CPU):
            inside.wait()
            assert gone.wait(60)
            found["precision"] = [backend.fp32_precision for backend in backends()]
            found["second"] = conv(x)

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(found["first"], wanted) and torch.equal(found["second"], wanted)
    assert found["precision"] == ["bf16", "bf16"] == [backend.fp32_precision for backend in backends()]


def test_files_are_the_same_in_a_process_that_rounds(tiny_run, photo, rounding):
    """Encoded and decoded with and without; the entropy networks alone are held to it."""
    codec = load(tiny_run)
    encoded = codec.encode(photo, 50)
    for backend in backends():
        backend.fp32_precision = "ieee"
    decoded = codec.decompress(encoded.data)  # its checksum of the symbols would tell
    assert decoded.shape == photo.shape


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("up", [1, 2])
def test_a_convolution_by_products_is_the_convolution(groups, side, up):
    """What a GPU runs in place of cuDNN."""
    groups = 1 if up > 1 else groups
    rng = np.random.default_rng(0)
    shape = (8, 12, side, side) if up > 1 else (12, 8 // groups, side, side)
    x, weight, bias = (torch.from_numpy(rng.integers(-99, 100, size)).float() for size in ((2, 8, 5, 7), shape, (12,)))
    for offset in (bias, None):
        assert torch.equal(convolve_by_products(x, weight, offset, groups, up), convolve(x, weight, offset, groups, up))


SETTINGS = [
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.cudnn.allow_tf32 = False",
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.cudnn.fp32_precision = 'ieee'",
    "torch.backends.cudnn.conv.fp32_precision = 'tf32'; torch.set_float32_matmul_precision('high')",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process for each setting, without an import of torch for each")
def test_no_setting_of_torch_old_or_new_makes_it_raise():
    """Each in a process of its own. The device of a GPU too, as far as a machine without one goes."""
    program = f"""
import os, torch
from rdcodec.exact.arithmetic import _rounds, exact_arithmetic, product

def check(setting):
    exec(setting)
    for device in ("cpu", "cuda"):
        with exact_arithmetic(torch.device(device)):
            rounds = _rounds(device)
    assert rounds == ("ieee" not in setting and "False" not in setting), (setting, rounds)
    ones = torch.full((9, 9), 1001.0)
    assert product(ones, ones)[0, 0] == 9 * 1001**2

for setting in {SETTINGS}:
    if not (child := os.fork()):
        check(setting)
        break
    assert os.waitpid(child, 0)[1] == 0, setting
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_callers_autocast_changes_nothing():
    conv, x = random_conv()
    wanted = conv(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(conv(x).float(), wanted), "the test needs a case that autocast does change"
        with exact_arithmetic(CPU):
            assert torch.equal(conv(x), wanted)


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_an_environment_that_rounds_is_refused(monkeypatch, name):
    """oneDNN then may compute float32 in bfloat16, on machines that can; some guides advise it."""
    monkeypatch.setenv(name, "strict")
    with exact_arithmetic(CPU):
        pass
    monkeypatch.setenv(name, "BF16")
    with pytest.raises(UsageError, match=f"{name}=BF16.*unset"), exact_arithmetic(CPU):
        pass
