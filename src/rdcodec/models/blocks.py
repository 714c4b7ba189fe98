"""Building blocks shared by the transforms and the entropy networks."""

import torch.nn.functional as F
from torch import Tensor, nn


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution: one matrix product over the channels of every position."""
    return nn.Conv2d(inputs, outputs, 1)


def depthwise(channels: int, multiplier: int = 1) -> nn.Conv2d:
    """A 3x3 convolution of each channel by itself, zeros beyond the border."""
    return nn.Conv2d(channels, channels * multiplier, 3, padding=1, groups=channels)


class LightBlock(nn.Module):
    """Two residual steps: pointwise - depthwise - pointwise, then a pointwise feed-forward of twice the width.

    (B, width, h, w) -> the same; 6 width^2 + 9 width MACs per position. The last layer of each step
    starts at a tenth of its usual size, so that a deep trunk starts near the identity.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            pointwise(width, width), nn.ReLU(), depthwise(width), nn.ReLU(), pointwise(width, width)
        )
        self.feed_forward = nn.Sequential(pointwise(width, 2 * width), nn.ReLU(), pointwise(2 * width, width))
        shrink(self.mix[-1], 0.1)
        shrink(self.feed_forward[-1], 0.1)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = x + self.mix(x)
        fed: Tensor = self.feed_forward(mixed)
        return mixed + fed


def shrink(layer: nn.Module, factor: float) -> None:
    """Scale the initial weights of a convolution by `factor` and clear its bias."""
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    nn.init.zeros_(layer.bias)
    layer.weight.data.mul_(factor)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicate the last row and column of (B, C, H, W) until both sides are multiples."""
    bottom, right = (-side % multiple for side in x.shape[2:])
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
