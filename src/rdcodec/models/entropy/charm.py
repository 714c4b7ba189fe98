"""Channel-wise autoregressive entropy model (CHARM: Minnen and Singh 2020, arXiv:2007.08739).

The channels of y are coded in slices; mean and scale of a slice follow from the hyper-latents and the slices before.
Latent residual prediction (LRP) guesses from a decoded slice what rounding took away. The paper changes CHARM in
three places: Swin hyper-transforms; `reduction`, a convolution of the output of the hyper-synthesis for each slice,
all of them one convolution here; and LRP by "merge", a convolution of the slice and what LRP says of it, where CHARM
adds. Without reduction the means follow from the first half of that output and the scales from the second, or, as in
CHARM, from the outputs of two hyper-syntheses. SwinT-ChARM (Zhu et al. 2022, ICLR, appendix A) shows a slice only the
channels of its own numbers, and has networks of other widths for each slice and no LRP.

Files are coded by `integer_hyper.py`, made from this model.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rdcodec.exact.chain import Chain
from rdcodec.models.blocks import down, network, scaled, shrink
from rdcodec.models.entropy.checkerboard import Noise, Rated, Search
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.entropy.hyper import SCALE_START, HyperModel
from rdcodec.models.entropy.kinds import CharmEntropy
from rdcodec.models.entropy.slices import Seen, see, share
from rdcodec.models.entropy.structure import seen_channels, slice_chains
from rdcodec.models.precision import in_float32

LRP_REACH = 0.5  # rounding moves a latent by no more


class SliceNetworks(nn.Module):
    """The networks of one slice, from `seen` channels of input to its own; without LRP `lrp` is empty."""

    def __init__(self, config: CharmEntropy, index: int) -> None:
        super().__init__()
        chains = slice_chains(config, index)
        self.seen = seen_channels(config, index)
        self.mean, self.scale, self.lrp = (_network(chains[name]) for name in ("mean", "scale", "lrp"))
        self.merge = None if config.merge_kernel is None else _merge(config.slices[index], config.merge_kernel)

    def mean_and_scale(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Mean and log of the scale of the slice, (B, channels, h, w) each."""
        return self.mean(seen.mean).float(), self.scale(seen.scale).float() + math.log(SCALE_START)

    def predict_residual(self, seen: Seen, y_hat: Tensor) -> Tensor:
        """LRP: what rounding took from the decoded slice, (B, channels, h, w) within 1/2."""
        raw: Tensor = self.lrp(torch.cat([seen.mean, y_hat], 1))
        return LRP_REACH * torch.tanh(raw.float())

    def refine(self, seen: Seen, y_hat: Tensor) -> Tensor:
        """The decoded slice with what LRP says of it, (B, channels, h, w)."""
        return self.combine(y_hat, self.predict_residual(seen, y_hat)) if len(self.lrp) else y_hat

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
        extra, reduction = config.scale_synthesis, config.reduction
        self.scale_synthesis = extra.build_synthesis(config.hyper_channels) if extra else None
        count = len(config.slices)
        self.reduce = down(config.features, count * reduction.channels, reduction.kernel, 1) if reduction else None
        self.slices = nn.ModuleList(SliceNetworks(config, index) for index in range(count))

    @property
    def networks(self) -> list[SliceNetworks]:
        """Those of each slice."""
        return [networks for networks in self.slices if isinstance(networks, SliceNetworks)]

    def split(self, y: Tensor) -> tuple[Tensor, ...]:
        """y (B, M, h, w) -> its slices."""
        return torch.split(y, list(self.config.slices), 1)

    def synthesise(self, z_hat: Tensor) -> Tensor:
        """As in HyperModel; means' channels first, then the scales' where these have a hyper-synthesis of their own."""
        features = super().synthesise(z_hat)
        return features if self.scale_synthesis is None else torch.cat([features, self.scale_synthesis(z_hat)], 1)

    def own_features(self, features: Tensor) -> list[Seen]:
        """Of the output of the hyper-synthesis (B, channels, h, w), what the networks of each slice see."""
        return share(self.config, features if self.reduce is None else self.reduce(features))

    def forward(self, y: Tensor, quality: Tensor, noise: Noise | None = None, search: Search | None = None) -> Rated:
        """y (B, M, h, w), any h and w; rate and rounding as in CheckerboardModel."""
        features, bits_z = self.side_information(y, quality, noise, search)
        quantise = straight_round if search is None else search.quantise
        noisy = None if noise is None else self.split(y + noise.y)
        decoded: list[Tensor] = []
        bits_y: list[Tensor] = []
        parts = zip(self.split(y), self.own_features(features), self.networks, strict=True)
        for index, (part, own, networks) in enumerate(parts):
            seen = see(self.config, index, own, decoded)
            mean, log_scale = networks.mean_and_scale(seen)
            symbols = quantise(part - mean, log_scale)
            bits_y.append(gaussian_bits(symbols if noisy is None else noisy[index] - mean, log_scale))
            decoded.append(networks.refine(seen, symbols + mean))
        return Rated(torch.cat(decoded, 1), torch.cat(bits_y, 1), bits_z)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The networks that decode latents of the shapes of y and z, one call each."""
        features = _zeros(y, self.config.features)
        inputs = [_zeros(y, networks.seen) for networks in self.networks]
        rows = list(zip(self.networks, (Seen(x, x) for x in inputs), self.split(y), strict=True))
        parts: dict[str, Callable[[], object]] = {"hyper_synthesis": lambda: self.synthesise(z)}
        if self.reduce is not None:
            parts["reduction"] = lambda: self.own_features(features)
        parts["mean and scale"] = lambda: [net.mean_and_scale(seen) for net, seen, _ in rows]
        if self.config.lrp:
            parts["residual prediction"] = lambda: [net.predict_residual(seen, part) for net, seen, part in rows]
            parts["merge"] = lambda: [net.combine(part, part) for net, _, part in rows]
        return parts


def _network(chain: Chain) -> nn.Sequential:
    """The layers of a chain; the last one starts near zero."""
    layers = network(chain, scaled)
    if len(layers):
        shrink(layers[-1], 0.1)
    return layers


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
