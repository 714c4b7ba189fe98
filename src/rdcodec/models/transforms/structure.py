"""The synthesis of a light model on integers, with which every machine makes the same pixels. No torch here.

Its integers follow from the floats of a weights file by powers of two alone, and those are stored: `steps` of tensors,
whose integers count steps of 2^step, and `shifts` of layers, one of each for a channel (`export/pixels.py` measures
them). A layer is

    out = clamp(floor((sum of weight * input + bias) / 2^shift), low, high)

with the float weight times 2^(shift + step of the input - step of the output), rounded, halves to even, and the bias
likewise, with half a unit of the result added.

    latents          steps of 1/8 of a level of the picture, +-32767
    between blocks   +-32767; results of a block are added to what it sees before they are clamped
    inside blocks    0..4095
    samples          steps of 1/64 of a level, +-32767
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdcodec.errors import NeedsModel
from rdcodec.exact.chain import Arrays, Range
from rdcodec.exact.fixed import CARRIER_LIMIT, MEAN_ONE, SUM_LIMIT, interpolate
from rdcodec.models.transforms.kinds import LightTransform, Trunk

WIDE, INSIDE = Range(-32767, 32767), Range(0, 4095)
LATENT_STEP, SAMPLE_STEP = -3, -6
PIXEL_MEAN = 118
# Networks see latents divided by 2^6 of these bits, and their samples are multiplied by 2^5 (light.py).
LATENT_UNIT_BITS, PIXEL_UNIT_BITS = 6, 5
TINT_BITS = 20  # of factors of channels
GAIN_BITS = 16  # of logarithms to base 2
GAIN_STEPS = 94548.4621996991  # of e, in these logarithms: 2^16 / ln 2
ROOT_BITS = 30
# 2^(30 + 1/2), 2^(30 + 1/4), ..., 2^(30 + 1/65536), rounded.
ROOTS = (
    *(1518500250, 1276901417, 1170923762, 1121280436, 1097253708, 1085434106, 1079572136, 1076653033),
    *(1075196443, 1074468888, 1074105294, 1073923544, 1073832680, 1073787251, 1073764537, 1073753181),
)
MOST_SHIFT = 30
PATCH, CELL = 16, 8
SHORTCUT = "shortcut"
SAMPLES, CELL_SAMPLES = 3 * PATCH * PATCH, 3 * CELL * CELL


@dataclass(frozen=True)
class Layer:
    """A layer by the name of its parameters.

    takes: the tensor that it sees, +-32767 where its name is one word, 0..4095 where it is that of a layer. gives: the
    tensor that it makes, or adds to. `entered`, times factors that follow the quality, becomes `deep`, what is between
    the blocks at 1/16; `wide` is that at 1/8.
    unit: what its floats are to be multiplied by, as a power of two. per: outputs that make a channel, through a pixel
    shuffle. adds: to what is there, before it is clamped.
    """

    name: str
    shape: tuple[int, ...]  # of the weight
    takes: str
    gives: str
    outputs: Range = WIDE
    unit: int = 0
    per: int = 1
    adds: bool = False

    @property
    def depthwise(self) -> bool:
        """3x3, each channel by itself."""
        return self.shape[1:] == (1, 3, 3)

    @property
    def inputs(self) -> Range:
        """Of the tensor that it takes."""
        return INSIDE if "." in self.takes else WIDE

    @property
    def least_shift(self) -> int:
        """So that what its results are added to cannot make them overflow."""
        return 1 if self.adds else 0


def layers(config: LightTransform, latent_channels: int) -> Iterator[Layer]:
    """In the order of running, the linear shortcut first."""
    deep, wide = config.stride16, config.stride8
    yield Layer(SHORTCUT, (SAMPLES, latent_channels), "latents", "samples")
    yield Layer("enter", (deep.width, latent_channels, 1, 1), "latents", "entered", unit=-LATENT_UNIT_BITS)
    yield from _blocks(deep, "deep", 0)
    grow, last = deep.blocks, deep.blocks + 2 + wide.blocks
    yield Layer(f"trunk.{grow}", (4 * wide.width, deep.width, 1, 1), "deep", "wide", per=4)
    yield from _blocks(wide, "wide", grow + 2)
    yield Layer(f"trunk.{last}", (CELL_SAMPLES, wide.width, 1, 1), "wide", "samples", unit=PIXEL_UNIT_BITS)


def _blocks(trunk: Trunk, through: str, first: int) -> Iterator[Layer]:
    for place, (mixed, hidden) in enumerate(trunk.inner(), first):
        enter, around, leave, widen, shrink = (
            f"trunk.{place}.{name}" for name in ("mix.0", "mix.2", "mix.4", "feed_forward.0", "feed_forward.2")
        )
        yield Layer(enter, (mixed, trunk.width, 1, 1), through, enter, INSIDE)
        yield Layer(around, (mixed, 1, 3, 3), enter, around, INSIDE)
        yield Layer(leave, (trunk.width, mixed, 1, 1), around, through, adds=True)
        if hidden:
            yield Layer(widen, (hidden, trunk.width, 1, 1), through, widen, INSIDE)
            yield Layer(shrink, (trunk.width, hidden, 1, 1), widen, through, adds=True)


def tensors(config: LightTransform, latent_channels: int) -> dict[str, int]:
    """The tensors whose steps are stored, with their channels."""
    given = {layer.gives: layer.shape[0] // layer.per for layer in layers(config, latent_channels)}
    del given["samples"]
    return given | {"deep": config.stride16.width}


def _powers(layer: Layer, steps: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By which powers of two the weights of a layer, (O, inputs of a sum) or less, and its biases, (O,), are larger in
    units of its results."""
    takes = LATENT_STEP if layer.takes == "latents" else steps[layer.takes].astype(np.int64)
    gives = SAMPLE_STEP if layer.gives == "samples" else np.repeat(steps[layer.gives].astype(np.int64), layer.per)
    of_results = np.broadcast_to(gives, layer.shape[:1])
    of_inputs = np.reshape(takes, (-1, 1) if layer.depthwise else (1, -1))
    return layer.unit + of_inputs - of_results[:, None], max(layer.unit, 0) - of_results


