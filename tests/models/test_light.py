"""The light transforms: a linear shortcut that is a projection, trunks that start near nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rdcodec.models.base import ImageModel
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, load_config
from rdcodec.models.transforms.light import PATCH, PIXEL_MEAN, PatchTransform

ALL = 3 * PATCH**2


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(batch, 3, height, width) * 255


@pytest.mark.parametrize("channels", [1, 32, ALL])
def test_basis_starts_orthonormal(channels: int) -> None:
    weight = PatchTransform(channels).weight
    torch.testing.assert_close(weight.T @ weight, torch.eye(channels), atol=1e-5, rtol=0)


def test_shortcut_projects_every_patch() -> None:
    """Against the definition, in float64 and patch by patch: W W^T p with p in the order channel, row, column."""
    transform = PatchTransform(40)
    x = picture(32, 48, batch=2)
    with torch.no_grad():
        y = transform.analysis(x)
        back = transform.synthesis(y)
    basis = transform.weight.detach().double().numpy()
    assert y.shape == (2, 40, 2, 3)
    for b, row, column in np.ndindex(2, 2, 3):
        at = np.s_[b, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        latents = basis.T @ x.double().numpy()[at].reshape(-1)
        np.testing.assert_allclose(y.numpy()[b, :, row, column], latents, atol=2e-3)
        np.testing.assert_allclose(back.numpy()[at].reshape(-1), basis @ latents, atol=2e-3)


def test_shortcut_with_all_channels_loses_nothing() -> None:
    transform, x = PatchTransform(ALL), picture(32, 48)
    with torch.no_grad():
        torch.testing.assert_close(transform.synthesis(transform.analysis(x)), x, atol=5e-3, rtol=0)


def test_projecting_twice_changes_nothing() -> None:
    transform, x = PatchTransform(32), picture(32, 32)
    with torch.no_grad():
        once = transform.synthesis(transform.analysis(x))
        torch.testing.assert_close(transform.synthesis(transform.analysis(once)), once, atol=2e-3, rtol=0)


def test_trunks_start_near_nothing(tiny_config: ModelConfig) -> None:
    """A fresh model is its shortcuts, to a grey level or two."""
    torch.manual_seed(0)
    model, x = ImageModel(tiny_config), picture(64, 64)
    with torch.no_grad():
        y = model.analysis(x)
        linear = model.analysis.shortcut.analysis(x - PIXEL_MEAN)
        assert (y - linear).abs().max() < 2
        x_hat = model.synthesis(y, torch.tensor([50.0]))
        assert (x_hat - PIXEL_MEAN - model.synthesis.shortcut.synthesis(y)).abs().max() < 2


def test_synthesis_takes_each_samples_own_quality(tiny_model: ImageModel) -> None:
    quality = torch.tensor([0.0, 37.0, 100.0])
    y = torch.randn(1, tiny_model.config.latent_channels, 4, 4).expand(3, -1, -1, -1) * 30
    values = tiny_model.synthesis.tint.values
    before = values.clone()
    try:
        values.normal_()
        together = tiny_model.synthesis(y, quality)
        alone = torch.cat([tiny_model.synthesis(y[:1], q[None]) for q in quality])
    finally:
        values.copy_(before)
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@pytest.mark.parametrize("name", config_names())
def test_shapes_of_every_packaged_model(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.toml")
    assert config.name == name
    model = ImageModel(config).eval()
    y, z = model.latent_shapes(64, 128)
    assert (y, z) == ((config.latent_channels, 4, 8), (config.entropy.hyper_channels, 1, 2))
    x, quality = picture(64, 128, batch=2), torch.tensor([10.0, 90.0])
    with torch.no_grad():
        assert model.analysis(x).shape == (2, *y)
        assert model.entropy.analyse(torch.zeros(2, *y), quality).shape == (2, *z)
        out = model(x, quality)
    assert out.x_hat.shape == x.shape
    assert out.bits_y.shape == out.bits_z.shape == (2,)
    for value in out:
        assert torch.isfinite(value).all()


@pytest.mark.parametrize(
    ("height", "width", "y", "z"),
    [(1, 1, (1, 1), (1, 1)), (64, 65, (4, 5), (1, 2)), (427, 640, (27, 40), (7, 10))],
)
def test_latents_cover_the_picture(
    tiny_model: ImageModel, height: int, width: int, y: tuple[int, int], z: tuple[int, int]
) -> None:
    shapes = tiny_model.latent_shapes(height, width)
    assert shapes == ((tiny_model.config.latent_channels, *y), (tiny_model.config.entropy.hyper_channels, *z))


def test_decoder_parts_run_at_any_size(tiny_model: ImageModel) -> None:
    with torch.no_grad():
        shapes = {name: call().shape for name, call in tiny_model.decode_parts(50, 70).items()}  # type: ignore[attr-defined]
    assert shapes["synthesis"] == (1, 3, 64, 80)
    assert shapes["context pass 0"] == shapes["context pass 1"] == (1, 64, 4, 5)


def test_every_parameter_learns(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model, x = ImageModel(tiny_config), picture(64, 64)
    out = model(x, torch.tensor([40.0]))
    ((out.bits_y + out.bits_z).sum() + (out.x_hat - x).square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name
