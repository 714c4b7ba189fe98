"""Hyperprior with a two-pass context over a three-dimensional checkerboard.

Everything here lives in quantised units: y is the latent times its gain, a symbol is an integer step.
Pass 0 codes the elements with even channel + row + column, pass 1 the others, which then see their four
spatial neighbours and their neighbours in channel (checkerboard: He et al. 2021, arXiv:2103.15306; parity
swapped between channels: EVC, arXiv:2302.05071). The decoder's networks are chains of convolutions and
ReLU only, and can therefore be computed in integers: files are coded by `integer.py`, made from this model.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.models.blocks import depthwise, network, pad_to_multiple, plain, pointwise, shrink
from rdcodec.models.entropy.factorized import FactorizedPrior
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.entropy.model import EntropyModel
from rdcodec.models.entropy.structure import checkerboard_chains
from rdcodec.models.rate import RateVector
from rdcodec.models.sizes import HYPER_STRIDE

HYPER_UNIT = 4.0  # keeps z some steps wide at the start, where rounding still lets it through


class Rated(NamedTuple):
    """y_hat in quantised units, bits of every element of y and of z."""

    y_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor


class Noise(NamedTuple):
    """Uniform in [-1/2, 1/2]: what stands for rounding in the rate while training."""

    y: Tensor
    z: Tensor


# What stands for rounding: of a residual, any shape, under Gaussians of that log scale, or of z (None).
Quantise = Callable[[Tensor, Tensor | None], Tensor]


class Search(NamedTuple):
    """What an encoder brings that does not round all to the nearest: its z (B, N, h/4, w/4), and its rounding."""

    z: Tensor
    quantise: Quantise


class CheckerboardModel(EntropyModel):
    """Rate of y (B, M, h, w) given hyper-latents z (B, N, h/4, w/4) and the pass before."""

    def __init__(self, config: CheckerboardEntropy, latent_channels: int) -> None:
        super().__init__()
        m, n = latent_channels, config.hyper_channels
        features = config.features
        self.latent_channels = m
        self.hyper_channels = n
        self.features = features
        self.factorized_prior = FactorizedPrior(n)
        self.hyper_shift = RateVector(n)
        self.hyper_analysis = nn.Sequential(
            pointwise(m, features),
            nn.ReLU(),
            depthwise(features),
            nn.ReLU(),
            nn.PixelUnshuffle(2),
            pointwise(4 * features, features),
            nn.ReLU(),
            depthwise(features),
            nn.ReLU(),
            nn.PixelUnshuffle(2),
            pointwise(4 * features, n),
        )
        chains = checkerboard_chains(config, m)
        self.hyper_synthesis, self.first, self.context, self.second = (network(c, plain) for c in chains.values())
        self.log_scale = RateVector(m)
        shrink(self.first[-1], 0.1)
        shrink(self.second[-1], 0.1)

    def analyse(self, y: Tensor, quality: Tensor) -> Tensor:
        """y (B, M, h, w), h and w multiples of 4 -> z (B, N, h/4, w/4), not yet rounded."""
        z: Tensor = self.hyper_analysis(torch.asinh(y))
        shift: Tensor = self.hyper_shift(quality)
        return z.float() * HYPER_UNIT - shift

    def forward(self, y: Tensor, quality: Tensor, noise: Noise | None = None, search: Search | None = None) -> Rated:
        """y (B, M, h, w), any h and w.

        Rate under noise, straight-through rounding for what the networks see (Minnen & Singh 2020,
        arXiv:2007.08739); without noise the rate is that of the rounded values. A search brings its z and rounding.
        """
        height, width = y.shape[2:]
        z = self.analyse(pad_to_multiple(y, HYPER_STRIDE), quality) if search is None else search.z
        quantise = straight_round if search is None else search.quantise
        z_hat = quantise(z, None)
        bits_z = self.factorized_prior(z_hat if noise is None else z + noise.z, quality)
        features = self.hyper_synthesis(z_hat)[:, :, :height, :width]
        even = parity_mask(y)
        mean_0, log_scale_0 = self._mean_and_scale(self.first(features), quality)
        symbols_0 = quantise(y - mean_0, log_scale_0)
        y_0 = (symbols_0 + mean_0) * even
        context = self.context(mirror_edge(y_0))[:, :, :height, :width]
        seen = torch.cat([features, context], 1)
        mean_1, log_scale_1 = self._mean_and_scale(self.second(seen), quality)
        mean = torch.where(even, mean_0, mean_1)
        log_scale = torch.where(even, log_scale_0, log_scale_1)
        symbols = torch.where(even, symbols_0, quantise(y - mean_1, log_scale_1))
        bits_y = gaussian_bits(symbols if noise is None else y + noise.y - mean, log_scale)
        return Rated(symbols + mean, bits_y, bits_z)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        features = y.new_zeros(1, self.features, *y.shape[2:]).contiguous(memory_format=torch.channels_last)
        return {
            "hyper_synthesis": lambda: self.hyper_synthesis(z),
            "context pass 0": lambda: self.first(features),
            "context pass 1": lambda: self.second(torch.cat([features, self.context(y)], 1)),
        }

    def _mean_and_scale(self, raw: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale = raw.float().chunk(2, 1)
        return mean, log_scale + self.log_scale(quality)


def mirror_edge(y: Tensor) -> Tensor:
    """Mirror a row and a column beyond sides that are no multiple of 4, where the hyper-latents see more than y.

    There the features do not show the border, and zeros beyond it would pass for decoded latents. The mirrored
    elements are of the same pass as those that would stand there. A side of 1 has nothing to mirror.
    """
    bottom, right = (int(side % HYPER_STRIDE > 0 and side > 1) for side in y.shape[2:])
    return F.pad(y, (0, right, 0, bottom), mode="reflect")


def parity_mask(y: Tensor) -> Tensor:
    """True where channel + row + column is even, (1, M, h, w) bool."""
    m, h, w = (torch.arange(n, device=y.device) for n in y.shape[1:])
    return ((m[:, None, None] + h[:, None] + w) % 2 == 0)[None]


def _rows_even(height: int, width: int, step: int, device: torch.device) -> Tensor:
    rows = torch.arange(height, device=device)[:, None] + torch.arange(width, device=device)
    return ((rows + step) % 2 == 0)[:, :, None]


def take_parity(x: Tensor, step: int) -> Tensor:
    """The elements of pass `step` of x (1, M, h, w) -> (h, w, M / 2), channels in order."""
    _, m, h, w = x.shape
    pairs = x[0].permute(1, 2, 0).reshape(h, w, m // 2, 2)
    return torch.where(_rows_even(h, w, step, x.device), pairs[..., 0], pairs[..., 1])


def spread_parity(part: Tensor, step: int) -> Tensor:
    """The inverse of take_parity, zeros at the elements of the other pass."""
    h, w, half = part.shape
    even = _rows_even(h, w, step, part.device)
    zero = torch.zeros((), dtype=part.dtype, device=part.device)
    pairs = torch.stack([torch.where(even, part, zero), torch.where(even, zero, part)], -1)
    return pairs.reshape(h, w, 2 * half).permute(2, 0, 1)[None]
