"""Parameters that follow the quality scale (`scale.py`)."""

import math

import torch
from torch import Tensor, nn

from rdcodec.models.scale import LMBDA_0, LMBDA_100
from rdcodec.models.sizes import ANCHORS


def lmbda_of_quality(quality: Tensor) -> Tensor:
    """lmbda for qualities in [0, 100], float32, any shape."""
    return LMBDA_0 * torch.exp(quality * (math.log(LMBDA_100 / LMBDA_0) / 100))


class RateVector(nn.Module):
    """One value per channel that changes with quality: piecewise linear between ANCHORS learned vectors.

    forward: quality (B,) in [0, 100] -> (B, channels, 1, 1) float32.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(ANCHORS, channels))

    def forward(self, quality: Tensor) -> Tensor:
        position = quality.float().clamp(0, 100) * ((ANCHORS - 1) / 100)
        low = position.floor().clamp(max=ANCHORS - 2)
        part = (position - low)[:, None]
        index = low.long()
        value = self.values[index] * (1 - part) + self.values[index + 1] * part
        return value[:, :, None, None]


def anchor_qualities() -> Tensor:
    """The qualities at which the learned vectors of RateVector stand, (ANCHORS,)."""
    return torch.linspace(0, 100, ANCHORS)
