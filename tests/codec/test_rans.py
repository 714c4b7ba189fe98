import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdcodec.codec import rans
from rdcodec.codec.rans import MAX_SYMBOL, Decoder, encode
from rdcodec.errors import BadInput
from rdcodec.exact.tables import LEVELS, TOTAL, Tables
from rdcodec.export.tables import build_gaussian_tables, build_tables, scale_table
from reference_rans import LOW, reference_decode, reference_encode

Symbols = NDArray[np.int32]
Indexes = rans.Indexes

GAUSSIAN = build_gaussian_tables()
# Rows that no Gaussian gives: an escape alone beside 0, a likely escape, one column with nearly all slots.
ODD = build_tables(
    [
        np.array([1.0, 0.0]),
        np.array([0.5, 0.5]),
        np.array([0.0, 0.0, 1.0, 0.0]),
        np.array([0.1, 0.2, 0.3, 0.4]),
        np.array([1.0, 0.0, 0.0, 0.0]),
        np.full(600, 1 / 600),
    ],
    skip_below=1,
)
# The Gaussians and as many rows behind them as only indexes of two bytes can name.
MANY = build_gaussian_tables(more=[np.array([0.2, 0.3, 0.4, 0.1]), np.array([0.5, 0.2, 0.1, 0.2])] * 150)

quick = settings(max_examples=60)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Symbols, Indexes, Tables]:
    """Symbols with their indexes: some skipped, some far beyond the radius of their row."""
    tables = draw(st.sampled_from([GAUSSIAN, ODD, MANY]))
    index = st.integers(0, len(tables.radius) - 1)
    size = st.one_of(st.integers(-3, 3), st.integers(-400, 400), st.integers(-MAX_SYMBOL, MAX_SYMBOL))
    pairs = draw(st.lists(st.tuples(size, index), max_size=60))
    symbols = np.array([s if i >= tables.skip_below else 0 for s, i in pairs], np.int32)
    return symbols, np.array([i for _, i in pairs], np.uint16 if tables is MANY else np.uint8), tables


def decode(data: bytes, indexes: Indexes, tables: Tables) -> Symbols:
    decoder = Decoder(data, tables)
    symbols = decoder.decode(indexes)
    decoder.finish()
    return symbols


def natural(seed: int, indexes: Indexes) -> Symbols:
    """Symbols that are distributed as their rows say."""
    scales = scale_table()[indexes] * (indexes >= GAUSSIAN.skip_below)
    return np.rint(np.random.default_rng(seed).normal(size=len(indexes)) * scales).astype(np.int32)


def ideal_bits(symbols: Symbols, indexes: Indexes, tables: Tables) -> float:
    """Information in the coded symbols under the integer tables, escapes with their uniform bits."""
    coded = indexes >= tables.skip_below
    s, i = symbols[coded].astype(np.int64), indexes[coded]
    radius = tables.radius[i].astype(np.int64)
    beyond = np.maximum(np.abs(s) - radius, 0)
    at = tables.edge_start[i] + np.where(beyond == 0, s + radius, 2 * radius + 1)
    bits = np.log2(TOTAL / (tables.edges[at + 1] - tables.edges[at]))
    return float((bits + np.where(beyond, 5 + np.floor(np.log2(np.maximum(beyond, 1))), 0)).sum())


@given(pictures())
@quick
def test_decoding_undoes_encoding(picture: tuple[Symbols, Indexes, Tables]) -> None:
    symbols, indexes, tables = picture
    assert np.array_equal(decode(encode(symbols, indexes, tables), indexes, tables), symbols)


@given(pictures())
@quick
def test_the_coder_is_the_reference(picture: tuple[Symbols, Indexes, Tables]) -> None:
    symbols, indexes, tables = picture
    data = reference_encode(symbols, indexes, tables)
    assert encode(symbols, indexes, tables) == data
    assert np.array_equal(reference_decode(data, indexes, tables), symbols)


def test_the_coder_is_the_reference_over_many_blocks() -> None:
    indexes = np.random.default_rng(1).integers(0, LEVELS, 3 * 2048 + 5).astype(np.uint8)
    symbols = natural(2, indexes)
    symbols[::500] += 3000 * (indexes[::500] >= GAUSSIAN.skip_below)
    data = reference_encode(symbols, indexes, GAUSSIAN)
    assert encode(symbols, indexes, GAUSSIAN) == data
    assert np.array_equal(decode(data, indexes, GAUSSIAN), symbols)
    assert np.array_equal(reference_decode(data, indexes, GAUSSIAN), symbols)


@given(pictures(), st.data())
@quick
def test_calls_may_be_cut_anywhere(picture: tuple[Symbols, Indexes, Tables], data: st.DataObject) -> None:
    symbols, indexes, tables = picture
    cuts = sorted(data.draw(st.lists(st.integers(0, len(indexes)), max_size=5)))
    decoder = Decoder(encode(symbols, indexes, tables), tables)
    parts = [decoder.decode(indexes[a:b]) for a, b in itertools.pairwise([0, *cuts, len(indexes)])]
    decoder.finish()
    assert np.array_equal(np.concatenate(parts), symbols)


