"""Convolutional transforms of the paper's models: four 5x5 layers of stride 2 with GDN between them."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from rdcodec.models.blocks import down, lower_bound, matrix_product, up
from rdcodec.models.transforms.kinds import ConvTransform, Norm
from rdcodec.models.transforms.staged import StagedAnalysis, StagedSynthesis

# GDN learns roots; the pedestal keeps the gradient of a square alive at zero (Balle et al., TFC `gdn.py`).
PEDESTAL = 2.0**-36
BETA_MIN = 1e-6
GAMMA_START = 0.1
# An inverse is a polynomial of degree 2, three of them one of degree 8: weak at first, or outliers blow training up.
INVERSE_GAMMA_START = 0.01


class GDN(nn.Module):
    """Generalised divisive normalisation, (B, C, h, w) -> the same; the inverse multiplies where it divides.

    "gdn" divides by beta + gamma |x| (Johnston et al. 2019, arXiv:1912.08771), "gdn-sqrt" by
    sqrt(beta + gamma x^2) (Balle et al. 2016, arXiv:1511.06281); gamma is a C x C matrix, beta and gamma >= 0.
    """

    def __init__(self, channels: int, form: Norm, inverse: bool = False) -> None:
        super().__init__()
        self.form = form
        self.inverse = inverse
        self.root_beta = nn.Parameter((torch.ones(channels) + PEDESTAL).sqrt())
        self.root_gamma = nn.Parameter(torch.empty(channels, channels))
        self.start(INVERSE_GAMMA_START if inverse else GAMMA_START)

    def start(self, gamma: float) -> None:
        """Let every channel be normed by itself alone, and so strongly."""
        wanted = gamma * torch.eye(len(self.root_gamma), device=self.root_gamma.device)
        self.root_gamma.data.copy_((wanted + PEDESTAL).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        beta = _square(self.root_beta, BETA_MIN)
        gamma = _square(self.root_gamma, 0.0)
        if self.form == "gdn":
            norm = matrix_product(x.abs(), gamma, beta)
            return x * norm if self.inverse else x / norm
        norm = matrix_product(x.square(), gamma, beta)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


def _square(root: Tensor, minimum: float) -> Tensor:
    """What `root` stands for, at least `minimum`."""
    return lower_bound(root, math.sqrt(minimum + PEDESTAL)).square() - PEDESTAL


class ConvAnalysis(StagedAnalysis):
    """Analysis transform g_a of convolutions and GDN."""

    def __init__(self, config: ConvTransform, latent_channels: int) -> None:
        widths = (3, *config.channels)
        stages = [(down(a, b), GDN(b, config.norm)) for a, b in pairwise(widths)]
        trunk = nn.Sequential(*(layer for stage in stages for layer in stage))
        super().__init__(trunk, down(widths[-1], latent_channels))


class ConvSynthesis(StagedSynthesis):
    """Synthesis transform g_s of transposed convolutions and inverse GDN."""

    def __init__(self, config: ConvTransform, latent_channels: int) -> None:
        widths = (latent_channels, *config.channels)
        stages = [(up(a, b), GDN(b, config.norm, inverse=True)) for a, b in pairwise(widths)]
        super().__init__(nn.Sequential(*(layer for stage in stages for layer in stage), up(widths[-1], 3)))
