"""The core and torch code and decode the same symbols; of integers they make the same pixels, of floats nearly so."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import from_numpy

from rdcodec import _native
from rdcodec.codec.container import unpack
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import NeedsModel
from rdcodec.models.entropy.checkerboard import take
from rdcodec.models.weights import FILE_NAME, Weights, read_weights, released

Picture = NDArray[np.uint8]
GOLDEN = Path(__file__).parents[1] / "golden" / "Golden.1.safetensors"
SIZES = [(1, 1), (16, 16), (17, 33), (40, 100), (64, 48), (100, 77), (192, 256)]
LIGHT = [tag for tag in ("I.7",) if tag in released()]


@pytest.fixture(params=_native.all_kernels())
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Codecs that are made meanwhile use these instructions."""
    before = _native.kernels()
    assert _native.use_kernels(request.param)
    yield request.param
    _native.use_kernels(before)


@pytest.fixture(params=["golden", "tiny", "uneven", *LIGHT])
def weights(request: pytest.FixtureRequest, tiny_run: Path, uneven_run: Path) -> Weights:
    paths = {"golden": GOLDEN, "tiny": tiny_run / FILE_NAME, "uneven": uneven_run / FILE_NAME, **released()}
    return read_weights(paths[request.param])


def check_pixels(weights: Weights, mine: Picture, other: Picture) -> None:
    """What the format promises of pixels."""
    if weights.pixels:
        np.testing.assert_array_equal(mine, other)
    else:
        off = np.abs(mine.astype(int) - other)
        assert off.max() <= 2 and (off <= 1).mean() >= 0.999


def test_both_engines_decode_the_same(kernels: str, weights: Weights, photo: Picture) -> None:
    native, torch = Codec(weights, engine="native"), Codec(weights, engine="torch")
    for height, width in SIZES if weights.tag.startswith("Golden") else SIZES[2::3]:
        image = photo[:height, :width]
        for quality in (0, 37.3, 100):
            for writer, reader in ((native, torch), (torch, native)):
                coded = writer.encode(image, quality)
                header, stream = unpack(coded.data)
                found = reader.decode_latents(header, stream)
                np.testing.assert_array_equal(found, coded.y_hat)  # as the writer decodes it
                check_pixels(weights, reader.decode(header, stream), coded.reconstruction)


