"""What the networks of an entropy model are, by its configuration alone.

One description for both forms of each network: the floats that learn, and the integers that code.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rdcodec.errors import NeedsModel
from rdcodec.exact.chain import ACTIVATION, Arrays, Chain, Conv, Range, Shuffle
from rdcodec.exact.fixed import HYPER_MAX, LATENT_MAX, MEAN_MAX
from rdcodec.models.entropy.kinds import CharmEntropy, CheckerboardEntropy, LayerChain
from rdcodec.models.sizes import ANCHORS


def checkerboard_chains(config: CheckerboardEntropy, latent_channels: int) -> dict[str, Chain]:
    """Hyper-synthesis, the network of pass 0, and context and network of each later pass; in the order of coding."""
    m, n, features = latent_channels, config.hyper_channels, config.features
    pass_0, *hidden = config.inner()
    chains: dict[str, Chain] = {
        "hyper_synthesis": (
            Conv(n, n, 3, "relu"),
            Conv(n, 4 * features, 1, "relu"),
            Shuffle(),
            Conv(features, features, 3, "relu", groups=features),
            Conv(features, 4 * features, 1, "relu"),
            Shuffle(),
            Conv(features, features, 3, "relu", groups=features),
        ),
        "first": (Conv(features, pass_0, 1, "relu"), Conv(pass_0, 2 * m, 1)),
    }
    for (context, network), one, again in zip(config.later(), hidden[::2], hidden[1::2], strict=True):
        chains[context] = (Conv(m, 2 * m, 3, "relu", groups=m),)
        chains[network] = (
            Conv(2 * m + features, one, 1, "relu"),
            Conv(one, again, 1, "relu"),
            Conv(again, 2 * m, 1),
        )
    return chains


HYPER = Range(-HYPER_MAX, HYPER_MAX)
LATENT = Range(-LATENT_MAX, LATENT_MAX)
PARAMETER = Range(-MEAN_MAX, MEAN_MAX)
CHECKERBOARD_INPUTS = {
    "hyper_synthesis": HYPER,
    "first": ACTIVATION,
    "middle_context": LATENT,
    "middle": ACTIVATION,
    "context": LATENT,
    "second": ACTIVATION,
}


def levels(arrays: Arrays, name: str, channels: int) -> NDArray[np.int32]:
    """Offsets of log-scales at the anchors of quality, (ANCHORS, channels). NeedsModel if they are not there."""
    found = arrays.get(name)
    if found is None or found.shape != (ANCHORS, channels) or found.dtype != np.int32:
        raise NeedsModel(f"integer weights {name} are missing or altered: fetch the model's weights again")
    # Beyond the table on either side there is nothing left to tell apart, and sums stay small.
    return np.clip(found, -(1 << 14), 1 << 14)


def nested(arrays: Arrays, chain: str) -> dict[str, Arrays]:
    """The arrays of each layer of a chain."""
    layers: dict[str, Arrays] = {}
    for name, array in arrays.items():
        if name.startswith(f"{chain}."):
            index, _, kind = name.removeprefix(f"{chain}.").rpartition(".")
            layers.setdefault(index, {})[kind] = array
    return layers


def synthesis_chain(config: LayerChain, inputs: int) -> Chain:
    """A hyper-synthesis of convolutions, (B, inputs, h, w) -> (B, config.outputs, 4h, 4w)."""
    last = len(config.channels) - 1
    sides = pairwise((inputs, *config.channels))
    return [
        Conv(a, b, kernel, config.activation if place < last or config.ends_active else None, up=stride)
        for place, ((a, b), kernel, stride) in enumerate(zip(sides, config.kernels, config.strides, strict=True))
    ]


def straight(widths: Sequence[int], kernels: Sequence[int]) -> Chain:
    """Convolutions with ReLU between them, (B, widths[0], h, w) -> (B, widths[-1], h, w)."""
    last = len(kernels) - 1
    return [
        Conv(a, b, kernel, "relu" if place < last else None)
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