@pytest.mark.parametrize("index", [3, 5, 10, 15, 20, 25, 30, 40, 60, 80, 100, 127])
def test_size_law(index: int) -> None:
    indexes = np.full(30_000, index, np.uint8)
    symbols = natural(index, indexes)
    ideal = ideal_bits(symbols, indexes, GAUSSIAN)
    bits = 8 * len(encode(symbols, indexes, GAUSSIAN))
    # the states take 128 bits; their rounding costs 0.2 % of the rate, and 0.006 bit a symbol at the most
    assert ideal <= bits <= ideal + min(0.002 * ideal, 0.006 * len(symbols)) + 160


def test_size_law_of_a_mixed_picture() -> None:
    rng = np.random.default_rng(0)
    indexes = np.clip(rng.normal(25, 20, 100_000), 0, LEVELS - 1).astype(np.uint8)
    symbols = natural(1, indexes)
    ideal = ideal_bits(symbols, indexes, GAUSSIAN)
    assert ideal <= 8 * len(encode(symbols, indexes, GAUSSIAN)) <= 1.002 * ideal + 160


def test_escapes_reach_every_symbol_and_no_further() -> None:
    edges = [s for radius in GAUSSIAN.radius[3:].tolist() for s in (radius, radius + 1, radius + 2)]
    powers = [2**k + d for k in range(15) for d in (-1, 0, 1)]
    sizes = np.array([s for s in [*edges, *powers, MAX_SYMBOL] if s <= MAX_SYMBOL], np.int32)
    symbols = np.concatenate([sizes, -sizes])
    for index in (3, 40, LEVELS - 1):
        indexes = np.full(len(symbols), index, np.uint8)
        assert np.array_equal(decode(encode(symbols, indexes, GAUSSIAN), indexes, GAUSSIAN), symbols)


@pytest.mark.parametrize("beyond", [MAX_SYMBOL + 1, 2**31 - 1, -MAX_SYMBOL - 1, -(2**31)])
def test_symbols_that_cannot_be_coded_are_refused(beyond: int) -> None:
    with pytest.raises(ValueError, match="symbols beyond"):
        encode(np.array([0, beyond], np.int32), np.array([50, 50], np.uint8), GAUSSIAN)


def test_skipped_positions_cost_nothing() -> None:
    indexes = np.arange(LEVELS, dtype=np.uint8)
    symbols = natural(3, indexes)
    coded = indexes >= GAUSSIAN.skip_below
    data = encode(symbols, indexes, GAUSSIAN)
    assert data == encode(symbols[coded], indexes[coded], GAUSSIAN)
    symbols[GAUSSIAN.skip_below - 1] = 1
    with pytest.raises(ValueError, match="symbols that are not 0"):
        encode(symbols, indexes, GAUSSIAN)


def test_a_picture_without_coded_symbols_is_four_states() -> None:
    at_rest = np.full(4, LOW, "<u4").tobytes()
    for indexes in (np.zeros(0, np.uint8), np.zeros(5000, np.uint8)):
        symbols = np.zeros(len(indexes), np.int32)
        assert encode(symbols, indexes, GAUSSIAN) == at_rest == reference_encode(symbols, indexes, GAUSSIAN)
        assert np.array_equal(decode(at_rest, indexes, GAUSSIAN), symbols)


def test_wrong_arguments_are_refused() -> None:
    symbols, indexes = np.zeros(4, np.int32), np.full(4, 9, np.uint8)
    for bad_symbols, bad_indexes in [
        (symbols.astype(np.int64), indexes),
        (symbols[:3], indexes),
        (symbols, indexes.astype(np.int32)),
        (symbols.reshape(2, 2), indexes.reshape(2, 2)),
        (symbols, np.full(4, LEVELS, np.uint8)),
    ]:
        with pytest.raises(ValueError, match=r"need|rows"):
            encode(bad_symbols, bad_indexes, GAUSSIAN)
    with pytest.raises(ValueError, match="rows"):
        Decoder(encode(symbols, indexes, GAUSSIAN), GAUSSIAN).decode(np.full(4, LEVELS, np.uint8))


def test_strided_and_read_only_arrays_are_fine() -> None:
    indexes = np.repeat(np.arange(LEVELS, dtype=np.uint8), 2)[::2]
    symbols = np.repeat(natural(4, indexes), 3)[::3]
    indexes.flags.writeable = False
    assert not symbols.flags.c_contiguous
    data = encode(symbols, indexes, GAUSSIAN)
    assert data == reference_encode(symbols, indexes, GAUSSIAN)
    assert np.array_equal(decode(data, indexes, GAUSSIAN), symbols)


# Hostile streams


