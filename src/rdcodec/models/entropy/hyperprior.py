"""Mean-and-scale hyperprior without context model (Minnen et al. 2018, arXiv:1809.02736).

y is in quantised units, as in `checkerboard.py`. Files are coded by `integer_hyper.py`, made from this model.
"""

import math
from collections.abc import Callable

from torch import Tensor

from rdcodec.models.blocks import layers_of, shrink
from rdcodec.models.entropy.checkerboard import Noise, Rated, Search
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.entropy.hyper import SCALE_START, HyperModel
from rdcodec.models.entropy.kinds import HyperpriorEntropy


class HyperpriorModel(HyperModel):
    """Rate of y (B, M, h, w) given hyper-latents z (B, N, h/4, w/4). Nothing here depends on quality."""

    def __init__(self, config: HyperpriorEntropy, latent_channels: int) -> None:
        super().__init__(config, latent_channels)
        self.config = config
        self.latent_channels = latent_channels
        shrink(layers_of(self.hyper_synthesis)[-1], 0.1)

    def forward(self, y: Tensor, quality: Tensor, noise: Noise | None = None, search: Search | None = None) -> Rated:
        """y (B, M, h, w), any h and w; rate and rounding as in CheckerboardModel."""
        parameters, bits_z = self.side_information(y, quality, noise, search)
        mean, log_scale = parameters.float().chunk(2, 1)
        log_scale = log_scale + math.log(SCALE_START)
        symbols = (straight_round if search is None else search.quantise)(y - mean, log_scale)
        bits_y = gaussian_bits(symbols if noise is None else y + noise.y - mean, log_scale)
        return Rated(symbols + mean, bits_y, bits_z)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        return {"hyper_synthesis": lambda: self.hyper_synthesis(z)}
