"""A trained chain of convolutions and activations, or a linear layer, as the integers that `exact` runs.

Scales of activations are folded into the weights, so that nothing but powers of two is left.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.exact.chain import ACTIVATION, AFTER, MAX_SHIFT, Activation, Arrays, Range, Reach, sum_terms
from rdcodec.exact.fixed import CARRIER_LIMIT
from rdcodec.exact.nonlinear import EXPONENT_MAX, EXPONENT_ONE, EXPONENTS
from rdcodec.models.blocks import ACTIVATIONS

# In float32 carriers the width of a weight costs no time while sums stay below 2^24: ten bits always, twelve where
# there is that room (docs/adr/0002-ten-bit-weights.md).
WEIGHT_MAX = 511
FINE_WEIGHT_MAX = 2047
Convolution = nn.Conv2d | nn.ConvTranspose2d


@dataclass(frozen=True)
class Calibrated:
    """A chain as integers: the arrays of each convolution, the samples after it, the value of one step after it."""

    arrays: dict[str, Arrays]
    samples: list[Tensor]
    step: Tensor


def calibrate(
    chain: nn.Sequential,
    samples: Sequence[Tensor],
    step: Tensor,
    inputs: Range | Reach,
    output_step: Tensor | Range | None = None,
    limit: int = CARRIER_LIMIT,
) -> Calibrated:
    """Quantise a chain of convolutions and activations after training.

    samples: float inputs (B, I, h, w) as the trained chain sees them. step (I,): the float value of an input
    integer of 1, per channel. After each activation the steps are such that the largest sample of a channel is
    ACTIVATION_MAX; output_step (O,) gives those of a last layer without one, or the range that they are to fill.
    limit: of sums; beyond 2^24 they are split, which costs time, where otherwise weights lose bits.
    """
    arrays: dict[str, Arrays] = {}
    current = list(samples)
    layers = list(_layers(chain))
    for place, (index, layer, activation) in enumerate(layers):
        current = [layer(x) for x in current]
        if isinstance(layer, nn.PixelShuffle):
            step = step[:: layer.upscale_factor**2]
            continue
        if activation is not None:
            current = [ACTIVATIONS[activation]()(x) for x in current]
        after = AFTER.get(activation, output_step)
        assert after is not None, "a last layer without activation needs output_step"
        if isinstance(after, Range):
            follower = layers[place + 1][1] if place + 1 < len(layers) else None
            group = follower.upscale_factor**2 if isinstance(follower, nn.PixelShuffle) else 1
            after = _activation_step(current, group, after.high)
        arrays[index] = _quantise(layer, step, after, inputs, limit)
        step, inputs = after, AFTER.get(activation, ACTIVATION)
    return Calibrated(arrays, current, step)


def _layers(chain: nn.Sequential) -> Iterator[tuple[str, Convolution | nn.PixelShuffle, Activation]]:
    """Convolutions, each with the activation that follows, and pixel shuffles; named by their place in the chain."""
    layers = [(name, layer) for name, layer in chain.named_modules() if not isinstance(layer, nn.Sequential)]
    for (index, layer), (_, follower) in pairwise([*layers, ("", None)]):
        if isinstance(layer, Convolution):
            activation = next((name for name, kind in ACTIVATIONS.items() if isinstance(follower, kind)), None)
            yield index, layer, activation
        elif isinstance(layer, nn.PixelShuffle):
            yield index, layer, None
        elif not isinstance(layer, tuple(ACTIVATIONS.values())):
            raise TypeError(f"{type(layer).__name__} has no form on integers")


def _up(layer: Convolution) -> int:
    """How many times larger it makes the sides."""
    return layer.stride[0] if isinstance(layer, nn.ConvTranspose2d) else 1


def _activation_step(samples: Sequence[Tensor], group: int, high: int) -> Tensor:
    """Largest size per channel over `high`; channels that a pixel shuffle merges share theirs."""
    largest = torch.stack([x.abs().amax((0, 2, 3)) for x in samples]).amax(0).double()
    shared = largest.reshape(-1, group).amax(1).repeat_interleave(group)
    return shared.clamp(min=1e-6) / high


def _quantise(layer: Convolution, step: Tensor, after: Tensor, inputs: Range | Reach, limit: int) -> Arrays:
    """Weights with the largest power of two per output channel that keeps weights and sums in range."""
    assert layer.bias is not None
    up = _up(layer)
    limit = limit if layer.groups == 1 else CARRIER_LIMIT
    per_output = (-1, 1, 1) if up > 1 else (-1, 1, 1, 1)
    rest = (0, 2, 3) if up > 1 else (1, 2, 3)
    if up > 1:
        per_channel = step.double()[:, None, None, None]
    else:
        grouped = step.double().reshape(layer.groups, -1)
        per_channel = grouped.repeat_interleave(layer.out_channels // layer.groups, 0)[:, :, None, None]
    weight = layer.weight.detach().double() * per_channel / after.reshape(per_output)
    bias = layer.bias.detach().double() / after
    largest = weight.abs().amax(rest).clamp(min=1e-12)
    shift = torch.floor(torch.log2(FINE_WEIGHT_MAX / largest)).clamp(-MAX_SHIFT, MAX_SHIFT)
    while True:
        unit = torch.exp2(shift)
        rounded = (weight * unit.reshape(per_output)).round()
        offset = (bias * unit + unit / 2).floor()
        terms = sum_terms(rounded.long().numpy(), layer.groups, inputs, up)
        sums = torch.from_numpy(terms.sum(0)).reshape(-1, layer.out_channels).amax(0) + offset.abs()
        single = torch.from_numpy(terms.max(0)).reshape(-1, layer.out_channels).amax(0)
        widest = torch.where(sums < CARRIER_LIMIT, FINE_WEIGHT_MAX, WEIGHT_MAX)
        too_far = (sums >= limit) | (single >= CARRIER_LIMIT) | (rounded.abs().amax(rest) > widest)
        if not too_far.any():
            break
        shift = shift - too_far.double()
    return {
        "weight": to_integers(rounded, np.int16),
        "bias": to_integers(offset, np.int32),
        "shift": to_integers(shift, np.int8),
    }


def quantise_linear(weight: Tensor, bias: Tensor, step: Tensor, after: Tensor) -> Arrays:
    """Integers of a layer whose inputs come in steps `step` (I,) and outputs in `after` (O,); weight (O, I) or (O,).

    Per output the largest power of two that keeps the weights within 10 bits and the bias within 31.
    """
    scaled = weight.detach().double() * step / (after[:, None] if weight.ndim > 1 else after)
    offset = bias.detach().double() / after
    largest = scaled.abs().reshape(len(scaled), -1).amax(1).clamp(min=1e-12)
    room = torch.minimum(WEIGHT_MAX / largest, 2.0**29 / (offset.abs() + 1))
    shift = room.log2().floor().clamp(-MAX_SHIFT, MAX_SHIFT)
    unit = shift.exp2()
    return {
        "weight": to_integers(scaled * (unit[:, None] if weight.ndim > 1 else unit), np.int16),
        "bias": to_integers((offset * unit + unit / 2).floor(), np.int32),
        "shift": to_integers(shift, np.int8),
    }


def exponent_table() -> NDArray[np.int32]:
    """e^-(i / 128) in steps of 1/65535, the last place 0; int32 (1536,)."""
    curve = EXPONENT_MAX * np.exp(-np.arange(EXPONENTS) / EXPONENT_ONE)
    table: NDArray[np.int32] = np.rint(curve).astype(np.int32)
    table[-1] = 0
    return table


def to_integers(value: Tensor, dtype: Any = np.int32) -> NDArray[Any]:
    """Round a tensor of floats to a NumPy array of integers; used when a model is exported, never to decode."""
    integers: NDArray[Any] = np.rint(value.detach().cpu().double().numpy()).astype(dtype)
    return integers


def named(chain: str, layers: Mapping[str, Arrays]) -> Arrays:
    """The inverse of `exact.layers.nested`."""
    return {f"{chain}.{index}.{kind}": array for index, layer in layers.items() for kind, array in layer.items()}