hostile = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def check_hostile(data: bytes, indexes: Indexes, tables: Tables) -> None:
    """Only two ends are allowed: BadInput, or symbols that the coder codes as this very stream."""
    decoder = None
    try:
        decoder = Decoder(data, tables)
        symbols = decoder.decode(indexes)
        decoder.finish()
    except BadInput as error:
        assert "damaged" in str(error)
        assert "\n" not in str(error)
        return
    assert encode(symbols, indexes, tables) == data


@given(pictures(), st.data())
@hostile
def test_a_truncated_stream_is_bad_input(picture: tuple[Symbols, Indexes, Tables], data: st.DataObject) -> None:
    symbols, indexes, tables = picture
    stream = encode(symbols, indexes, tables)
    cut = data.draw(st.integers(0, len(stream) - 1))
    with pytest.raises(BadInput):
        decode(stream[:cut], indexes, tables)


@given(pictures(), st.data())
@hostile
def test_a_longer_stream_is_bad_input(picture: tuple[Symbols, Indexes, Tables], data: st.DataObject) -> None:
    symbols, indexes, tables = picture
    stream = encode(symbols, indexes, tables) + data.draw(st.binary(min_size=1, max_size=9))
    with pytest.raises(BadInput):
        decode(stream, indexes, tables)


@given(pictures(), st.data())
@hostile
def test_flipped_bits(picture: tuple[Symbols, Indexes, Tables], data: st.DataObject) -> None:
    symbols, indexes, tables = picture
    stream = bytearray(encode(symbols, indexes, tables))
    for bit in data.draw(st.lists(st.integers(0, 8 * len(stream) - 1), min_size=1, max_size=4)):
        stream[bit // 8] ^= 1 << bit % 8
    check_hostile(bytes(stream), indexes, tables)


@given(pictures(), st.binary(max_size=200))
@hostile
def test_random_bytes(picture: tuple[Symbols, Indexes, Tables], data: bytes) -> None:
    _, indexes, tables = picture
    check_hostile(data, indexes, tables)


def test_more_symbols_than_the_stream_holds() -> None:
    indexes = np.full(5000, 40, np.uint8)
    data = encode(natural(5, indexes[:100]), indexes[:100], GAUSSIAN)
    with pytest.raises(BadInput, match="ends too early"):
        Decoder(data, GAUSSIAN).decode(indexes)


def test_a_damaged_decoder_stays_damaged() -> None:
    indexes = np.full(300, 40, np.uint8)
    decoder = Decoder(np.full(4, LOW, "<u4").tobytes(), GAUSSIAN)
    for part in (indexes, indexes, indexes[:0], np.zeros(9, np.uint8)):
        with pytest.raises(BadInput):
            decoder.decode(part)
        with pytest.raises(BadInput):
            decoder.finish()


@pytest.mark.parametrize("words", [0, 1, 2])
def test_an_escape_behind_the_last_word(words: int) -> None:
    """Row 1 of ODD escapes at its upper half; every step of this escape then wants a word."""
    data = np.array([0x18001, LOW, LOW, LOW], "<u4").tobytes() + bytes(2 * words)
    decoder = Decoder(data, ODD)
    for _ in range(2):
        with pytest.raises(BadInput, match="ends too early"):
            decoder.decode(np.array([1, 1, 1, 1, 1], np.uint8))


@pytest.mark.parametrize("symbol", [MAX_SYMBOL + 1, -MAX_SYMBOL - 1, 50_000, -65_536])
def test_a_symbol_beyond_the_largest_is_bad_input(symbol: int) -> None:
    symbols, indexes = np.array([symbol], np.int32), np.array([3], np.uint8)
    data = reference_encode(symbols, indexes, ODD)
    assert np.array_equal(reference_decode(data, indexes, ODD), symbols)  # nothing else is wrong with it
    with pytest.raises(BadInput, match="impossible symbol"):
        Decoder(data, ODD).decode(indexes)


def test_states_that_no_encoder_leaves_are_bad_input() -> None:
    for k in range(4):
        states = np.full(4, LOW, "<u4")
        states[k] = LOW - 1
        with pytest.raises(BadInput, match="state"):
            Decoder(states.tobytes(), GAUSSIAN)


# What is on disk


def test_stream_is_pinned() -> None:
    """The tables are written by hand: no rounding of floats. A change here breaks every file there is."""
    cdf = [0, 0x8000, *[0, 0x1000, 0xF000, 0xFFFE], *[0, 0x0800, 0x3000, 0xD000, 0xF800, 0xFFF0]]
    tables = Tables.from_arrays(
        {
            "cdf": np.array(cdf, np.uint16),
            "radius": np.array([0, 1, 2], np.int32),
            "skip_below": np.array([1], np.int32),
        }
    )
    indexes = np.array([0, 1, 2, 2, 0, 1, 1, 2, 2, 1, 2, 0], np.uint8)
    symbols = np.array([0, 0, -2, 1, 0, 0, -1, 3, -700, 0, 2, 0], np.int32)
    data = encode(symbols, indexes, tables)
    assert data.hex() == "005a5a02f0075f00fbf79f1900600100000000cd"
    assert np.array_equal(decode(data, indexes, tables), symbols)
