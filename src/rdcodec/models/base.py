"""One network for every configuration: transforms, gains and an entropy model, put together."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.rate import RateVector, lmbda_of_quality
from rdcodec.models.sizes import HYPER_STRIDE, latent_size


class Output(NamedTuple):
    """x_hat (B, 3, H, W) on the 0..255 scale, not clipped; bits of each sample (B,)."""

    x_hat: Tensor
    bits_y: Tensor
    bits_z: Tensor


class PixelDecoder(nn.Module):
    """Turns decoded latents into pixels: gains undone, synthesis g_s. No encoder, no entropy model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.synthesis = config.synthesis.networks()[1](config.synthesis, config.latent_channels)
        self.log_gain = _gains(config)

    def forward(self, y_hat: Tensor, quality: Tensor) -> Tensor:
        """y_hat (B, M, h, w) in quantised units -> (B, 3, 16h, 16w) on the 0..255 scale, not clipped."""
        x_hat: Tensor = self.synthesis(y_hat / gain_at(self.log_gain, quality), quality)
        return x_hat


class ImageModel(nn.Module):
    """An image model: analysis g_a, gains, entropy model, gains undone, synthesis g_s.

    The gains are the inverse quantisation steps, one per latent channel and quality: the entropy model
    works in quantised units, the transforms in those of the picture. A model of one rate has no gains and
    ignores the quality.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        m = config.latent_channels
        self.analysis = config.analysis.networks()[0](config.analysis, m)
        self.synthesis = config.synthesis.networks()[1](config.synthesis, m)
        self.entropy = config.entropy.network()(config.entropy, m)
        self.log_gain = _gains(config)
        # Pictures are padded to multiples of it before they are coded.
        self.multiple = config.entropy.multiple

    def gain(self, quality: Tensor) -> Tensor:
        """Quantised units per unit of the latents, (B, M, 1, 1); (B, 1, 1, 1) for a model of one rate."""
        return gain_at(self.log_gain, quality)

    def lmbda(self, quality: Tensor) -> Tensor:
        """What weighs the mean squared error of each sample against its bits per pixel, (B,) float32."""
        if self.config.lmbda is None:
            return lmbda_of_quality(quality)
        return torch.full_like(quality, self.config.lmbda, dtype=torch.float32)

    def forward(self, x: Tensor, quality: Tensor, noise: Noise | None = None) -> Output:
        """Training pass. x (B, 3, H, W) on the 0..255 scale, sides multiples of 64; quality (B,) in [0, 100];
        noise shaped as `latent_shapes` says, or None for the rate of rounded values.

        Training and validation run all of it under autocast, the entropy networks too: their rate is an estimate
        that decides no symbol. What codes files is the integers that are made from the weights afterwards.
        """
        gain = self.gain(quality)
        rated = self.entropy(self.analysis(x) * gain, quality, noise)
        bits_y, bits_z = rated.bits_y.sum((1, 2, 3)), rated.bits_z.sum((1, 2, 3))
        return Output(self.synthesis(rated.y_hat / gain, quality), bits_y, bits_z)

    def inexact(self) -> list[nn.Module]:
        """The networks that may run in bfloat16: nothing of the entropy model."""
        return [*self.analysis.inexact(), *self.synthesis.inexact()]

    def latent_shapes(self, height: int, width: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Shapes of y and z of a picture, (channels, rows, columns) each."""
        rows, columns = latent_size(height, width)
        y = (self.config.latent_channels, rows, columns)
        z = (self.entropy.hyper_channels, -(-rows // HYPER_STRIDE), -(-columns // HYPER_STRIDE))
        return y, z

    def decode_parts(self, height: int, width: int) -> dict[str, Callable[[], object]]:
        """The decoder's networks for a picture of that size, one call each, on zeros: to count and to time."""
        at = next(self.parameters()).new_zeros((), dtype=torch.float32)  # latents are, whatever the transforms run in
        y, z = (
            at.new_zeros(1, *shape).contiguous(memory_format=torch.channels_last)
            for shape in self.latent_shapes(height, width)
        )
        quality = at.new_full((1,), 50.0)
        return {**self.entropy.decode_parts(y, z), "synthesis": lambda: self.synthesis(y, quality)}


def gain_at(log_gain: RateVector | None, quality: Tensor) -> Tensor:
    """Quantised units per unit of the latents, (B, M, 1, 1); (B, 1, 1, 1) for a model of one rate."""
    if log_gain is None:
        return quality.new_ones(len(quality), 1, 1, 1)
    value: Tensor = log_gain(quality)
    return value.exp()


def _gains(config: ModelConfig) -> RateVector | None:
    return RateVector(config.latent_channels) if config.lmbda is None else None


def blueprint(config: ModelConfig) -> ImageModel:
    """The model without numbers, on the meta device: to count parameters and operations at no cost."""
    with torch.device("meta"), _NoNumbers():
        return ImageModel(config)


class _NoNumbers(TorchFunctionMode):
    """Random numbers are not drawn for the meta device, where PyTorch takes most of a construction to do nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return given["tensor"] if "tensor" in given else args[0]  # functions of nn.init name it
        return func(*args, **given)
