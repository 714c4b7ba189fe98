"""The hyperprior and the free density of its hyper-latents: probabilities that are probabilities."""

import math

import pytest
import torch
from test_conv import built, small
from torch import Tensor

from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.entropy.factorized import DeepFactorizedPrior
from rdcodec.models.entropy.gaussian import gaussian_bits
from rdcodec.models.entropy.hyperprior import HyperpriorModel

QUALITY = torch.zeros(1)


def prior(filters: tuple[int, ...] = (3, 3), channels: int = 4) -> DeepFactorizedPrior:
    """With every parameter somewhere, as after training."""
    torch.manual_seed(0)
    found = DeepFactorizedPrior(channels, filters)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(torch.randn_like(parameter))
    return found


def everywhere(values: Tensor, channels: int = 4) -> Tensor:
    return values.expand(1, channels, 1, -1)


def entropy() -> HyperpriorModel:
    found = built(small()).entropy
    assert isinstance(found, HyperpriorModel)
    return found


@pytest.mark.parametrize("filters", [(3, 3), (3, 3, 3, 3), (1,)])
def test_free_density_is_one(filters: tuple[int, ...]) -> None:
    """Its cumulative rises from 0 to 1, and the probabilities of the integers sum to 1, in each channel."""
    density = prior(filters)
    with torch.no_grad():
        values = torch.linspace(-4000, 4000, 40001).expand(4, 1, -1)
        cumulative = torch.sigmoid(density.logits(values).double())
        mass = 2.0 ** -density(everywhere(torch.arange(-4000.0, 4001.0))).double()
    assert (cumulative.diff() >= 0).all()
    torch.testing.assert_close(cumulative[..., 0], torch.zeros(4, 1).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(cumulative[..., -1], torch.ones(4, 1).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(mass.sum((0, 2, 3)), torch.ones(4).double(), atol=2e-4, rtol=0)


def test_free_density_is_a_difference_of_cumulatives() -> None:
    density = prior().double()
    values = torch.linspace(-9, 9, 101).double()
    with torch.no_grad():
        upper, lower = (torch.sigmoid(density.logits((values + half).expand(4, 1, -1))) for half in (0.5, -0.5))
        bits = density(everywhere(values))
    torch.testing.assert_close(bits[0, :, 0], -torch.log2(upper - lower)[:, 0])


def test_free_density_starts_wide_and_even() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        bits = DeepFactorizedPrior(4, (3, 3, 3, 3))(everywhere(torch.arange(-5.0, 6.0)))
    assert bits.max() < 8 and bits.std() < 1


@pytest.mark.parametrize("width", [0.5, 1.0, 10.0])
def test_free_density_starts_as_wide_as_it_is_told(width: float) -> None:
    """A logistic of that scale: the logit rises by 1 / width over a step, everywhere."""
    density = DeepFactorizedPrior(4, (3, 3))
    density.start(width)
    with torch.no_grad():
        logits = density.logits(torch.arange(-20.0, 21.0).expand(4, 1, -1))
    torch.testing.assert_close(logits.diff(), torch.full((4, 1, 40), 1 / width), rtol=1e-3, atol=1e-5)


def test_free_density_has_28_parameters_a_channel_with_two_layers_of_three() -> None:
    assert sum(p.numel() for p in DeepFactorizedPrior(7, (3, 3)).parameters()) == 28 * 7


def test_free_density_keeps_channels_and_samples_apart() -> None:
    density = prior()
    torch.manual_seed(1)
    z = torch.randn(3, 4, 2, 5) * 4
    with torch.no_grad():
        bits = density(z)
        for b in range(3):
            torch.testing.assert_close(density(z[b : b + 1])[0], bits[b])
        moved = z.clone()
        moved[1, 2, 0, 3] += 1
        changed = density(moved) != bits
    assert changed.sum() == 1 and changed[1, 2, 0, 3]


@pytest.mark.parametrize("size", [1e2, 1e4, 1e8, 1e30])
def test_extreme_hyper_latents_cost_much_and_find_back(size: float) -> None:
    z = everywhere(torch.tensor([-size, size])).clone().requires_grad_()
    bits = prior()(z)
    assert torch.isfinite(bits).all() and (bits > 1).all()
    bits.sum().backward()
    assert z.grad is not None and torch.isfinite(z.grad).all()
    if size <= 1e4:
        assert (z.grad[..., 0] < 0).all() and (z.grad[..., 1] > 0).all()


def test_gaussian_bits_are_finite_on_extreme_input() -> None:
    residual, log_scale = torch.meshgrid(
        torch.tensor([0.0, 0.5, -1e3, 1e6, -1e30]), torch.tensor([-1e30, -100.0, 0.0, 50.0]), indexing="ij"
    )
    residual, log_scale = residual.clone().requires_grad_(), log_scale.clone().requires_grad_()
    bits = gaussian_bits(residual, log_scale)
    assert torch.isfinite(bits).all() and (bits >= 0).all()
    bits.sum().backward()
    for leaf in (residual, log_scale):
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_extreme_latents_leave_loss_and_gradient_finite() -> None:
    model = entropy()
    y = torch.tensor([0.0, 1e2, -1e4, 1e6]).repeat(1, 20, 4, 1).requires_grad_()
    rated = model(y, QUALITY, Noise(torch.zeros(1, 20, 4, 4), torch.zeros(1, 8, 1, 1)))
    (rated.bits_y.sum() + rated.bits_z.sum()).backward()
    assert y.grad is not None and torch.isfinite(y.grad).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_latents_are_rounded_about_their_mean() -> None:
    model = entropy()
    torch.manual_seed(2)
    y = torch.randn(1, 20, 4, 8) * 5
    with torch.no_grad():
        quiet = model(y, QUALITY)
        noise = Noise(torch.rand_like(y) - 0.5, torch.rand(1, 8, 1, 2) - 0.5)
        noisy = model(y, QUALITY, noise)
        mean = model.hyper_synthesis(model.analyse(y, QUALITY).round())[:, :20]
    assert (quiet.y_hat - y).abs().max() <= 0.5001
    torch.testing.assert_close(quiet.y_hat - mean, (y - mean).round(), atol=1e-4, rtol=0)
    assert torch.equal(noisy.y_hat, quiet.y_hat)
    assert not torch.equal(noisy.bits_y, quiet.bits_y) and not torch.equal(noisy.bits_z, quiet.bits_z)


def test_sides_that_are_no_multiple_of_4_are_replicated() -> None:
    model = entropy()
    torch.manual_seed(3)
    y = torch.randn(1, 20, 5, 6)
    padded = torch.nn.functional.pad(y, (0, 2, 0, 3), mode="replicate")
    with torch.no_grad():
        part, whole = model(y, QUALITY), model(padded, QUALITY)
    assert part.bits_y.shape == y.shape and part.bits_z.shape == (1, 8, 2, 2)
    torch.testing.assert_close(part.y_hat, whole.y_hat[:, :, :5, :6])
    torch.testing.assert_close(part.bits_y, whole.bits_y[:, :, :5, :6])


def test_rate_of_rounded_values_is_what_the_gaussian_says() -> None:
    model = entropy()
    y = torch.full((1, 20, 4, 4), 3.0)
    with torch.no_grad():
        rated = model(y, QUALITY)
        mean, raw = model.hyper_synthesis(model.analyse(y, QUALITY).round()).chunk(2, 1)
    scale = (raw + math.log(4)).exp().double()
    normal = torch.distributions.Normal(torch.zeros_like(scale), scale)
    symbols = (y - mean).round().double()
    bits = -torch.log2(normal.cdf(symbols + 0.5) - normal.cdf(symbols - 0.5))
    torch.testing.assert_close(rated.bits_y.double(), bits, atol=1e-3, rtol=1e-3)
