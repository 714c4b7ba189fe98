"""Light transforms: a trunk at 1/8 and one at 1/16 of the picture, beside a linear shortcut.

The shortcut is a block transform of 16x16x3 patches that starts as their Karhunen-Loeve transform, so
that the model is a fair transform codec before its first training step (compare AuxT, arXiv 2501.13751);
the trunks start near zero and learn what is not linear. Samples are on the 0..255 scale with PIXEL_MEAN
taken off; latents are in the units of an orthonormal transform of them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.models.blocks import LightBlock, matrix_product, on_gpu, pointwise, shrink
from rdcodec.models.precision import in_float32
from rdcodec.models.rate import RateVector
from rdcodec.models.transforms.kinds import LightTransform, Trunk
from rdcodec.models.transforms.network import TransformNetwork

PATCH = 16
PIXEL_MEAN = 118.0
# Networks see samples and latents divided by these, so that activations start near one.
PIXEL_UNIT = 32.0
LATENT_UNIT = 64.0


class PatchTransform(nn.Module):
    """Stride-16 linear transform of 16x16x3 patches; `synthesis` is 768 * M / 256 MAC/px.

    Kept in float32 whatever the trunks run in: bfloat16 would cost the high rates dearly.
    """

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        basis = torch.empty(3 * PATCH * PATCH, latent_channels, dtype=torch.float32)  # other types know no QR
        self.weight = nn.Parameter(nn.init.orthogonal_(basis))

    def analysis(self, x: Tensor) -> Tensor:
        """(B, 3, 16h, 16w) -> (B, M, h, w)."""
        if on_gpu(x):
            return matrix_product(F.pixel_unshuffle(x, PATCH), self.weight.t())
        return F.conv2d(x, self.weight.t().reshape(-1, 3, PATCH, PATCH), stride=PATCH)

    def synthesis(self, y: Tensor) -> Tensor:
        """(B, M, h, w) -> (B, 3, 16h, 16w): one matrix product and a depth-to-space."""
        patches = matrix_product(y, self.weight) if on_gpu(y) else F.conv2d(y, self.weight[:, :, None, None])
        return F.pixel_shuffle(patches, PATCH)


def blocks(trunk: Trunk) -> list[LightBlock]:
    """The residual blocks of a trunk."""
    return [LightBlock(trunk.width, mixed, hidden) for mixed, hidden in trunk.inner()]


class LightAnalysis(TransformNetwork):
    """Analysis transform g_a: (B, 3, 16h, 16w) samples on the 0..255 scale -> (B, M, h, w) latents."""

    def __init__(self, config: LightTransform, latent_channels: int) -> None:
        super().__init__()
        wide, deep = config.stride8, config.stride16
        self.shortcut = PatchTransform(latent_channels)
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(8),
            pointwise(192, wide.width),
            *blocks(wide),
            nn.PixelUnshuffle(2),
            pointwise(4 * wide.width, deep.width),
            *blocks(deep),
            pointwise(deep.width, latent_channels),
        )
        shrink(self.trunk[-1], 0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = x - PIXEL_MEAN
        with in_float32(x.device):
            linear = self.shortcut.analysis(x)
        residual: Tensor = self.trunk(x / PIXEL_UNIT)
        return linear + residual.float() * LATENT_UNIT

    def inexact(self) -> list[nn.Module]:
        """The networks that may run in bfloat16: all but the linear shortcut."""
        return [self.trunk]


class LightSynthesis(TransformNetwork):
    """Synthesis transform g_s: (B, M, h, w) latents -> (B, 3, 16h, 16w) samples on the 0..255 scale.

    `tint` scales the channels of the 1/16 trunk with quality: it tells the trunk how coarse the latents are.
    """

    def __init__(self, config: LightTransform, latent_channels: int) -> None:
        super().__init__()
        deep, wide = config.stride16, config.stride8
        self.shortcut = PatchTransform(latent_channels)
        self.enter = pointwise(latent_channels, deep.width)
        self.tint = RateVector(deep.width)
        self.trunk = nn.Sequential(
            *blocks(deep),
            pointwise(deep.width, 4 * wide.width),
            nn.PixelShuffle(2),
            *blocks(wide),
            pointwise(wide.width, 192),
            nn.PixelShuffle(8),
        )
        shrink(self.trunk[-2], 0.01)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        entered = self.enter(y / LATENT_UNIT) * (1 + self.tint(quality))
        with in_float32(y.device):
            linear = self.shortcut.synthesis(y)
        residual: Tensor = self.trunk(entered)
        return linear + residual.float() * PIXEL_UNIT + PIXEL_MEAN

    def inexact(self) -> list[nn.Module]:
        """The networks that may run in bfloat16: all but the linear shortcut."""
        return [self.enter, self.trunk]
