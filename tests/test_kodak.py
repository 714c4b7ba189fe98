"""The released model on real photographs: the promises of the file format, held on every Kodak picture."""

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import rdcodec
from rdcodec.codec.image import read_image
from rdcodec.models.weights import released

Picture = NDArray[np.uint8]
KODAK = os.environ.get("RDCODEC_KODAK")

pytestmark = [
    pytest.mark.skipif(not KODAK, reason="RDCODEC_KODAK does not name a folder with the Kodak pictures"),
    pytest.mark.skipif("I.7" not in released(), reason="weights of I are not in this checkout"),
]


NAMES = [f"kodim{number:02d}.png" for number in range(1, 25)]
QUALITIES = (10, 40, 85)


def check(image: Picture, quality: float, threads: Callable[[int], None]) -> int:
    """What a file promises; its size."""
    codec = rdcodec.load("I")
    threads(2)
    coded = codec.encode(image, quality)
    assert np.array_equal(codec.decompress(coded.data), coded.reconstruction)
    assert 8 * len(coded.data) <= 1.01 * coded.estimate_bits + 600
    # Symbols are the same for every thread count: one that is not would fail its checksum. Pixels may differ
    # by a grey level, where the float synthesis adds in another order.
    threads(1)
    difference = np.abs(codec.decompress(coded.data).astype(int) - coded.reconstruction)
    assert difference.max() <= 2 and np.mean(difference > 1) < 0.001
    return len(coded.data)


@pytest.mark.parametrize(("name", "quality"), zip(NAMES, itertools.cycle(QUALITIES)))
def test_every_picture(name: str, quality: float, threads: Callable[[int], None]) -> None:
    check(read_image(Path(str(KODAK)) / name), quality, threads)


@pytest.mark.parametrize("name", ["kodim01.png", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_files_grow_with_quality(name: str, threads: Callable[[int], None]) -> None:
    image = read_image(Path(str(KODAK)) / name)
    sizes = [check(image, quality, threads) for quality in QUALITIES]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("quality", [10, 50, 85])
@pytest.mark.parametrize(
    ("name", "width", "height"), [("kodim05.png", 640, 427), ("kodim15.png", 700, 500), ("kodim23.png", 33, 17)]
)
def test_sides_that_are_no_multiples(
    name: str, width: int, height: int, quality: float, threads: Callable[[int], None]
) -> None:
    check(read_image(Path(str(KODAK)) / name)[:height, :width], quality, threads)
