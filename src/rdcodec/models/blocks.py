"""Building blocks shared by the transforms and the entropy networks."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.exact.chain import Activation, Chain, Conv, Shuffle


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution: one matrix product over the channels of every position."""
    return Pointwise(inputs, outputs, 1)


def depthwise(channels: int, multiplier: int = 1) -> nn.Conv2d:
    """A 3x3 convolution of each channel by itself, zeros beyond the border."""
    return Depthwise(channels, channels * multiplier, 3, padding=1, groups=channels)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, on a GPU as the matrix product that it is when channels lie last."""

    def forward(self, x: Tensor) -> Tensor:
        return matrix_product(x, self.weight.flatten(1), self.bias) if on_gpu(x) else super().forward(x)


class Depthwise(nn.Conv2d):
    """A 3x3 convolution of each channel by itself; where torch.compile compiles for a GPU, a sum of shifted pictures.

    A compiler makes one pass over memory of it and of what comes before. Uncompiled it would be nine passes and more.
    """

    def forward(self, x: Tensor) -> Tensor:
        return shifted_sum(x, self.weight, self.bias) if compiled_for_gpu(x) else super().forward(x)


def on_gpu(x: Tensor) -> bool:
    """Whether the forms that are fast on a GPU are taken."""
    return x.is_cuda


def compiled_for_gpu(x: Tensor) -> bool:
    """Whether the forms are taken that are fast on a GPU once they are compiled."""
    return on_gpu(x) and torch.compiler.is_compiling()


def matrix_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(B, C, h, w) -> (B, D, h, w) by a matrix (D, C) over the channels of every position."""
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def shifted_sum(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The depthwise convolution of x (B, C, h, w) with weight (C * n, 1, 3, 3), zeros beyond the border.

    Summed in float32, given in the type of x.
    """
    batch, channels, height, width = x.shape
    padded = F.pad(x.float(), (1, 1, 1, 1))[:, :, None]
    taps = weight.float().view(channels, -1, 9)
    total = x.new_zeros((), dtype=torch.float32)
    for tap in range(9):
        top, left = divmod(tap, 3)
        total = total + padded[..., top : top + height, left : left + width] * taps[:, :, tap, None, None]
    if bias is not None:
        total = total + bias.float().view(channels, -1, 1, 1)
    return total.reshape(batch, -1, height, width).to(x.dtype)


def down(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.Conv2d:
    """A convolution (B, inputs, h, w) -> (B, outputs, h / stride, w / stride), zeros beyond the border."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2)
    return keep_size(layer, inputs * kernel**2)


ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


def network(chain: Chain, layer: Callable[[Conv], nn.Module]) -> nn.Sequential:
    """The layers of a chain, its convolutions as `layer` makes them: `plain` or `scaled`."""
    layers: list[nn.Module] = []
    for part in chain:
        if isinstance(part, Shuffle):
            layers.append(nn.PixelShuffle(part.factor))
        else:
            layers.append(layer(part))
            layers += [ACTIVATIONS[part.activation]()] if part.activation else []
    return nn.Sequential(*layers)


def plain(layer: Conv) -> nn.Conv2d:
    """A convolution that starts as torch's own do."""
    if layer.kernel == 1:
        return pointwise(layer.inputs, layer.outputs)
    if layer.groups > 1:
        return depthwise(layer.inputs, layer.outputs // layer.inputs)
    return nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, padding=layer.kernel // 2)


def scaled(layer: Conv) -> nn.Conv2d | nn.ConvTranspose2d:
    """A convolution that keeps the size of what passes."""
    if layer.up > 1:
        return up(layer.inputs, layer.outputs, layer.kernel, layer.up)
    return down(layer.inputs, layer.outputs, layer.kernel, 1)


def up(inputs: int, outputs: int, kernel: int = 5, stride: int = 2) -> nn.ConvTranspose2d:
    """A transposed convolution (B, inputs, h, w) -> (B, outputs, h * stride, w * stride)."""
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, stride, kernel // 2, stride - 1)
    return keep_size(layer, inputs * kernel**2 / stride**2)


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """A matrix product over the last axis, (..., inputs) -> (..., outputs)."""
    return keep_size(nn.Linear(inputs, outputs, bias), inputs)


Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
L = TypeVar("L", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def keep_size(layer: L, terms: float, gain: float = 1.0) -> L:
    """Start a layer so that its outputs, sums of so many terms, are `gain` times the size of its inputs."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(terms))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def layers_of(network: nn.Module) -> list[Layer]:
    """The convolutions and linear layers of a network, in the order in which they were built."""
    return [layer for layer in network.modules() if isinstance(layer, Layer)]


class LightBlock(nn.Module):
    """Two residual steps: pointwise - depthwise - pointwise, then a pointwise feed-forward.

    (B, width, h, w) -> the same. mixed, hidden: channels inside the steps, `width` and twice that unless given; the
    second step is left out where hidden is 0. 2 width (mixed + hidden) + 9 mixed MACs per position. The last layer of
    each step starts at a tenth of its usual size, so that a deep trunk starts near the identity.
    """

    def __init__(self, width: int, mixed: int | None = None, hidden: int | None = None) -> None:
        super().__init__()
        mixed = width if mixed is None else mixed
        hidden = 2 * width if hidden is None else hidden
        self.mix = nn.Sequential(
            pointwise(width, mixed), nn.ReLU(), depthwise(mixed), nn.ReLU(), pointwise(mixed, width)
        )
        shrink(self.mix[-1], 0.1)
        self.feed_forward: nn.Sequential | None = None
        if hidden:
            self.feed_forward = nn.Sequential(pointwise(width, hidden), nn.ReLU(), pointwise(hidden, width))
            shrink(self.feed_forward[-1], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x)
        return x if self.feed_forward is None else x + self.feed_forward(x)


def shrink(layer: nn.Module, factor: float) -> None:
    """Scale the initial weights of a layer by `factor` and clear its bias."""
    assert isinstance(layer, Layer) and layer.bias is not None
    nn.init.zeros_(layer.bias)
    layer.weight.data.mul_(factor)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicate the last row and column of (B, C, H, W) until both sides are multiples."""
    bottom, right = (-side % multiple for side in x.shape[2:])
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


class LowerBound(torch.autograd.Function):
    """max(x, bound), but a gradient that would raise x passes even below the bound.

    A plain clamp never lets a scale come back once it has fallen below (Balle et al., TFC `lower_bound`).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) with the gradient of LowerBound; any shape."""
    bounded: Tensor = LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return bounded