def test_both_engines_code_given_latents_alike(kernels: str, weights: Weights) -> None:
    """Also such as no picture has."""
    rng = np.random.default_rng(1)
    native, torch = (Codec(weights, engine=name).engine for name in ("native", "torch"))
    m, n = weights.config.latent_channels, weights.config.entropy.hyper_channels
    for rows, columns in ((1, 1), (2, 5), (4, 8), (5, 3), (7, 10)):
        z_size = -(-rows // 4), -(-columns // 4), n
        for size in (2.0, 50.0, 40000.0):
            y, z = (rng.normal(0, size, shape).astype(np.float32) for shape in ((rows, columns, m), z_size))
            gain = rng.uniform(0.1, 2, m).astype(np.float32)
            for worth in (None, rng.uniform(0.5, 4, m).astype(np.float32)):
                one, other = (part.encode(y, gain, z, 777, worth) for part in (native, torch))
                assert (one.stream, one.crc) == (other.stream, other.crc)
                for mine, its in zip((*one.symbols, *one.indexes), (*other.symbols, *other.indexes), strict=True):
                    np.testing.assert_array_equal(mine, its)


def test_of_two_integers_the_one_of_less_bits_and_error_is_taken(kernels: str, weights: Weights) -> None:
    """In the first pass, whose rows and means do not depend on what is chosen."""
    codec, rng = Codec(weights, engine="native"), np.random.default_rng(2)
    m, tables = weights.config.latent_channels, weights.tables
    y = rng.normal(0, 3, (5, 7, m)).astype(np.float32)
    worth = rng.uniform(0.5, 4, m).astype(np.float32)
    z = rng.normal(0, 2, (2, 2, weights.config.entropy.hyper_channels)).astype(np.float32)

    def first(latents: NDArray[np.float32]) -> NDArray[np.float64]:
        return (
            take(from_numpy(latents).permute(2, 0, 1)[None], weights.config.entropy.lattices()[0])
            .reshape(-1)
            .double()
            .numpy()
        )

    plain, chosen = (codec.engine.encode(y, np.ones(m, np.float32), z, 777, each) for each in (None, worth))
    rows, nearest, found = plain.indexes[1].astype(int), plain.symbols[1].astype(int), chosen.symbols[1].astype(int)
    np.testing.assert_array_equal(rows, chosen.indexes[1])
    value = first(y) - (first(codec.engine.decode(plain.stream, 5, 7, 777)[0]) - nearest)  # less its mean

    def cost(symbols: NDArray[np.int64]) -> NDArray[np.float64]:
        at = tables.edge_start[rows] + tables.radius[rows] + symbols
        bits = 16 - np.log2(tables.edges[at + 1] - tables.edges[at])
        return bits + first(np.broadcast_to(worth, y.shape).copy()) * (value - symbols) ** 2

    free = (rows >= tables.skip_below) & (np.abs(nearest) <= tables.radius[rows])
    least = np.minimum(cost(nearest * free), cost((nearest - np.sign(nearest)) * free))
    np.testing.assert_allclose(cost(found * free)[free], least[free], rtol=1e-5)
    np.testing.assert_array_equal(found[~free], nearest[~free])
    assert 10 < np.sum(found != nearest) < free.sum()


def test_latents_of_both_engines_are_near(kernels: str, weights: Weights, photo: Picture) -> None:
    """In quantisation steps; they may round to other symbols, in other files that are as good."""
    native, torch = (Codec(weights, engine=name) for name in ("native", "torch"))
    one, other = (codec.encode(photo[:100, :77], 50) for codec in (native, torch))
    scale = np.abs(other.latents).max()
    assert np.abs(one.latents - other.latents).max() < 0.02 * scale
    mine, its = (codec.engine.hyper_analyse(other.y, other.gain, 500) for codec in (native, torch))
    np.testing.assert_allclose(mine, its, atol=1e-3 * np.abs(its).max())


def test_no_split_of_the_work_shows(
    kernels: str, weights: Weights, photo: Picture, threads: Callable[[int], None]
) -> None:
    """One thread, or more than there are rows: the same latents, file and pixels, bit for bit."""
    codec, image = Codec(weights, engine="native"), np.pad(photo, ((0, 61), (0, 35), (0, 0)), "symmetric")
    found = []
    for count in (1, 2, 3, 40):
        threads(count)
        coded = codec.encode(image, 60)
        found.append(
            (coded.data, coded.latents.tobytes(), coded.hyper_latents.tobytes(), coded.reconstruction.tobytes())
        )
    assert all(one == found[0] for one in found)


def test_parts_of_a_wide_picture_fit_seamlessly(kernels: str) -> None:
    """Columns are computed 512 at a time; a picture that has the seam in its middle knows none."""
    codec, rng = Codec(read_weights(GOLDEN), engine="native"), np.random.default_rng(3)
    image = rng.integers(0, 256, (40, 16 * 530 - 5, 3), np.uint8)
    y = codec.engine.analyse(image, 3, 530)
    middle = codec.engine.analyse(image[:, 16 * 490 :], 3, 40)
    np.testing.assert_array_equal(y[:, 500:], middle[:, 10:])
    whole = codec.synthesise(y, 50, 48, 16 * 530)
    part = codec.synthesise(np.ascontiguousarray(y[:, 490:]), 50, 48, 16 * 40)
    np.testing.assert_array_equal(whole[:, 16 * 500 :], part[:, 16 * 10 :])


def test_latents_that_are_no_numbers_are_coded_as_some_symbol(kernels: str) -> None:
    """Weights can hold anything: what comes of it is a file, not a crash."""
    codec = Codec(read_weights(GOLDEN), engine="native")
    y = np.zeros((3, 5, codec.config.latent_channels), np.float32)
    y[0], y[1], y[2, 0] = np.nan, np.inf, -np.inf
    z = np.full((1, 2, codec.config.entropy.hyper_channels), np.nan, np.float32)
    coded = codec.engine.encode(y, np.ones(y.shape[2], np.float32), z, 500)
    assert codec.engine.decode(coded.stream, 3, 5, 500)[1] == coded.crc


def test_twelve_threads_share_a_codec(photo: Picture) -> None:
    codec = Codec(read_weights(GOLDEN))
    parts = [photo[8 * i : 8 * i + 60, : 100 + i] for i in range(12)]
    expected = [codec.encode(part, 50) for part in parts]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(3):
            data = codec.compress(parts[number], 50)
            pixels = codec.decompress(data)
            if data != expected[number].data or not np.array_equal(pixels, expected[number].reconstruction):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_integers_of_another_type_are_refused() -> None:
    weights = read_weights(GOLDEN)
    more = replace(weights, entropy={**weights.entropy, "first.4.weight": np.zeros((1, 1, 1, 1), np.float32)})
    with pytest.raises(NeedsModel, match="do not fit"):
        Codec(more, engine="native")


def test_blocks_of_other_widths_than_the_configuration_says_are_refused(uneven_run: Path) -> None:
    weights = read_weights(uneven_run / FILE_NAME)
    trunk = weights.config.synthesis.stride8
    for other in ({"mixed": None}, {"hidden": (33, 1, 7)}, {"hidden": (33, 0, 8)}):
        synthesis = weights.config.synthesis.model_copy(update={"stride8": trunk.model_copy(update=other)})
        altered = replace(weights, config=weights.config.model_copy(update={"synthesis": synthesis}))
        for engine in ("native", "torch"):
            with pytest.raises(NeedsModel, match="do not fit"):
                Codec(altered, engine=engine).encode(np.zeros((16, 16, 3), np.uint8), 50).reconstruction  # noqa: B018


def test_the_core_is_asked_for_what_it_can_do() -> None:
    codec = Codec(read_weights(GOLDEN))
    assert codec.engine.name == "native"
    with pytest.raises(ValueError, match="beyond its latents"):
        codec.synthesise(np.zeros((1, 1, codec.config.latent_channels), np.float32), 50, 17, 16)
    assert not _native.use_kernels("abacus")
