"""What the paper's transforms share: stages that halve, or double, the sides of a picture, four in all.

Samples are on the 0..255 scale; latents are in quantisation steps of a single-rate model. Constants bring both
near one inside the networks, where weights start so that they keep the size of what passes.
"""

from torch import Tensor, nn

from rdcodec.models.blocks import layers_of, shrink
from rdcodec.models.precision import in_float32
from rdcodec.models.transforms.light import PIXEL_MEAN
from rdcodec.models.transforms.network import TransformNetwork

PIXEL_UNIT = 64.0  # about the deviation of natural images
LATENT_UNIT = 4.0  # latents start this many steps wide, where rounding still lets them through


class StagedAnalysis(TransformNetwork):
    """Analysis transform g_a: (B, 3, 16h, 16w) samples on the 0..255 scale -> (B, M, h, w) latents.

    The last stage runs in float32: bfloat16 holds latents beyond 64 in half steps only.
    """

    def __init__(self, trunk: nn.Sequential, last: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.trunk((x - PIXEL_MEAN) / PIXEL_UNIT)
        with in_float32(x.device):
            latents: Tensor = self.last(features.float())
        return latents * LATENT_UNIT

    def inexact(self) -> list[nn.Module]:
        """The layers that may run in bfloat16."""
        return [*layers_of(self.trunk)]


class StagedSynthesis(TransformNetwork):
    """Synthesis transform g_s: (B, M, h, w) latents -> (B, 3, 16h, 16w) samples on the 0..255 scale."""

    def __init__(self, trunk: nn.Sequential) -> None:
        super().__init__()
        self.trunk = trunk
        shrink(layers_of(trunk)[-1], 0.1)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        """The latents alone say how coarse they are: quality is not used."""
        x: Tensor = self.trunk(y / LATENT_UNIT)
        return x.float() * PIXEL_UNIT + PIXEL_MEAN

    def inexact(self) -> list[nn.Module]:
        """The layers that may run in bfloat16."""
        return [*layers_of(self.trunk)]
