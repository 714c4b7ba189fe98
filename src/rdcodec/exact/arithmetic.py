"""Convolutions and products that add integers exactly, whatever the process has switched on.

torch's precision settings belong to the process: a program may let oneDNN or cuBLAS round float32 to bfloat16 or TF32
for all of its threads. Nothing here writes such a setting. Each operation reads the one that would round it, and where
one would, the same sums are formed in float64, which no setting touches: slower, with the same result.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rdcodec.errors import UsageError

EXACT = ("none", "ieee")  # settings of torch that leave float32 alone


@contextlib.contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Context, of this thread alone, for the operations of this file: no autocast.

    UsageError where the environment tells oneDNN to round: nothing here can undo that.
    """
    if mode := _rounding_mode():
        raise UsageError(f"{mode} rounds float32 convolutions, on which files depend: unset it")
    with torch.autocast(device.type, enabled=False):
        yield


def _rounding_mode() -> str | None:
    """The setting with which oneDNN may compute float32 in bfloat16 (where AMX or an ARM library can)."""
    for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        value = os.environ.get(name, "STRICT")
        if value.upper() != "STRICT":
            return f"{name}={value}"
    return None


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1, up: int = 1) -> Tensor:
    """A convolution of odd kernels with borders of zeros, (B, I, h, w) -> (B, O, up h, up w), in the type of x.

    weight (O, I / groups, rows, columns), or (I, O, rows, columns) where `up` is above 1: a transposed convolution of
    that stride, without groups. Away from the CPU without cuDNN, which may choose Winograd or Fourier transforms and
    use TF32 by default. (Its place is taken by the products that are tested on CPUs; no CUDA card has run them.)
    """
    if not x.is_cpu:
        return convolve_by_products(x, weight, bias, groups, up)
    padding = weight.shape[2] // 2
    if up > 1:
        return _exactly(F.conv_transpose2d, x, weight, bias, stride=up, padding=padding, output_padding=up - 1)
    return _exactly(F.conv2d, x, weight, bias, padding=padding, groups=groups)


def convolve_by_products(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1, up: int = 1) -> Tensor:
    """`convolve` as matrix products, which need no library of convolutions."""
    batch, channels, height, width = x.shape
    kernel = (weight.shape[2], weight.shape[3])
    padding = (kernel[0] // 2, kernel[1] // 2)
    if up > 1:
        spread = product(weight.reshape(channels, -1).mT, x.reshape(batch, channels, -1))
        out = F.fold(spread, (up * height, up * width), kernel, padding=padding, stride=up)
    else:
        columns = F.unfold(x, kernel, padding=padding).reshape(batch, groups, -1, height * width)
        out = product(weight.reshape(groups, len(weight) // groups, -1), columns).reshape(batch, -1, height, width)
    return out if bias is None else out + bias[:, None, None]


def shift_right(value: Tensor, bits: int) -> Tensor:
    """floor(value / 2^bits) of integers in a float32 carrier: a product with a power of two is exact."""
    return (value * 2.0**-bits).floor()


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, in the type of both."""
    return _exactly(torch.matmul, a, b)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., I) by a matrix (O, I), plus (O,) -> (..., O), in the type of all."""
    return _exactly(F.linear, x, weight, bias)


def _exactly(operation: Callable[..., Tensor], *operands: Tensor | None, **options: Any) -> Tensor:
    """operation(*operands): those of float32 in float64 where float32 would be rounded."""
    x = operands[0]
    assert x is not None
    if x.dtype == torch.float32 and _rounds(x.device.type):
        return operation(*(part if part is None else part.double() for part in operands), **options).float()
    return operation(*operands, **options)


def _rounds(device: str) -> bool:
    """Whether the process lets products of float32 be rounded on "cpu" or "cuda".

    The settings that are read never raise, as torch's older ones do in a program that uses the newer ones, and vice
    versa; they follow both.
    """
    backends: Any = torch.backends
    used = [backends.cuda.matmul] if device == "cuda" else [backends.mkldnn.conv, backends.mkldnn.matmul]
    return any(backend.fp32_precision not in EXACT for backend in used)
