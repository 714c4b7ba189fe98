import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from rdcodec.errors import NeedsModel
from rdcodec.exact.tables import LEVELS, TOTAL, Tables
from rdcodec.export.tables import SKIP_BELOW, build_gaussian_tables, build_tables, scale_table

TABLES = build_gaussian_tables()


def row(tables: Tables, index: int) -> np.ndarray:
    """Frequencies of one row."""
    cdf = tables.cdf[tables.start[index] : tables.start[index + 1]].astype(np.int64)
    return np.diff(cdf, append=TOTAL)


def gaussian(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """All integers that a rounded Gaussian may give, and their probabilities."""
    s = np.arange(-math.ceil(9 * scale) - 2, math.ceil(9 * scale) + 3)
    upper = [math.erfc((abs(k) - 0.5) / scale / 2**0.5) - math.erfc((abs(k) + 0.5) / scale / 2**0.5) for k in s]
    return s, np.array(upper) / 2


def entropy_bits(scale: float) -> float:
    p = gaussian(scale)[1]
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def cost_bits(tables: Tables, index: int, s: np.ndarray) -> np.ndarray:
    """Ideal length of each symbol in s, escapes with their uniform bits."""
    frequency, radius = row(tables, index), int(tables.radius[index])
    beyond = np.maximum(np.abs(s) - radius, 0)
    column = np.where(beyond == 0, s + radius, 2 * radius + 1)
    extra = np.where(beyond == 0, 0, 5 + np.floor(np.log2(np.maximum(beyond, 1))))
    return np.log2(TOTAL / frequency[column]) + extra


def test_savings_are_what_the_next_symbol_towards_zero_costs_less() -> None:
    for index in range(0, LEVELS, 9):
        radius = int(TABLES.radius[index])
        s = np.arange(-radius, radius + 1)
        found = TABLES.savings[TABLES.edge_start[index] :][: 2 * radius + 3]
        bits = cost_bits(TABLES, index, s)
        np.testing.assert_allclose(found[:-2], bits - cost_bits(TABLES, index, s - np.sign(s)), rtol=1e-6)
        assert found[-2:].tolist() == [0, 0]


def test_scale_table() -> None:
    scales = scale_table()
    assert scales.shape == (LEVELS,)
    assert (scales[0], scales[-1]) == pytest.approx((0.11, 256.0))
    assert np.ptp(np.diff(np.log(scales))) < 1e-12


def test_every_row_is_a_symmetric_bell() -> None:
    for index in range(LEVELS):
        frequency = row(TABLES, index)
        assert frequency.sum() == TOTAL
        assert frequency.min() >= 1
        body = frequency[:-1]
        # the last few units of a row go where they save most, one at a time
        assert np.abs(body - body[::-1]).max() <= 1
        assert np.diff(body[: len(body) // 2 + 1]).min() >= -1


@pytest.mark.parametrize("index", range(10, LEVELS, 3))
def test_code_is_within_a_thousandth_of_the_gaussian(index: int) -> None:
    scale = float(scale_table()[index])
    s, p = gaussian(scale)
    entropy = entropy_bits(scale)
    length = float((p * cost_bits(TABLES, index, s)).sum())
    assert entropy <= length <= entropy * 1.001


@pytest.mark.parametrize("index", range(SKIP_BELOW, 10))
def test_narrow_rows_cost_next_to_nothing_more(index: int) -> None:
    scale = float(scale_table()[index])
    s, p = gaussian(scale)
    assert float((p * cost_bits(TABLES, index, s)).sum()) <= entropy_bits(scale) + 5e-5


def test_skipped_levels_hold_nothing() -> None:
    for scale in scale_table()[:SKIP_BELOW]:
        assert scale < 0.13
        assert entropy_bits(float(scale)) < 0.001  # bit per position


def test_tables_stay_in_the_cache() -> None:
    assert TABLES.cdf.nbytes < 80_000


def test_very_narrow_and_very_wide_rows() -> None:
    tables = build_gaussian_tables(np.array([0.001, 0.01, 1000.0]), skip_below=0)
    assert row(tables, 0).tolist() == [1, TOTAL - 3, 1, 1]
    assert row(tables, 2).min() == 1


@given(
    st.lists(
        st.lists(st.floats(0, 1), min_size=2, max_size=40).filter(lambda m: len(m) % 2 == 0 and sum(m) > 0.01),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=50)
def test_any_masses_give_sound_tables(masses: list[list[float]]) -> None:
    tables = build_tables([np.array(mass) / sum(mass) for mass in masses], skip_below=0)
    for index, mass in enumerate(masses):
        assert len(row(tables, index)) == len(mass)
        assert row(tables, index).min() >= 1


def test_rows_behind_the_gaussians() -> None:
    more = [np.array([0.25, 0.5, 0.125, 0.125])] * 200
    tables = build_gaussian_tables(more=more)
    assert len(tables.radius) == LEVELS + 200
    assert all(np.array_equal(row(tables, i), row(TABLES, i)) for i in range(LEVELS))
    assert row(tables, LEVELS + 199).tolist() == [TOTAL // 4, TOTAL // 2, TOTAL // 8, TOTAL // 8]


def test_lookups_agree_with_the_rows() -> None:
    for index in range(LEVELS):
        edges = TABLES.edges[TABLES.edge_start[index] :][: 2 * TABLES.radius[index] + 3]
        assert edges[-1] == TOTAL
        assert np.array_equal(np.diff(edges), row(TABLES, index))
        column = TABLES.bucket[index].astype(int)
        first_slot = np.arange(256) * 256
        assert np.all(edges[column] <= first_slot)
        assert np.all(edges[column + 1] > first_slot)


def test_round_trip_through_a_weights_file() -> None:
    again = Tables.from_arrays(load(save(TABLES.to_arrays())))
    assert np.array_equal(again.cdf, TABLES.cdf)
    assert np.array_equal(again.radius, TABLES.radius)
    assert np.array_equal(again.start, TABLES.start)
    assert again.skip_below == TABLES.skip_below
    assert again.hash() == TABLES.hash()


def test_hash_is_that_of_the_documented_bytes() -> None:
    tables = tiny()
    text = "02000000 01000000  01000000 00000000  0000 0010 00f0 feff  0000 0080"
    assert tables.hash() == hashlib.sha256(bytes.fromhex(text)).digest()[:4]


def tiny() -> Tables:
    return Tables(np.array([0, 0x1000, 0xF000, 0xFFFE, 0, 0x8000], np.uint16), np.array([1, 0], np.int32), skip_below=1)


def test_hash_changes_with_everything() -> None:
    hashes = {tiny().hash(), TABLES.hash()}
    for name, position, value in [("cdf", 1, 7), ("cdf", 5, 7), ("skip_below", 0, 2), ("skip_below", 0, 0)]:
        arrays = tiny().to_arrays()
        arrays[name][position] = value
        hashes.add(Tables.from_arrays(arrays).hash())
    assert len(hashes) == 6


def u16(*values: int) -> np.ndarray:
    return np.array(values, np.uint16)


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cdf", None),
        ("radius", None),
        ("skip_below", None),
        ("cdf", np.array([0, 0x1000, 0xF000, 0xFFFE, 0, 0x8000], np.int32)),
        ("cdf", u16(0, 0x1000, 0xF000, 0xFFFE, 0, 0x8000).reshape(2, 3)),
        ("cdf", u16()),
        ("cdf", u16(0, 0x1000, 0xF000, 0xFFFE, 0)),
        ("cdf", u16(0, 0x1000, 0xF000, 0xFFFE, 0, 0x8000, 0x9000)),
        ("cdf", u16(1, 0x1000, 0xF000, 0xFFFE, 0, 0x8000)),
        ("cdf", u16(0, 0x1000, 0xF000, 0xFFFE, 1, 0x8000)),
        ("cdf", u16(0, 0x1000, 0x1000, 0xFFFE, 0, 0x8000)),
        ("cdf", u16(0, 0, 0x1000, 0xFFFE, 0, 0x8000)),
        ("cdf", u16(0, 0xF000, 0x1000, 0xFFFE, 0, 0x8000)),
        ("cdf", u16(0, 0x1000, 0xF000, 0xFFFE, 0, 0)),
        ("radius", np.array([1.0, 0.0])),
        ("radius", np.array([1, 0], np.int64)),
        ("radius", i32()),
        ("radius", i32(1, -1)),
        ("radius", i32(0, 0)),
        ("radius", i32(1, 1)),
        ("radius", i32(32768, 0)),
        ("radius", i32(2**31 - 1, 2**31 - 1)),
        ("radius", i32(*[0] * 257)),
        ("radius", i32(1, 0).reshape(1, 2)),
        ("skip_below", i32(-1)),
        ("skip_below", i32(3)),
        ("skip_below", i32()),
        ("skip_below", i32(1, 1)),
        ("skip_below", np.array(1, np.int32)),
    ],
)
def test_damage_is_refused(name: str, value: np.ndarray | None) -> None:
    arrays = tiny().to_arrays()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    with pytest.raises(NeedsModel, match="damaged entropy tables"):
        Tables.from_arrays(arrays)


def test_65537_rows_that_are_sound_otherwise_are_refused() -> None:
    arrays = {"cdf": u16(*[0, 9] * 65537), "radius": i32(*[0] * 65537), "skip_below": i32(0)}
    with pytest.raises(NeedsModel, match="65537 rows"):
        Tables.from_arrays(arrays)


@given(st.data())
def test_any_change_is_refused_or_gives_sound_tables_of_another_hash(data: st.DataObject) -> None:
    arrays = tiny().to_arrays()
    name = data.draw(st.sampled_from(sorted(arrays)))
    position = data.draw(st.integers(0, len(arrays[name]) - 1))
    limits = np.iinfo(arrays[name].dtype)
    value = data.draw(st.integers(limits.min, limits.max).filter(lambda v: v != arrays[name][position]))
    arrays[name][position] = value
    try:
        tables = Tables.from_arrays(arrays)
    except NeedsModel:
        return
    assert tables.hash() != tiny().hash()
    for index in range(len(tables.radius)):
        assert row(tables, index).min() >= 1
        assert row(tables, index).sum() == TOTAL


def test_verified_tables_do_not_share_memory_with_their_source() -> None:
    arrays = tiny().to_arrays()
    tables = Tables.from_arrays(arrays)
    arrays["cdf"][1] = 0
    assert tables.cdf[1] == 0x1000


def test_radii_whose_sum_would_wrap_are_refused() -> None:
    arrays = {"cdf": np.zeros(0, np.uint16), "radius": np.full(65536, 32767, np.int32)}
    with pytest.raises(NeedsModel, match="radii ask for 4294967296"):
        Tables.from_arrays({**arrays, "skip_below": np.zeros(1, np.int32)})
