"""Start a convolutional model of one rate from a trained model of all rates: with its latents, by least squares.

A trained analysis gives fewer bits for the same picture than any transform that can be written down. Between layers
that are the KLT, the last convolution of the new analysis is fitted to the teacher's latents, and the first of the new
synthesis to give the features back from these, rounded. Both are linear in their weights, so that a solution of the
normal equations is the best there is, and takes seconds.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import layers_of
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.kinds import HyperpriorEntropy
from rdcodec.models.scale import LMBDA_0, LMBDA_100
from rdcodec.models.transforms.conv import ConvAnalysis, ConvSynthesis
from rdcodec.models.transforms.kinds import ConvTransform
from rdcodec.models.transforms.light import PIXEL_MEAN
from rdcodec.models.transforms.staged import LATENT_UNIT, PIXEL_UNIT
from rdcodec.training.data import AnyPhoto, BatchMaker, Crops
from rdcodec.training.start import start_entropy, start_model

BATCHES, CROPS, SIDE = 5, 64, 128  # some 20,000 positions of latents, for 3,201 unknowns of each
RIDGE = 1e-4  # of the mean square of the features
# Of a transposed convolution of 5 taps and stride 2: for even and odd outputs each tap, and the latent it reads beside.
TAPS = (((0, 1), (2, 0), (4, -1)), ((1, 1), (3, 0)))


def can_follow(config: ModelConfig, teacher: ModelConfig) -> bool:
    """Whether the first is one of convolutions, GDN and a hyperprior at one rate, and the second has all rates."""
    return (
        isinstance(config.analysis, ConvTransform)
        and isinstance(config.synthesis, ConvTransform)
        and isinstance(config.entropy, HyperpriorEntropy)
        and config.lmbda is not None
        and teacher.lmbda is None
        and config.latent_channels == teacher.latent_channels
    )


@torch.no_grad()
def follow(model: ImageModel, teacher: ImageModel, photos: Sequence[AnyPhoto], seed: int) -> None:
    """Let a model begin with about the latents that a teacher has at the model's lmbda; `can_follow` must hold."""
    analysis, synthesis = model.analysis, model.synthesis
    assert isinstance(analysis, ConvAnalysis) and isinstance(synthesis, ConvSynthesis) and model.config.lmbda
    start_model(model, photos, seed)
    down, up = analysis.last, layers_of(synthesis)[0]
    assert isinstance(down, nn.Conv2d) and isinstance(up, nn.ConvTranspose2d)
    device = down.weight.device
    teacher = teacher.to(device)
    quality = torch.full((CROPS,), quality_of_lmbda(model.config.lmbda), device=device)
    batches = BatchMaker(Crops(photos), seed, model.config.latent_channels, model.entropy.hyper_channels)
    latents, features = LeastSquares(), [LeastSquares() for _ in range(4)]
    square = torch.zeros(model.config.latent_channels, device=device)
    for step in range(BATCHES):
        x = batches.batch(step, SIDE, range(CROPS), CROPS).x.to(device)
        y = teacher.analysis(x) * teacher.gain(quality)
        before = analysis.trunk[:-1]((x - PIXEL_MEAN) / PIXEL_UNIT)
        latents.add(_windows(analysis.trunk[-1](before), 5, stride=2), _rows(y / LATENT_UNIT))
        around = _windows(y.round() / LATENT_UNIT, 3, stride=1).reshape(-1, len(square), 9)
        for phase, squares in enumerate(features):
            a, b = divmod(phase, 2)
            seen = around[:, :, [place for _, _, place in _taps(a, b)]]
            squares.add(seen.flatten(1), _rows(before[:, :, a::2, b::2]))
        square += y.square().mean((0, 2, 3)) / BATCHES
    _set(down, *latents.solve())
    _set_up(up, [squares.solve() for squares in features])
    start_entropy(model.entropy, square.sqrt())


def quality_of_lmbda(lmbda: float) -> float:
    """Where on the quality scale a model of all rates has this lmbda, 0 to 100."""
    return min(100.0, max(0.0, 100 * math.log(lmbda / LMBDA_0) / math.log(LMBDA_100 / LMBDA_0)))


class LeastSquares:
    """The linear map, with a constant, that comes nearest to the targets; rows are added in pieces."""

    def __init__(self) -> None:
        self.products: Tensor | float = 0.0
        self.moments: Tensor | float = 0.0

    def add(self, rows: Tensor, targets: Tensor) -> None:
        """rows (n, inputs), targets (n, outputs)."""
        rows = F.pad(rows, (0, 1), value=1.0)
        self.products = self.products + rows.t() @ rows
        self.moments = self.moments + rows.t() @ targets

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weights (inputs, outputs) and the constant (outputs,)."""
        products, moments = torch.as_tensor(self.products).double(), torch.as_tensor(self.moments).double()
        diagonal = products.diagonal()[:-1]
        diagonal += RIDGE * diagonal.mean()
        solution = torch.linalg.solve(products, moments).float()
        return solution[:-1], solution[-1]


def _windows(x: Tensor, side: int, stride: int) -> Tensor:
    """(B, C, h, w) -> what a convolution sees, zeros beyond the border: (positions, C * side^2)."""
    return F.unfold(x, side, stride=stride, padding=side // 2).transpose(1, 2).flatten(0, 1)


def _rows(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (positions, C), in the order of _windows."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _taps(a: int, b: int) -> list[tuple[int, int, int]]:
    """For outputs of row parity a, column parity b: row and column of each tap, and its place in a 3x3 window."""
    return [(row, column, 3 * (1 + down) + 1 + right) for row, down in TAPS[a] for column, right in TAPS[b]]


def _set(down: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    assert down.bias is not None
    down.weight.copy_(weight.t().reshape(down.weight.shape))
    down.bias.copy_(bias)


def _set_up(up: nn.ConvTranspose2d, found: list[tuple[Tensor, Tensor]]) -> None:
    """The phases have a constant each, the layer one."""
    assert up.bias is not None
    up.bias.copy_(torch.stack([bias for _, bias in found]).mean(0))
    for phase, (weight, _) in enumerate(found):
        taps = _taps(*divmod(phase, 2))
        parts = weight.reshape(up.in_channels, len(taps), up.out_channels)
        for (row, column, _), of_tap in zip(taps, parts.unbind(1), strict=True):
            up.weight[:, :, row, column] = of_tap
