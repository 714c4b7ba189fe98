"""Tables fitted to what photographs' symbols do: smaller files of the same symbols, and any symbol still has a code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rdcodec.codec import rans
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import BadInput, NeedsModel
from rdcodec.exact.tables import LEVELS, TOTAL, Tables
from rdcodec.export.tables import build_gaussian_tables, fit, widen
from rdcodec.models.weights import FILE_NAME, Weights, read_weights
from rdcodec.training.data import Photo
from rdcodec.training.tables import columns_of, count_symbols, with_fitted_tables

Picture = NDArray[np.uint8]
GAUSSIAN = build_gaussian_tables()
CPU = torch.device("cpu")


def frequencies(tables: Tables) -> NDArray[np.int64]:
    """Of all columns of all rows, as `cdf` has them."""
    rows = np.split(tables.cdf.astype(np.int64), tables.start[1:-1])
    return np.concatenate([np.diff(row, append=TOTAL) for row in rows])


def bits(tables: Tables, counts: NDArray[np.int64]) -> float:
    """Information of columns that occur so often."""
    return float(-(counts * np.log2(frequencies(tables) / TOTAL)).sum())


@pytest.fixture(scope="module")
def fair(fair_run: Path) -> Weights:
    return read_weights(fair_run / FILE_NAME)


@pytest.fixture(scope="module")
def fitted(fair: Weights, photo: Picture) -> Weights:
    return with_fitted_tables(fair, [Photo("photo", photo)] * 4)


def test_only_the_tables_change(fair: Weights, fitted: Weights) -> None:
    assert fitted.tables.hash() != fair.tables.hash()
    assert (fitted.entropy_hash, fitted.synthesis_hash) == (fair.entropy_hash, fair.synthesis_hash)
    assert fitted.raw is fair.raw
    assert np.array_equal(fitted.tables.radius, widen(fair.tables).radius)
    assert fitted.tables.skip_below == fair.tables.skip_below


def test_fitting_again_gives_the_same(fitted: Weights, photo: Picture) -> None:
    assert with_fitted_tables(fitted, [Photo("photo", photo)] * 4).tables.hash() == fitted.tables.hash()


@pytest.mark.parametrize("quality", [10.0, 50.0, 85.0])
def test_files_hold_the_same_symbols_in_fewer_bytes(
    fair: Weights, fitted: Weights, photo: Picture, quality: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Codec, "_worth", lambda codec, tenths: None)  # by it, symbols depend on the tables
    before, after = (Codec(weights, CPU).encode(photo, quality) for weights in (fair, fitted))
    assert len(after.data) < len(before.data)
    for old, new in zip(before.symbols, after.symbols, strict=True):
        assert np.array_equal(old, new)
    assert np.array_equal(Codec(fitted, CPU).decompress(after.data), after.reconstruction)
    assert np.array_equal(after.reconstruction, before.reconstruction)
    with pytest.raises(NeedsModel):
        Codec(fair, CPU).decompress(after.data)


def test_counts_are_those_of_the_coder(fair: Weights, photo: Picture) -> None:
    """The stream has as many bits as the counted columns say, with eleven more for the least escape."""
    codec = Codec(fair, CPU)
    coded = codec.encode(photo, 50)
    counts = columns_of(coded, codec.tables)
    on = np.concatenate(coded.indexes) >= codec.tables.skip_below
    assert counts.sum() == on.sum()
    stream = rans.encode(np.concatenate(coded.symbols), np.concatenate(coded.indexes), codec.tables)
    escapes = counts[codec.tables.start[1:] - 1].sum()
    least = bits(codec.tables, counts) + 5 * escapes
    assert 0.999 * least <= 8 * len(stream) <= 1.002 * least + 160 + 11 * escapes


def test_all_of_the_quality_scale_is_counted(fair: Weights, photo: Picture) -> None:
    """Rows of low and of high quality alike, and the same counts again."""
    codec = Codec(fair, CPU)
    photos = [Photo("photo", photo)] * 2
    counts = count_symbols(codec, photos)
    assert np.array_equal(counts, count_symbols(codec, photos))
    assert counts.sum() > columns_of(codec.encode(photo, 0), codec.tables).sum()


def test_wider_rows_reach_further_and_hold_the_same() -> None:
    """What they gain has a slot each; tables still fit into a cache."""
    wide = widen(GAUSSIAN)
    more = wide.radius - GAUSSIAN.radius
    assert more.min() == 2 and more.max() == 16 and wide.cdf.nbytes < 80_000
    assert wide.skip_below == GAUSSIAN.skip_below
    old, new = (np.split(frequencies(tables), tables.start[1:-1]) for tables in (GAUSSIAN, wide))
    for before, after, extra in zip(old, new, more, strict=True):
        assert after[:extra].max() == after[-1 - extra : -1].max() == 1
        assert np.abs(after[extra : -1 - extra] - before[:-1]).max() <= 2 * extra


def test_what_was_not_seen_stays() -> None:
    nothing = np.zeros(GAUSSIAN.start[-1], np.int64)
    assert fit(GAUSSIAN, nothing).hash() == GAUSSIAN.hash()
    counts = nothing.copy()
    counts[GAUSSIAN.start[60] : GAUSSIAN.start[61]] = 1000
    again = frequencies(fit(GAUSSIAN, counts))
    row = np.repeat(np.arange(LEVELS), 2 * GAUSSIAN.radius + 2)
    assert np.array_equal(again[row != 60], frequencies(GAUSSIAN)[row != 60])
    assert not np.array_equal(again[row == 60], frequencies(GAUSSIAN)[row == 60])


def test_fitted_rows_cost_least_for_what_they_were_fitted_to() -> None:
    """Laplacian symbols, a little off zero: fewer bits than with the Gaussians, and almost their entropy."""
    rng = np.random.default_rng(0)
    counts = np.zeros(GAUSSIAN.start[-1], np.int64)
    for row in (20, 60, 90):
        radius = int(GAUSSIAN.radius[row])
        symbols = np.rint(rng.laplace(0.2, radius / 8, 200_000)).astype(int)
        column = np.where(np.abs(symbols) > radius, 2 * radius + 1, symbols + radius)
        np.add.at(counts, GAUSSIAN.start[row] + column, 1)
    shares = counts[counts > 0] / 200_000
    entropy = float(-(counts[counts > 0] * np.log2(shares)).sum())
    assert entropy <= bits(fit(GAUSSIAN, counts), counts) <= 1.003 * entropy < 0.97 * bits(GAUSSIAN, counts)


@pytest.mark.parametrize("only", [0, 1, -1])
def test_any_symbol_has_a_code_whatever_was_counted(only: int) -> None:
    """A single column of every row, a million times: the others keep a slot, escapes too."""
    counts = np.zeros(GAUSSIAN.start[-1], np.int64)
    counts[(GAUSSIAN.start[1:] - 1 if only < 0 else GAUSSIAN.start[:-1] + only)] = 10**6
    tables = fit(GAUSSIAN, counts)
    assert frequencies(tables).min() >= 1
    assert np.all(np.add.reduceat(frequencies(tables), tables.start[:-1]) == TOTAL)
    symbols = np.repeat(np.array([0, 1, -1, 5, -40, 900, -32767, 32767], np.int32), LEVELS - tables.skip_below)
    rows = np.tile(np.arange(tables.skip_below, LEVELS), 8).astype(np.uint8)
    decoder = rans.Decoder(rans.encode(symbols, rows, tables), tables)
    assert np.array_equal(decoder.decode(rows), symbols)
    decoder.finish()


def test_weights_that_only_decode_cannot_be_fitted(fair: Weights, photo: Picture) -> None:
    with pytest.raises(NeedsModel, match="encode"):
        with_fitted_tables(fair.for_decoding(), [Photo("photo", photo)])


class Broken:
    """A photograph whose file is damaged."""

    name, side = "half.png", 512

    @property
    def pixels(self) -> Picture:
        raise BadInput("half.png: damaged")


def test_photographs_that_are_skipped_are_named(fair: Weights, photo: Picture) -> None:
    said: list[str] = []
    with_fitted_tables(fair, [Photo("photo", photo), Broken()], said.append)  # type: ignore[list-item]
    assert said == ["skipped: half.png: damaged"]
