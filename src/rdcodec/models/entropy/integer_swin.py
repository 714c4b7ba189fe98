"""A hyper-synthesis of Swin blocks (`models/swin.py`, `up_stages`) on integers.

`calibrate_swin` turns a trained one into arrays, `IntegerSwin` runs them, `reference_swin.py` defines the result.
The sum that runs through the blocks of a stage comes in one step for all channels; docs/format.md has the formulas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.errors import NeedsModel
from rdcodec.exact.arithmetic import product
from rdcodec.exact.fixed import ACTIVATION_MAX, CARRIER_LIMIT, to_integers
from rdcodec.exact.layers import MAX_SHIFT, Arrays, Range
from rdcodec.exact.nonlinear import (
    EXPONENT_ONE,
    EXPONENTS,
    NORMAL,
    NORMAL_BITS,
    OVERFLOW,
    SHARE_BITS,
    WIDE_LIMIT,
    IntegerLinear,
    IntegerScale,
    check_exponent,
    check_normal,
    exponent_table,
    look_up,
    normal_length,
    normalise,
    pick,
    pick_layer,
    quantise_linear,
    soft_shares,
)
from rdcodec.models.swin import (
    PatchSplit,
    SwinBlock,
    WindowAttention,
    join_windows,
    split_windows,
    window_mask,
)

STREAM = Range(-65535, 65535)
BEFORE_GELU = Range(-2048, 2047)
AFTER_GELU = Range(-1023, 1023)
GELU_ZERO = 5.0  # below -5, GELU is 0 to six digits


def attention_range(head_channels: int) -> Range:
    """Of queries, keys and values: a score of so many channels stays within 2^23, and its bias has as much."""
    limit = min(ACTIVATION_MAX, int((CARRIER_LIMIT // 2 // head_channels) ** 0.5))
    return Range(-limit, limit)


class IntegerSwin:
    """A hyper-synthesis: (B, N, h, w) -> (B, outputs, 4h, 4w), integers in float32 carriers, within `outputs`.

    stages gives the structure, arrays every number. Run it under `exact_arithmetic`.
    Raises NeedsModel if an array is missing or altered, or if a sum could overflow.
    """

    def __init__(
        self, stages: nn.Sequential, arrays: Mapping[str, NDArray[Any]], inputs: Range, outputs: Range
    ) -> None:
        if inputs.largest > STREAM.largest:
            raise ValueError(f"inputs go beyond {STREAM.largest}")
        exponent = check_exponent(pick(arrays, "exponent", np.int32, (EXPONENTS,)))
        self.steps: list[IntegerScale | _Block | _Split | IntegerLinear] = []
        for index, layer in enumerate(stages):
            if isinstance(layer, SwinBlock):
                self.steps.append(_Block(layer, _below(arrays, index), exponent))
            elif isinstance(layer, PatchSplit):
                self.steps.append(_Split(layer, _below(arrays, index)))
            elif isinstance(layer, nn.Linear):
                self.steps.append(IntegerLinear(_linear(_below(arrays, index), "leave", layer), STREAM, outputs))
        channels = next(layer.width for layer in self.steps if isinstance(layer, (_Block, _Split)))
        self.steps.insert(0, IntegerScale(pick_layer(arrays, "enter", (channels,)), STREAM))

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

    def __init__(self, block: SwinBlock, arrays: Arrays, exponent: Tensor) -> None:
        attention, (_, up, _, down) = _attention(block), block.feed_forward
        self.width, self.heads = attention.qkv.in_features, attention.heads
        self.window, self.shift = attention.window, attention.shift
        head = attention_range(self.width // self.heads)
        self.limit = head.high
        self.epsilons = [check_normal(self.width, pick(arrays, f"norm{i}", np.int64, (1,)), STREAM) for i in (1, 2)]
        first, second = (normal_length(self.width, epsilon) for epsilon in self.epsilons)
        self.qkv = IntegerLinear(_linear(arrays, "qkv", attention.qkv), NORMAL, head, first)
        self.project = IntegerLinear(_linear(arrays, "project", attention.project), head, STREAM)
        self.up = IntegerLinear(_linear(arrays, "up", up), NORMAL, BEFORE_GELU, second)
        self.down = IntegerLinear(_linear(arrays, "down", down), AFTER_GELU, STREAM)
        bias = pick(arrays, "scores.bias", np.int32, tuple(attention.bias.shape)).astype(np.int64)
        shift = pick(arrays, "scores.shift", np.int8, (self.heads,)).astype(np.int64)
        gelu = pick(arrays, "gelu", np.int16, (BEFORE_GELU.high - BEFORE_GELU.low + 1,)).astype(np.int64)
        products = self.width // self.heads * self.limit**2
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
        self.bias = torch.from_numpy(bias * unit[:, None]).float()[:, attention.index]
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
        scores = (product(query, key.mT).mul_(self.unit).add_(self.bias)).floor_()
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
        self.unit, self.bias = self.unit.to(device), self.bias.to(device)
        self.gelu, self.exponent = self.gelu.to(device), self.exponent.to(device)


class _Split:
    """A PatchSplit, (B, h, w, inputs) -> (B, 2h, 2w, outputs)."""

    def __init__(self, split: PatchSplit, arrays: Arrays) -> None:
        expand = split.expand[0]
        assert isinstance(expand, nn.Linear)
        self.width = expand.in_features
        self.expand = IntegerLinear(_linear(arrays, "expand", expand), STREAM, STREAM)
        self.epsilon = check_normal(expand.out_features, pick(arrays, "norm", np.int64, (1,)), STREAM)
        self.scale = IntegerScale(pick_layer(arrays, "scale", (expand.out_features,)), STREAM)

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


def _linear(arrays: Arrays, name: str, layer: nn.Module) -> Arrays:
    assert isinstance(layer, nn.Linear)
    return pick_layer(arrays, name, tuple(layer.weight.shape))


def _attention(block: SwinBlock) -> WindowAttention:
    attention = block.attention[1]
    assert isinstance(attention, WindowAttention)
    return attention


# From trained floats to integers


@dataclass(frozen=True)
class CalibratedSwin:
    """Stages as integers: their arrays, the float samples after them, the value of one step after them."""

    arrays: dict[str, NDArray[Any]]
    samples: list[Tensor]
    step: Tensor


@torch.no_grad()
def calibrate_swin(
    stages: nn.Sequential, samples: Sequence[Tensor], step: Tensor, inputs: Range, outputs: Range
) -> CalibratedSwin:
    """Quantise a trained hyper-synthesis of Swin blocks.

    samples: float inputs (B, N, h, w) as it sees them, within `inputs` times step (N,), the float value of an input
    integer of 1. The largest sample of an output channel is the largest of `outputs`, that of a running sum half of
    what it can hold.
    """
    arrays: dict[str, NDArray[Any]] = {"exponent": exponent_table()}
    current = [x.float() for x in samples]
    stream = _stream_step(stages, 1, [x.permute(0, 2, 3, 1) for x in current])
    channels = len(step)
    enter = quantise_linear(torch.ones(channels), torch.zeros(channels), step.double(), stream.expand(channels))
    _add(arrays, "enter", enter)
    last = torch.empty(0)
    for index, layer in enumerate(stages):
        after = [layer(x) for x in current]
        if isinstance(layer, SwinBlock):
            _block_arrays(arrays, index, layer, current, stream)
        elif isinstance(layer, PatchSplit):
            next_stream = _stream_step(stages, index + 1, after)
            _split_arrays(arrays, index, layer, current, stream, next_stream)
            stream = next_stream
        elif isinstance(layer, nn.Linear):
            last = _output_step(after, outputs)
            _add(arrays, f"{index}.leave", _quantise(layer, stream, last.repeat_interleave(4)))
        current = after
    return CalibratedSwin(arrays, current, last)


def _output_step(samples: Sequence[Tensor], outputs: Range) -> Tensor:
    """Steps of the outputs, before the shuffle that makes one channel of four."""
    largest = torch.stack([x.abs().amax((0, 1, 2)) for x in samples]).amax(0).double()
    return largest.reshape(-1, 4).amax(1).clamp(min=1e-6) / outputs.largest


def _stream_step(stages: nn.Sequential, first: int, samples: Sequence[Tensor]) -> Tensor:
    """Step of the sum that runs through the blocks from `first` on: its largest value comes half way to the limit."""
    largest = _largest(samples)
    current = list(samples)
    for layer in list(stages)[first:]:
        if not isinstance(layer, SwinBlock):
            break
        attended = [x + layer.attention(x) for x in current]
        current = [x + layer.feed_forward(x) for x in attended]
        largest = torch.maximum(largest, torch.maximum(_largest(attended), _largest(current)))
    return 2 * largest / STREAM.high


def _largest(samples: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.abs().max() for x in samples]).max().double().clamp(min=1e-6)


def _block_arrays(
    arrays: dict[str, NDArray[Any]], index: int, block: SwinBlock, samples: Sequence[Tensor], stream: Tensor
) -> None:
    attention, (_, up, _, down) = _attention(block), block.feed_forward
    assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
    norms = _norm(block.attention[0]), _norm(block.feed_forward[0])
    attended = [x + block.attention(x) for x in samples]
    hidden = [up(norms[1](x)) for x in attended]
    query, key, value = _attention_steps(attention, [norms[0](x) for x in samples])
    before = max(max(float(h.max()), min(-float(h.min()), GELU_ZERO), 1e-6) for h in hidden) / BEFORE_GELU.high
    curve = F.gelu(torch.arange(BEFORE_GELU.low, BEFORE_GELU.high + 1, dtype=torch.float64) * before)
    after = curve.abs().max() / AFTER_GELU.high
    each = torch.full((up.out_features,), before, dtype=torch.float64)
    for place, norm in enumerate(norms, 1):
        arrays[f"{index}.norm{place}"] = _epsilon(norm, stream)
    _add(arrays, f"{index}.scores", _score_arrays(attention, query, key))
    arrays[f"{index}.gelu"] = to_integers(curve / after, np.int16)
    folded = {
        "qkv": _after_norm(norms[0], attention.qkv, torch.cat([query, key, value])),
        "project": _quantise(attention.project, value, stream),
        "up": _after_norm(norms[1], up, each),
        "down": _quantise(down, after, stream),
    }
    for name, layer in folded.items():
        _add(arrays, f"{index}.{name}", layer)


def _split_arrays(
    arrays: dict[str, NDArray[Any]],
    index: int,
    split: PatchSplit,
    samples: Sequence[Tensor],
    stream: Tensor,
    after: Tensor,
) -> None:
    expand, norm = split.expand[0], _norm(split.expand[1])
    assert isinstance(expand, nn.Linear)
    inner = 2 * _largest([expand(x) for x in samples]) / STREAM.high
    outputs = expand.out_features
    _add(arrays, f"{index}.expand", _quantise(expand, stream, inner.expand(outputs)))
    arrays[f"{index}.norm"] = _epsilon(norm, inner)
    per_norm = torch.full((outputs,), 2.0**-NORMAL_BITS, dtype=torch.float64)
    _add(arrays, f"{index}.scale", quantise_linear(norm.weight, norm.bias, per_norm, after.expand(outputs)))


def _attention_steps(attention: WindowAttention, samples: Sequence[Tensor]) -> list[Tensor]:
    """Steps of queries and keys, the same within a head, and of values, (C,) each.

    A query times a key, and 1 / sqrt(channels), come in steps of 1/128 times a power of two.
    """
    channels = attention.qkv.in_features // attention.heads
    largest = torch.stack([attention.qkv(x).abs().amax((0, 1, 2)) for x in samples]).amax(0).double()
    query, key, value = (largest.clamp(min=1e-6) / attention_range(channels).high).chunk(3)
    query, key = (x.reshape(-1, channels).amax(1) for x in (query, key))
    grain = query * key * EXPONENT_ONE / channels**0.5
    most = CARRIER_LIMIT // 2 / (EXPONENT_ONE * attention.bias.abs().amax(1).double() + 1)
    shift = torch.minimum(-grain.log2(), most.log2() - 1).floor().clamp(-MAX_SHIFT, MAX_SHIFT)
    wider = (torch.exp2(-shift) / grain).sqrt()
    query, key = ((x * wider).repeat_interleave(channels) for x in (query, key))
    return [query, key, value]


def _score_arrays(attention: WindowAttention, query: Tensor, key: Tensor) -> Arrays:
    channels = attention.qkv.in_features // attention.heads
    grain = (query * key)[::channels] * EXPONENT_ONE / channels**0.5
    unit = 1 / grain[:, None]
    bias = attention.bias.double() * EXPONENT_ONE * unit + unit / 2
    return {"bias": to_integers(bias.floor(), np.int32), "shift": to_integers(-grain.log2(), np.int8)}


def _norm(layer: nn.Module) -> nn.LayerNorm:
    assert isinstance(layer, nn.LayerNorm)
    return layer


def _epsilon(norm: nn.LayerNorm, step: Tensor) -> NDArray[np.int64]:
    """What `normalise` adds to n^2 times the variance of integers that come in steps `step`."""
    channels = norm.normalized_shape[0]
    value = float(norm.eps / step**2) * channels**2
    return np.array([min(max(round(value), 1), WIDE_LIMIT // 4)], np.int64)


def _after_norm(norm: nn.LayerNorm, layer: nn.Linear, after: Tensor) -> Arrays:
    """A linear layer whose inputs are normalised; weight and bias of the norm go into its own."""
    weight = layer.weight.double() * norm.weight.double()
    bias = layer.bias.double() + layer.weight.double() @ norm.bias.double()
    return quantise_linear(weight, bias, torch.tensor(2.0**-NORMAL_BITS, dtype=torch.float64), after)


def _quantise(layer: nn.Linear, step: Tensor, after: Tensor) -> Arrays:
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return quantise_linear(layer.weight, bias, step, after.expand(layer.out_features))


def _add(arrays: dict[str, NDArray[Any]], name: str, layer: Arrays) -> None:
    arrays.update({f"{name}.{kind}": array for kind, array in layer.items()})
