"""Mean-and-scale hyperprior without context model (Minnen et al. 2018, arXiv:1809.02736).

y is in quantised units, as in `checkerboard.py`. There is no integer form of these networks yet, so that they can
be trained and measured but do not code files.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn

from rdcodec.models.blocks import down, pad_to_multiple, shrink, up
from rdcodec.models.config import HyperpriorEntropy, LayerChain
from rdcodec.models.entropy.checkerboard import HYPER_STRIDE, Noise, Rated
from rdcodec.models.entropy.factorized import DeepFactorizedPrior
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round

# A scale that starts far below that of the latents leaves them beyond the reach of its gradient.
SCALE_START = 4.0


class HyperpriorModel(nn.Module):
    """Rate of y (B, M, h, w) given hyper-latents z (B, N, h/4, w/4). Nothing here depends on quality."""

    def __init__(self, config: HyperpriorEntropy, latent_channels: int) -> None:
        super().__init__()
        self.hyper_channels = config.hyper_channels
        self.factorized_prior = DeepFactorizedPrior(config.hyper_channels, config.filters)
        self.hyper_analysis = _chain(latent_channels, config.hyper_analysis, config.activation, down)
        self.hyper_synthesis = _chain(config.hyper_channels, config.hyper_synthesis, config.activation, _up_or_same)
        shrink(self.hyper_synthesis[-1], 0.1)

    def analyse(self, y: Tensor, quality: Tensor) -> Tensor:
        """y (B, M, h, w), h and w multiples of 4 -> z (B, N, h/4, w/4), not yet rounded."""
        z: Tensor = self.hyper_analysis(y)
        return z.float()

    def forward(self, y: Tensor, quality: Tensor, noise: Noise | None = None) -> Rated:
        """y (B, M, h, w), any h and w; rate and rounding as in CheckerboardModel."""
        height, width = y.shape[2:]
        z = self.analyse(pad_to_multiple(y, HYPER_STRIDE), quality)
        z_hat = straight_round(z)
        bits_z = self.factorized_prior(z_hat if noise is None else z + noise.z)
        parameters: Tensor = self.hyper_synthesis(z_hat)[:, :, :height, :width]
        mean, log_scale = parameters.float().chunk(2, 1)
        symbols = straight_round(y - mean)
        bits_y = gaussian_bits(symbols if noise is None else y + noise.y - mean, log_scale + math.log(SCALE_START))
        return Rated(symbols + mean, bits_y, bits_z)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        return {"hyper_synthesis": lambda: self.hyper_synthesis(z)}


def _chain(inputs: int, config: LayerChain, activation: str, layer: Callable[..., nn.Module]) -> nn.Sequential:
    """Convolutions with activations between them; `layer` is called with inputs, outputs, kernel and stride."""
    layers: list[nn.Module] = []
    for outputs, kernel, stride in zip(config.channels, config.kernels, config.strides, strict=True):
        layers += [layer(inputs, outputs, kernel, stride), nn.ReLU() if activation == "relu" else nn.LeakyReLU()]
        inputs = outputs
    return nn.Sequential(*layers[:-1])


def _up_or_same(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Module:
    return up(inputs, outputs, kernel, stride) if stride > 1 else down(inputs, outputs, kernel, 1)
