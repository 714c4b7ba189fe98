"""A decoder learns from latents as an encoder codes them, which chooses between the integers next to each.

The rate that models learn from has noise in place of rounding, and distortion plain rounding. Files have neither: an
encoder takes the next integer towards the mean where that saves more bits than its error is worth (`Codec._worth`).
Entropy networks and synthesis that see what is in files make these smaller and nearer to the picture.
"""

import torch
from torch import Tensor, nn

from rdcodec.codec.pipeline import ERROR_GROWTH
from rdcodec.models.base import ImageModel, Output
from rdcodec.models.blocks import pad_to_multiple
from rdcodec.models.entropy.checkerboard import Noise, Quantise, Search
from rdcodec.models.entropy.gaussian import gaussian_bits, straight_round
from rdcodec.models.sizes import HYPER_STRIDE


class AsCoded(nn.Module):
    """A model whose analysis and gains stay as they are, and whose latents are those of files of effort 1.

    forward: as that of `ImageModel`; noise is not used. For light models, whose encoders choose.
    """

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model
        self.config = model.config

    def lmbda(self, quality: Tensor) -> Tensor:
        """As that of the model."""
        return self.model.lmbda(quality)

    def forward(self, x: Tensor, quality: Tensor, noise: Noise | None = None) -> Output:
        model = self.model
        with torch.no_grad():
            gain = model.gain(quality)
            y = model.analysis(x) * gain
        z = model.entropy.analyse(pad_to_multiple(y, HYPER_STRIDE), quality)
        worth = ERROR_GROWTH / 3 * model.lmbda(quality)[:, None, None, None] / gain.square()
        rated = model.entropy(y, quality, None, Search(z, chosen(worth)))
        bits_y, bits_z = rated.bits_y.sum((1, 2, 3)), rated.bits_z.sum((1, 2, 3))
        return Output(model.synthesis(rated.y_hat / gain, quality), bits_y, bits_z)


def chosen(worth: Tensor) -> Quantise:
    """What an encoder makes of latents: the nearest integer, or the next towards 0 where that is cheaper.

    worth: bits that a squared error of one is worth, (B, M, 1, 1). Bits are those of Gaussians.
    """

    def quantise(value: Tensor, log_scale: Tensor | None) -> Tensor:
        if log_scale is None:
            return straight_round(value)
        with torch.no_grad():
            nearest = value.round()
            lower = nearest - nearest.sign()
            saved = gaussian_bits(nearest, log_scale) - gaussian_bits(lower, log_scale)
            further = (value - lower).square() - (value - nearest).square()
            symbols = torch.where(saved > worth * further, lower, nearest)
        return value + (symbols - value).detach()

    return quantise


Seen = ImageModel | AsCoded  # a model as a run sees it
