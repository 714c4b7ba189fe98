"""The two-pass context in floats: who is coded when, who sees whom, and what that costs."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdcodec.exact.tables import SCALE_MAX, SCALE_MIN
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import lower_bound
from rdcodec.models.entropy.checkerboard import (
    Noise,
    mirror_edge,
    parity_mask,
    spread_parity,
    take_parity,
)
from rdcodec.models.entropy.gaussian import LOG_SCALE_MIN, gaussian_bits, straight_round

QUALITY = torch.tensor([60.0])


def latents(model: ImageModel, height: int, width: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(1, model.config.latent_channels, height, width) * 3


# Parity


sizes = st.tuples(st.integers(1, 5).map(lambda half: 2 * half), st.integers(1, 7), st.integers(1, 7))


@given(sizes)
@settings(max_examples=40)
def test_two_passes_take_every_element_once(shape: tuple[int, int, int]) -> None:
    x = torch.arange(math.prod(shape)).reshape(1, *shape)
    taken = torch.cat([take_parity(x, step).reshape(-1) for step in (0, 1)])
    assert sorted(taken.tolist()) == list(range(math.prod(shape)))


@given(sizes, st.sampled_from([0, 1]))
@settings(max_examples=40)
def test_take_and_spread_are_inverse(shape: tuple[int, int, int], step: int) -> None:
    x = torch.arange(1.0, math.prod(shape) + 1).reshape(1, *shape)
    part = take_parity(x, step)
    assert part.shape == (shape[1], shape[2], shape[0] // 2)
    spread = spread_parity(part, step)
    assert torch.equal(take_parity(spread, step), part)
    assert not take_parity(spread, 1 - step).any()
    assert torch.equal(spread, x * (parity_mask(x) == (step == 0)))
    assert torch.equal(spread + spread_parity(take_parity(x, 1 - step), 1 - step), x)


def test_neighbours_are_in_different_passes() -> None:
    mask = parity_mask(torch.zeros(1, 4, 5, 6))[0]
    assert mask[0, 0, 0]
    for axis in range(3):
        assert torch.equal(mask.narrow(axis, 1, mask.shape[axis] - 1), ~mask.narrow(axis, 0, mask.shape[axis] - 1))


def test_channels_keep_their_order() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1).expand(1, 6, 1, 2)
    assert take_parity(x, 0)[0].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert take_parity(x, 1)[0].tolist() == [[1, 3, 5], [0, 2, 4]]


# The float model


@pytest.fixture
def fixed_z(tiny_model: ImageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hyper-latents that do not depend on y, to see what y alone reaches."""
    torch.manual_seed(1)
    z = torch.randn(1, tiny_model.entropy.hyper_channels, 2, 2) * 2
    monkeypatch.setattr(tiny_model.entropy, "analyse", lambda y, quality: z)


