"""The state a model starts from: a transform codec that is fair before its first step."""

import math

import numpy as np
import torch
from torch import Tensor

from rdcodec.models.base import ImageModel
from rdcodec.models.entropy.checkerboard import CheckerboardModel
from rdcodec.models.rate import anchor_qualities, lmbda_of_quality
from rdcodec.models.transforms.light import PATCH, PIXEL_MEAN, LightAnalysis, LightSynthesis
from rdcodec.training.data import Photo

# An orthonormal transform is at its best with step^2 = STEP_SQUARED / lmbda (0..255 scale): with D = step^2 / 12
# per coefficient and a bit per halving of the step, 18 / ln 2 = 26; measured with dead zones, about 20.
STEP_SQUARED = 20.0


def start_model(model: ImageModel, photos: list[Photo], seed: int, patches: int = 60_000) -> None:
    """Set the shortcuts to the KLT of the photographs' patches, gains and scales to fit each quality.

    A model without shortcuts, or of one rate, is left as it is.
    """
    analysis, synthesis, entropy, gain = model.analysis, model.synthesis, model.entropy, model.log_gain
    if not (
        isinstance(analysis, LightAnalysis)
        and isinstance(synthesis, LightSynthesis)
        and isinstance(entropy, CheckerboardModel)
        and gain is not None
    ):
        return
    basis, deviation = klt(photos, model.config.latent_channels, seed, patches)
    lmbda = lmbda_of_quality(anchor_qualities())
    log_gain = 0.5 * torch.log(lmbda / STEP_SQUARED)[:, None]
    with torch.no_grad():
        analysis.shortcut.weight.copy_(basis)
        synthesis.shortcut.weight.copy_(basis)
        gain.values.copy_(log_gain.expand_as(gain.values))
        # Natural images are peaked: the typical magnitude is well under the deviation.
        entropy.log_scale.values.copy_(log_gain + torch.log(deviation * 0.5)[None])


def klt(photos: list[Photo], channels: int, seed: int, patches: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors (768, channels) of 16x16x3 patches about PIXEL_MEAN, and the deviation of each."""
    rng = np.random.default_rng(seed)
    rows = np.empty((patches, 3 * PATCH * PATCH), np.float32)
    for row in rows:
        pixels = photos[rng.integers(len(photos))].pixels
        top, left = (rng.integers(side - PATCH + 1) for side in pixels.shape[:2])
        row[:] = pixels[top : top + PATCH, left : left + PATCH].transpose(2, 0, 1).reshape(-1)
    rows -= PIXEL_MEAN
    second_moment = torch.from_numpy((rows.T @ rows) / patches).double()
    values, vectors = torch.linalg.eigh(second_moment)
    leading = vectors.flip(1)[:, :channels]
    deviation = values.flip(0)[:channels].clamp(min=math.ulp(1.0)).sqrt()
    return leading.float(), deviation.float()
