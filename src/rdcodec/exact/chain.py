"""Chains of convolutions on integers: what they are, what they must prove, and their definition. No torch here.

    out = clamp(activation(floor((sum of weight * input + bias) / 2^shift)), low, high)

weight is an integer of 10 to 12 bits, bias an int32 with half a unit of the result in it, shift one per output channel.
Scales of activations are folded into the weights, so that nothing but powers of two is left (He et al. 2022,
arXiv:2202.07513, use fixed-point multipliers there). `reference` is the definition, in NumPy int64.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdcodec.errors import NeedsModel
from rdcodec.exact.fixed import ACTIVATION_MAX, CARRIER_LIMIT, SUM_LIMIT

MAX_SHIFT = 23
LEAK, LEAK_BITS = 41, 12  # LeakyReLU's slope of 1/100 as 41/4096
LEAK_REACH = 1 << 16  # lower inputs of a LeakyReLU are raised to this: its output is beyond the clamp anyway
Arrays = dict[str, NDArray[Any]]
Activation = Literal["relu", "leaky_relu"] | None


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
AFTER: dict[Activation, Range] = {"relu": ACTIVATION, "leaky_relu": LEAKY}


class Proved(NamedTuple):
    """A convolution of a chain whose arrays fit it, and whose sums cannot overflow."""

    place: int  # in the chain; arrays are named by it, and activations have places too
    layer: Conv
    arrays: Arrays
    inputs: Range | Reach
    outputs: Range


def proved(
    chain: Chain, arrays: Mapping[str, Arrays], inputs: Range | Reach, outputs: Range
) -> Iterator[Proved | Shuffle]:
    """The layers of a chain one after another; NeedsModel where an array is missing or altered, or a sum too large."""
    place = 0
    for layer in chain:
        if isinstance(layer, Shuffle):
            yield layer
        else:
            after = AFTER.get(layer.activation, outputs)
            found = _shaped(arrays, str(place), layer)
            check_sums(found, layer.groups, inputs, layer.up)
            yield Proved(place, layer, found, inputs, after)
            inputs = after
            place += layer.activation is not None
        place += 1


def check_sums(arrays: Arrays, groups: int, inputs: Range | Reach, up: int) -> bool:
    """Whether a sum of a convolution can reach 2^24, beyond which float32 rounds.

    NeedsModel where one can reach 2^31, that of a single input channel 2^24, or a convolution in groups 2^24.
    """
    weight, bias, shift = (arrays[name].astype(np.int64) for name in ("weight", "bias", "shift"))
    terms = sum_terms(weight, groups, inputs, up)
    reach = int((terms.sum(0) + np.resize(np.abs(bias), terms.shape[1])).max())
    wide = reach >= CARRIER_LIMIT
    too_far = reach >= SUM_LIMIT or terms.max() >= CARRIER_LIMIT or (wide and groups > 1)
    if too_far or np.abs(shift).max() > MAX_SHIFT:
        raise NeedsModel("integer weights whose sums could overflow: fetch or export the model's weights again")
    return wide


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
    if activation == "leaky_relu":
        out = np.where(out < 0, np.maximum(out, -LEAK_REACH) * LEAK + (1 << LEAK_BITS - 1) >> LEAK_BITS, out)
    return np.clip(out, outputs.low, outputs.high)
