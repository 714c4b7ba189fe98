"""Channels of a trained light model: those that never pass their ReLU go, and the busiest of the others come last.

A channel that is zero in every picture costs time and memory and brings nothing. Where zeros lie together, the core
passes over more of them at once: that is what the order of the entropy networks' channels is for. Pictures that leave
the same channels at zero keep their symbols, and but for rounding their pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.exact.chain import Arrays
from rdcodec.export.calibration import CALIBRATION_QUALITIES, hard_pictures
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import LightBlock, pad_to_multiple
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.sizes import STRIDE
from rdcodec.models.state import raw_of
from rdcodec.models.transforms.kinds import LightTransform, Trunk
from rdcodec.models.weights import Weights

Image = NDArray[np.uint8]
SIDES = ("analysis", "synthesis")

# Of the checkerboard model, by the ReLU that channels leave through last: the layers that give them, with how many
# outputs a pixel shuffle makes a channel of, and the layers that read them. Those of HIDDEN can become fewer.
HIDDEN = ("first.1", "middle.1", "middle.3", "second.1", "second.3")
BETWEEN: dict[str, tuple[dict[str, int], tuple[str, ...]]] = {
    "hyper_synthesis.1": ({"hyper_synthesis.0": 1}, ("hyper_synthesis.2",)),
    "hyper_synthesis.6": ({"hyper_synthesis.2": 4, "hyper_synthesis.5": 1}, ("hyper_synthesis.7",)),
    "hyper_synthesis.11": ({"hyper_synthesis.7": 4, "hyper_synthesis.10": 1}, ("first.0", "middle.0", "second.0")),
    "first.1": ({"first.0": 1}, ("first.2",)),
    "middle.1": ({"middle.0": 1}, ("middle.2",)),
    "middle.3": ({"middle.2": 1}, ("middle.4",)),
    "second.1": ({"second.0": 1}, ("second.2",)),
    "second.3": ({"second.2": 1}, ("second.4",)),
}


@dataclass(frozen=True)
class Block:
    """A residual block of a trunk: its name in the model, and which channels pass, (mixed,) and (hidden,) bool."""

    name: str
    mixed: Tensor
    hidden: Tensor


def with_busy_channels(weights: Weights, photos: Sequence[Image]) -> Weights:
    """The same networks without what is zero on all photographs, the entropy networks' channels by how busy they are.

    photos: uint8 (H, W, 3); two hard pictures are looked at besides. The tag is the caller's to change. Weights whose
    kinds are others come back as they are. The integers of the synthesis are left out: `with_pixels` measures them
    afresh. NeedsModel for weights that only decode.
    """
    config = weights.config
    if not isinstance(config.entropy, CheckerboardEntropy):
        return weights
    model = weights.build()
    shares = busy_shares(model, [*photos, *hard_pictures()])
    sorted_by_use = _in_order(weights, shares)
    blocks = {side: _blocks(model, side, shares) for side in SIDES if isinstance(getattr(config, side), LightTransform)}
    config, state = sorted_by_use.config, dict(sorted_by_use.state)
    for block in (block for found in blocks.values() for block in found):
        _drop(state, block)
    sides = {side: _narrowed(getattr(config, side), side, found) for side, found in blocks.items()}
    return replace(sorted_by_use, config=config.model_copy(update=sides), raw=raw_of(state), pixels={})


@torch.inference_mode()
def busy_shares(model: ImageModel, photos: Sequence[Image]) -> dict[str, Tensor]:
    """How often each channel is above 0 behind each ReLU, by the name of that; (C,) of 0 to 1.

    photos: uint8 (H, W, 3), at low, middle and high quality.
    """
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        seen.setdefault(name, []).append((output > 0).double().mean((0, 2, 3)))

    relus = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
    hooks = [module.register_forward_hook(partial(watch, name)) for name, module in relus]
    for photo in photos:
        x = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float()
        for quality in CALIBRATION_QUALITIES:
            model(pad_to_multiple(x.contiguous(memory_format=torch.channels_last), STRIDE), torch.tensor([quality]))
    for hook in hooks:
        hook.remove()
    return {name: torch.stack(shares).mean(0) for name, shares in seen.items()}


def _blocks(model: ImageModel, side: str, shares: dict[str, Tensor]) -> list[Block]:
    found = []
    for name, block in getattr(model, side).named_modules(prefix=side):
        if isinstance(block, LightBlock):
            mixed = shares[f"{name}.mix.3"] > 0
            if not mixed.any():
                mixed[0] = True  # a layer has a channel at least
            hidden = shares.get(f"{name}.feed_forward.1", torch.zeros(0)) > 0
            found.append(Block(name, mixed, hidden))
    return found


def _drop(state: dict[str, Tensor], block: Block) -> None:
    """Leave out of a model's state the channels of a block that do not pass."""

    def take(layer: str, kept: Tensor, axis: int, *parts: str) -> None:
        for name in (f"{block.name}.{layer}.{part}" for part in parts):
            state[name] = state[name].index_select(axis, kept.nonzero().flatten())

    for layer in ("mix.0", "mix.2"):
        take(layer, block.mixed, 0, "weight", "bias")
    take("mix.4", block.mixed, 1, "weight")
    if block.hidden.any():
        take("feed_forward.0", block.hidden, 0, "weight", "bias")
        take("feed_forward.2", block.hidden, 1, "weight")
    elif len(block.hidden):  # what is left of the second step is its bias; in float32 the sum rounds nothing more
        bias = f"{block.name}.mix.4.bias"
        state[bias] = state[bias].float() + state[f"{block.name}.feed_forward.2.bias"].float()
        for layer in ("feed_forward.0", "feed_forward.2"):
            del state[f"{block.name}.{layer}.weight"], state[f"{block.name}.{layer}.bias"]