def times_power(values: Any, powers: NDArray[np.int64]) -> NDArray[np.float64]:
    """values * 2^powers, exactly."""
    made: NDArray[np.float64] = np.ldexp(values, powers.astype(np.intc))  # on Windows it takes no wider type
    return made


def rounded(
    layer: Layer,
    floats: Mapping[str, NDArray[np.float32]],
    steps: Mapping[str, NDArray[Any]],
    shift: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The integers of a layer's weight (O, inputs of a sum) and bias (O,), in float64. shift: (O,)."""
    of_weights, of_biases = _powers(layer, steps)
    weight = floats[f"{layer.name}.weight"].astype(np.float64).reshape(layer.shape[0], -1)
    bias = np.float32(PIXEL_MEAN) if layer.name == SHORTCUT else floats[f"{layer.name}.bias"]  # it has none of its own
    half = np.where(shift > 0, times_power(np.float64(0.5), shift), 0)
    return (
        np.rint(times_power(weight, of_weights + shift[:, None])),
        np.rint(times_power(np.float64(bias), of_biases + shift)) + half,
    )


def fit(layer: Layer, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Of which outputs no sum can overflow, (O,): not 2^31, nor 2^24 for the floats of a depthwise layer."""
    sums = np.abs(weight).sum(1) * layer.inputs.largest
    limit = CARRIER_LIMIT if layer.depthwise else SUM_LIMIT
    small = (np.abs(weight).max(1) <= WIDE.high) & (np.abs(bias) < SUM_LIMIT // 2)
    fits: NDArray[np.bool_] = small & (sums < limit) & (sums + np.abs(bias) < SUM_LIMIT)
    return fits


def steps_in(pixels: Arrays) -> dict[str, NDArray[Any]]:
    """The steps of tensors by their names."""
    return {name.removeprefix("steps."): array for name, array in pixels.items() if name.startswith("steps.")}


def integers(
    config: LightTransform, latent_channels: int, floats: Mapping[str, NDArray[np.float32]], pixels: Arrays
) -> dict[str, Arrays]:
    """weight (int16), bias (int32) and shift (int8) of each layer.

    floats: parameters of the synthesis. pixels: `steps.NAME` and `shifts.NAME`, as a weights file has them.
    NeedsModel where an array is missing or altered, or a sum could overflow.
    """
    steps = steps_in(pixels)
    for name, channels in tensors(config, latent_channels).items():
        found = steps.get(name)
        if found is None or found.shape != (channels,) or found.dtype != np.int8:
            raise _wrong()
    made: dict[str, Arrays] = {}
    for layer in layers(config, latent_channels):
        shift, weight = pixels.get(f"shifts.{layer.name}"), floats.get(f"{layer.name}.weight")
        if shift is None or shift.shape != layer.shape[:1] or shift.dtype != np.int8 or weight is None:
            raise _wrong()
        if weight.shape != layer.shape or shift.min() < layer.least_shift or shift.max() > MOST_SHIFT:
            raise _wrong()
        if layer.name != SHORTCUT and getattr(floats.get(f"{layer.name}.bias"), "shape", None) != shift.shape:
            raise _wrong()
        weights, bias = rounded(layer, floats, steps, shift.astype(np.int64))
        if not fit(layer, weights, bias).all():
            raise _wrong()
        shaped = weights.astype(np.int16).reshape(layer.shape)
        made[layer.name] = {"weight": shaped, "bias": bias.astype(np.int32), "shift": shift}
    return made


def _wrong() -> NeedsModel:
    return NeedsModel("an integer synthesis that is missing or altered: fetch or export the model's weights again")


def whole(anchors: NDArray[np.float32], unit: float, plus: float = 0.0) -> NDArray[np.int32]:
    """Anchors of quality plus a number, in units, rounded. NeedsModel where one is no int32."""
    rounded = np.rint((anchors.astype(np.float64) + plus) * unit)
    if not (np.abs(rounded) < SUM_LIMIT).all():
        raise _wrong()
    return rounded.astype(np.int32)


def tint_at(anchors: NDArray[np.float32], tenths: int) -> NDArray[np.int32]:
    """Factors of the channels of `entered` in steps of 2^-20, (C,). anchors: what is added to 1."""
    return interpolate(whole(anchors, 2**TINT_BITS, 1), tenths)


def tint_shift(steps: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """By how many bits `entered` times its factors is shifted to give `deep`, (C,). NeedsModel beyond 1..62."""
    shift: NDArray[np.int64] = TINT_BITS + steps["deep"].astype(np.int64) - steps["entered"]
    if shift.min() < 1 or shift.max() > 62:
        raise _wrong()
    return shift


def unit_at(log_gain: NDArray[np.float32], tenths: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What makes latents of y_hat: mantissa and shift, (M,). log_gain: anchors of the natural logarithm of the gains.

    A latent is floor(y_hat * mantissa / 2^shift + 1/2), y_hat in steps of 1/64 of a quantisation step.
    """
    exponent = -interpolate(whole(log_gain, GAIN_STEPS), tenths).astype(np.int64)
    mantissa = np.full(exponent.shape, 1 << ROOT_BITS, np.int64)
    for place, root in enumerate(ROOTS, 1):
        more = mantissa * root + (1 << ROOT_BITS - 1) >> ROOT_BITS
        mantissa = np.where(exponent >> GAIN_BITS - place & 1, more, mantissa)
    shift = ROOT_BITS + int(math.log2(MEAN_ONE)) + LATENT_STEP - (exponent >> GAIN_BITS)
    return mantissa, np.clip(shift, 1, 62)


def latents_at(y_hat: NDArray[np.float32], log_gain: NDArray[np.float32], tenths: int) -> NDArray[np.int64]:
    """y_hat (.., M) in quantisation steps to the integers that the synthesis sees."""
    mantissa, shift = unit_at(log_gain, tenths)
    elements = np.rint(y_hat.astype(np.float64) * MEAN_ONE).astype(np.int64)
    latents: NDArray[np.int64] = np.clip(elements * mantissa + (1 << shift - 1) >> shift, WIDE.low, WIDE.high)
    return latents
