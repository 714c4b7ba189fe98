"""What a transformer needs beside convolutions, on integers: linear layers, layer norm, softmax, tables.

Integers travel in float32 or float64 tensors (`fixed.py`), exact below 2^24 and 2^53. Divisions and square roots are
those of integers, rounded down, and checked by their remainder. Run everything under `exact_arithmetic`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.errors import NeedsModel
from rdcodec.exact.arithmetic import linear
from rdcodec.exact.chain import MAX_SHIFT, Arrays, Range
from rdcodec.exact.fixed import CARRIER_LIMIT

WIDE_LIMIT = 1 << 52  # of integers in float64, with a bit to spare for the next square
INVERSE_BITS = 40
NORMAL_BITS = 8  # a normalised activation comes in steps of 2^-8
NORMAL = Range(-4095, 4095)
EXPONENT_ONE = 128  # steps of a score in which e^-1 is reached
EXPONENTS = 12 * EXPONENT_ONE
EXPONENT_MAX = 65535
SHARE_BITS = 12  # a weight of the softmax comes in steps of 2^-12
MAX_PARTS = 8  # beyond that, one product in float64 is faster than many in float32
OVERFLOW = "integer weights whose sums could overflow: fetch or export the model's weights again"


def floor_divide(a: Tensor, b: Tensor) -> Tensor:
    """floor(a / b) of integers in float64 carriers, |a| + b < 2^53, b > 0."""
    quotient = (a / b).floor()
    rest = a - quotient * b
    return quotient + (rest >= b).double() - (rest < 0).double()


def integer_sqrt(a: Tensor) -> Tensor:
    """floor(sqrt(a)) of integers 0 <= a < 2^52 in float64 carriers."""
    root = a.sqrt().floor()
    root = root - (root * root > a).double()
    return root + ((root + 1) * (root + 1) <= a).double()


def inverse(a: Tensor) -> Tensor:
    """floor(2^40 / a) of positive integers in float64 carriers."""
    return floor_divide(torch.full_like(a, 2.0**INVERSE_BITS), a)


def normalise(x: Tensor, epsilon: int) -> Tensor:
    """Layer norm over the last axis, without weights: integers in float32 carriers -> steps of 2^-8, within NORMAL.

    With n channels, S their sum and Q that of their squares, R = floor(sqrt(n Q - S^2 + epsilon)) is n deviations;
    out = floor(((n x - S) floor(2^40 / R) + 2^31) / 2^32). Ba et al. 2016, arXiv:1607.06450, equation 4.
    """
    wide, n = x.double(), x.shape[-1]
    total = wide.sum(-1, keepdim=True)
    squares = (wide * wide).sum(-1, keepdim=True)
    factor = inverse(integer_sqrt(n * squares - total * total + epsilon))
    half = 0.5 ** (NORMAL_BITS - INVERSE_BITS + 1)
    scaled = (wide * n).sub_(total).mul_(factor).add_(half).mul_(2.0 ** (NORMAL_BITS - INVERSE_BITS))
    return scaled.floor_().clamp_(NORMAL.low, NORMAL.high).float()


def normal_length(channels: int, epsilon: int) -> float:
    """No output of `normalise` is longer than this: the root of the sum of its squares.

    n x - S has the length sqrt(n (n Q - S^2)) < sqrt(n) (R + 1), and R >= sqrt(epsilon) - 1; rounding adds 1/2 each.
    """
    root = max(1.0, epsilon**0.5 - 1)
    return float(channels**0.5 * (2**NORMAL_BITS * (1 + 1 / root) + 0.5))


def check_normal(channels: int, epsilon: NDArray[Any], inputs: Range) -> int:
    """The epsilon of `normalise`; NeedsModel unless 0 < epsilon + n^2 max |x|^2 < 2^52."""
    value = int(epsilon[0])
    if value < 1 or value + channels**2 * inputs.largest**2 >= WIDE_LIMIT:
        raise NeedsModel(OVERFLOW)
    return value


def soft_shares(scores: Tensor, exponent: Tensor) -> Tensor:
    """Softmax over the last axis: scores in steps of 1/128, -inf for what is not seen -> shares in steps of 2^-12.

    share = floor((E floor(2^40 / sum of E) + 2^27) / 2^28), E = exponent[min(max score - score, its last place)].
    """
    # A difference that float32 had to round is far beyond the table.
    below = (scores.amax(-1, keepdim=True) - scores).clamp_(max=len(exponent) - 1)
    weight = look_up(exponent, below)
    scaled = weight * inverse(weight.sum(-1, keepdim=True))
    half = 0.5 ** (SHARE_BITS - INVERSE_BITS + 1)
    return scaled.add_(half).mul_(2.0 ** (SHARE_BITS - INVERSE_BITS)).floor_().float()


def check_exponent(exponent: NDArray[Any]) -> Tensor:
    """The table of `soft_shares` in a float64 carrier; NeedsModel unless it is within 0..65535 and ends at 0."""
    if exponent[0] < 1 or exponent[-1] != 0 or exponent.min() < 0 or exponent.max() > EXPONENT_MAX:
        raise NeedsModel(OVERFLOW)
    return torch.from_numpy(exponent).double()


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """table[index] for integers of any shape in a float carrier."""
    return table.index_select(0, index.flatten().int()).view(index.shape)


class IntegerLinear:
    """A linear layer on integers in float32 carriers: (..., I) -> (..., O).

        out = clamp(floor((sum of weight * input + bias) / 2^shift), low, high)

    One product where no partial sum can reach 2^24, several over parts of the inputs where that takes a few,
    else one in float64. length bounds the root of the sum of squares of an input, where more is known than `inputs`.
    Raises NeedsModel if a sum could reach 2^52.
    """

    def __init__(self, arrays: Arrays, inputs: Range, outputs: Range, length: float = float("inf")) -> None:
        weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
        reach = np.abs(weight).sum(1) * inputs.largest + np.abs(bias)
        if reach.max() >= WIDE_LIMIT or np.abs(shift).max() > MAX_SHIFT:
            raise NeedsModel(OVERFLOW)
        self.outputs = outputs
        length = min(length, inputs.largest * weight.shape[1] ** 0.5)
        parts = [n for n in range(1, MAX_PARTS + 1) if _fits(np.array_split(weight, n, 1), bias, inputs, length)]
        carrier = torch.float32 if parts else torch.float64
        # The shift is folded in: every partial sum is then a multiple of 2^-shift, as exact as before.
        unit = np.ldexp(1.0, -shift)
        folded = np.array_split(weight * unit[:, None], parts[0] if parts else 1, 1)
        self.weights = [torch.from_numpy(part).to(carrier).contiguous() for part in folded]
        self.bias = torch.from_numpy(bias * unit).to(carrier)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.bias.dtype)
        if len(self.weights) == 1:
            total = linear(x, self.weights[0], self.bias)
        else:
            pieces = torch.split(x, [weight.shape[1] for weight in self.weights], -1)
            total = self.bias.double().expand(*x.shape[:-1], -1).clone()
            for piece, weight in zip(pieces, self.weights, strict=True):
                total += linear(piece, weight)
        return total.floor_().clamp_(self.outputs.low, self.outputs.high).float()

    def to(self, device: torch.device) -> "IntegerLinear":
        """Move the weights to a device."""
        self.weights = [weight.to(device) for weight in self.weights]
        self.bias = self.bias.to(device)
        return self


def _fits(parts: list[NDArray[np.int64]], bias: NDArray[np.int64], inputs: Range, length: float) -> bool:
    """Whether the sum of each part, bias included, stays below 2^24; by |weight| or by the inequality of Cauchy."""
    for part in parts:
        by_size = np.abs(part).sum(1) * inputs.largest
        by_length = np.sqrt((part.astype(float) ** 2).sum(1)) * length + 1
        if (np.minimum(by_size, by_length) + np.abs(bias)).max() >= CARRIER_LIMIT:
            return False
    return True


class IntegerScale:
    """A factor and an offset per channel: (..., C) -> (..., C), floor((weight * input + bias) / 2^shift), clamped."""

    def __init__(self, arrays: Arrays, outputs: Range) -> None:
        # int16 and int32 against inputs below 2^24: float64 holds any of it.
        weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
        if np.abs(shift).max() > MAX_SHIFT:
            raise NeedsModel(OVERFLOW)
        unit = np.ldexp(1.0, -shift)
        self.weight = torch.from_numpy(weight * unit)
        self.bias = torch.from_numpy(bias * unit)
        self.outputs = outputs

    def __call__(self, x: Tensor) -> Tensor:
        total = x.double() * self.weight + self.bias
        return total.floor_().clamp_(self.outputs.low, self.outputs.high).float()

    def to(self, device: torch.device) -> "IntegerScale":
        """Move the weights to a device."""
        self.weight, self.bias = self.weight.to(device), self.bias.to(device)
        return self


def pick(arrays: Mapping[str, NDArray[Any]], name: str, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """arrays[name]; NeedsModel unless it is there in this type and shape."""
    found = arrays.get(name)
    if found is None or found.shape != shape or found.dtype != dtype:
        raise NeedsModel(f"integer weights {name} are missing or altered: fetch the model's weights again")
    return found


def pick_layer(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]) -> Arrays:
    """weight, bias and shift of a linear layer (O, I) or of a scale (C,), without their prefix."""
    kinds = {"weight": (np.int16, shape), "bias": (np.int32, shape[:1]), "shift": (np.int8, shape[:1])}
    return {kind: pick(arrays, f"{name}.{kind}", dtype, size) for kind, (dtype, size) in kinds.items()}
