"""Factorized priors of the hyper-latents: a Gaussian per channel that changes with quality, or a free density."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.models.blocks import lower_bound
from rdcodec.models.entropy.gaussian import gaussian_bits
from rdcodec.models.precision import in_float32
from rdcodec.models.rate import RateVector

START_WIDTH = 10.0  # the free density starts logistic, of about this scale, unless it is told another
MIN_RISE = 1e-9  # of the cumulative logit over one step: far out float32 no longer tells two neighbours apart


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


class DeepFactorizedPrior(nn.Module):
    """p(z): independent over positions, a density of free form per channel; it does not depend on quality.

    The cumulative density is a monotone network of 1, `filters` and 1 units for each channel (Balle et al. 2018,
    arXiv:1802.01436, appendix 6.1).
    """

    def __init__(self, channels: int, filters: Sequence[int]) -> None:
        super().__init__()
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList(torch.zeros(channels, count, 1) for count in filters)
        for inputs, outputs in pairwise((1, *filters, 1)):
            self.matrices.append(nn.Parameter(torch.empty(channels, outputs, inputs)))
            self.biases.append(nn.Parameter(torch.empty(channels, outputs, 1).uniform_(-0.5, 0.5)))
        self.start(START_WIDTH)

    @torch.no_grad()
    def start(self, width: float) -> None:
        """Let the densities be about so wide, as far as they are straight yet."""
        slope = width ** (-1 / len(self.matrices))
        for matrix in self.matrices:
            matrix.fill_(math.log(math.expm1(slope / matrix.shape[1])))  # softplus makes it slope / outputs

    def logits(self, z: Tensor) -> Tensor:
        """Logit of the cumulative density at z (N, 1, values) -> the same shape, rising with z."""
        for index, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            z = F.softplus(matrix) @ z + bias
            if index < len(self.factors):
                z = z + torch.tanh(self.factors[index]) * torch.tanh(z)
        return z

    def forward(self, z: Tensor) -> Tensor:
        """z (B, N, h, w) float32, rounded or with noise -> bits of every element, finite for finite z."""
        batch, channels, height, width = z.shape
        with in_float32(z.device):
            values = z.transpose(0, 1).reshape(channels, 1, -1)
            bits = self._bits(self.logits(values - 0.5), self.logits(values + 0.5))
        return bits.reshape(channels, batch, height, width).transpose(0, 1)

    @staticmethod
    def _bits(lower: Tensor, upper: Tensor) -> Tensor:
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)): no tail is too far out for its gradient.
        rise = lower_bound(upper - lower, MIN_RISE)
        log_mass = torch.log(-torch.expm1(-rise)) - F.softplus(-upper) - F.softplus(lower)
        return log_mass / -math.log(2)
