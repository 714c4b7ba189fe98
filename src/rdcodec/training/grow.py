"""Start a light model from the weights of a smaller one: the same pictures, until it learns better ones.

Channels and blocks that the smaller model lacks begin with weights that nothing of the old network reads: what leads
from new channels to old ones is zero, and new blocks add nothing. Gradients reach them from the first step on
(function-preserving growth, as in Net2Net, Chen et al. 2016, arXiv:1511.05641, with zeros in place of copies).
"""

from itertools import groupby, zip_longest

import torch
from torch import nn

from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import LightBlock, layers_of, shrink
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import CheckerboardModel
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.transforms.kinds import LightTransform

NEW_Z_LOG_SCALE = -1.0  # new hyper-latents are zero nearly always at first, and shall cost little


def grow(model: ImageModel, smaller: ImageModel) -> None:
    """Give a light model the reconstructions, and the bits of y, of one with fewer channels or blocks.

    `contains` must hold for their configurations.
    """
    assert isinstance(model.entropy, CheckerboardModel) and isinstance(smaller.entropy, CheckerboardModel)
    with torch.no_grad():
        _grow(model, smaller)
        _grow_entropy(model.entropy, smaller.entropy)


def contains(config: ModelConfig, smaller: ModelConfig) -> bool:
    """Whether both are light models with the same latents, and no part of the second is larger."""
    if config.latent_channels != smaller.latent_channels:
        return False
    for name in ("analysis", "synthesis", "entropy"):
        new, old = getattr(config, name), getattr(smaller, name)
        if not (isinstance(new, LightTransform | CheckerboardEntropy) and type(old) is type(new)):
            return False
        if isinstance(new, CheckerboardEntropy) and isinstance(old, CheckerboardEntropy) and not _passes_hold(new, old):
            return False
        if not all(a >= b for a, b in zip(_sizes(new), _sizes(old), strict=True)):
            return False
        if isinstance(new, LightTransform) and isinstance(old, LightTransform) and not _blocks_hold(new, old):
            return False
    return True


def _sizes(part: LightTransform | CheckerboardEntropy) -> list[int]:
    if isinstance(part, CheckerboardEntropy):
        first, *_, again, last = part.inner()
        return [part.hyper_channels, part.features, first, again, last]
    return [size for trunk in (part.stride8, part.stride16) for size in (trunk.width, trunk.blocks)]


def _passes_hold(new: CheckerboardEntropy, old: CheckerboardEntropy) -> bool:
    """Whether the first has the passes of the second; a pass that is new has to hold what pass 0 is."""
    if len(new.lattices()) == len(old.lattices()):
        return all(a >= b for a, b in zip(new.inner(), old.inner(), strict=True))
    return new.passes is not None and min(new.inner()[1:3]) >= old.inner()[0]


def _blocks_hold(new: LightTransform, old: LightTransform) -> bool:
    """Whether no block of the second is larger inside than that in its place."""
    pairs = ((new.stride8, old.stride8), (new.stride16, old.stride16))
    blocks = ((a, b) for trunk, before in pairs for a, b in zip(trunk.inner(), before.inner(), strict=False))
    return all(size >= size_before for block in blocks for size, size_before in zip(*block, strict=True))


def _grow(new: nn.Module, old: nn.Module) -> None:
    """Put the parameters of a module into a larger one of the same structure."""
    if isinstance(new, nn.Conv2d) and isinstance(old, nn.Conv2d):
        _widen(new, old, [(new.in_channels // new.groups, old.in_channels // old.groups)])
        return
    for name, parameter in old.named_parameters(recurse=False):
        first = tuple(slice(length) for length in parameter.shape)
        getattr(new, name)[first] = parameter
    if isinstance(new, nn.Sequential) and isinstance(old, nn.Sequential):
        _lengthen(new, old)
        return
    if isinstance(new, LightBlock) and isinstance(old, LightBlock) and new.feed_forward and not old.feed_forward:
        shrink(new.feed_forward[-1], 0)
    for name, child in old.named_children():
        _grow(getattr(new, name), child)


def _widen(new: nn.Conv2d, old: nn.Conv2d, inputs: list[tuple[int, int]]) -> None:
    """inputs: in the order in which they are joined, how many channels the new layer reads, and the old one."""
    assert new.bias is not None and old.bias is not None
    rows = old.out_channels
    new.bias[:rows] = old.bias
    new.weight[:rows] = 0
    start = old_start = 0
    for count, old_count in inputs:
        new.weight[:rows, start : start + old_count] = old.weight[:, old_start : old_start + old_count]
        start, old_start = start + count, old_start + old_count


def _lengthen(new: nn.Sequential, old: nn.Sequential) -> None:
    """Runs of blocks get their new ones at the end."""
    for of_new, of_old in zip(_runs(new), _runs(old), strict=True):
        for layer, before in zip_longest(of_new, of_old):
            if before is None:
                _silence(layer)
            else:
                _grow(layer, before)


def _runs(network: nn.Sequential) -> list[list[nn.Module]]:
    return [list(run) for _, run in groupby(network, key=type)]


def _begin_blind(network: nn.Sequential, first: nn.Sequential) -> None:
    """Let the network of a pass that the smaller model lacks give what pass 0 gives, which sees the features alone.

    What it makes besides of the elements that are decoded already is silent at first, as nothing of it is read.
    """
    enter, again, leave, first_enter, first_leave = layers_of(nn.ModuleList([network, first]))
    rows, features = first_enter.weight.shape[:2]
    for layer in (enter, again):
        layer.weight[:rows] = 0
    enter.weight[:rows, :features] = first_enter.weight
    again.weight[:rows, :rows, 0, 0] = torch.eye(rows, device=again.weight.device)  # behind a ReLU nothing is negative
    leave.weight[:] = 0
    leave.weight[:, :rows] = first_leave.weight
    for layer, bias in ((enter, first_enter.bias), (again, torch.zeros(rows)), (leave, first_leave.bias)):
        assert layer.bias is not None and bias is not None
        layer.bias[: len(bias)] = bias


def _silence(block: nn.Module) -> None:
    """Let a block pass on what it gets."""
    assert isinstance(block, LightBlock)
    shrink(block.mix[-1], 0)
    if block.feed_forward:
        shrink(block.feed_forward[-1], 0)


def _grow_entropy(new: CheckerboardModel, old: CheckerboardModel) -> None:
    context = 2 * new.latent_channels
    for _, name in old.later:
        joined, joined_before = new.part(name)[0], old.part(name)[0]
        assert isinstance(joined, nn.Conv2d) and isinstance(joined_before, nn.Conv2d)
        _widen(joined, joined_before, [(new.features, old.features), (context, context)])
    for name, _ in new.later[: -len(old.later)]:
        new.part(name).load_state_dict(new.part(old.later[0][0]).state_dict())
    for _, name in new.later[: -len(old.later)]:
        _begin_blind(new.part(name), old.first)
    last, first_new = new.hyper_analysis[-1], old.hyper_channels
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.bias[first_new:] = 0
    last.weight[first_new:] *= 0.1
    new.factorized_prior.log_scale.values[:, first_new:] = NEW_Z_LOG_SCALE
