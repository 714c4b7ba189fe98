"""Convolutions on integers, and how a trained chain of convolutions and ReLUs becomes one of them.

    out = clamp(floor((sum of weight * input + bias) / 2^shift), low, high)

weight is a 10-bit integer, bias an int32 with half a unit of the result in it, shift one per output channel.
Scales of activations are folded into the weights, so that nothing but powers of two is left (He et al. 2022,
arXiv:2202.07513, use fixed-point multipliers there). `reference` is the definition, in NumPy int64.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.errors import NeedsModel, UsageError
from rdcodec.exact.fixed import ACTIVATION_MAX, CARRIER_LIMIT, to_integers

# In float32 carriers the width of a weight costs no time. Without fine-tuning, 8 bits cost 0.5 to 0.7 % more rate
# than 10, and 12 gain nothing more (docs/adr/0002-ten-bit-weights.md).
WEIGHT_MAX = 511
MAX_SHIFT = 23
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Range:
    """What the integers of a tensor can be: low..high."""

    low: int
    high: int

    @property
    def largest(self) -> int:
        return max(-self.low, self.high)


ACTIVATION = Range(0, ACTIVATION_MAX)


@contextlib.contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Context in which float32 convolutions and products add integers exactly, whatever the caller has switched on.

    No casts to bfloat16, on CPUs none inside oneDNN either, no TF32; on CUDA no cuDNN, which may choose Winograd or
    Fourier transforms. UsageError where the environment tells oneDNN to round: nothing here can undo that.
    """
    if mode := _rounding_mode():
        raise UsageError(f"{mode} rounds float32 convolutions, on which files depend: unset it")
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        mkldnn: Any = torch.backends.mkldnn
        backends = [mkldnn.matmul, mkldnn.conv]
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=False, allow_tf32=False))
            backends = [torch.backends.cuda.matmul]
        for backend in backends:
            stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
            backend.fp32_precision = "ieee"
        yield


def _rounding_mode() -> str | None:
    """The setting with which oneDNN may compute float32 in bfloat16 (where AMX or an ARM library can)."""
    for name in ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"):
        value = os.environ.get(name, "STRICT")
        if value.upper() != "STRICT":
            return f"{name}={value}"
    return None


