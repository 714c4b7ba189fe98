"""The steps and shifts of an integer synthesis, measured on photographs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.exact.chain import Arrays
from rdcodec.export.calibration import Image, calibration_latents
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import LightBlock
from rdcodec.models.transforms.kinds import LightTransform
from rdcodec.models.transforms.light import LATENT_UNIT, LightSynthesis
from rdcodec.models.transforms.structure import MOST_SHIFT, TINT_BITS, Layer, fit, layers, rounded, tensors
from rdcodec.models.weights import Weights

# How much larger than on photographs a channel may become before it is clamped.
ROOM_BETWEEN, ROOM_INSIDE = 2.0, 1.25
LEAST = 2.0**-20


@torch.inference_mode()
def quantise_synthesis(model: ImageModel, latents: Sequence[tuple[Tensor, float]]) -> Arrays:
    """Arrays of an integer synthesis, as `structure.integers` takes them.

    None unless it is that of a light model, nor of one that diverged: its numbers do not fit into integers.
    latents: as `calibration_latents` gives them.
    """
    config, synthesis = model.config.synthesis, model.synthesis
    if not isinstance(config, LightTransform) or not isinstance(synthesis, LightSynthesis):
        return {}
    largest: dict[str, Tensor] = {}
    for y, of in latents:
        quality = y.new_tensor([of])
        for name, seen in _tensors(synthesis, y.round() / model.gain(quality), quality):
            high = seen.abs().amax((0, 2, 3)).double()
            largest[name] = torch.maximum(largest.get(name, high), high)
    parts = [
        *synthesis.state_dict().values(),
        *largest.values(),
        *(model.log_gain.state_dict().values() if model.log_gain else ()),
    ]
    if not all(part.isfinite().all() for part in parts):
        return {}
    latent_channels = model.config.latent_channels
    all_layers = list(layers(config, latent_channels))
    reach = {layer.gives: layer.outputs.high for layer in all_layers}
    steps = {}
    for name in tensors(config, latent_channels):
        room = ROOM_INSIDE if "." in name else ROOM_BETWEEN
        step = (largest[name] * room / reach[name]).clamp(min=LEAST).log2().ceil()
        steps[name] = step.numpy().astype(np.int8)
    steps["deep"] = np.maximum(steps["deep"], steps["entered"] - TINT_BITS + 1)  # `tint_shift` is 1 at least
    floats = {name: tensor.detach().float().numpy() for name, tensor in synthesis.state_dict().items()}
    while True:
        shifts = {layer: _shift(layer, floats, steps) for layer in all_layers}
        if not (small := [layer for layer, shift in shifts.items() if (shift < layer.least_shift).any()]):
            break
        if any(layer.gives not in steps for layer in small):  # samples, whose steps are given
            return {}
        for layer in small:  # results that are too fine for their weights
            steps[layer.gives] = steps[layer.gives] + (shifts[layer] < layer.least_shift).reshape(-1, layer.per).any(1)
    arrays: Arrays = {f"steps.{name}": step.astype(np.int8) for name, step in steps.items()}
    return arrays | {f"shifts.{layer.name}": shift.astype(np.int8) for layer, shift in shifts.items()}


def _shift(layer: Layer, floats: Mapping[str, NDArray[np.float32]], steps: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The largest with which no sum can overflow, (O,)."""
    shift = np.full(layer.shape[0], MOST_SHIFT)
    while not (fits := fit(layer, *rounded(layer, floats, steps, shift))).all():
        shift = shift - ~fits
    return shift


def with_pixels(weights: Weights, photos: Sequence[Image]) -> Weights:
    """The same weights, the integers of their synthesis measured afresh; the tag is the caller's to change."""
    model = weights.build()
    return replace(weights, pixels=quantise_synthesis(model, calibration_latents(model, photos)))


def _tensors(synthesis: LightSynthesis, y: Tensor, quality: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What the float network's layers give, and what goes between blocks, by the names of the integer one's tensors."""
    entered = synthesis.enter(y / LATENT_UNIT)
    yield "entered", entered
    x, through = entered * (1 + synthesis.tint(quality)), "deep"
    yield through, x
    for place, part in enumerate(synthesis.trunk):
        if isinstance(part, LightBlock):
            for name, steps in (("mix", part.mix), ("feed_forward", part.feed_forward)):
                if steps is not None:
                    inner = x
                    for index, layer in enumerate(steps):
                        inner = layer(inner)
                        if isinstance(layer, nn.ReLU):
                            yield f"trunk.{place}.{name}.{index - 1}", inner
                    x = x + inner
                    yield through, x
        else:
            x = part(x)
            if isinstance(part, nn.PixelShuffle) and through == "deep":
                through = "wide"
                yield through, x
