"""What the reach of integers is measured on: photographs, and two hard pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.models.base import ImageModel

Image = NDArray[np.uint8]

CALIBRATION_QUALITIES = (5.0, 50.0, 95.0)


@torch.inference_mode()
def calibration_latents(model: ImageModel, photos: Sequence[Image]) -> list[tuple[Tensor, float]]:
    """y in quantised units of each photograph, and of two hard pictures, at low, middle and high quality.

    A model of one rate has one y of each.
    """
    qualities = CALIBRATION_QUALITIES if model.config.lmbda is None else (0.0,)
    found: list[tuple[Tensor, float]] = []
    for photo in [*photos, *hard_pictures()]:
        height, width = (side // 64 * 64 for side in photo.shape[:2])
        x = torch.from_numpy(photo[:height, :width].copy()).permute(2, 0, 1)[None].float()
        latents = model.analysis(x.contiguous(memory_format=torch.channels_last))
        for quality in qualities:
            found.append((latents * model.gain(torch.tensor([quality])), quality))
    return found


def hard_pictures() -> list[Image]:
    """Noise, and black and white blocks as of text: without them such pictures saturate, at +18 % of rate."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, 256, 3), np.uint8)
    blocks = np.kron(rng.integers(0, 2, (128, 64, 1), np.uint8) * np.uint8(255), np.ones((2, 4, 3), np.uint8))
    return [noise, blocks]
