"""The quality scale, and vectors that follow it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rdcodec.models.base import ImageModel
from rdcodec.models.rate import ANCHORS, RateVector, anchor_qualities, lmbda_of_quality
from rdcodec.models.scale import LMBDA_0, LMBDA_100

CHANNELS = 5


@pytest.fixture(scope="module")
def vector() -> RateVector:
    torch.manual_seed(0)
    vector = RateVector(CHANNELS).requires_grad_(False)
    vector.values.normal_()
    return vector


def test_ends_of_the_lmbda_scale() -> None:
    ends = lmbda_of_quality(torch.tensor([0.0, 100.0])).tolist()
    assert ends == pytest.approx([LMBDA_0, LMBDA_100], rel=1e-5)


@given(st.floats(0, 90, width=32), st.floats(0, 10, width=32))
@settings(max_examples=50)
def test_lmbda_is_log_linear(quality: float, more: float) -> None:
    """The same rise of quality multiplies lmbda by the same factor, wherever it starts."""
    low, high = lmbda_of_quality(torch.tensor([quality, quality + more])).tolist()
    assert math.log(high / low) == pytest.approx(math.log(LMBDA_100 / LMBDA_0) * more / 100, abs=1e-5)


def test_value_at_an_anchor_is_the_learned_one(vector: RateVector) -> None:
    out = vector(anchor_qualities())
    assert out.shape == (ANCHORS, CHANNELS, 1, 1)
    torch.testing.assert_close(out[:, :, 0, 0], vector.values, atol=1e-5, rtol=1e-5)
    assert torch.equal(out[0, :, 0, 0], vector.values[0])
    assert torch.equal(out[-1, :, 0, 0], vector.values[-1])


@given(st.integers(0, ANCHORS - 2), st.floats(0, 1, width=32))
@settings(max_examples=50)
def test_value_between_anchors_is_linear(vector: RateVector, anchor: int, part: float) -> None:
    quality = torch.tensor([(anchor + part) * 100 / (ANCHORS - 1)])
    expected = torch.lerp(vector.values[anchor], vector.values[anchor + 1], part)
    torch.testing.assert_close(vector(quality)[0, :, 0, 0], expected, atol=1e-4, rtol=0)


def test_qualities_outside_the_scale_are_its_ends(vector: RateVector) -> None:
    assert torch.equal(vector(torch.tensor([-5.0, 250.0])), vector(torch.tensor([0.0, 100.0])))


def test_two_anchors_share_the_gradient() -> None:
    vector = RateVector(1)
    at = anchor_qualities()
    vector((at[2:3] + 3 * at[3:4]) / 4).sum().backward()
    assert vector.values.grad is not None
    expected = torch.zeros(ANCHORS, 1)
    expected[2], expected[3] = 0.25, 0.75
    torch.testing.assert_close(vector.values.grad, expected, atol=1e-5, rtol=0)


def test_gains_rise_with_quality(tiny_model: ImageModel) -> None:
    """The gain is the inverse of the quantisation step: finer at higher quality."""
    gains = tiny_model.gain(torch.linspace(0, 100, 21))
    assert gains.shape == (21, tiny_model.config.latent_channels, 1, 1)
    assert (gains.diff(dim=0) > 0).all()
