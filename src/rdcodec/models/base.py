"""One network for every configuration: transforms, gains and an entropy model, put together."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import HYPER_STRIDE, CheckerboardModel, Noise
from rdcodec.models.rate import RateVector
from rdcodec.models.transforms.light import LightAnalysis, LightSynthesis

STRIDE = 16  # pixels of a side per latent


class Output(NamedTuple):
    """x_hat (B, 3, H, W) on the 0..255 scale, not clipped; bits of each sample (B,)."""

    x_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor


class ImageModel(nn.Module):
    """A variable-rate image model: analysis g_a, gains, entropy model, gains undone, synthesis g_s.

    The gains are the inverse quantisation steps, one per latent channel and quality: the entropy model
    lives in quantised units, the transforms in those of the picture.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = LightAnalysis(config.analysis, config.latent_channels)
        self.synthesis = LightSynthesis(config.synthesis, config.latent_channels)
        self.entropy = CheckerboardModel(config.entropy, config.latent_channels)
        self.log_gain = RateVector(config.latent_channels)

    def gain(self, quality: Tensor) -> Tensor:
        """Quantised units per unit of the latents, (B, M, 1, 1)."""
        log_gain: Tensor = self.log_gain(quality)
        return log_gain.exp()

    def forward(self, x: Tensor, quality: Tensor, noise: Noise | None = None) -> Output:
        """Training pass. x (B, 3, H, W) on the 0..255 scale, sides multiples of 64; quality (B,) in [0, 100];
        noise shaped as `latent_shapes` says, or None for the rate of rounded values."""
        gain = self.gain(quality)
        rated = self.entropy(self.analysis(x) * gain, quality, noise)
        bits_y, bits_z = rated.bits_y.sum((1, 2, 3)), rated.bits_z.sum((1, 2, 3))
        return Output(self.synthesis(rated.y_hat / gain, quality), bits_y, bits_z)

    def inexact(self) -> list[nn.Module]:
        """The networks that may run in bfloat16: neither the linear shortcuts nor anything of the entropy model."""
        return [self.analysis.trunk, self.synthesis.enter, self.synthesis.trunk]

    def latent_shapes(self, height: int, width: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Shapes of y and z of a picture, (channels, rows, columns) each."""
        rows, columns = -(-height // STRIDE), -(-width // STRIDE)
        y = (self.config.latent_channels, rows, columns)
        z = (self.entropy.hyper_channels, -(-rows // HYPER_STRIDE), -(-columns // HYPER_STRIDE))
        return y, z

    def decode_parts(self, height: int, width: int) -> dict[str, Callable[[], object]]:
        """The decoder's networks for a picture of that size, one call each, on zeros: to count and to time."""
        (m, rows, columns), (n, z_rows, z_columns) = self.latent_shapes(height, width)
        entropy = self.entropy
        at = next(self.parameters())
        y = at.new_zeros(1, m, rows, columns).contiguous(memory_format=torch.channels_last)
        z = at.new_zeros(1, n, z_rows, z_columns).contiguous(memory_format=torch.channels_last)
        features = at.new_zeros(1, self.config.entropy.features, rows, columns)
        features = features.contiguous(memory_format=torch.channels_last)
        quality = at.new_full((1,), 50.0)
        return {
            "hyper_synthesis": lambda: entropy.hyper_synthesis(z),
            "context pass 0": lambda: entropy.first(features),
            "context pass 1": lambda: entropy.second(torch.cat([features, entropy.context(y)], 1)),
            "synthesis": lambda: self.synthesis(y, quality),
        }


def blueprint(config: ModelConfig) -> ImageModel:
    """The model without numbers, on the meta device: to count parameters and operations at no cost."""
    with torch.device("meta"):
        return ImageModel(config)
