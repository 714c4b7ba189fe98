"""The state that training starts from: the Karhunen-Loeve transform of the photographs' patches."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import layers_of
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.rate import anchor_qualities, lmbda_of_quality
from rdcodec.models.records import parse_record
from rdcodec.models.transforms.conv import ConvAnalysis, ConvSynthesis
from rdcodec.models.transforms.light import PIXEL_MEAN
from rdcodec.training.data import Batch, Photo
from rdcodec.training.start import STEP_SQUARED, draw_patches, klt, start_layers, start_model
from rdcodec.training.stepper import rate_distortion

LMBDA = 0.013
STEP = math.sqrt(STEP_SQUARED / LMBDA)
WIDTHS, LATENTS = (16, 24, 32), 40
LAYERS = {"kind": "conv", "activation": "relu", "kernels": (3, 5, 5), "strides": (1, 2, 2)}
HYPER = {"hyper_analysis": LAYERS | {"channels": (8, 8, 8)}, "filters": (3, 3)}
CHARM = {"slices": (8, 32), "widths": (8, 8), "kernels": (3, 3, 3), "reduction": {"kernel": 3, "channels": 4}}
Picture = NDArray[np.uint8]


def patches(photo: Picture) -> Tensor:
    """All 16x16 patches on a grid, (768, n), in the order channel, row, column."""
    return nn.functional.unfold(crop(photo, *photo.shape[:2]) - PIXEL_MEAN, 16, stride=16)[0]


def crop(photo: Picture, height: int = 128, width: int = 192) -> Tensor:
    """(1, 3, height, width) from a corner."""
    return torch.from_numpy(photo).permute(2, 0, 1)[None, :, :height, :width].float()


def drawn(photo: Picture, seed: int, count: int) -> Tensor:
    return draw_patches([Photo("photo", photo)], seed, count)


def built(config: ModelConfig) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(config)


def convolutional(
    entropy: str = "hyperprior",
    norm: str = "gdn",
    widths: tuple[int, int, int] = WIDTHS,
    narrow: tuple[int, int, int] | None = None,
    latents: int = LATENTS,
) -> ModelConfig:
    """The structure of G in small widths; narrow: those of the synthesis, if they do not mirror the analysis."""
    transform = {"kind": "conv", "norm": norm}
    model = {"kind": entropy, **HYPER, **(CHARM if entropy == "charm" else {})}
    model["hyper_synthesis"] = LAYERS | {"channels": (8, 8, 2 * latents), "strides": (2, 2, 1)}
    data: dict[str, Any] = {"name": "small", "summary": "for tests", "latent_channels": latents, "lmbda": LMBDA}
    data["analysis"] = transform | {"channels": widths}
    data["synthesis"] = transform | {"channels": narrow or widths[::-1]}
    return parse_record(ModelConfig, data | {"entropy": model}, "small")


def started(config: ModelConfig, photo: Picture) -> ImageModel:
    model = built(config)
    start_model(model, [Photo("photo", photo)], seed=0, patches=3000)
    return model


def transforms(model: ImageModel) -> tuple[ConvAnalysis, ConvSynthesis]:
    assert isinstance(model.analysis, ConvAnalysis) and isinstance(model.synthesis, ConvSynthesis)
    return model.analysis, model.synthesis


@torch.no_grad()
def psnr_db(model: ImageModel, x: Tensor) -> float:
    """Of the analysis followed by the synthesis, nothing rounded."""
    error = (model.synthesis(model.analysis(x), torch.zeros(1)) - x).square().mean().item()
    return 10 * math.log10(255**2 / error)


@torch.no_grad()
def losses(model: ImageModel, x: Tensor) -> tuple[float, float]:
    """Estimated loss and bpp, with noise for rounding."""
    torch.manual_seed(1)
    y, z = (torch.rand(1, *shape) - 0.5 for shape in model.latent_shapes(*x.shape[2:]))
    quality = torch.zeros(1)
    found = rate_distortion(model, Batch(x, quality, Noise(y, z)), model.lmbda(quality), -0.5)
    return found.loss.item(), found.bpp.item()


# The KLT


def test_basis_is_orthonormal_and_sorted(photo: Picture) -> None:
    basis, deviation = klt(drawn(photo, 0, 2000).flatten(1), 40)
    torch.testing.assert_close(basis.T @ basis, torch.eye(40), atol=1e-5, rtol=0)
    assert (deviation.diff() <= 0).all() and (deviation > 0).all()


def test_no_other_basis_holds_more(photo: Picture) -> None:
    """Of the patches it was made from; the deviation of a latent is what was promised."""
    x = patches(photo)
    basis, deviation = klt(drawn(photo, 0, 8000).flatten(1), 24)
    measured = (basis.T @ x).square().mean(1).sqrt()
    assert ((measured - deviation).abs() < 0.5 * deviation + 1).all()
    rng = np.random.default_rng(0)
    for _ in range(3):
        other = torch.from_numpy(np.linalg.qr(rng.normal(size=(768, 24)))[0]).float()
        assert (basis.T @ x).square().sum() > 2 * (other.T @ x).square().sum()


def test_there_are_no_more_vectors_than_axes() -> None:
    torch.manual_seed(0)
    basis, deviation = klt(torch.randn(50, 12), 40)
    assert basis.shape == (12, 12) and deviation.shape == (12,)


def test_patches_are_cut_from_the_photograph(photo: Picture) -> None:
    """And the same seed cuts the same ones."""
    first, again, other = (drawn(photo, seed, 5) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    everywhere = crop(photo, *photo.shape[:2]).unfold(2, 16, 1).unfold(3, 16, 1)  # (1, 3, rows, columns, 16, 16)
    for patch in first + PIXEL_MEAN:
        assert (everywhere[0] == patch[:, None, None]).all(-1).all(-1).all(0).any()


# Light models


def test_steps_fit_each_rate(tiny_config: ModelConfig, photo: Picture) -> None:
    """step^2 = STEP_SQUARED / lmbda at every anchor, the same in every channel; both shortcuts are one basis."""
    model = ImageModel(tiny_config)
    start_model(model, [Photo("photo", photo)], seed=0, patches=500)
    step = 1 / model.gain(anchor_qualities())[:, :, 0, 0]
    expected = (STEP_SQUARED / lmbda_of_quality(anchor_qualities())).sqrt()[:, None]
    torch.testing.assert_close(step, expected.expand_as(step), rtol=1e-4, atol=0)
    assert torch.equal(model.analysis.shortcut.weight, model.synthesis.shortcut.weight)


# Convolutions with GDN


@pytest.mark.parametrize("norm", ["gdn", "gdn-sqrt"])
def test_convolutions_give_the_picture_back(photo: Picture, norm: str) -> None:
    """Nearly as well as as many coefficients of the KLT of whole patches: 29.1 dB here; at random 11.7."""
    config, x = convolutional(norm=norm), crop(photo)
    basis, _ = klt(drawn(photo, 0, 3000).flatten(1), LATENTS)
    flat = patches(photo[:128, :192])
    best = 10 * math.log10(255**2 / (flat - basis @ (basis.T @ flat)).square().mean().item())
    assert psnr_db(built(config), x) < 15
    assert psnr_db(started(config, photo), x) > best - 0.5 > 28


@pytest.mark.parametrize(
    ("widths", "narrow", "latents", "least_db"),
    [
        ((16, 16, 16), (16, 16, 16), 20, 26),
        ((24, 24, 32), (12, 14, 16), 20, 26),  # the synthesis is the narrower: 26.9
        ((8, 8, 4), (16, 16, 16), 40, 24),  # fewer coefficients than latents: 25.2
    ],
)
def test_widths_that_do_not_mirror(
    photo: Picture, widths: tuple[int, int, int], narrow: tuple[int, int, int], latents: int, least_db: float
) -> None:
    model = started(convolutional(widths=widths, narrow=narrow, latents=latents), photo)
    assert psnr_db(model, crop(photo)) > least_db


def test_deviations_are_those_of_the_latents(photo: Picture) -> None:
    """Sorted, positive, in units of an orthonormal transform: a latent counts steps of the quantiser."""
    model = built(convolutional())
    deviation = start_layers(*transforms(model), drawn(photo, 0, 3000), STEP)
    assert deviation.shape == (LATENTS,)
    assert (deviation > 0).all() and (deviation.diff() <= 0).all()
    with torch.no_grad():
        y = model.analysis(crop(photo, *photo.shape[:2]))
    measured = STEP * y.square().mean((0, 2, 3)).sqrt()
    assert (measured / deviation).log().abs().max() < math.log(1.5)


def test_latents_beyond_the_coefficients_have_the_size_of_random_ones(photo: Picture) -> None:
    config = convolutional(widths=(8, 8, 4), narrow=(4, 8, 8))
    model = built(config)
    deviation = start_layers(*transforms(model), drawn(photo, 0, 3000), STEP)
    assert deviation.shape == (LATENTS,) and torch.equal(deviation[16:], torch.full((24,), deviation[-1].item()))
    with torch.no_grad():
        y = model.analysis(crop(photo))
    assert 0.3 < STEP * y[:, 16:].std() / deviation[-1] < 3


def test_channels_that_no_coefficient_needs_change_nothing(photo: Picture) -> None:
    """The first layer has 12 coefficients; its other channels reach neither latents nor picture."""
    model, x = started(convolutional(), photo), crop(photo)
    down, up = layers_of(model.analysis)[0], layers_of(model.synthesis)[-1]
    with torch.no_grad():
        before = model.analysis(x)
        picture = model.synthesis(before, torch.zeros(1))
        assert down.weight[12:].any()
        down.weight[12:] = torch.randn_like(down.weight[12:])
        assert torch.equal(model.analysis(x), before)
        inside = layers_of(model.synthesis)[-2]
        inside.weight[:, 12:] = torch.randn_like(inside.weight[:, 12:])
        assert torch.equal(model.synthesis(before, torch.zeros(1)), picture)
        down.weight[11] += 0.1  # the twelfth does
        up.weight[11] += 0.1
        assert not torch.equal(model.analysis(x), before)
        assert not torch.equal(model.synthesis(before, torch.zeros(1)), picture)


@pytest.mark.parametrize("entropy", ["hyperprior", "charm"])
def test_a_started_model_begins_far_ahead(photo: Picture, entropy: str) -> None:
    """Its loss is 0.9 or 1.0, a random one's 32; the scales that fit save a sixth of the rate or more."""
    config, x = convolutional(entropy), crop(photo)
    loss, bpp = losses(started(config, photo), x)
    assert loss < 0.1 * losses(built(config), x)[0]
    unfit = built(config)
    start_layers(*transforms(unfit), drawn(photo, 0, 3000), STEP)
    assert bpp < 0.9 * losses(unfit, x)[1]


