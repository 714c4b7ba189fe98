"""The context of two and three passes in floats: who is coded when, who sees whom, and what that costs."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdcodec.exact.tables import SCALE_MAX, SCALE_MIN
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import lower_bound
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import Noise, mask, mirror_edge, spread, take
from rdcodec.models.entropy.gaussian import LOG_SCALE_MIN, gaussian_bits, straight_round
from rdcodec.models.entropy.lattice import HALVES, QUARTERS_AND_HALF, Lattice

QUALITY = torch.tensor([60.0])


def latents(model: ImageModel, height: int, width: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(1, model.config.latent_channels, height, width) * 3


# Lattices


ORDERS = {2: HALVES, 3: QUARTERS_AND_HALF}
sizes = st.tuples(st.integers(1, 3).map(lambda four: 4 * four), st.integers(1, 7), st.integers(1, 7))
lattices = st.sampled_from([*HALVES, *QUARTERS_AND_HALF])


@given(sizes, st.sampled_from([2, 3]))
@settings(max_examples=40)
def test_the_passes_take_every_element_once(shape: tuple[int, int, int], passes: int) -> None:
    x = torch.arange(math.prod(shape)).reshape(1, *shape)
    taken = torch.cat([take(x, lattice).reshape(-1) for lattice in ORDERS[passes]])
    assert sorted(taken.tolist()) == list(range(math.prod(shape)))


@given(sizes, lattices)
@settings(max_examples=40)
def test_take_and_spread_are_inverse(shape: tuple[int, int, int], lattice: Lattice) -> None:
    x = torch.arange(1.0, math.prod(shape) + 1).reshape(1, *shape)
    part = take(x, lattice)
    assert part.shape == (shape[1], shape[2], shape[0] // lattice.of)
    assert torch.equal(spread(part, lattice), x * mask(x, lattice))
    assert torch.equal(take(spread(part, lattice), lattice), part)


def test_neighbours_are_in_different_halves() -> None:
    even = mask(torch.zeros(1, 4, 5, 6), HALVES[0])[0]
    assert even[0, 0, 0]
    for axis in range(3):
        assert torch.equal(even.narrow(axis, 1, even.shape[axis] - 1), ~even.narrow(axis, 0, even.shape[axis] - 1))


def test_quarters_share_a_half_and_are_each_others_diagonal_neighbours() -> None:
    y = torch.zeros(1, 8, 6, 6)
    one, other = (mask(y, lattice)[0] for lattice in QUARTERS_AND_HALF[:2])
    assert one[0, 0, 0] and torch.equal(one | other, mask(y, HALVES[0])[0]) and not (one & other).any()
    for right in (slice(1, None), slice(None, -1)):
        left = slice(None, -1) if right.start else slice(1, None)
        assert torch.equal(one[:, :-1, left], other[:, 1:, right])


@pytest.mark.parametrize(
    ("lattice", "channels"),
    [
        (HALVES[0], [[0, 2, 4, 6], [1, 3, 5, 7]]),
        (HALVES[1], [[1, 3, 5, 7], [0, 2, 4, 6]]),
        (QUARTERS_AND_HALF[0], [[0, 4], [1, 5]]),
        (QUARTERS_AND_HALF[1], [[2, 6], [3, 7]]),
    ],
    ids=str,
)
def test_channels_keep_their_order(lattice: Lattice, channels: list[list[int]]) -> None:
    x = torch.arange(8.0).reshape(1, 8, 1, 1).expand(1, 8, 1, 2)
    assert take(x, lattice)[0].tolist() == channels


# The float model


@pytest.fixture(params=[2, 3], ids=["two passes", "three passes"])
def model(
    request: pytest.FixtureRequest,
    tiny_model: ImageModel,
    three_passes: ModelConfig,
    busy_model: Callable[[ModelConfig], ImageModel],
) -> ImageModel:
    return tiny_model if request.param == 2 else busy_model(three_passes)


@pytest.mark.parametrize("at", [(0, 0, 0), (5, 3, 4), (2, 7, 7), (31, 4, 4), (6, 3, 5), (17, 2, 5)])
def test_no_rate_depends_on_what_is_coded_later(
    model: ImageModel, at: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An element reaches those of the passes behind it alone; in the next one, its 3 x 3 positions."""
    torch.manual_seed(1)
    z = torch.randn(1, model.entropy.hyper_channels, 2, 2) * 2  # does not depend on y, to see what y alone reaches
    monkeypatch.setattr(model.entropy, "analyse", lambda y, quality: z)
    y = latents(model, 8, 8)
    changed = y.clone()
    changed[0][at] += 5
    moved = (model.entropy(y, QUALITY).bits_y != model.entropy(changed, QUALITY).bits_y)[0]
    assert moved[at]
    moved[at] = False
    masks = [mask(y, lattice)[0] for lattice in model.entropy.lattices]
    (own,) = (step for step, here in enumerate(masks) if here[at])
    assert not any((moved & here).any() for here in masks[: own + 1])
    if own + 1 < len(masks):
        _, row, column = at
        beside = moved & masks[own + 1]
        near = beside[:, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert near.any() and beside.sum() == near.sum()


@pytest.mark.parametrize("lattice", [*HALVES, *QUARTERS_AND_HALF])
def test_lattices_are_made_on_the_device(lattice: Lattice) -> None:
    """A CUDA graph cannot record a copy from the machine's memory. A part from elsewhere would not fit the others."""
    assert mask(torch.zeros(1, 4, 2, 2, device="meta"), lattice).device.type == "meta"


def test_samples_of_a_batch_are_rated_alone(model: ImageModel) -> None:
    entropy, quality = model.entropy, torch.tensor([5.0, 60.0])
    y = torch.cat([latents(model, 4, 4, seed) for seed in (0, 1)])
    noise = Noise(torch.rand_like(y) - 0.5, torch.rand(2, entropy.hyper_channels, 1, 1) - 0.5)
    together = entropy(y, quality, noise)
    for i in (0, 1):
        own = slice(i, i + 1)
        alone = entropy(y[own], quality[own], Noise(noise.y[own], noise.z[own]))
        for mixed, value in zip(together, alone, strict=True):
            torch.testing.assert_close(mixed[own], value, atol=1e-3, rtol=1e-4)


def test_noise_changes_the_rate_and_not_the_latents(model: ImageModel) -> None:
    entropy, y = model.entropy, latents(model, 4, 4)
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
@pytest.mark.parametrize("lattice", [HALVES[0], *QUARTERS_AND_HALF[:2]], ids=str)
def test_the_mirrored_edge(height: int, width: int, lattice: Lattice) -> None:
    """Beyond a side that is no multiple of 4, what stands there is of the pass that would be there."""
    y = torch.arange(1.0, 8 * height * width + 1).reshape(1, 8, height, width)
    first = y * mask(y, lattice)
    seen = mirror_edge(first)
    assert torch.equal(seen[:, :, :height, :width], first)
    more = [int(side % 4 > 0 and side > 1) for side in (height, width)]
    assert [seen.shape[2] - height, seen.shape[3] - width] == more
    assert torch.equal(seen != 0, mask(seen, lattice))
