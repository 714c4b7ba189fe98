"""ELIC's transforms: four 5x5 layers of stride 2, residual bottlenecks and attention between them.

He et al. 2022, arXiv:2203.10886, section 3.4; the attention is that of Cheng et al. 2020, arXiv:2001.01568, section
3.3. There is no activation outside the residual blocks.
"""

import torch
from torch import Tensor, nn

from rdcodec.models.blocks import down, shrink, up
from rdcodec.models.transforms.kinds import ElicTransform
from rdcodec.models.transforms.staged import StagedAnalysis, StagedSynthesis

ATTENTION_BLOCKS = 3  # in each branch


class Residual(nn.Module):
    """x + bottleneck of half the channels: 1x1, 3x3, 1x1; (B, C, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            down(channels, half, 1, 1), nn.ReLU(), down(half, half, 3, 1), nn.ReLU(), down(half, channels, 1, 1)
        )
        shrink(self.body[-1], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Attention(nn.Module):
    """x + trunk(x) * sigmoid(gate(x)); (B, C, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = residuals(channels, ATTENTION_BLOCKS)
        self.gate = nn.Sequential(*residuals(channels, ATTENTION_BLOCKS), down(channels, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.trunk(x) * torch.sigmoid(self.gate(x))
        return out


def residuals(channels: int, count: int) -> nn.Sequential:
    """So many residual blocks, one after the other."""
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


class ElicAnalysis(StagedAnalysis):
    """Analysis transform g_a of ELIC."""

    def __init__(self, config: ElicTransform, latent_channels: int) -> None:
        (a, b, c), count = config.channels, config.residual_blocks
        trunk = nn.Sequential(
            *(down(3, a), residuals(a, count)),
            *(down(a, b), residuals(b, count), Attention(b)),
            *(down(b, c), residuals(c, count)),
        )
        super().__init__(trunk, nn.Sequential(down(c, latent_channels), Attention(latent_channels)))


class ElicSynthesis(StagedSynthesis):
    """Synthesis transform g_s of ELIC."""

    def __init__(self, config: ElicTransform, latent_channels: int) -> None:
        (a, b, c), count = config.channels, config.residual_blocks
        trunk = nn.Sequential(
            *(Attention(latent_channels), up(latent_channels, a), residuals(a, count)),
            *(up(a, b), Attention(b), residuals(b, count)),
            *(up(b, c), residuals(c, count)),
            up(c, 3),
        )
        super().__init__(trunk)
