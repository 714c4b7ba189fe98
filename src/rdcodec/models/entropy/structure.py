"""What the networks of an entropy model are, by its configuration alone.

One description for both forms of each network: the floats that learn, and the integers that code.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rdcodec.exact.layers import Activation, Chain, Conv, Shuffle
from rdcodec.models.entropy.kinds import CharmEntropy, CheckerboardEntropy, LayerChain


def checkerboard_chains(config: CheckerboardEntropy, latent_channels: int) -> dict[str, Chain]:
    """Hyper-synthesis, networks of both passes, and the context of the second; in the order in which they are built."""
    m, n, features, hidden = latent_channels, config.hyper_channels, config.features, config.hidden
    relu = nn.ReLU
    return {
        "hyper_synthesis": (
            Conv(n, n, 3, relu),
            Conv(n, 4 * features, 1, relu),
            Shuffle(),
            Conv(features, features, 3, relu, groups=features),
            Conv(features, 4 * features, 1, relu),
            Shuffle(),
            Conv(features, features, 3, relu, groups=features),
        ),
        "first": (Conv(features, hidden, 1, relu), Conv(hidden, 2 * m, 1)),
        "context": (Conv(m, 2 * m, 3, relu, groups=m),),
        "second": (
            Conv(2 * m + features, hidden, 1, relu),
            Conv(hidden, hidden, 1, relu),
            Conv(hidden, 2 * m, 1),
        ),
    }


def synthesis_chain(config: LayerChain, inputs: int) -> Chain:
    """A hyper-synthesis of convolutions, (B, inputs, h, w) -> (B, config.outputs, 4h, 4w)."""
    kinds: dict[str, Activation] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
    last = len(config.channels) - 1
    sides = pairwise((inputs, *config.channels))
    return [
        Conv(a, b, kernel, kinds[config.activation] if place < last or config.ends_active else None, up=stride)
        for place, ((a, b), kernel, stride) in enumerate(zip(sides, config.kernels, config.strides, strict=True))
    ]


def straight(widths: Sequence[int], kernels: Sequence[int]) -> Chain:
    """Convolutions with ReLU between them, (B, widths[0], h, w) -> (B, widths[-1], h, w)."""
    last = len(kernels) - 1
    return [
        Conv(a, b, kernel, nn.ReLU if place < last else None)
        for place, ((a, b), kernel) in enumerate(zip(pairwise(widths), kernels, strict=True))
    ]


def reduce_chain(config: CharmEntropy) -> Chain:
    """The reduction for all slices; empty where there is none."""
    reduction = config.reduction
    return [Conv(config.features, len(config.slices) * reduction.channels, reduction.kernel)] if reduction else []


def slice_chains(config: CharmEntropy, index: int) -> dict[str, Chain]:
    """The networks of a slice; "lrp" is empty without LRP, "merge" without a convolution that merges."""
    seen, channels, widths = seen_channels(config, index), config.slices[index], config.widths_of(index)
    residual = straight((seen + channels, *widths, channels), config.kernels) if config.lrp else []
    merge = [Conv(2 * channels, channels, config.merge_kernel)] if config.merge_kernel else []
    parameters = straight((seen, *widths, channels), config.kernels)
    return {"mean": parameters, "scale": parameters, "lrp": residual, "merge": merge}


class Seen(NamedTuple):
    """What the networks of a slice see of hyper-latents and earlier slices; (B, channels, h, w) each."""

    mean: Tensor
    scale: Tensor


def seen_channels(config: CharmEntropy, index: int) -> int:
    """How many channels the mean, and the scale, of a slice see."""
    if config.reduction:
        own = config.reduction.channels
    else:
        own = config.slices[index] if config.own_channels else config.features // 2
    return own + sum(config.slices[: supports(config, index)])


def supports(config: CharmEntropy, index: int) -> int:
    """How many of the earlier slices the one at `index` sees: the first ones."""
    return index if config.max_support is None else min(index, config.max_support)


def share(config: CharmEntropy, reduced: Tensor) -> list[Seen]:
    """The output of the reduction, or of the hyper-synthesis where there is none, shared among the slices."""
    count = len(config.slices)
    if config.reduction:
        return [Seen(part, part) for part in reduced.chunk(count, 1)]
    mean, scale = reduced.chunk(2, 1)
    if not config.own_channels:
        return [Seen(mean, scale)] * count
    parts = (torch.split(part, list(config.slices), 1) for part in (mean, scale))
    return [Seen(*part) for part in zip(*parts, strict=True)]


def see(config: CharmEntropy, index: int, own: Seen, decoded: list[Tensor]) -> Seen:
    """Add the earlier slices that the one at `index` sees."""
    before = decoded[: supports(config, index)]
    mean = torch.cat([own.mean, *before], 1)
    return Seen(mean, mean if own.scale is own.mean else torch.cat([own.scale, *before], 1))
