"""A trained hyper-synthesis of Swin blocks as the arrays of `IntegerSwin`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.exact.chain import MAX_SHIFT, Arrays, Range
from rdcodec.exact.fixed import CARRIER_LIMIT
from rdcodec.exact.nonlinear import EXPONENT_ONE, NORMAL_BITS, WIDE_LIMIT
from rdcodec.export.layers import exponent_table, quantise_linear, to_integers
from rdcodec.models.entropy.integer_swin import AFTER_GELU, BEFORE_GELU, STREAM, attention_range
from rdcodec.models.swin import PatchSplit, SwinBlock, WindowAttention

GELU_ZERO = 5.0  # below -5, GELU is 0 to six digits


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


def _attention(block: SwinBlock) -> WindowAttention:
    attention = block.attention[1]
    assert isinstance(attention, WindowAttention)
    return attention
