"""The word that another format is better: for drawings and text, and for results larger than their input."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rdcodec.codec import content
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import read_picture
from rdcodec.codec.picture_writer import encode_picture

Pixels = NDArray[np.uint8]


def text() -> Image.Image:
    page = Image.new("RGB", (640, 480), "white")
    for y in range(0, 480, 14):
        ImageDraw.Draw(page).text((8, y), "The quick brown fox jumps over the lazy dog. 0123456789 " * 2, fill="black")
    return page


def lines() -> Image.Image:
    drawing, rng = Image.new("RGB", (640, 480), "white"), np.random.default_rng(0)
    for ends in rng.integers(0, 480, (40, 4)).tolist():
        ImageDraw.Draw(drawing).line(ends, fill=tuple(rng.integers(0, 200, 3).tolist()), width=2)
    return drawing


def sprites() -> Image.Image:
    colours = np.random.default_rng(0).integers(0, 256, (8, 3), dtype=np.uint8)
    return Image.fromarray(colours[np.random.default_rng(1).integers(0, 8, (48, 64))]).resize((640, 480), 0)


def jpeg_of_text() -> Image.Image:
    file = io.BytesIO()
    text().save(file, "JPEG", quality=85)
    return Image.open(file)


@pytest.mark.parametrize("make", [text, lines, sprites, jpeg_of_text])
def test_drawings_and_text_get_the_size_of_a_lossless_file(make: Callable[[], Image.Image]) -> None:
    file = io.BytesIO()
    make().save(file, "PNG")
    picture = read_picture(file.getvalue())
    lossless = len(encode_picture(picture, "webp"))
    said = content.advice(picture, lossless, input_bytes=10**9)
    assert said == f"looks like text, line art or few colours: a lossless WebP has {lossless} B"
    assert (
        content.advice(picture, lossless, 10) == f"is larger than its input of 10 B: a lossless WebP has {lossless} B"
    )
    assert content.advice(picture, lossless // 3, 10**9) is None, "a lossless file is much larger than this one"


def test_photographs_get_none(photo: Pixels) -> None:
    flat_top = photo.copy()
    flat_top[:60] = 255  # a blown-out sky
    grey = photo[..., :1].repeat(3, 2)  # no more than 256 colours
    for pixels in (photo, flat_top, grey):
        assert content.advice(Picture(pixels), 8_000, 10**9) is None


def test_what_is_larger_than_its_input_is_told(photo: Pixels) -> None:
    photo = np.pad(photo, ((0, 192), (0, 256), (0, 0)), "symmetric")
    said = content.advice(Picture(photo), 5_000, 4_999)
    assert said is not None and said.startswith("is larger than its input of 4999 B: a lossless WebP has about ")
    lossless = len(encode_picture(Picture(photo), "webp"))
    guess = int(said.split()[-2])
    assert 0.7 * lossless < guess < 1.5 * lossless
    assert content.advice(Picture(photo), 5_000, 5_000) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (257, 4000)])
def test_any_size(shape: tuple[int, int]) -> None:
    picture = Picture(np.zeros((*shape, 3), np.uint8))
    lossless = len(encode_picture(picture, "webp"))
    larger = content.advice(picture, 100, 10)
    assert larger == f"is larger than its input of 10 B: a lossless WebP has {lossless} B"
    drawn = content.advice(picture, 10_000, 10**9)
    assert drawn == f"looks like text, line art or few colours: a lossless WebP has {lossless} B"


def test_what_is_too_large_for_webp_is_told_without_its_size() -> None:
    picture = Picture(np.zeros((1, 20_000, 3), np.uint8))
    assert content.advice(picture, 100, 50) == "is larger than its input of 50 B"
    assert content.advice(picture, 100, 200) is None
