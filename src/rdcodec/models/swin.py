"""Swin transformer stages, shared by transforms and hyper-transforms (Zhu et al. 2022, ICLR, section 3.1).

Tensors are (B, h, w, C) inside. Attention runs within square windows, which every second block moves by half a
window (Liu et al. 2021, arXiv:2103.14030, section 3.2); windows that reach beyond the border see only what is within.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.models.blocks import down, linear, shrink
from rdcodec.models.stages import SwinStages

MLP_RATIO = 4


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for each offset and head; (B, h, w, C) -> the same."""

    index: Tensor  # of the bias of query q and key k, (window^2, window^2)

    def __init__(self, width: int, window: int, head_channels: int, shift: int) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.heads = width // head_channels
        self.qkv = linear(width, 3 * width)
        self.project = linear(width, width)
        self.bias = nn.Parameter(torch.zeros(self.heads, (2 * window - 1) ** 2))
        self.register_buffer("index", offset_index(window), persistent=False)
        shrink(self.project, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        padded = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        windows = split_windows(padded.roll((-self.shift, -self.shift), (1, 2)), self.window)
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind()  # (B * windows, heads, window^2, head_channels)
        bias = self._masked_bias(batch, height, width).to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, bias)
        projected = self.project(mixed.transpose(1, 2).flatten(2))
        joined = join_windows(projected, self.window, padded.shape[1], padded.shape[2])
        return joined.roll((self.shift, self.shift), (1, 2))[:, :height, :width]

    def _masked_bias(self, batch: int, height: int, width: int) -> Tensor:
        """What is added to the scores: (1, heads, window^2, window^2), or (B * windows, ...) where masks differ."""
        bias = self.bias[:, self.index]
        visible = window_mask(height, width, self.window, self.shift, bias.device)
        if visible is None:
            return bias[None]
        return torch.where(visible[:, None], bias, -torch.inf).repeat(batch, 1, 1, 1)


def window_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor | None:
    """Which key each query sees, (windows, window^2, window^2) bool; none where all see all of their window."""
    if not shift and height % window == width % window == 0:
        return None
    rows, columns = (axis_regions(side, window, shift, device) for side in (height, width))
    region = split_windows((4 * rows[:, None] + columns)[None, :, :, None], window)
    return region == region.transpose(1, 2)


def axis_regions(length: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Labels of the positions of one axis, padded and shifted; within a window only equal ones see each other.

    They part what the shift brought round from the other end, and what lies beyond the border, from the rest.
    """
    position = torch.arange(length + -length % window, device=device).roll(-shift)
    return (position < shift).long() + 2 * (position >= length).long()


def offset_index(window: int) -> Tensor:
    """Number of the offset between each two positions of a window, (window^2, window^2) in [0, (2 window - 1)^2)."""
    row, column = (axis.flatten() for axis in torch.meshgrid([torch.arange(window, device="cpu")] * 2, indexing="ij"))
    rows, columns = (axis[:, None] - axis + window - 1 for axis in (row, column))
    return rows * (2 * window - 1) + columns


def split_windows(x: Tensor, window: int) -> Tensor:
    """(B, h, w, C), sides multiples of the window -> (B * windows, window^2, C)."""
    batch, height, width, channels = x.shape
    tiles = x.reshape(batch, height // window, window, width // window, window, channels)
    return tiles.transpose(2, 3).reshape(-1, window * window, channels)


def join_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of split_windows."""
    channels = windows.shape[-1]
    tiles = windows.reshape(-1, height // window, width // window, window, window, channels)
    return tiles.transpose(2, 3).reshape(-1, height, width, channels)


class SwinBlock(nn.Module):
    """Two residual steps: attention within windows, then two linear layers; (B, h, w, C) -> the same.

    The sum stays in float32 whatever the layers run in.
    """

    def __init__(self, width: int, window: int, head_channels: int, shift: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), WindowAttention(width, window, head_channels, shift))
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), linear(width, MLP_RATIO * width), nn.GELU(), linear(MLP_RATIO * width, width)
        )
        shrink(self.feed_forward[-1], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        x = x + self.attention(x)
        out: Tensor = x + self.feed_forward(x)
        return out


class PatchMerge(nn.Module):
    """(B, h, w, inputs), even sides -> (B, h / 2, w / 2, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.LayerNorm(4 * inputs), linear(4 * inputs, outputs, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        patches = split_windows(x, 2).reshape(batch, height // 2, width // 2, 4 * channels)
        merged: Tensor = self.reduce(patches)
        return merged


class PatchSplit(nn.Module):
    """(B, h, w, inputs) -> (B, 2h, 2w, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(linear(inputs, 4 * outputs, bias=False), nn.LayerNorm(4 * outputs))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        patches: Tensor = self.expand(x)
        return join_windows(patches.reshape(-1, 4, patches.shape[-1] // 4), 2, 2 * height, 2 * width)


class Permute(nn.Module):
    """The axes of a tensor in another order."""

    def __init__(self, axes: Sequence[int]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(*self.axes)


def channels_last() -> Permute:
    """(B, C, h, w) -> (B, h, w, C)."""
    return Permute((0, 2, 3, 1))


def channels_first() -> Permute:
    """(B, h, w, C) -> (B, C, h, w)."""
    return Permute((0, 3, 1, 2))


def down_stages(inputs: int, config: SwinStages) -> list[nn.Sequential]:
    """Stages that halve the sides each, the first of them from (B, inputs, h, w) to (B, h / 2, w / 2, C)."""
    first = (down(inputs, config.widths[0], 2), channels_last())
    enter = [first, *((PatchMerge(a, b),) for a, b in pairwise(config.widths))]
    return [nn.Sequential(*layers, *_blocks(config, stage)) for stage, layers in enumerate(enter)]


class BlockShape(NamedTuple):
    """The numbers that make a SwinBlock."""

    width: int
    window: int
    head_channels: int
    shift: int


class SplitShape(NamedTuple):
    """The numbers that make a PatchSplit."""

    inputs: int
    outputs: int


def up_layers(config: SwinStages) -> list[BlockShape | SplitShape]:
    """The layers of `up_stages` from its second place on, up to the linear layer that ends it."""
    layers: list[BlockShape | SplitShape] = list(_shapes(config, 0))
    for stage, (a, b) in enumerate(pairwise(config.widths), 1):
        layers += [SplitShape(a, b), *_shapes(config, stage)]
    return layers


def up_stages(config: SwinStages, outputs: int) -> nn.Sequential:
    """(B, C, h, w) -> (B, outputs, 2^stages h, 2^stages w)."""
    splits = [PatchSplit(a, b) for a, b in pairwise(config.widths)]
    leave = (linear(config.widths[-1], 4 * outputs), channels_first(), nn.PixelShuffle(2))
    stages = [layer for stage, split in enumerate(splits) for layer in (*_blocks(config, stage), split)]
    return nn.Sequential(channels_last(), *stages, *_blocks(config, len(splits)), *leave)


def _blocks(config: SwinStages, stage: int) -> list[SwinBlock]:
    """The blocks of a stage."""
    return [SwinBlock(*shape) for shape in _shapes(config, stage)]


def _shapes(config: SwinStages, stage: int) -> list[BlockShape]:
    """Of the blocks of a stage; every second one moves its windows by half."""
    shifts = [index % 2 * (config.window // 2) for index in range(config.depths[stage])]
    return [BlockShape(config.widths[stage], config.window, config.head_channels, shift) for shift in shifts]
