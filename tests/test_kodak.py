"""The released model on real photographs: the promises of the file format, held on every Kodak picture."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import rdcodec
from rdcodec.codec.image import read_image
from rdcodec.models.weights import released

KODAK = os.environ.get("RDCODEC_KODAK")

pytestmark = [
    pytest.mark.skipif(not KODAK, reason="RDCODEC_KODAK does not name a folder with the Kodak pictures"),
    pytest.mark.skipif("I.4" not in released(), reason="weights of I are not in this checkout"),
]


@pytest.mark.parametrize("name", [f"kodim{number:02d}.png" for number in range(1, 25)])
def test_file_and_its_size(name: str, threads: Callable[[int], None]) -> None:
    image = read_image(Path(str(KODAK)) / name)
    codec = rdcodec.load("I")
    sizes: list[int] = []
    for quality in (10, 40, 85):
        threads(2)
        coded = codec.encode(image, quality)
        assert np.array_equal(codec.decompress(coded.data), coded.reconstruction)
        assert 8 * len(coded.data) <= 1.01 * coded.estimate_bits + 600
        sizes.append(len(coded.data))
        # Symbols are the same for every thread count: one that is not would fail its checksum. Pixels may differ
        # by a grey level, where the float synthesis adds in another order.
        threads(1)
        difference = np.abs(codec.decompress(coded.data).astype(int) - coded.reconstruction)
        assert difference.max() <= 2 and np.mean(difference > 1) < 0.001
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("name", ["kodim05.png", "kodim15.png", "kodim20.png", "kodim23.png"])
@pytest.mark.parametrize(("width", "height"), [(640, 427), (700, 500), (33, 17)])
def test_sides_that_are_no_multiples(name: str, width: int, height: int) -> None:
    image = read_image(Path(str(KODAK)) / name)[:height, :width]
    codec = rdcodec.load("I")
    for quality in (10, 50, 85):
        coded = codec.encode(image, quality)
        assert np.array_equal(codec.decompress(coded.data), coded.reconstruction)
        assert 8 * len(coded.data) <= 1.01 * coded.estimate_bits + 600
