"""Convolutions on integers.

    out = clamp(activation(floor((sum of weight * input + bias) / 2^shift)), low, high)

weight is an integer of 10 to 12 bits, bias an int32 with half a unit of the result in it, shift one per output channel.
Scales of activations are folded into the weights, so that nothing but powers of two is left (He et al. 2022,
arXiv:2202.07513, use fixed-point multipliers there). `reference` is the definition, in NumPy int64.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.errors import NeedsModel
from rdcodec.exact.arithmetic import convolve
from rdcodec.exact.fixed import ACTIVATION_MAX, CARRIER_LIMIT, SUM_LIMIT, shift_right

MAX_SHIFT = 23
LEAK, LEAK_BITS = 41, 12  # LeakyReLU's slope of 1/100 as 41/4096
LEAK_REACH = 1 << 16  # lower inputs of a LeakyReLU are raised to this: its output is beyond the clamp anyway
Arrays = dict[str, NDArray[Any]]
Activation = type[nn.ReLU] | type[nn.LeakyReLU] | None


@dataclass(frozen=True)
class Range:
    """What the integers of a tensor can be: low..high."""

    low: int
    high: int

    @property
    def largest(self) -> int:
        return max(-self.low, self.high)


@dataclass(frozen=True)
class Reach:
    """How far from zero the integers of each channel of a tensor can be, (C,) int64."""

    largest: NDArray[np.int64]


ACTIVATION = Range(0, ACTIVATION_MAX)
LEAKY = Range(-ACTIVATION_MAX, ACTIVATION_MAX)


@dataclass(frozen=True)
class Conv:
    """A convolution of a chain with a square kernel and the activation behind it; `up` times larger sides."""

    inputs: int
    outputs: int
    kernel: int
    activation: Activation = None
    groups: int = 1
    up: int = 1


@dataclass(frozen=True)
class Shuffle:
    """A pixel shuffle: sides `factor` times larger, channels factor^2 times fewer."""

    factor: int = 2


Chain = Sequence[Conv | Shuffle]  # one after the other
AFTER: dict[Activation, Range] = {nn.ReLU: ACTIVATION, nn.LeakyReLU: LEAKY}


class IntegerConv:
    """A convolution on integers in float32 carriers: (B, I, h, w) -> (B, O, up h, up w), borders of zeros.

    Run it under `exact_arithmetic`. The weights are laid out as torch's: (O, I / groups, rows, columns), or
    (I, O, rows, columns) where `up` is above 1, which makes it a transposed convolution of that stride.

    No partial sum is ever rounded, in whatever order a machine adds: where sum |weight| * max |input| + |bias| < 2^24
    does not hold for every output channel, the input channels are split into runs for which it does, and the sums of
    the runs are added in float64. Raises NeedsModel where a single channel breaks that bound, all of them together
    2^31, or a convolution in groups would have to be split.
    """

    def __init__(
        self,
        arrays: Arrays,
        groups: int,
        inputs: Range | Reach,
        outputs: Range,
        up: int = 1,
        activation: Activation = None,
    ) -> None:
        weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
        terms = sum_terms(weight, groups, inputs, up)
        reach = int((terms.sum(0) + np.resize(np.abs(bias), terms.shape[1])).max())
        self.wide = reach >= CARRIER_LIMIT
        too_far = reach >= SUM_LIMIT or terms.max() >= CARRIER_LIMIT or (self.wide and groups > 1)
        if too_far or np.abs(shift).max() > MAX_SHIFT:
            raise NeedsModel("integer weights whose sums could overflow: fetch or export the model's weights again")
        self.groups, self.up = groups, up
        self.outputs = outputs
        self.activation = activation
        self.runs = _runs(terms) if self.wide else [(0, len(terms) * groups)]
        # The shift is folded in: every partial sum is then a multiple of 2^-shift, as exact as before.
        unit = np.ldexp(1.0, -shift)
        scaled = torch.from_numpy(weight * (unit[:, None, None] if up > 1 else unit[:, None, None, None])).float()
        along = 0 if up > 1 else 1
        parts = [scaled.narrow(along, a, b - a) for a, b in self.runs] if self.wide else [scaled]
        self.weights = [part.contiguous(memory_format=torch.channels_last) for part in parts]
        self.bias = torch.from_numpy(bias * unit).to(torch.float64 if self.wide else torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        total = self._wide_sum(x) if self.wide else convolve(x, self.weights[0], self.bias, self.groups, self.up)
        total = total.floor_()
        if self.activation is nn.LeakyReLU:
            total = _leak(total)
        return total.clamp_(self.outputs.low, self.outputs.high).float()

    def _wide_sum(self, x: Tensor) -> Tensor:
        parts = zip(self.runs, self.weights, strict=True)
        sums = (convolve(x[:, first:end], weight, up=self.up) for (first, end), weight in parts)
        total = next(sums).double() + self.bias[:, None, None]
        for part in sums:
            total += part
        return total

    def to(self, device: torch.device) -> "IntegerConv":
        """Move the weights to a device."""
        self.weights = [weight.to(device) for weight in self.weights]
        self.bias = self.bias.to(device)
        return self


def sum_terms(weight: NDArray[np.int64], groups: int, inputs: Range | Reach, up: int) -> NDArray[np.int64]:
    """What each input channel of a group adds to |sum| at most, (channels, sums).

    A transposed convolution has a sum for each output channel and place in the stride: a result there takes only
    every up-th row and column of the kernel.
    """
    size = np.abs(weight)
    if up > 1:
        places = [size[:, :, row::up, column::up].sum((2, 3)) for row in range(up) for column in range(up)]
        sums = np.concatenate(places, 1)
    else:
        sums = size.sum((2, 3)).T
    largest = np.broadcast_to(inputs.largest, len(sums) * groups).reshape(groups, -1)
    terms: NDArray[np.int64] = sums * np.repeat(largest, sums.shape[1] // groups, 0).T
    return terms


def _runs(terms: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of input channels whose sums stay below 2^24 whatever goes in, as long as can be."""
    edges, reach = [0], np.zeros(terms.shape[1], np.int64)
    for channel, term in enumerate(terms):
        if (reach + term).max() >= CARRIER_LIMIT:
            edges.append(channel)
            reach = np.zeros_like(reach)
        reach = reach + term
    return list(pairwise([*edges, len(terms)]))


