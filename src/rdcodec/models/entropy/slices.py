"""What each slice of channels sees, in floats and in integers alike."""

from typing import NamedTuple

import torch
from torch import Tensor

from rdcodec.models.entropy.kinds import CharmEntropy
from rdcodec.models.entropy.structure import supports


class Seen(NamedTuple):
    """What the networks of a slice see of hyper-latents and earlier slices; (B, channels, h, w) each."""

    mean: Tensor
    scale: Tensor


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
