"""Flat areas come back nearer to their colour, for the same decoder; photographs are coded as if nothing had looked."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import rdcodec
from rdcodec.codec import flat
from rdcodec.codec.image import Pixels
from rdcodec.codec.pipeline import Analysed, Codec, Encoded
from rdcodec.models.weights import find_weights, read_weights

PHOTO = Path(rdcodec.__file__).parent / "data" / "astronaut.png"
COLOURS = {"white": (255, 255, 255), "grey": (64, 64, 64), "red": (255, 0, 0), "blue": (0, 0, 255)}


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec(read_weights(find_weights("I")))


def page() -> Pixels:
    picture = Image.new("RGB", (330, 250), "white")
    draw = ImageDraw.Draw(picture)
    for line in range(5):
        draw.text((60, 60 + 20 * line), "white again", fill="black")
    return np.asarray(picture)


def without(codec: Codec, image: Pixels, quality: float) -> Encoded:
    """As it was coded before anybody looked for flat areas."""
    found = codec.analyse(image)
    plain = Analysed(found.image, found.latents, found.sections)
    object.__setattr__(plain, "flats", None)
    return codec.code(plain, quality)


@pytest.mark.parametrize("colour", COLOURS.values(), ids=COLOURS)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (75, 50)])
def test_a_colour_comes_back_nearer(codec: Codec, colour: tuple[int, int, int], height: int, width: int) -> None:
    image = np.full((height, width, 3), colour, np.uint8)
    flats = flat.find(image)
    assert flats is not None and len(flats.rows) == -(-height // 16) * -(-width // 16)
    before, after = without(codec, image, 50), codec.encode(image, 50)
    assert flat.off(flats, after.reconstruction) <= flat.off(flats, before.reconstruction)
    assert np.abs(after.reconstruction.astype(int) - image).max() <= 8
    assert np.array_equal(codec.decompress(after.data), after.reconstruction)


@pytest.mark.parametrize(
    ("seen", "rounds", "enough"), [(0.5, 12, False), (0.5, 24, True), (3, 11, False), (3, 12, True)]
)
def test_a_colour_that_can_be_seen_gets_more_rounds_and_most_where_little_is_lacking(
    seen: float, rounds: int, enough: bool
) -> None:
    assert flat.is_enough(flat.Off(seen, 20.0, 1.0), rounds, flat.PATIENCE, flat.SEEN_FROM) == enough


def test_the_white_of_a_page_is_nearer_to_white_and_its_letters_are_as_before(codec: Codec) -> None:
    image = page()
    flats = flat.find(image)
    assert flats is not None
    before, after = without(codec, image, 50), codec.encode(image, 50)
    assert flat.off(flats, after.reconstruction) < flat.off(flats, before.reconstruction)
    assert len(after.data) < 1.05 * len(before.data) and after.mse < 1.01 * before.mse


def test_a_target_is_met_with_flat_areas(codec: Codec) -> None:
    assert len(codec.encode_target(page(), file_bytes=2000).data) <= 2000


def test_photographs_are_not_touched(codec: Codec) -> None:
    image = np.asarray(Image.open(PHOTO).convert("RGB"))[:160, :240]
    assert flat.find(image) is None
    assert codec.compress(image, 50) == without(codec, image, 50).data


def test_only_blocks_amid_their_like_are_found() -> None:
    """A frame of another colour, a dot, and a block that the nine samples take for a flat one."""
    image = np.full((160, 160, 3), 200, np.uint8)
    image[:, :16] = 10
    image[70, 70] = 0
    flats = flat.find(image)
    assert flats is not None
    places = set(zip(flats.rows.tolist(), flats.columns.tolist(), strict=True))
    dot = {(row, column) for row in (3, 4, 5) for column in (3, 4, 5)}
    assert places == {(row, column) for row in range(10) for column in range(2, 10)} - dot
    assert (flats.colours == 200).all()


def test_too_few_flat_blocks_are_none() -> None:
    image = np.random.default_rng(0).integers(0, 256, (320, 320, 3)).astype(np.uint8)
    image[:48, :48] = 255
    assert flat.find(image) is None
    image[:160, :160] = 255
    assert flat.find(image) is not None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (17, 3)])
def test_pictures_smaller_than_a_block(codec: Codec, height: int, width: int) -> None:
    image = np.full((height, width, 3), 255, np.uint8)
    coded = codec.encode(image, 50)
    assert np.abs(coded.reconstruction.astype(int) - 255).max() <= 8


def test_it_goes_on_longer_where_errors_can_be_seen() -> None:
    """A grey may be 4 levels off, another colour 8; what is nearer than 2 is left alone."""
    flats = flat.Flats(np.array([0]), np.array([0]), np.array([[90, 90, 90]], np.uint8))
    decoded = np.full((16, 16, 3), 90, np.uint8)
    decoded[3, 3, 1] += 6
    off = flat.off(flats, decoded)
    assert (off.seen, off.largest) == (2, 6)
    coloured = flat.off(flat.Flats(flats.rows, flats.columns, np.array([[90, 90, 91]], np.uint8)), decoded)
    assert (coloured.seen, coloured.largest) == (0, 6)
    assert not flat.is_enough(off, 7, 4, 500) and flat.is_enough(off, 12, 0, 500) and flat.is_enough(off, 7, 4, 300)
    assert flat.is_enough(coloured, 6, 0, 500) and flat.is_enough(flat.Off(0, 2, 1), 0, 0, 500)


def test_a_model_of_one_rate_is_coded_as_before() -> None:
    golden = Codec(read_weights(Path(__file__).parents[1] / "golden" / "Golden-charm.1.safetensors"))
    image = np.full((64, 64, 3), 255, np.uint8)
    assert golden.compress(image) == without(golden, image, None).data  # type: ignore[arg-type]