def _leak(x: Tensor) -> Tensor:
    """LeakyReLU of integers: the slope as a fixed-point factor, rounded."""
    low = x.clamp(-LEAK_REACH, 0) * LEAK + (1 << LEAK_BITS - 1)
    return torch.where(x < 0, shift_right(low, LEAK_BITS), x)


class IntegerChain:
    """A chain on integers; NeedsModel unless every array is there in its type and shape, and no sum can overflow."""

    def __init__(self, chain: Chain, arrays: Mapping[str, Arrays], inputs: Range | Reach, outputs: Range) -> None:
        self.steps: list[IntegerConv | nn.PixelShuffle] = []
        place = 0  # arrays are named by it; activations have places too
        for layer in chain:
            if isinstance(layer, Shuffle):
                self.steps.append(nn.PixelShuffle(layer.factor))
            else:
                after = AFTER.get(layer.activation, outputs)
                found = _shaped(arrays, str(place), layer)
                self.steps.append(IntegerConv(found, layer.groups, inputs, after, layer.up, layer.activation))
                inputs = after
                place += layer.activation is not None
            place += 1

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def to(self, device: torch.device) -> "IntegerChain":
        """Move the weights to a device."""
        for step in self.steps:
            step.to(device)
        return self


def _shaped(arrays: Mapping[str, Arrays], index: str, layer: Conv) -> Arrays:
    sides = (layer.outputs, layer.inputs // layer.groups) if layer.up == 1 else (layer.inputs, layer.outputs)
    shapes = {"weight": (*sides, layer.kernel, layer.kernel), "bias": (layer.outputs,), "shift": (layer.outputs,)}
    kinds = {"weight": np.int16, "bias": np.int32, "shift": np.int8}
    found = arrays.get(index, {})
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape or found[name].dtype != kinds[name]:
            raise NeedsModel(f"integer weights {index}.{name} are missing or altered: fetch the model's weights again")
    return found


def reference(
    arrays: Arrays,
    groups: int,
    outputs: Range,
    x: NDArray[np.int64],
    up: int = 1,
    activation: Activation = None,
) -> NDArray[np.int64]:
    """What `IntegerConv` computes, by definition: x (I, h, w) -> (O, up h, up w), in int64, without torch."""
    weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
    if up > 1:  # the same as a convolution with the turned kernel, once zeros stand between the inputs
        weight = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1]
        spread = np.zeros((len(x), up * x.shape[1], up * x.shape[2]), np.int64)
        spread[:, ::up, ::up] = x
        x = spread
    per_group, rows, columns = weight.shape[1:]
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2)))
    out = np.empty((len(weight), height, width), np.int64)
    for o in range(len(weight)):
        first = o // (len(weight) // groups) * per_group
        total = np.full((height, width), bias[o])
        for row in range(rows):
            for column in range(columns):
                window = padded[first : first + per_group, row : row + height, column : column + width]
                total = total + np.tensordot(weight[o, :, row, column], window, 1)
        out[o] = total >> shift[o] if shift[o] >= 0 else total << -shift[o]
    if activation is nn.LeakyReLU:
        out = np.where(out < 0, np.maximum(out, -LEAK_REACH) * LEAK + (1 << LEAK_BITS - 1) >> LEAK_BITS, out)
    return np.clip(out, outputs.low, outputs.high)
