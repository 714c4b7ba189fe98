"""Chains of convolutions on integers in torch (`chain.py` defines them)."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.exact.arithmetic import convolve, shift_right
from rdcodec.exact.chain import (
    LEAK,
    LEAK_BITS,
    LEAK_REACH,
    Activation,
    Arrays,
    Chain,
    Range,
    Reach,
    Shuffle,
    check_sums,
    proved,
    sum_terms,
)
from rdcodec.exact.fixed import CARRIER_LIMIT


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
        self.wide = check_sums(arrays, groups, inputs, up)
        self.groups, self.up = groups, up
        self.outputs = outputs
        self.activation = activation
        self.runs = _runs(sum_terms(weight, groups, inputs, up)) if self.wide else []
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
        if self.activation == "leaky_relu":
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
        for part in proved(chain, arrays, inputs, outputs):
            if isinstance(part, Shuffle):
                self.steps.append(nn.PixelShuffle(part.factor))
            else:
                layer = part.layer
                self.steps.append(
                    IntegerConv(part.arrays, layer.groups, part.inputs, part.outputs, layer.up, layer.activation)
                )

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def to(self, device: torch.device) -> "IntegerChain":
        """Move the weights to a device."""
        for step in self.steps:
            step.to(device)
        return self
