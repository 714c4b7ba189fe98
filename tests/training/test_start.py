"""The state that training starts from: the Karhunen-Loeve transform of the photographs' patches."""

import numpy as np
import torch
from numpy.typing import NDArray

from rdcodec.models.base import ImageModel
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.rate import anchor_qualities, lmbda_of_quality
from rdcodec.models.transforms.light import PIXEL_MEAN
from rdcodec.training.data import Photo
from rdcodec.training.start import STEP_SQUARED, klt, start_model


def patches(photo: NDArray[np.uint8]) -> torch.Tensor:
    """All 16x16 patches on a grid, (768, n), in the order channel, row, column."""
    x = torch.from_numpy(photo).permute(2, 0, 1)[None].float() - PIXEL_MEAN
    return torch.nn.functional.unfold(x, 16, stride=16)[0]


def test_basis_is_orthonormal_and_sorted(photo: NDArray[np.uint8]) -> None:
    basis, deviation = klt([Photo("photo", photo)], 40, seed=0, patches=2000)
    torch.testing.assert_close(basis.T @ basis, torch.eye(40), atol=1e-5, rtol=0)
    assert (deviation.diff() <= 0).all() and (deviation > 0).all()


def test_no_other_basis_holds_more(photo: NDArray[np.uint8]) -> None:
    """Of the patches it was made from; the deviation of a latent is what was promised."""
    x = patches(photo)
    everywhere = [Photo("photo", photo)] * 3
    basis, deviation = klt(everywhere, 24, seed=0, patches=8000)
    measured = (basis.T @ x).square().mean(1).sqrt()
    assert ((measured - deviation).abs() < 0.5 * deviation + 1).all()
    rng = np.random.default_rng(0)
    for _ in range(3):
        other = torch.from_numpy(np.linalg.qr(rng.normal(size=(768, 24)))[0]).float()
        assert (basis.T @ x).square().sum() > 2 * (other.T @ x).square().sum()


def test_the_same_seed_gives_the_same_start(photo: NDArray[np.uint8]) -> None:
    first, again, other = (klt([Photo("photo", photo)], 8, seed, 500)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_steps_fit_each_rate(tiny_config: ModelConfig, photo: NDArray[np.uint8]) -> None:
    """step^2 = STEP_SQUARED / lmbda at every anchor, the same in every channel; both shortcuts are one basis."""
    model = ImageModel(tiny_config)
    start_model(model, [Photo("photo", photo)], seed=0, patches=500)
    step = 1 / model.gain(anchor_qualities())[:, :, 0, 0]
    expected = (STEP_SQUARED / lmbda_of_quality(anchor_qualities())).sqrt()[:, None]
    torch.testing.assert_close(step, expected.expand_as(step), rtol=1e-4, atol=0)
    assert torch.equal(model.analysis.shortcut.weight, model.synthesis.shortcut.weight)


def test_a_model_without_shortcuts_keeps_its_values(photo: NDArray[np.uint8]) -> None:
    model = ImageModel(load_config(CONFIGS / "G.toml"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_model(model, [Photo("photo", photo)], seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