class IntegerConv:
    """A convolution on integers in float32 carriers: (B, I, h, w) -> (B, O, h, w), borders of zeros.

    Run it under `exact_arithmetic`.

    Raises NeedsModel unless sum |weight| * max |input| + |bias| < 2^24 for every output channel: then no partial
    sum can be rounded, in whatever order a machine adds.
    """

    def __init__(self, arrays: Arrays, groups: int, inputs: Range, outputs: Range) -> None:
        weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
        reach = np.abs(weight).sum((1, 2, 3)) * inputs.largest + np.abs(bias)
        if reach.max() >= CARRIER_LIMIT or np.abs(shift).max() > MAX_SHIFT:
            raise NeedsModel("integer weights whose sums could overflow: fetch or export the model's weights again")
        self.groups = groups
        self.outputs = outputs
        # The shift is folded in: every partial sum is then a multiple of 2^-shift, as exact as before.
        unit = np.ldexp(1.0, -shift)
        self.weight = torch.from_numpy(weight * unit[:, None, None, None]).float()
        self.weight = self.weight.contiguous(memory_format=torch.channels_last)
        self.bias = torch.from_numpy(bias * unit).float()

    def __call__(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[2] // 2
        total = F.conv2d(x, self.weight, self.bias, padding=padding, groups=self.groups)
        return total.floor_().clamp_(self.outputs.low, self.outputs.high)

    def to(self, device: torch.device) -> "IntegerConv":
        """Move the weights to a device."""
        self.weight, self.bias = self.weight.to(device), self.bias.to(device)
        return self


class IntegerChain:
    """The convolutions, ReLUs and pixel shuffles of a Sequential, on integers."""

    def __init__(self, chain: nn.Sequential, arrays: Mapping[str, Arrays], inputs: Range, outputs: Range) -> None:
        self.steps: list[IntegerConv | nn.PixelShuffle] = []
        for index, layer, has_relu in _layers(chain):
            if isinstance(layer, nn.PixelShuffle):
                self.steps.append(layer)
            else:
                after = ACTIVATION if has_relu else outputs
                self.steps.append(IntegerConv(_shaped(arrays, index, layer), layer.groups, inputs, after))
                inputs = after

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def to(self, device: torch.device) -> "IntegerChain":
        """Move the weights to a device."""
        for step in self.steps:
            step.to(device)
        return self


def _layers(chain: nn.Sequential) -> Iterator[tuple[str, nn.Conv2d | nn.PixelShuffle, bool]]:
    """Convolutions, each with whether a ReLU follows, and pixel shuffles; named by their place in the chain."""
    layers = list(chain)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            yield str(index), layer, index + 1 < len(layers) and isinstance(layers[index + 1], nn.ReLU)
        elif isinstance(layer, nn.PixelShuffle):
            yield str(index), layer, False
        elif not isinstance(layer, nn.ReLU):
            raise TypeError(f"{type(layer).__name__} has no form on integers")


def _shaped(arrays: Mapping[str, Arrays], index: str, layer: nn.Conv2d) -> Arrays:
    shapes = {"weight": tuple(layer.weight.shape), "bias": (layer.out_channels,), "shift": (layer.out_channels,)}
    kinds = {"weight": np.int16, "bias": np.int32, "shift": np.int8}
    found = arrays.get(index, {})
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape or found[name].dtype != kinds[name]:
            raise NeedsModel(f"integer weights {index}.{name} are missing or altered: fetch the model's weights again")
    return found


def reference(arrays: Arrays, groups: int, outputs: Range, x: NDArray[np.int64]) -> NDArray[np.int64]:
    """What `IntegerConv` computes, by definition: x (I, h, w) -> (O, h, w), in int64, without torch."""
    weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
    per_group, _, rows, columns = weight.shape[1], None, *weight.shape[2:]
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
    return np.clip(out, outputs.low, outputs.high)


# From trained floats to integers


@dataclass(frozen=True)
class Calibrated:
    """A chain as integers: the arrays of each convolution, the samples after it, the value of one step after it."""

    arrays: dict[str, Arrays]
    samples: list[Tensor]
    step: Tensor


def calibrate(
    chain: nn.Sequential, samples: Sequence[Tensor], step: Tensor, inputs: Range, output_step: Tensor | None = None
) -> Calibrated:
    """Quantise a chain of convolutions and ReLUs after training.

    samples: float inputs (B, I, h, w) as the trained chain sees them. step (I,): the float value of an input
    integer of 1, per channel. After each ReLU the steps are such that the largest sample of a channel is
    ACTIVATION_MAX; output_step (O,) gives those of a last layer without ReLU.
    """
    arrays: dict[str, Arrays] = {}
    current = list(samples)
    layers = list(_layers(chain))
    for place, (index, layer, has_relu) in enumerate(layers):
        current = [layer(x) for x in current]
        if isinstance(layer, nn.PixelShuffle):
            step = step[:: layer.upscale_factor**2]
            continue
        after = output_step
        if has_relu:
            current = [x.relu() for x in current]
            follower = layers[place + 1][1] if place + 1 < len(layers) else None
            group = follower.upscale_factor**2 if isinstance(follower, nn.PixelShuffle) else 1
            after = _activation_step(current, group)
        assert after is not None, "a last layer without ReLU needs output_step"
        arrays[index] = _quantise(layer, step, after, inputs)
        step, inputs = after, ACTIVATION
    return Calibrated(arrays, current, step)


def _activation_step(samples: Sequence[Tensor], group: int) -> Tensor:
    """Largest value per channel over ACTIVATION_MAX; channels that a pixel shuffle merges share theirs."""
    largest = torch.stack([x.amax((0, 2, 3)) for x in samples]).amax(0).double()
    shared = largest.reshape(-1, group).amax(1).repeat_interleave(group)
    return shared.clamp(min=1e-6) / ACTIVATION_MAX


def _quantise(layer: nn.Conv2d, step: Tensor, after: Tensor, inputs: Range) -> Arrays:
    """Weights with the largest power of two per output channel that keeps weights and sums in range."""
    assert layer.bias is not None
    per_channel = step.double().reshape(layer.groups, -1).repeat_interleave(layer.out_channels // layer.groups, 0)
    weight = layer.weight.detach().double() * per_channel[:, :, None, None] / after[:, None, None, None]
    bias = layer.bias.detach().double() / after
    largest = weight.abs().amax((1, 2, 3)).clamp(min=1e-12)
    shift = torch.floor(torch.log2(WEIGHT_MAX / largest)).clamp(-MAX_SHIFT, MAX_SHIFT)
    while True:
        unit = torch.exp2(shift)
        rounded = (weight * unit[:, None, None, None]).round()
        offset = (bias * unit + unit / 2).floor()
        reach = rounded.abs().sum((1, 2, 3)) * inputs.largest + offset.abs()
        too_far = (reach >= CARRIER_LIMIT) | (rounded.abs().amax((1, 2, 3)) > WEIGHT_MAX)
        if not too_far.any():
            break
        shift = shift - too_far.double()
    return {
        "weight": to_integers(rounded, np.int16),
        "bias": to_integers(offset, np.int32),
        "shift": to_integers(shift, np.int8),
    }
