"""Factorized prior: each hyper-latent channel has a Gaussian of its own that changes with quality."""

from torch import Tensor, nn

from rdcodec.models.entropy.gaussian import gaussian_bits
from rdcodec.models.rate import RateVector


class FactorizedPrior(nn.Module):
    """p(z): independent over channels and positions; zero mean, scale learned per channel and quality.

    The hyper-analysis can shape z as it likes, so a Gaussian loses little against a free density
    (Balle et al. 2018), and z then uses the same integer tables as y.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = RateVector(channels)

    def forward(self, z: Tensor, quality: Tensor) -> Tensor:
        """z (B, N, h, w), rounded or with noise -> bits of every element."""
        return gaussian_bits(z, self.log_scale(quality).expand_as(z))
