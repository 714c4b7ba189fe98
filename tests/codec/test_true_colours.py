"""What quality is made of, so that it means the same in every colour profile."""

from collections.abc import Callable

import numpy as np
import pytest

import rdcodec
from cases import PROFILES
from rdcodec.codec import colour, true_colours
from rdcodec.codec.container import ICC, Section
from rdcodec.codec.engine import Image

RNG = np.random.default_rng(5)
PICTURE = RNG.integers(60, 200, (40, 50, 3), dtype=np.uint8)


def with_errors_of(worst: float) -> Callable[[Image, float], Image]:
    """A coder that adds noise which shrinks as quality rises."""
    noise = np.random.default_rng(6).normal(size=(512, 512, 3))

    def decoded(pixels: Image, quality: float) -> Image:
        part = noise[: pixels.shape[0], : pixels.shape[1]] * worst * 10 ** (-quality / 40)
        return np.clip(np.rint(pixels + part), 0, 255).astype(np.uint8)

    return decoded


def same(pixels: Image, quality: float) -> Image:
    return pixels


@pytest.mark.parametrize("name", ["p3", "adobergb"])
def test_errors_in_srgb_are_those_of_a_picture_in_srgb(name: str) -> None:
    """A wide space: at the raised quality the error in sRGB is what it would have been."""
    icc, decoded = PROFILES[name], with_errors_of(100)
    raised = true_colours.quality(40, PICTURE, icc, decoded)
    assert 41 < raised < 50
    shown = colour.to_srgb(PICTURE, icc).astype(float)
    own = colour.to_srgb(decoded(PICTURE, raised), icc)
    wanted = np.mean((decoded(shown.astype(np.uint8), 40) - shown) ** 2)
    assert np.mean((own - shown) ** 2) == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("name", ["srgb", "brg"])
def test_errors_that_do_not_grow_ask_for_nothing(name: str) -> None:
    def decoded(pixels: Image, quality: float) -> Image:
        return pixels ^ 4  # the same error in every channel

    assert true_colours.quality(40, PICTURE, PROFILES[name], decoded) == 40


@pytest.mark.parametrize("icc", [b"", b"no profile", PROFILES["p3"]])
def test_without_a_profile_or_an_error_nothing_is_raised(icc: bytes) -> None:
    assert true_colours.quality(40, PICTURE, icc, same) == 40


def test_quality_stays_on_its_scale() -> None:
    decoded = with_errors_of(900)
    assert true_colours.quality(100, PICTURE, PROFILES["adobergb"], decoded) == 100
    assert 97 < true_colours.quality(97, PICTURE, PROFILES["adobergb"], decoded) <= 100


@pytest.mark.parametrize("shape", [(1, 1), (256, 3), (257, 1), (1000, 300)])
def test_a_sample_is_of_the_picture_and_small(shape: tuple[int, int]) -> None:
    pixels = np.arange(shape[0] * shape[1] * 3).astype(np.uint8).reshape(*shape, 3)
    some = true_colours.sample(pixels)
    assert some.shape == (min(shape[0], 256), min(shape[1], 256), 3)
    assert np.array_equal(some[0, 0], pixels[0, 0]) and np.array_equal(some[-1, -1], pixels[-1, -1])


def test_a_codec_raises_the_quality_of_a_wide_space() -> None:
    codec = rdcodec.load("J")

    def quality(icc: bytes | None) -> float | None:
        return codec.encode(PICTURE, 40, sections=() if icc is None else (Section(ICC, icc),)).quality

    assert quality(None) == quality(PROFILES["srgb"]) == quality(b"no profile") == 40
    assert 40 < (quality(PROFILES["p3"]) or 0) < (quality(PROFILES["adobergb"]) or 0) <= 50
