"""Hyperprior and CHARM on integers: what encoder and decoder both run, with the same result everywhere.

As in `integer.py`: the float models learn, `export` turns what the decoder needs of them into integer arrays, and the
classes here run these. Hyper-latents have a free density, one row of the tables
for each channel, behind those of the scales.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.errors import NeedsModel
from rdcodec.exact.arithmetic import exact_arithmetic, shift_right
from rdcodec.exact.chain import Arrays, Chain, Conv, Range, Reach
from rdcodec.exact.fixed import ACTIVATION_MAX, FREE_HYPER_MAX, LATENT_MAX, LATENT_ONE, LEVEL_ONE, MEAN_MAX, MEAN_ONE
from rdcodec.exact.layers import IntegerChain
from rdcodec.exact.nonlinear import OVERFLOW, pick
from rdcodec.exact.tables import LEVELS
from rdcodec.models.entropy.integer import Part, SymbolCoder, level_indexes
from rdcodec.models.entropy.integer_swin import IntegerSwin
from rdcodec.models.entropy.kinds import CharmEntropy, HyperEntropy, HyperpriorEntropy, LayerChain, SwinHyperSynthesis
from rdcodec.models.entropy.slices import Seen, see, share
from rdcodec.models.entropy.structure import (
    PARAMETER,
    nested,
    reduce_chain,
    seen_channels,
    slice_chains,
    supports,
    synthesis_chain,
)
from rdcodec.models.sizes import HYPER_STRIDE

HYPER = Range(-FREE_HYPER_MAX, FREE_HYPER_MAX)
FEATURE = Range(-ACTIVATION_MAX, ACTIVATION_MAX)  # what the networks of the slices see of the hyper-latents
BEFORE_STEPS = Range(-8191, 8191)  # means and levels as Swin blocks leave them
SYNTHESIS = "hyper_synthesis."
TANH_INPUT = Range(-255, 255)  # of the residual, in steps of 1/64: beyond +-4 it no longer changes
TANH_OUTPUT = Range(-MEAN_ONE, MEAN_ONE)


class IntegerHyperprior:
    """The `IntegerForm` of `HyperpriorModel`. Nothing depends on the quality."""

    def __init__(self, config: HyperpriorEntropy, latent_channels: int, arrays: Arrays) -> None:
        self.prior = prior_indexes(config)
        self.parameters: IntegerChain | None = None
        if has_swin(config):
            self.parameters = IntegerChain(
                _steps_chain(2 * latent_channels), nested(arrays, "parameters"), BEFORE_STEPS, PARAMETER
            )
        outputs = PARAMETER if self.parameters is None else BEFORE_STEPS
        self.hyper_synthesis = integer_synthesis(config, arrays, outputs)

    def to(self, device: torch.device) -> "IntegerHyperprior":
        self.prior = self.prior.to(device)
        for part in (self.hyper_synthesis, self.parameters):
            if part is not None:
                part.to(device)
        return self

    def code(self, height: int, width: int, tenths: int, coder: SymbolCoder) -> Tensor:
        with exact_arithmetic(self.prior.device):
            parameters = self.hyper_synthesis(hyper_latents(height, width, self.prior, coder))
            if self.parameters is not None:
                parameters = self.parameters(parameters)
            mean, level = parameters[:, :, :height, :width].chunk(2, 1)
            return code_channels(mean, level, 0, coder) / MEAN_ONE


class IntegerCharm:
    """The `IntegerForm` of `CharmModel`, slice by slice. Nothing depends on the quality."""

    def __init__(self, config: CharmEntropy, latent_channels: int, arrays: Arrays) -> None:
        self.config = config
        self.prior = prior_indexes(config)
        self.hyper_synthesis = integer_synthesis(config, arrays, FEATURE)
        self.reduce: IntegerChain | None = None
        if config.reduction:
            self.reduce = IntegerChain(reduce_chain(config), nested(arrays, "reduce"), FEATURE, FEATURE)
        reaches = [_reach(arrays, i, channels) for i, channels in enumerate(config.slices)]
        self.slices = [IntegerSlice(config, arrays, i, reaches) for i in range(len(reaches))]

    def to(self, device: torch.device) -> "IntegerCharm":
        self.prior = self.prior.to(device)
        for part in (self.hyper_synthesis, self.reduce, *self.slices):
            if part is not None:
                part.to(device)
        return self

    def code(self, height: int, width: int, tenths: int, coder: SymbolCoder) -> Tensor:
        with exact_arithmetic(self.prior.device):
            return self._code(height, width, coder)

    def _code(self, height: int, width: int, coder: SymbolCoder) -> Tensor:
        features = self.hyper_synthesis(hyper_latents(height, width, self.prior, coder))[:, :, :height, :width]
        own = share(self.config, features if self.reduce is None else self.reduce(features))
        decoded: list[Tensor] = []
        inputs: list[Tensor] = []
        for index, networks in enumerate(self.slices):
            seen = see(self.config, index, own[index], inputs)
            first = sum(self.config.slices[:index])
            y_hat = code_channels(networks.mean(seen.mean), networks.scale(seen.scale), first, coder)
            decoded.append(networks.combine(y_hat, networks.predict_residual(seen, y_hat)))
            inputs.append(networks.as_input(decoded[-1]))
        return torch.cat(decoded, 1) / MEAN_ONE


class IntegerSlice:
    """The networks of one slice."""

    def __init__(self, config: CharmEntropy, arrays: Arrays, index: int, reaches: Sequence[Reach]) -> None:
        """reaches: of every slice as an input."""
        chains = slice_chains(config, index)

        def chain(name: str, inputs: Reach, outputs: Range) -> IntegerChain:
            return IntegerChain(chains[name], nested(arrays, f"slices.{index}.{name}"), inputs, outputs)

        seen, own = seen_reach(config, index, reaches), reaches[index]
        self.mean = chain("mean", seen, PARAMETER)
        self.scale = chain("scale", seen, PARAMETER)
        self.lrp = chain("lrp", join(seen, own), TANH_INPUT)
        tanh = _checked(arrays, "tanh", TANH_INPUT.high - TANH_INPUT.low + 1, TANH_OUTPUT)
        self.merge: IntegerChain | None = None
        if config.merge_kernel:
            reach = merge_reach(len(own.largest), int(np.abs(tanh).max()))
            self.merge = chain("merge", reach, PARAMETER)
        self.tanh = torch.from_numpy(tanh).float()
        self.reach = torch.from_numpy(own.largest).float()[:, None, None]

    def to(self, device: torch.device) -> "IntegerSlice":
        """Move the networks to a device."""
        for chain in (self.mean, self.scale, self.lrp, self.merge):
            if chain is not None:
                chain.to(device)
        self.tanh, self.reach = self.tanh.to(device), self.reach.to(device)
        return self

    def as_input(self, y_hat: Tensor) -> Tensor:
        """Steps of 1/64 -> steps of 1/16 within the reach of each channel."""
        coarse = shift_right(y_hat + MEAN_ONE // LATENT_ONE // 2, 2)
        return torch.minimum(torch.maximum(coarse, -self.reach), self.reach)

    def predict_residual(self, seen: Seen, y_hat: Tensor) -> Tensor:
        """What rounding took from the slice, in steps of 1/64."""
        raw = self.lrp(torch.cat([seen.mean, self.as_input(y_hat)], 1))
        return self.tanh[(raw - TANH_INPUT.low).long()]

    def combine(self, y_hat: Tensor, residual: Tensor) -> Tensor:
        """The slice as the synthesis and later slices see it, in steps of 1/64."""
        if self.merge is None:
            return y_hat + residual
        return self.merge(torch.cat([y_hat.clamp(-MEAN_MAX, MEAN_MAX), residual], 1))


def has_swin(config: HyperEntropy) -> bool:
    """Whether the hyper-synthesis is made of Swin blocks."""
    return isinstance(config.hyper_synthesis, SwinHyperSynthesis)


# What further models of this kind are made of


def integer_synthesis(config: HyperEntropy, arrays: Arrays, outputs: Range) -> IntegerChain | IntegerSwin:
    """The hyper-synthesis of the configuration; its sums end within `outputs`."""
    synthesis = config.hyper_synthesis
    if isinstance(synthesis, SwinHyperSynthesis):
        own = {name.removeprefix(SYNTHESIS): array for name, array in arrays.items() if name.startswith(SYNTHESIS)}
        return IntegerSwin(synthesis, own, HYPER, outputs)
    assert isinstance(synthesis, LayerChain)
    chain = synthesis_chain(synthesis, config.hyper_channels)
    return IntegerChain(chain, nested(arrays, "hyper_synthesis"), HYPER, outputs)


def _steps_chain(channels: int) -> Chain:
    """Each channel by itself: Swin blocks leave each in steps of its own."""
    return [Conv(channels, channels, 1, groups=channels)]


def prior_indexes(config: HyperEntropy) -> Tensor:
    """Table rows of the channels of z, (N,) int16."""
    return torch.arange(LEVELS, LEVELS + config.hyper_channels, dtype=torch.int16)


def hyper_latents(height: int, width: int, prior: Tensor, coder: SymbolCoder) -> Tensor:
    """z (1, N, ceil(height / 4), ceil(width / 4)), clipped to what networks can take."""
    z = coder.z(prior.expand(-(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE), -1))
    return z.clamp(HYPER.low, HYPER.high).permute(2, 0, 1)[None]


def code_channels(mean: Tensor, level: Tensor, first: int, coder: SymbolCoder) -> Tensor:
    """Code the channels from `first` on: mean and level (1, C, h, w) -> y_hat in steps of 1/64, the same shape."""
    mean, level = (x[0].permute(1, 2, 0) for x in (mean, level))
    indexes = level_indexes(level, LEVEL_ONE // 2)
    y_hat = mean + MEAN_ONE * coder.y(channels_from(first, mean.shape[2]), mean, indexes)
    return y_hat.permute(2, 0, 1)[None]


def channels_from(first: int, count: int) -> Part:
    """Takes so many channels of y (1, M, h, w) -> (h, w, count)."""
    return lambda y: y[0, first : first + count].permute(1, 2, 0)


def _reach(arrays: Arrays, index: int, channels: int) -> Reach:
    return Reach(_checked(arrays, f"slices.{index}.reach", channels, Range(0, LATENT_MAX)).astype(np.int64))


def seen_reach(config: CharmEntropy, index: int, reaches: Sequence[Reach]) -> Reach:
    """Of what a slice sees: its own features, then the earlier slices, of which `reaches` has those of each."""
    before = reaches[: supports(config, index)]
    earlier = np.concatenate([np.zeros(0, np.int64), *(reach.largest for reach in before)])
    own = seen_channels(config, index) - len(earlier)
    return Reach(np.append(np.full(own, FEATURE.high), earlier))


def join(*reaches: Reach) -> Reach:
    return Reach(np.concatenate([reach.largest for reach in reaches]))


def merge_reach(channels: int, residual: int) -> Reach:
    """Of the latents and the residual in steps of 1/64."""
    return Reach(np.repeat([MEAN_MAX, residual], channels))


def _checked(arrays: Arrays, name: str, size: int, within: Range) -> NDArray[np.int32]:
    found = pick(arrays, name, np.int32, (size,))
    if found.min() < within.low or found.max() > within.high:
        raise NeedsModel(OVERFLOW)
    return found
