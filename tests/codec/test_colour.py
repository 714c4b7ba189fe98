"""What a colour profile makes of coding errors, and the quality that makes up for it."""

import numpy as np
import pytest

import rdcodec
from cases import PROFILES
from rdcodec.codec import colour
from rdcodec.codec.container import ICC, Section

RNG = np.random.default_rng(5)
DARK, LIGHT = (RNG.integers(low, low + 60, (40, 50, 3), dtype=np.uint8) for low in (0, 150))
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
D65 = (0.3127, 0.3290)


@pytest.mark.parametrize("name", ["srgb", "brg"])
def test_errors_in_srgb_do_not_grow_whatever_the_order_of_its_channels(name: str) -> None:
    assert colour.growth_db(LIGHT, PROFILES[name]) == pytest.approx(0, abs=0.02)


def test_errors_grow_by_what_the_matrix_says() -> None:
    """Alone with the curve of sRGB, at grey the matrix of Display P3 to sRGB is all there is."""
    matrix = np.array([[1.2249, -0.2249, 0], [-0.042, 1.042, 0], [-0.0196, -0.0786, 1.0982]])
    grey = np.full((64, 64, 3), 128, np.uint8)
    expected = 0.2 * np.square(matrix).sum() / 3 + 0.8
    assert colour.growth_db(grey, PROFILES["p3"]) == pytest.approx(10 * np.log10(expected), abs=0.1)


def test_what_is_steep_in_the_dark_matters_to_dark_pictures() -> None:
    linear = colour.matrix_profile(SRGB, D65, 1.0)
    assert colour.growth_db(DARK, linear) > 3
    assert colour.growth_db(LIGHT, linear) == 0
    assert colour.growth_db(DARK, b"no profile") == 0


def test_the_quality_of_a_wide_space_is_raised() -> None:
    codec = rdcodec.load("J")

    def quality(asked: float, icc: bytes | None) -> float | None:
        return codec.encode(LIGHT, asked, sections=() if icc is None else (Section(ICC, icc),)).quality

    assert quality(40, None) == quality(40, PROFILES["srgb"]) == quality(40, b"no profile") == 40
    assert 40 < (quality(40, PROFILES["p3"]) or 0) < (quality(40, PROFILES["adobergb"]) or 0) < 60
    assert quality(100, PROFILES["adobergb"]) == 100