@pytest.mark.usefixtures("fixed_z")
@pytest.mark.parametrize("at", [(0, 0, 0), (5, 3, 4), (2, 7, 7), (31, 4, 4)])
def test_no_rate_depends_on_what_is_coded_later(tiny_model: ImageModel, at: tuple[int, int, int]) -> None:
    """An element of pass 1 reaches no other; one of pass 0 reaches pass 1 in its 3 x 3 positions alone."""
    y = latents(tiny_model, 8, 8)
    changed = y.clone()
    changed[0][at] += 5
    moved = (tiny_model.entropy(y, QUALITY).bits_y != tiny_model.entropy(changed, QUALITY).bits_y)[0]
    assert moved[at]
    moved[at] = False
    assert not (moved & parity_mask(y)[0]).any()
    _, row, column = at
    near = moved[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    assert near.any() == (sum(at) % 2 == 0)
    assert moved.sum() == near.sum()


def test_samples_of_a_batch_are_rated_alone(tiny_model: ImageModel) -> None:
    entropy, quality = tiny_model.entropy, torch.tensor([5.0, 60.0])
    y = torch.cat([latents(tiny_model, 4, 4, seed) for seed in (0, 1)])
    noise = Noise(torch.rand_like(y) - 0.5, torch.rand(2, entropy.hyper_channels, 1, 1) - 0.5)
    together = entropy(y, quality, noise)
    for i in (0, 1):
        own = slice(i, i + 1)
        alone = entropy(y[own], quality[own], Noise(noise.y[own], noise.z[own]))
        for mixed, value in zip(together, alone, strict=True):
            torch.testing.assert_close(mixed[own], value, atol=1e-3, rtol=1e-4)


def test_noise_changes_the_rate_and_not_the_latents(tiny_model: ImageModel) -> None:
    entropy, y = tiny_model.entropy, latents(tiny_model, 4, 4)
    quiet = entropy(y, QUALITY, None)
    noise = Noise(torch.rand_like(y) - 0.5, torch.rand(1, entropy.hyper_channels, 1, 1) - 0.5)
    noisy = entropy(y, QUALITY, noise)
    assert torch.equal(noisy.y_hat, quiet.y_hat)
    assert not torch.equal(noisy.bits_y, quiet.bits_y)
    assert not torch.equal(noisy.bits_z, quiet.bits_z)


# The Gaussian


def reference_bits(residual: float, scale: float) -> float:
    below, above = ((abs(residual) + side) / (scale * math.sqrt(2)) for side in (-0.5, 0.5))
    return -math.log2(max((math.erfc(below) - math.erfc(above)) / 2, 1e-9))


@given(st.floats(-300, 300), st.floats(math.log(SCALE_MIN), math.log(SCALE_MAX)))
@settings(max_examples=300)
def test_bits_are_those_of_the_definition(residual: float, log_scale: float) -> None:
    bits = gaussian_bits(torch.tensor(residual), torch.tensor(log_scale)).item()
    # float32 leaves 2^-24 of each erfc, which is at most 1, beside a mass of at least 0.39 / 256
    assert bits == pytest.approx(reference_bits(residual, math.exp(log_scale)), abs=2e-3)


@pytest.mark.parametrize("scale", [SCALE_MIN, 0.5, 3.0, 40.0])
def test_probabilities_sum_to_one(scale: float) -> None:
    symbols = torch.arange(-300.0, 301.0)
    total = (2 ** -gaussian_bits(symbols, torch.full_like(symbols, math.log(scale)))).sum().item()
    assert total == pytest.approx(1, abs=1e-5)


def test_tails_are_bounded_and_symmetric() -> None:
    far = torch.tensor([-1e6, -40.0, 40.0, 1e6])
    bits = gaussian_bits(far, torch.zeros(4))
    torch.testing.assert_close(bits, torch.full((4,), -math.log2(1e-9)))


def test_rate_rises_away_from_the_mean() -> None:
    for scale in (0.2, 1.0, 20.0):
        residual = torch.linspace(0, 4 * scale, 50)
        bits = gaussian_bits(residual, torch.full((50,), math.log(scale)))
        assert all(a <= b + 1e-5 for a, b in pairwise(bits.tolist()))


def test_scales_below_the_smallest_count_as_it() -> None:
    residual = torch.tensor([0.0, 0.3, 0.6])
    assert torch.equal(
        gaussian_bits(residual, torch.full((3,), -9.0)), gaussian_bits(residual, torch.full((3,), LOG_SCALE_MIN))
    )


def test_gradient_of_the_bits() -> None:
    residual = torch.tensor([0.0, 0.4, -2.0, 7.0], dtype=torch.float64, requires_grad=True)
    log_scale = torch.tensor([0.0, -0.7, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gaussian_bits, (residual[1:], log_scale[1:]))
    gaussian_bits(residual, log_scale).sum().backward()  # type: ignore[no-untyped-call]
    assert residual.grad is not None and residual.grad[0] == 0


@pytest.mark.parametrize(
    ("x", "gradient", "passed"),
    [(2.0, 1.0, 1.0), (2.0, -1.0, -1.0), (0.0, 1.0, 0.0), (0.0, -1.0, -1.0), (1.0, 1.0, 1.0)],
)
def test_lower_bound_lets_a_value_come_back(x: float, gradient: float, passed: float) -> None:
    value = torch.tensor([x], requires_grad=True)
    bounded = lower_bound(value, 1.0)
    assert bounded.item() == max(x, 1.0)
    (gradient * bounded).sum().backward()
    assert value.grad is not None and value.grad.item() == passed


def test_straight_round_rounds_with_the_gradient_of_one() -> None:
    value = torch.tensor([-1.6, 0.2, 2.5], requires_grad=True)
    rounded = straight_round(value)
    assert rounded.tolist() == [-2, 0, 2]
    (rounded * torch.tensor([1.0, 2.0, 3.0])).sum().backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None and value.grad.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (5, 8), (4, 7), (2, 3), (6, 1)])
def test_the_mirrored_edge(height: int, width: int) -> None:
    """Beyond a side that is no multiple of 4, what stands there is of pass 0 where pass 0 would be."""
    y = torch.arange(1.0, 4 * height * width + 1).reshape(1, 4, height, width)
    first = y * parity_mask(y)
    seen = mirror_edge(first)
    assert torch.equal(seen[:, :, :height, :width], first)
    more = [int(side % 4 > 0 and side > 1) for side in (height, width)]
    assert [seen.shape[2] - height, seen.shape[3] - width] == more
    assert torch.equal(seen != 0, parity_mask(seen))
