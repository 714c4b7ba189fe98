"""Uneven groups of channels, each coded in two passes over a checkerboard (ELIC: He et al. 2022, arXiv:2203.10886).

Section 3.2 there: mean and scale follow from the hyper-latents, from all earlier groups (channel context) and, in the
second pass of a group, from its elements of the first (spatial context). Pass 0 codes the positions with even row +
column, pass 1 the others. The convolution of the spatial context sees zeros in place of what is not decoded yet, so it
needs no mask. The last network is pointwise and runs only where a pass codes: both passes together cost one run.

There is no integer form of these networks yet, so that they can be trained and measured but do not code files.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdcodec.models.blocks import down, linear, network, scaled, shrink
from rdcodec.models.entropy.checkerboard import Noise, Rated
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.entropy.hyper import SCALE_START, HyperModel
from rdcodec.models.entropy.kinds import SpaceChannelEntropy
from rdcodec.models.entropy.structure import straight


class Group(NamedTuple):
    """y_hat of a group, mean and log of the scale of its elements, (B, channels, h, w) each."""

    y_hat: Tensor
    mean: Tensor
    log_scale: Tensor


class GroupNetworks(nn.Module):
    """The networks of one group of `channels`, before which `before` channels are decoded."""

    def __init__(self, config: SpaceChannelEntropy, before: int, channels: int) -> None:
        super().__init__()
        both = 2 * channels  # something for the means and something for the scales
        self.channel = network(straight((before, *config.widths, both), config.kernels), scaled) if before else None
        self.spatial = down(channels, both, config.context_kernel, 1)
        self.seen = config.hyper_synthesis.outputs + (both if before else 0)
        sides = pairwise((self.seen + both, *config.aggregation, both))
        layers = [layer for a, b in sides for layer in (linear(a, b), nn.ReLU())]
        self.aggregate = nn.Sequential(*layers[:-1])
        shrink(self.aggregate[-1], 0.1)

    def own(self, features: Tensor, decoded: list[Tensor]) -> Tensor:
        """What both passes see: output of the hyper-synthesis and channel context, (B, channels, h, w)."""
        if self.channel is None:
            return features
        return torch.cat([features, self.channel(torch.cat(decoded, 1))], 1)

    def parameters_at(self, at: Tensor, own: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log of the scale at some positions of the flattened map, (B, channels, positions) each."""
        seen = torch.cat([own.flatten(2)[:, :, at], context.flatten(2)[:, :, at]], 1)
        raw: Tensor = self.aggregate(seen.transpose(1, 2))
        mean, log_scale = raw.transpose(1, 2).float().chunk(2, 1)
        return mean, log_scale + math.log(SCALE_START)

    def code(self, y: Tensor, own: Tensor) -> Group:
        """Round the group y (B, channels, h, w), one pass after the other."""
        flat = y.flatten(2)
        mean = log_scale = y_hat = torch.zeros_like(flat)
        context = y.new_zeros(len(y), 2 * y.shape[1], *y.shape[2:])
        for step, at in enumerate(passes(y)):
            if step:
                context = self.spatial(y_hat.view_as(y))
            mean_at, log_scale_at = self.parameters_at(at, own, context)
            rounded = straight_round(flat[:, :, at] - mean_at) + mean_at
            mean, log_scale = mean.index_copy(2, at, mean_at), log_scale.index_copy(2, at, log_scale_at)
            y_hat = y_hat.index_copy(2, at, rounded)
        return Group(*(part.view_as(y) for part in (y_hat, mean, log_scale)))


class SpaceChannelModel(HyperModel):
    """Rate of y (B, M, h, w), group by group, given hyper-latents z (B, N, h/4, w/4). Nothing depends on quality."""

    def __init__(self, config: SpaceChannelEntropy, latent_channels: int) -> None:
        super().__init__(config, latent_channels)
        self.config = config
        before = [sum(config.groups[:index]) for index in range(len(config.groups))]
        self.groups = nn.ModuleList(map(GroupNetworks, [config] * len(before), before, config.groups))

    @property
    def networks(self) -> list[GroupNetworks]:
        """Those of each group."""
        return [networks for networks in self.groups if isinstance(networks, GroupNetworks)]

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """y (B, M, h, w) -> its groups."""
        return torch.split(y, list(self.config.groups), 1)

    def forward(self, y: Tensor, quality: Tensor, noise: Noise | None = None) -> Rated:
        """y (B, M, h, w), any h and w; rate and rounding as in CheckerboardModel."""
        features, bits_z = self.side_information(y, quality, noise)
        coded: list[Group] = []
        for part, networks in zip(self.split(y), self.networks, strict=True):
            own = networks.own(features, [group.y_hat for group in coded])
            coded.append(networks.code(part, own))
        y_hat, mean, log_scale = (torch.cat(parts, 1) for parts in zip(*coded, strict=True))
        return Rated(y_hat, gaussian_bits((y_hat if noise is None else y + noise.y) - mean, log_scale), bits_z)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        parts, at_steps = self.split(y), passes(y)
        features = _zeros(y, self.config.hyper_synthesis.outputs)
        rows = [
            (net, _zeros(y, net.seen), _zeros(y, 2 * part.shape[1]))
            for net, part in zip(self.networks, parts, strict=True)
        ]
        return {
            "hyper_synthesis": lambda: self.synthesise(z),
            "channel context": lambda: [net.own(features, list(parts[:i])) for i, net in enumerate(self.networks)],
            "spatial context": lambda: [net.spatial(part) for net, part in zip(self.networks, parts, strict=True)],
            "mean and scale": lambda: [net.parameters_at(at, own, seen) for at in at_steps for net, own, seen in rows],
        }


def passes(y: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of pass 0 and of pass 1 in y (B, channels, h, w) with h and w flattened, int64."""
    height, width = y.shape[2:]
    at = torch.arange(height * width, device="cpu")  # where a mask can be an index; the meta device knows none
    odd = (at // width + at % width) % 2 == 1
    return at[~odd].to(y.device), at[odd].to(y.device)


def _zeros(y: Tensor, channels: int) -> Tensor:
    """So many channels of the size of y."""
    return y.new_zeros(1, channels, *y.shape[2:]).contiguous(memory_format=torch.channels_last)
