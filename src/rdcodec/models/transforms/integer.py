"""The synthesis of a light model on integers in torch (`structure.py` defines it)."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.exact.arithmetic import convolve
from rdcodec.exact.chain import Arrays
from rdcodec.models.transforms.kinds import LightTransform
from rdcodec.models.transforms.structure import (
    CELL,
    PATCH,
    SAMPLE_STEP,
    WIDE,
    Layer,
    integers,
    latents_at,
    layers,
    steps_in,
    times_power,
    tint_at,
    tint_shift,
)
from rdcodec.models.weights import Weights


class IntegerSynthesis:
    """y_hat to pixels, in float64, which holds every sum; the same on any device. NeedsModel as `integers`."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        config, floats = weights.config.synthesis, weights.floats("synthesis.")
        if not isinstance(config, LightTransform):
            raise weights.misfit()
        self._device = device
        self._layers = list(layers(config, weights.config.latent_channels))
        made = integers(config, weights.config.latent_channels, floats, weights.pixels)
        self._parts = {name: tuple(self._wide(part) for part in _with_unit(found)) for name, found in made.items()}
        self._tint, self._tint_shift = floats["tint.values"], tint_shift(steps_in(weights.pixels))
        self._log_gain = weights.floats("log_gain.")["values"]

    def __call__(self, y_hat: NDArray[np.float32], tenths: int) -> Tensor:
        """y_hat (rows, columns, M) in quantisation steps -> (3, 16 rows, 16 columns) uint8."""
        device = self._device
        latents = self._wide(latents_at(y_hat, self._log_gain, tenths))
        seen = {"latents": latents.permute(2, 0, 1)[None]}
        samples = torch.zeros((), dtype=torch.float64, device=device)
        for layer in self._layers:
            out = self._sums(layer, seen[layer.takes])
            if layer.adds:
                out = seen[layer.gives] + out
            out = out.clamp(layer.outputs.low, layer.outputs.high)
            if layer.gives == "samples":
                samples = samples + F.pixel_shuffle(out, PATCH if layer.takes == "latents" else CELL)
            elif layer.gives == "entered":
                factors = self._wide(times_power(tint_at(self._tint, tenths), -self._tint_shift))
                seen["deep"] = (out * factors[:, None, None] + 0.5).floor().clamp(WIDE.low, WIDE.high)
            else:
                seen[layer.gives] = F.pixel_shuffle(out, 2) if layer.per > 1 else out
        half = 2 ** (-SAMPLE_STEP - 1)
        pixels: Tensor = ((samples[0] + half) * 2.0**SAMPLE_STEP).floor().clamp(0, 255).to(torch.uint8)
        return pixels

    def _wide(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array.astype(np.float64)).to(self._device)

    def _sums(self, layer: Layer, x: Tensor) -> Tensor:
        weight, bias, unit = self._parts[layer.name]
        shaped = weight if weight.ndim == 4 else weight[:, :, None, None]
        total = convolve(x, shaped, bias, groups=layer.shape[0] if layer.depthwise else 1)
        return (total * unit[:, None, None]).floor()


def _with_unit(arrays: Arrays) -> tuple[NDArray[Any], ...]:
    """weight, bias, and the power of two that stands for the shift: torch does not promise exact ones."""
    return arrays["weight"], arrays["bias"], times_power(np.ones(1), -arrays["shift"].astype(np.int64))
