"""Trained hyperpriors and CHARM as the arrays of their integer forms."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.exact.chain import Arrays, Reach
from rdcodec.exact.fixed import CARRIER_LIMIT, LATENT_MAX, LATENT_ONE, LEVEL_ONE, MEAN_ONE
from rdcodec.exact.tables import SCALE_MIN
from rdcodec.export.layers import Calibrated, calibrate, named, to_integers
from rdcodec.export.swin import CalibratedSwin, calibrate_swin
from rdcodec.models.blocks import layers_of
from rdcodec.models.entropy.charm import LRP_REACH, CharmModel, SliceNetworks
from rdcodec.models.entropy.hyper import SCALE_START, HyperModel
from rdcodec.models.entropy.hyperprior import HyperpriorModel
from rdcodec.models.entropy.integer import LOG_LEVEL
from rdcodec.models.entropy.integer_hyper import (
    BEFORE_STEPS,
    FEATURE,
    HYPER,
    SYNTHESIS,
    TANH_INPUT,
    has_swin,
    join,
    merge_reach,
    seen_reach,
)
from rdcodec.models.entropy.slices import Seen, see, share

WIDE_LIMIT = 8 * CARRIER_LIMIT  # some ten sums, which cost little time; rather than more, weights lose bits
REACH_LEAST = 4  # quantisation steps


@torch.no_grad()
def quantise_hyperprior(model: HyperpriorModel, latents: Sequence[tuple[Tensor, float]]) -> Arrays:
    """Integer arrays of a trained model; latents as `QUANTISERS` gives them."""
    m, unit = model.latent_channels, torch.ones(model.hyper_channels)
    z_hat = rounded_hyper_latents(model, latents)
    steps = torch.cat([even_steps(m, MEAN_ONE), level_steps(m)])
    if not has_swin(model.config):
        network = with_levels(model.hyper_synthesis, m)
        return named("hyper_synthesis", calibrate(network, z_hat, unit, HYPER, steps, WIDE_LIMIT).arrays)
    swin = calibrate_swin(model.hyper_synthesis, z_hat, unit, HYPER, BEFORE_STEPS)
    done = calibrate(with_levels(_to_steps(2 * m), m), swin.samples, swin.step, BEFORE_STEPS, steps)
    return {SYNTHESIS + name: array for name, array in swin.arrays.items()} | named("parameters", done.arrays)


@torch.no_grad()
def quantise_charm(model: CharmModel, latents: Sequence[tuple[Tensor, float]]) -> Arrays:
    """As `quantise_hyperprior`."""
    unit = torch.ones(model.hyper_channels)
    z_hat = rounded_hyper_latents(model, latents)
    hyper: Calibrated | CalibratedSwin
    if has_swin(model.config):
        hyper = calibrate_swin(model.hyper_synthesis, z_hat, unit, HYPER, FEATURE)
        arrays: Arrays = {SYNTHESIS + name: array for name, array in hyper.arrays.items()}
    else:
        hyper = calibrate(model.hyper_synthesis, z_hat, unit, HYPER, FEATURE, WIDE_LIMIT)
        arrays = named("hyper_synthesis", hyper.arrays)
    if model.reduce is not None:
        hyper = calibrate(nn.Sequential(model.reduce), hyper.samples, hyper.step, FEATURE, FEATURE, WIDE_LIMIT)
        arrays |= named("reduce", hyper.arrays)
    steps = share(model.config, hyper.step[None, :, None, None])
    own = [share(model.config, x) for x in hyper.samples]
    parts = [model.split(y) for y, _ in latents]
    decoded: list[list[Tensor]] = [[] for _ in latents]
    inputs: list[Tensor] = []  # steps of the slices so far
    reaches: list[Reach] = []
    for index, networks in enumerate(model.networks):
        seen = [see(model.config, index, shares[index], before) for shares, before in zip(own, decoded, strict=True)]
        step = see(model.config, index, steps[index], inputs)
        reach = seen_reach(model.config, index, reaches)
        found = _quantise_slice(networks, seen, [part[index] for part in parts], step, reach)
        arrays |= {f"slices.{index}.{name}": array for name, array in found.arrays.items()}
        reaches.append(Reach(found.arrays["reach"].astype(np.int64)))
        inputs.append(even_steps(len(reaches[-1].largest), LATENT_ONE)[None, :, None, None])
        for before, y_hat in zip(decoded, found.samples, strict=True):
            before.append(y_hat)
    grid = torch.arange(TANH_INPUT.low, TANH_INPUT.high + 1, dtype=torch.float64) / MEAN_ONE
    arrays["tanh"] = to_integers(MEAN_ONE * LRP_REACH * torch.tanh(grid))
    return arrays


class QuantisedSlice(NamedTuple):
    """The arrays of a slice, and its samples as later slices see them."""

    arrays: Arrays
    samples: list[Tensor]


def _quantise_slice(
    networks: SliceNetworks, seen: Sequence[Seen], parts: Sequence[Tensor], step: Seen, reach: Reach
) -> QuantisedSlice:
    """seen and parts: what its networks see, and the latents themselves, of each photograph."""
    count = parts[0].shape[1]
    fine = even_steps(count, MEAN_ONE)
    mean_step, scale_step = (x.flatten() for x in step)
    mean = calibrate(networks.mean, [x.mean for x in seen], mean_step, reach, fine, WIDE_LIMIT)
    network = with_levels(networks.scale, 0)
    scale = calibrate(network, [x.scale for x in seen], scale_step, reach, level_steps(count), WIDE_LIMIT)
    y_hat = [(y - mean).round() + mean for y, mean in zip(parts, mean.samples, strict=True)]
    samples = [networks.combine(y, networks.predict_residual(s, y)) for s, y in zip(seen, y_hat, strict=True)]
    own = _reach_of([*y_hat, *samples])
    both = [torch.cat([s.mean, y], 1) for s, y in zip(seen, y_hat, strict=True)]
    lrp_step = torch.cat([mean_step, even_steps(count, LATENT_ONE)])
    lrp = calibrate(networks.lrp, both, lrp_step, join(reach, Reach(own.astype(np.int64))), fine, WIDE_LIMIT)
    chains = {"mean": mean, "scale": scale, "lrp": lrp}
    if networks.merge is not None:
        pairs = [torch.cat([y, y], 1) for y in y_hat]  # the reach of a last layer is given, so that samples say nothing
        merge = nn.Sequential(networks.merge)
        chains["merge"] = calibrate(
            merge, pairs, fine.repeat(2), merge_reach(count, round(LRP_REACH * MEAN_ONE)), fine, WIDE_LIMIT
        )
    arrays: Arrays = {"reach": own}
    for name, chain in chains.items():
        arrays |= named(name, chain.arrays)
    return QuantisedSlice(arrays, samples)


# What further models of this kind are made of


def rounded_hyper_latents(model: HyperModel, latents: Sequence[tuple[Tensor, float]]) -> list[Tensor]:
    """What the networks see of z, for each of the latents."""
    quality = torch.zeros(1)  # on which nothing depends
    return [model.analyse(y, quality).round().clamp(HYPER.low, HYPER.high) for y, _ in latents]


def even_steps(channels: int, one: int) -> Tensor:
    """Channels in steps of 1 / one, as means are in those of 1 / MEAN_ONE."""
    return torch.full((channels,), 1 / one, dtype=torch.float64)


def level_steps(channels: int) -> Tensor:
    """Channels that are levels of the table of scales."""
    return torch.full((channels,), LOG_LEVEL / LEVEL_ONE, dtype=torch.float64)


def with_levels(network: nn.Sequential, first: int) -> nn.Sequential:
    """The network with outputs from `first` on as logarithms of the scale over the table's smallest."""
    changed = copy.deepcopy(network)
    last = layers_of(changed)[-1]
    assert last.bias is not None
    last.bias[first:] += math.log(SCALE_START / SCALE_MIN)
    return changed


def _reach_of(samples: Sequence[Tensor]) -> NDArray[np.int32]:
    """How far each channel may reach as an input, in steps of 1/16: twice as far as the samples do."""
    largest = torch.stack([x.abs().amax((0, 2, 3)) for x in samples]).amax(0)
    return to_integers((2 * largest).clamp(min=REACH_LEAST).mul(LATENT_ONE).ceil().clamp(max=LATENT_MAX))


def _to_steps(channels: int) -> nn.Sequential:
    """Each channel by itself: Swin blocks leave each in steps of its own."""
    same = nn.Conv2d(channels, channels, 1, groups=channels)
    nn.init.ones_(same.weight)
    assert same.bias is not None
    nn.init.zeros_(same.bias)
    return nn.Sequential(same)
