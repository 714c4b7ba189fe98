"""A convolutional model that begins with the latents of a trained one of all rates."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_start import convolutional, crop
from torch import nn

from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import up
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.rate import lmbda_of_quality
from rdcodec.training import follow as module
from rdcodec.training.data import Photo
from rdcodec.training.follow import LeastSquares, _rows, _set_up, _taps, _windows, can_follow, follow, quality_of_lmbda
from rdcodec.training.start import start_model

Picture = NDArray[np.uint8]
LMBDA = 0.013


def packaged(name: str) -> ModelConfig:
    return load_config(CONFIGS / f"{name}.toml")


def test_least_squares_finds_a_map_that_is_there() -> None:
    """From rows that come in pieces; of any other rows too."""
    torch.manual_seed(0)
    weight, bias = torch.randn(7, 3), torch.randn(3)
    squares = LeastSquares()
    for _ in range(4):
        rows = torch.randn(50, 7)
        squares.add(rows, rows @ weight + bias)
    found, constant = squares.solve()
    torch.testing.assert_close(found, weight, atol=2e-3, rtol=0)
    torch.testing.assert_close(constant, bias, atol=2e-3, rtol=0)


def test_phases_are_those_of_a_transposed_convolution() -> None:
    """What such a layer gives is fitted exactly, up to the borders."""
    torch.manual_seed(0)
    wanted, found = up(6, 4), up(6, 4)
    assert isinstance(wanted, nn.ConvTranspose2d) and wanted.bias is not None
    y = torch.randn(8, 6, 9, 11)
    with torch.no_grad():
        wanted.bias.normal_()
        x = wanted(y)
        around = _windows(y, 3, stride=1).reshape(-1, 6, 9)
        solutions = []
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            squares = LeastSquares()
            squares.add(around[:, :, [place for _, _, place in _taps(a, b)]].flatten(1), _rows(x[:, :, a::2, b::2]))
            solutions.append(squares.solve())
        _set_up(found, solutions)
        torch.testing.assert_close(found(y), x, atol=2e-3, rtol=0)


def test_it_begins_with_the_latents_of_its_teacher(
    photo: Picture, tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher whose latents no KLT has: turned in pairs. They come within a fifth of their size, the picture too."""
    monkeypatch.setattr(module, "start_model", partial(start_model, patches=3000))
    photos = [Photo("photo", photo)]
    torch.manual_seed(0)
    teacher = ImageModel(tiny_config)
    start_model(teacher, photos, seed=0, patches=3000)
    with torch.no_grad():
        for shortcut in (teacher.analysis.shortcut, teacher.synthesis.shortcut):
            even, odd = shortcut.weight[:, ::2].clone(), shortcut.weight[:, 1::2].clone()
            shortcut.weight[:, ::2], shortcut.weight[:, 1::2] = (even + odd) / 2**0.5, (even - odd) / 2**0.5
    config = convolutional(latents=tiny_config.latent_channels)
    assert can_follow(config, tiny_config)
    model = ImageModel(config)
    follow(model, teacher, photos, seed=0)
    x, quality = crop(photo), torch.tensor([quality_of_lmbda(LMBDA)])
    with torch.no_grad():
        wanted = teacher.analysis(x) * teacher.gain(quality)
        y = model.analysis(x)
        pictures = (
            model.synthesis(y.round(), quality),
            teacher.synthesis(wanted.round() / teacher.gain(quality), quality),
        )
    assert (y - wanted).square().mean() < 0.04 * wanted.square().mean()
    error, of_teacher = ((picture - x).square().mean().item() for picture in pictures)
    assert error < 1.3 * of_teacher


@pytest.mark.parametrize(
    ("model", "teacher", "can"),
    [("G", "H", True), ("G", "J", False), ("G", "G", False), ("H", "I", False), ("F", "H", False), ("B", "H", False)],
)
def test_what_can_follow_what(model: str, teacher: str, can: bool) -> None:
    """G the models of all rates with as many latents."""
    assert can_follow(packaged(model), packaged(teacher)) == can


def test_quality_and_lmbda_are_two_names_of_one_scale() -> None:
    for quality in (0.0, 12.5, 70.0, 100.0):
        lmbda = lmbda_of_quality(torch.tensor(quality)).item()
        assert quality_of_lmbda(lmbda) == pytest.approx(quality, abs=1e-3)
    assert quality_of_lmbda(1e-6) == 0 and quality_of_lmbda(1.0) == 100
