"""Channel-wise autoregressive entropy model (CHARM: Minnen and Singh 2020, arXiv:2007.08739).

The channels of y are coded in slices; mean and scale of a slice follow from the hyper-latents and the slices before.
Latent residual prediction (LRP) guesses from a decoded slice what rounding took away. The paper changes CHARM in
three places: Swin hyper-transforms; `reduction`, a convolution of the output of the hyper-synthesis for each slice,
all of them one convolution here; and LRP by "merge", a convolution of the slice and what LRP says of it, where CHARM
adds. Without reduction the means follow from the first half of that output and the scales from the second, as in CHARM.

Files are coded by `integer_hyper.py`, made from this model.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdcodec.models.blocks import down, shrink
from rdcodec.models.config import CharmEntropy
from rdcodec.models.entropy.checkerboard import Noise, Rated
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.entropy.hyper import SCALE_START, HyperModel
from rdcodec.models.precision import in_float32

LRP_REACH = 0.5  # rounding moves a latent by no more


class Seen(NamedTuple):
    """What the networks of a slice see of hyper-latents and earlier slices; (B, channels, h, w) each."""

    mean: Tensor
    scale: Tensor


class SliceNetworks(nn.Module):
    """The networks of one slice, from `seen` channels of input to its own `channels`."""

    def __init__(self, config: CharmEntropy, seen: int, channels: int) -> None:
        super().__init__()
        self.seen = seen
        self.mean = _network(config, seen, channels)
        self.scale = _network(config, seen, channels)
        self.lrp = _network(config, seen + channels, channels)
        self.merge = None if config.merge_kernel is None else _merge(channels, config.merge_kernel)

    def mean_and_scale(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Mean and log of the scale of the slice, (B, channels, h, w) each."""
        return self.mean(seen.mean).float(), self.scale(seen.scale).float() + math.log(SCALE_START)

    def predict_residual(self, seen: Seen, y_hat: Tensor) -> Tensor:
        """LRP: what rounding took from the decoded slice, (B, channels, h, w) within 1/2."""
        raw: Tensor = self.lrp(torch.cat([seen.mean, y_hat], 1))
        return LRP_REACH * torch.tanh(raw.float())

    def combine(self, y_hat: Tensor, residual: Tensor) -> Tensor:
        """The slice as the synthesis and later slices see it, (B, channels, h, w).

        Latents pass through here: in bfloat16 they would lose what rounding left.
        """
        if self.merge is None:
            return y_hat + residual
        with in_float32(y_hat.device):
            merged: Tensor = self.merge(torch.cat([y_hat, residual], 1))
        return merged


class CharmModel(HyperModel):
    """Rate of y (B, M, h, w), slice by slice, given hyper-latents z (B, N, h/4, w/4). Nothing depends on quality."""

    def __init__(self, config: CharmEntropy, latent_channels: int) -> None:
        super().__init__(config, latent_channels)
        self.config = config
        outputs, reduction = config.hyper_synthesis.outputs, config.reduction
        count = len(config.slices)
        self.reduce = down(outputs, count * reduction.channels, reduction.kernel, 1) if reduction else None
        own = reduction.channels if reduction else outputs // 2
        self.slices = nn.ModuleList(
            SliceNetworks(config, own + sum(config.slices[: self.supports(i)]), channels)
            for i, channels in enumerate(config.slices)
        )

    @property
    def networks(self) -> list[SliceNetworks]:
        """Those of each slice."""
        return [networks for networks in self.slices if isinstance(networks, SliceNetworks)]

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """y (B, M, h, w) -> its slices."""
        return torch.split(y, list(self.config.slices), 1)

    def supports(self, index: int) -> int:
        """How many of the earlier slices the one at `index` sees: the first ones."""
        most = self.config.max_support
        return index if most is None else min(index, most)

    def own_features(self, features: Tensor) -> list[Seen]:
        """Of the output of the hyper-synthesis (B, channels, h, w), what the networks of each slice see."""
        return self.share(features if self.reduce is None else self.reduce(features))

    def share(self, reduced: Tensor) -> list[Seen]:
        """The output of the reduction, or of the hyper-synthesis where there is none, shared among the slices."""
        count = len(self.slices)
        if self.reduce is None:
            return [Seen(*reduced.chunk(2, 1))] * count
        return [Seen(part, part) for part in reduced.chunk(count, 1)]

    def see(self, index: int, own: Seen, decoded: list[Tensor]) -> Seen:
        """Add the earlier slices that the one at `index` sees."""
        before = decoded[: self.supports(index)]
        mean = torch.cat([own.mean, *before], 1)
        return Seen(mean, mean if own.scale is own.mean else torch.cat([own.scale, *before], 1))

    def forward(self, y: Tensor, quality: Tensor, noise: Noise | None = None) -> Rated:
        """y (B, M, h, w), any h and w; rate and rounding as in CheckerboardModel."""
        features, bits_z = self.side_information(y, quality, noise)
        noisy = None if noise is None else self.split(y + noise.y)
        decoded: list[Tensor] = []
        bits_y: list[Tensor] = []
        parts = zip(self.split(y), self.own_features(features), self.networks, strict=True)
        for index, (part, own, networks) in enumerate(parts):
            seen = self.see(index, own, decoded)
            mean, log_scale = networks.mean_and_scale(seen)
            symbols = straight_round(part - mean)
            bits_y.append(gaussian_bits(symbols if noisy is None else noisy[index] - mean, log_scale))
            y_hat = symbols + mean
            decoded.append(networks.combine(y_hat, networks.predict_residual(seen, y_hat)))
        return Rated(torch.cat(decoded, 1), torch.cat(bits_y, 1), bits_z)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        features = _zeros(y, self.config.hyper_synthesis.outputs)
        inputs = [_zeros(y, networks.seen) for networks in self.networks]
        rows = list(zip(self.networks, (Seen(x, x) for x in inputs), self.split(y), strict=True))
        reduction = {} if self.reduce is None else {"reduction": lambda: self.own_features(features)}
        return {
            "hyper_synthesis": lambda: self.hyper_synthesis(z),
            **reduction,
            "mean and scale": lambda: [net.mean_and_scale(seen) for net, seen, _ in rows],
            "residual prediction": lambda: [net.predict_residual(seen, part) for net, seen, part in rows],
            "merge": lambda: [net.combine(part, part) for net, _, part in rows],
        }


def _network(config: CharmEntropy, inputs: int, outputs: int) -> nn.Sequential:
    """Convolutions with ReLU between them, (B, inputs, h, w) -> (B, outputs, h, w); they start near zero."""
    sides = pairwise((inputs, *config.widths, outputs))
    layers = [(down(a, b, kernel, 1), nn.ReLU()) for (a, b), kernel in zip(sides, config.kernels, strict=True)]
    network = nn.Sequential(*[layer for pair in layers for layer in pair][:-1])
    shrink(network[-1], 0.1)
    return network


def _merge(channels: int, kernel: int) -> nn.Conv2d:
    """A convolution of a slice and its predicted residual that starts as their sum."""
    layer = down(2 * channels, channels, kernel, 1)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.weight[:, :, kernel // 2, kernel // 2] = torch.eye(channels).repeat(1, 2)
    return layer


def _zeros(y: Tensor, channels: int) -> Tensor:
    """So many channels of the size of y."""
    return y.new_zeros(1, channels, *y.shape[2:]).contiguous(memory_format=torch.channels_last)
