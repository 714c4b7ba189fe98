"""Hyperprior with a context of two or three passes over a three-dimensional checkerboard.

Everything here lives in quantised units: y is the latent times its gain, a symbol is an integer step.
The last pass codes the elements with odd channel + row + column, which see their four spatial neighbours and their
neighbours in channel (checkerboard: He et al. 2021, arXiv:2103.15306; parity swapped between channels: EVC,
arXiv:2302.05071). The even ones come before, in one pass or in two quarters, of which the second sees the first (as in
the four passes of DCVC-DC, Li et al. 2023, arXiv:2302.14402). The decoder's networks are chains of convolutions and
ReLU only, and can therefore be computed in integers: files are coded by `integer.py`, made from this model.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.models.blocks import depthwise, network, pad_to_multiple, plain, pointwise, shrink
from rdcodec.models.entropy.factorized import FactorizedPrior
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.entropy.lattice import Lattice
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
    """Rate of y (B, M, h, w) given hyper-latents z (B, N, h/4, w/4) and the passes before."""

    hyper_synthesis: nn.Sequential
    first: nn.Sequential
    second: nn.Sequential

    def __init__(self, config: CheckerboardEntropy, latent_channels: int) -> None:
        super().__init__()
        m, n = latent_channels, config.hyper_channels
        features = config.features
        self.latent_channels = m
        self.hyper_channels = n
        self.features = features
        self.lattices = config.lattices()
        self.later = config.later()
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
        for name, chain in checkerboard_chains(config, m).items():
            self.add_module(name, network(chain, plain))
        self.log_scale = RateVector(m)
        for name in ("first", *(name for _, name in self.later)):
            shrink(self.part(name)[-1], 0.1)

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
        mean = log_scale = symbols = torch.zeros_like(y, dtype=torch.float32)
        for step, lattice in enumerate(self.lattices):
            here = mask(y, lattice)
            found = self._mean_and_scale(self.predict(step, features, symbols + mean), quality)
            mean, log_scale = (torch.where(here, new, old) for new, old in zip(found, (mean, log_scale), strict=True))
            symbols = torch.where(here, quantise(y - found[0], found[1]), symbols)
        bits_y = gaussian_bits(symbols if noise is None else y + noise.y - mean, log_scale)
        return Rated(symbols + mean, bits_y, bits_z)

    def part(self, name: str) -> nn.Sequential:
        """A network of the decoder, by the name of its chain."""
        found = self.get_submodule(name)
        assert isinstance(found, nn.Sequential)
        return found

    def predict(self, step: int, features: Tensor, y_hat: Tensor) -> Tensor:
        """What a pass makes of the features and of y_hat as far as it is decoded, 0 elsewhere: (B, 2 M, h, w)."""
        return self._pass(step, features, mirror_edge(y_hat) if step else y_hat)

    def _pass(self, step: int, features: Tensor, seen: Tensor) -> Tensor:
        """The networks of a pass; seen: y_hat with its mirrored edge."""
        if step == 0:
            return self.first(features)  # type: ignore[no-any-return]
        height, width = features.shape[2:]
        context, network = (self.part(name) for name in self.later[step - 1])
        return network(torch.cat([features, context(seen)[:, :, :height, :width]], 1))  # type: ignore[no-any-return]

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        features = y.new_zeros(1, self.features, *y.shape[2:]).contiguous(memory_format=torch.channels_last)
        return {
            "hyper_synthesis": lambda: self.hyper_synthesis(z),
            **{f"context pass {step}": partial(self._pass, step, features, y) for step in range(len(self.lattices))},
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


def mask(y: Tensor, lattice: Lattice) -> Tensor:
    """True where elements are of the lattice, (1, M, h, w) bool."""
    channels = torch.arange(y.shape[1], device=y.device)[:, None, None] % lattice.of
    return (channels == _first_channel(y, lattice))[None]


def take(x: Tensor, lattice: Lattice) -> Tensor:
    """The elements of a lattice of x (1, M, h, w) -> (h, w, M / of), channels in order."""
    _, m, h, w = x.shape
    groups = x[0].permute(1, 2, 0).reshape(h, w, m // lattice.of, lattice.of)
    first = _first_channel(x, lattice)[:, :, None, None].expand(h, w, m // lattice.of, 1)
    return groups.gather(-1, first)[..., 0]


def spread(part: Tensor, lattice: Lattice) -> Tensor:
    """The inverse of `take`, zeros at all other elements."""
    h, w, count = part.shape
    groups = part.new_zeros(h, w, count, lattice.of)
    first = _first_channel(part.permute(2, 0, 1)[None], lattice)[:, :, None, None].expand(h, w, count, 1)
    return groups.scatter(-1, first, part[..., None]).reshape(h, w, count * lattice.of).permute(2, 0, 1)[None]


def _first_channel(x: Tensor, lattice: Lattice) -> Tensor:
    # Made where x lies: a CUDA graph records no copy from the machine's memory.
    row, column = (torch.arange(side, device=x.device) for side in x.shape[2:])
    found: Tensor = lattice.first_channel(row[:, None], column)
    return found