def _narrowed(transform: LightTransform, side: str, blocks: Sequence[Block]) -> LightTransform:
    """The record of the transform with the widths that are left."""
    first, second = ("stride8", "stride16") if side == "analysis" else ("stride16", "stride8")
    split = getattr(transform, first).blocks
    parts = {first: blocks[:split], second: blocks[split:]}
    return transform.model_copy(update={name: _trunk(getattr(transform, name), part) for name, part in parts.items()})


def _trunk(trunk: Trunk, blocks: Sequence[Block]) -> Trunk:
    if not blocks:
        return trunk
    widths = {name: tuple(int(getattr(block, name).sum()) for block in blocks) for name in ("mixed", "hidden")}
    return trunk.model_copy(update=widths)


def _in_order(weights: Weights, shares: dict[str, Tensor]) -> Weights:
    """The channels between the layers of the entropy networks from the idlest to the busiest, in floats and integers.

    Those that are never busy go, where the configuration can say so.
    """
    busy = {relu: shares[f"entropy.{relu}"] for relu in BETWEEN if f"entropy.{relu}" in shares}
    orders = {relu: np.argsort(share.numpy(), kind="stable") for relu, share in busy.items()}
    idle = {relu: int((share == 0).sum()) for relu, share in busy.items() if relu in HIDDEN}
    kept = {relu: order[min(idle.get(relu, 0), len(order) - 1) :] for relu, order in orders.items()}
    widths = tuple(len(kept[relu]) for relu in HIDDEN if relu in kept)
    entropy = weights.config.entropy.model_copy(update={"hidden_each": widths})
    return replace(
        weights,
        config=weights.config.model_copy(update={"entropy": entropy}),
        raw=_permuted(weights.raw, "entropy.", kept),
        entropy=_permuted(weights.entropy, "", kept),
    )


def _permuted(arrays: Arrays, prefix: str, kept: dict[str, NDArray[np.int64]]) -> Arrays:
    """Of the channels before each ReLU those kept, in their order."""
    arrays = dict(arrays)
    for relu, order in kept.items():
        writers, readers = BETWEEN[relu]
        (channels,) = {len(arrays[f"{prefix}{layer}.bias"]) // each for layer, each in writers.items()}
        for layer, each in writers.items():
            rows = (each * order[:, None] + np.arange(each)).ravel()
            for name in (f"{prefix}{layer}.{part}" for part in ("weight", "bias", "shift")):
                if name in arrays:
                    arrays[name] = np.ascontiguousarray(arrays[name][rows])
        for name in (f"{prefix}{layer}.weight" for layer in readers):
            if name in arrays:
                of_others = arrays[name][:, channels:]  # later passes see the context behind the features
                arrays[name] = np.concatenate([arrays[name][:, order], of_others], 1)
    return arrays