def test_features_are_of_one_size(photo: Picture) -> None:
    """One unit for all channels of a layer: of size one together, the first far beyond the last."""
    model = started(convolutional(), photo)
    x = (crop(photo, *photo.shape[:2]) - PIXEL_MEAN) / 64
    with torch.no_grad():
        for index, count in ((0, 12), (2, 24), (4, 32)):
            size = model.analysis.trunk[: index + 1](x)[:, :count].square().mean((0, 2, 3)).sqrt()
            assert 0.5 < size.square().mean().sqrt() < 2
            assert size[0] > 10 * size[-1] or count == 12


@pytest.mark.parametrize("entropy", ["hyperprior", "charm"])
def test_hyper_latents_cost_little_at_first(photo: Picture, entropy: str) -> None:
    config, x = convolutional(entropy), crop(photo, 512, 768)
    bits = [model(x, torch.zeros(1)).bits_z.item() for model in (started(config, photo), built(config))]
    assert bits[0] < 0.5 * bits[1]


def test_a_started_model_learns_in_every_weight(photo: Picture) -> None:
    """Also in those that nothing comes of yet, after a step that opens the way to them."""
    model, x = started(convolutional(), photo), crop(photo)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(2):
        optimizer.zero_grad()
        out = model(x, torch.zeros(1), Noise(*(torch.zeros(1, *s) for s in model.latent_shapes(128, 192))))
        (out.bits_y.sum() / 1e4 + (out.x_hat - x).square().mean()).backward()
        optimizer.step()
    for name, parameter in [*model.analysis.named_parameters(), *model.synthesis.named_parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if parameter.dim() == 4:
            assert parameter.grad.flatten(1).any(1).all(), name


@pytest.mark.parametrize("name", ["elic", "F"])
def test_other_models_keep_their_values(photo: Picture, name: str) -> None:
    model = ImageModel(load_config(CONFIGS / f"{name}.toml"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_model(model, [Photo("photo", photo)], seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
