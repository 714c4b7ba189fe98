"""What `IntegerSwin` computes, by definition: slow, in NumPy int64 and Python integers, without torch."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdcodec.exact.chain import Range
from rdcodec.models.entropy.integer_swin import AFTER_GELU, BEFORE_GELU, STREAM, attention_range
from rdcodec.models.entropy.kinds import SwinHyperSynthesis
from rdcodec.models.swin import BlockShape, up_layers

Integers = NDArray[np.int64]
Named = Mapping[str, NDArray[Any]]


def reference_swin(config: SwinHyperSynthesis, arrays: Named, outputs: Range, x: Integers) -> Integers:
    """x (N, h, w) -> (outputs, 4h, 4w); config gives the structure."""
    x = _affine(arrays, "enter", x.transpose(1, 2, 0), STREAM)
    layers = up_layers(config)
    for index, layer in enumerate(layers, 1):
        if isinstance(layer, BlockShape):
            x = _block(layer, arrays, str(index), x)
        else:
            expanded = _normal(_affine(arrays, f"{index}.expand", x, STREAM), arrays[f"{index}.norm"])
            x = _spread(_affine(arrays, f"{index}.scale", expanded, STREAM), by_place=True)
    x = _spread(_affine(arrays, f"{len(layers) + 1}.leave", x, outputs), by_place=False)
    return x.transpose(2, 0, 1)


def _affine(arrays: Named, name: str, x: Integers, limits: Range) -> Integers:
    """A linear layer, or where weight has one axis a factor per channel."""
    weight, bias, shift = (arrays[f"{name}.{kind}"].astype(np.int64) for kind in ("weight", "bias", "shift"))
    total = (x @ weight.T if weight.ndim > 1 else x * weight) + bias
    out: Integers = np.where(shift >= 0, total >> np.maximum(shift, 0), total << np.maximum(-shift, 0))
    return out.clip(limits.low, limits.high)


def _normal(x: Integers, epsilon: NDArray[Any]) -> Integers:
    n = x.shape[-1]
    out = np.empty_like(x)
    for place in np.ndindex(x.shape[:2]):
        values = [int(value) for value in x[place]]
        total = sum(values)
        root = math.isqrt(n * sum(value * value for value in values) - total * total + int(epsilon[0]))
        out[place] = [((n * value - total) * (2**40 // root) + 2**31) >> 32 for value in values]
    return out.clip(-4095, 4095)


def _block(block: BlockShape, arrays: Named, index: str, x: Integers) -> Integers:
    normal = _normal(x, arrays[f"{index}.norm1"])
    x = (x + _attend(block, arrays, index, normal)).clip(STREAM.low, STREAM.high)
    normal = _normal(x, arrays[f"{index}.norm2"])
    hidden = _affine(arrays, f"{index}.up", normal, BEFORE_GELU)
    bent = arrays[f"{index}.gelu"].astype(np.int64)[hidden + 2048]
    assert np.abs(bent).max() <= AFTER_GELU.high
    return (x + _affine(arrays, f"{index}.down", bent, STREAM)).clip(STREAM.low, STREAM.high)


def _attend(block: BlockShape, arrays: Named, index: str, normal: Integers) -> Integers:
    """Each position sees those of its own window, on a grid that starts at the shift."""
    window, shift, heads = block.window, block.shift, block.width // block.head_channels
    height, width, channels = normal.shape
    limits = attention_range(channels // heads)
    query, key, value = np.split(_affine(arrays, f"{index}.qkv", normal, limits), 3, -1)
    mixed = np.empty_like(normal)
    places = [(row, column) for row in range(height) for column in range(width)]
    for row, column in places:
        seen = [
            (r, c)
            for r, c in places
            if (r - shift) // window == (row - shift) // window and (c - shift) // window == (column - shift) // window
        ]
        offset = [(row - r + window - 1) * (2 * window - 1) + column - c + window - 1 for r, c in seen]
        for head in range(heads):
            own = slice(head * channels // heads, (head + 1) * channels // heads)
            bias = arrays[f"{index}.scores.bias"].astype(np.int64)[head, offset]
            total = np.array([key[place][own] @ query[row, column, own] for place in seen]) + bias
            down = int(arrays[f"{index}.scores.shift"][head])
            score = total >> down if down >= 0 else total << -down
            exponent = arrays["exponent"].astype(np.int64)
            weight = exponent[np.minimum(score.max() - score, len(exponent) - 1)]
            share = (weight * (2**40 // int(weight.sum())) + 2**27) >> 28
            values = np.array([value[place][own] for place in seen])
            mixed[row, column, own] = np.clip((share @ values + 2**11) >> 12, limits.low, limits.high)
    return _affine(arrays, f"{index}.project", mixed, STREAM)


def _spread(x: Integers, by_place: bool) -> Integers:
    """Four places for one: their channels lie place by place, or channel by channel (as a pixel shuffle has them)."""
    height, width, channels = x.shape
    parts = (
        x.reshape(height, width, 2, 2, -1) if by_place else x.reshape(height, width, -1, 2, 2).transpose(0, 1, 3, 4, 2)
    )
    return parts.transpose(0, 2, 1, 3, 4).reshape(2 * height, 2 * width, channels // 4)
