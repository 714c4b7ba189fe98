"""A hyper-synthesis of Swin blocks (`models/swin.py`, `up_stages`) on integers.

`export` turns a trained one into arrays, `IntegerSwin` runs them, `tests/models/reference_swin.py` defines the result.
The sum that runs through the blocks of a stage comes in one step for all channels; docs/format.md has the formulas.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.errors import NeedsModel
from rdcodec.exact.arithmetic import product
from rdcodec.exact.chain import MAX_SHIFT, Arrays, Range
from rdcodec.exact.fixed import ACTIVATION_MAX, CARRIER_LIMIT
from rdcodec.exact.nonlinear import (
    EXPONENTS,
    NORMAL,
    OVERFLOW,
    SHARE_BITS,
    IntegerLinear,
    IntegerScale,
    check_exponent,
    check_normal,
    look_up,
    normal_length,
    normalise,
    pick,
    pick_layer,
    soft_shares,
)
from rdcodec.models.entropy.kinds import SwinHyperSynthesis
from rdcodec.models.swin import (
    MLP_RATIO,
    BlockShape,
    SplitShape,
    join_windows,
    offset_index,
    split_windows,
    up_layers,
    window_mask,
)

STREAM = Range(-65535, 65535)
BEFORE_GELU = Range(-2048, 2047)
AFTER_GELU = Range(-1023, 1023)


def attention_range(head_channels: int) -> Range:
    """Of queries, keys and values: a score of so many channels stays within 2^23, and its bias has as much."""
    limit = min(ACTIVATION_MAX, int((CARRIER_LIMIT // 2 // head_channels) ** 0.5))
    return Range(-limit, limit)


class IntegerSwin:
    """A hyper-synthesis: (B, N, h, w) -> (B, outputs, 4h, 4w), integers in float32 carriers, within `outputs`.

    config gives the structure, arrays every number. Run it under `exact_arithmetic`.
    Raises NeedsModel if an array is missing or altered, or if a sum could overflow.
    """

    def __init__(
        self, config: SwinHyperSynthesis, arrays: Mapping[str, NDArray[Any]], inputs: Range, outputs: Range
    ) -> None:
        if inputs.largest > STREAM.largest:
            raise ValueError(f"inputs go beyond {STREAM.largest}")
        exponent = check_exponent(pick(arrays, "exponent", np.int32, (EXPONENTS,)))
        offsets = offset_index(config.window)
        enter = IntegerScale(pick_layer(arrays, "enter", config.widths[:1]), STREAM)
        self.steps: list[IntegerScale | _Block | _Split | IntegerLinear] = [enter]
        for index, layer in enumerate(up_layers(config), 1):
            if isinstance(layer, BlockShape):
                self.steps.append(_Block(layer, _below(arrays, index), exponent, offsets))
            else:
                self.steps.append(_Split(layer, _below(arrays, index)))
        leave = pick_layer(_below(arrays, len(self.steps)), "leave", (4 * config.outputs, config.widths[-1]))
        self.steps.append(IntegerLinear(leave, STREAM, outputs))

    def __call__(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for step in self.steps:
            x = step(x)
        return F.pixel_shuffle(x.permute(0, 3, 1, 2), 2)

    def to(self, device: torch.device) -> "IntegerSwin":
        """Move the weights to a device."""
        for step in self.steps:
            step.to(device)
        return self


class _Block:
    """A Swin block, (B, h, w, C) -> the same."""

    def __init__(self, block: BlockShape, arrays: Arrays, exponent: Tensor, offsets: Tensor) -> None:
        self.window, self.shift = block.window, block.shift
        self.heads = block.width // block.head_channels
        head = attention_range(block.head_channels)
        self.limit = head.high
        width, wide = block.width, MLP_RATIO * block.width
        self.epsilons = [check_normal(width, pick(arrays, f"norm{i}", np.int64, (1,)), STREAM) for i in (1, 2)]
        first, second = (normal_length(width, epsilon) for epsilon in self.epsilons)
        self.qkv = IntegerLinear(pick_layer(arrays, "qkv", (3 * width, width)), NORMAL, head, first)
        self.project = IntegerLinear(pick_layer(arrays, "project", (width, width)), head, STREAM)
        self.up = IntegerLinear(pick_layer(arrays, "up", (wide, width)), NORMAL, BEFORE_GELU, second)
        self.down = IntegerLinear(pick_layer(arrays, "down", (width, wide)), AFTER_GELU, STREAM)
        bias = pick(arrays, "scores.bias", np.int32, (self.heads, (2 * self.window - 1) ** 2)).astype(np.int64)
        shift = pick(arrays, "scores.shift", np.int8, (self.heads,)).astype(np.int64)
        gelu = pick(arrays, "gelu", np.int16, (BEFORE_GELU.high - BEFORE_GELU.low + 1,)).astype(np.int64)
        products = block.head_channels * self.limit**2
        shares = 2**SHARE_BITS + self.window**2 // 2 + 1
        if (
            products + np.abs(bias).max() >= CARRIER_LIMIT
            or shares * self.limit >= CARRIER_LIMIT
            or np.abs(shift).max() > MAX_SHIFT
            or np.abs(gelu).max() > AFTER_GELU.high
        ):
            raise NeedsModel(OVERFLOW)
        unit = np.ldexp(1.0, -shift)
        self.unit = torch.from_numpy(unit).float()[:, None, None]
        self.bias = torch.from_numpy(bias * unit[:, None]).float()
        self.offsets = offsets  # spread over them the bias would be far larger than its array
        self.gelu = torch.from_numpy(gelu).float()
        self.exponent = exponent

    def __call__(self, x: Tensor) -> Tensor:
        x = (x + self._attend(self.qkv(normalise(x, self.epsilons[0])))).clamp_(STREAM.low, STREAM.high)
        hidden = self.up(normalise(x, self.epsilons[1]))
        fed = self.down(look_up(self.gelu, hidden.sub_(BEFORE_GELU.low)))
        return (x + fed).clamp_(STREAM.low, STREAM.high)

    def _attend(self, qkv: Tensor) -> Tensor:
        height, width = qkv.shape[1:3]
        padded = F.pad(qkv, (0, 0, 0, -width % self.window, 0, -height % self.window))
        windows = split_windows(padded.roll((-self.shift, -self.shift), (1, 2)), self.window)
        parts = windows.reshape(*windows.shape[:2], 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind()
        scores = (product(query, key.mT).mul_(self.unit).add_(self.bias[:, self.offsets])).floor_()
        visible = window_mask(height, width, self.window, self.shift, qkv.device)
        if visible is not None:
            batches = scores.reshape(-1, *visible.shape[:1], *scores.shape[1:])
            scores = batches.masked_fill(~visible[:, None], -torch.inf).flatten(0, 1)
        total = product(soft_shares(scores, self.exponent), value)
        half = 2 ** (SHARE_BITS - 1)
        mixed = (total + half).mul_(2.0**-SHARE_BITS).floor_().clamp_(-self.limit, self.limit)
        joined = join_windows(mixed.transpose(1, 2).flatten(2), self.window, padded.shape[1], padded.shape[2])
        return self.project(joined.roll((self.shift, self.shift), (1, 2))[:, :height, :width])

    def to(self, device: torch.device) -> None:
        for layer in (self.qkv, self.project, self.up, self.down):
            layer.to(device)
        self.unit, self.bias, self.offsets = (part.to(device) for part in (self.unit, self.bias, self.offsets))
        self.gelu, self.exponent = self.gelu.to(device), self.exponent.to(device)


class _Split:
    """A PatchSplit, (B, h, w, inputs) -> (B, 2h, 2w, outputs)."""

    def __init__(self, split: SplitShape, arrays: Arrays) -> None:
        wide = 4 * split.outputs
        self.expand = IntegerLinear(pick_layer(arrays, "expand", (wide, split.inputs)), STREAM, STREAM)
        self.epsilon = check_normal(wide, pick(arrays, "norm", np.int64, (1,)), STREAM)
        self.scale = IntegerScale(pick_layer(arrays, "scale", (wide,)), STREAM)

    def __call__(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        patches = self.scale(normalise(self.expand(x), self.epsilon))
        return join_windows(patches.reshape(-1, 4, patches.shape[-1] // 4), 2, 2 * height, 2 * width)

    def to(self, device: torch.device) -> None:
        self.expand.to(device)
        self.scale.to(device)


def _below(arrays: Mapping[str, NDArray[Any]], index: int) -> Arrays:
    start = f"{index}."
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
