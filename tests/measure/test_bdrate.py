"""BD-rate against its laws, the bjontegaard package, and figures computed elsewhere from the same curves."""

import json
import math
from dataclasses import replace
from pathlib import Path

import bjontegaard
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator  # type: ignore[import-untyped]

from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.measure.bdrate import (
    Curve,
    bd_psnr,
    bd_rate,
    excess_at_one_rate,
    pchip,
    psnr_at,
    rate_at,
    relative_rate,
    relative_rate_at,
)
from rdcodec.measure.reading import about_curve, builtin_curves, load_curve, read_results
from rdcodec.store.files import dump_results

A = Curve("a", (0.1, 0.25, 0.5, 0.9, 1.6), (27.0, 29.5, 32.0, 34.8, 38.1))
B = Curve("b", (0.12, 0.3, 0.61, 1.2), (28.2, 31.0, 33.9, 37.5))

# (test, BD-rate over the overlap, BD-rate 30-37 dB, relative rate at 0.46 bpp), in per cent against bpg_444:
# an independent implementation, which integrates numerically.
PUBLISHED = [
    ("vtm_18.0", -18.52, -20.04, -19.43),
    ("elic", -25.33, -25.15, -23.82),
    ("bpg_420", 9.03, 6.25, 6.57),
    ("mbt2018_mean", -1.29, -1.73, -0.67),
    ("webp", 46.50, 46.94, 56.27),
    ("jpeg_420_tfc", 155.20, 120.27, 184.60),
    ("jpeg", 183.27, 129.61, 207.92),
]


@st.composite
def curves(draw: st.DrawFn, name: str = "random") -> Curve:
    """Rising curves that all cover 30 to 33 dB."""
    inner = draw(st.integers(2, 8))
    steps = [draw(st.lists(st.floats(0.1, 1.0), min_size=inner, max_size=inner)) for _ in range(2)]
    log_rate = np.cumsum([draw(st.floats(-3.0, -1.0)), *steps[0], 0.5])
    climb = np.cumsum([0.0, *steps[1], 0.5])
    psnr = draw(st.floats(28.0, 30.0)) + climb / climb[-1] * draw(st.floats(5.0, 10.0))
    return Curve(name, tuple(np.exp(log_rate).tolist()), tuple(psnr.tolist()))


@given(curves(), st.floats(0.2, 5.0))
def test_a_constant_factor_of_rate_is_the_delta(curve: Curve, factor: float) -> None:
    dearer = Curve("dearer", tuple(factor * rate for rate in curve.bpp), curve.psnr_db)
    assert bd_rate(dearer, curve).value == pytest.approx(100 * (factor - 1), abs=1e-6)


@given(curves(), st.floats(-2.0, 2.0))
def test_a_constant_gain_of_psnr_is_the_delta(curve: Curve, gain: float) -> None:
    better = Curve("better", curve.bpp, tuple(psnr + gain for psnr in curve.psnr_db))
    assert bd_psnr(better, curve).value == pytest.approx(gain, abs=1e-6)


@given(curves(), curves())
def test_exchanging_test_and_anchor_inverts_the_ratio(a: Curve, b: Curve) -> None:
    there, back = bd_rate(a, b), bd_rate(b, a)
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1.0)
    assert (there.low, there.high) == (back.low, back.high)


@given(curves())
def test_interpolant_is_scipys(curve: Curve) -> None:
    x, y = np.array(curve.psnr_db), curve.log_rate
    at = np.linspace(x[0], x[-1], 50)
    np.testing.assert_allclose(pchip(x, y, at), PchipInterpolator(x, y)(at), atol=1e-9)


def test_interpolant_of_data_that_turn_is_scipys() -> None:
    x, y = np.array([0.0, 1.0, 1.5, 4.0, 5.0]), np.array([0.0, 2.0, 2.0, -1.0, 7.0])
    at = np.linspace(0, 5, 101)
    np.testing.assert_allclose(pchip(x, y, at), PchipInterpolator(x, y)(at), atol=1e-12)


@pytest.mark.parametrize("name", [name for name, *_ in PUBLISHED])
def test_bd_rate_is_that_of_the_bjontegaard_package(name: str) -> None:
    test, anchor = load_curve(name), load_curve("bpg_444")
    expected = bjontegaard.bd_rate(
        *(anchor.bpp, anchor.psnr_db, test.bpp, test.psnr_db),
        method="pchip",
        require_matching_points=False,
        min_overlap=0,
    )
    assert bd_rate(test, anchor).value == pytest.approx(expected, abs=0.01)
    expected_db = bjontegaard.bd_psnr(
        *(anchor.bpp, anchor.psnr_db, test.bpp, test.psnr_db),
        method="pchip",
        require_matching_points=False,
        min_overlap=0,
    )
    assert bd_psnr(test, anchor).value == pytest.approx(expected_db, abs=0.001)


@pytest.mark.parametrize(("name", "full", "window", "relative"), PUBLISHED)
def test_figures_of_published_curves(name: str, full: float, window: float, relative: float) -> None:
    test, anchor = load_curve(name), load_curve("bpg_444")
    assert bd_rate(test, anchor).value == pytest.approx(full, abs=0.006)
    assert bd_rate(test, anchor, (30.0, 37.0)).value == pytest.approx(window, abs=0.006)
    assert relative_rate_at(test, anchor, 0.46) == pytest.approx(relative, abs=0.006)


# (test, anchor, BD-rate over the overlap, relative rate at 0.46 bpp), in per cent, by an independent implementation:
# what VTM, ELIC and CHARM need, and what a change of BPG's curve is worth.
PEERS = [
    ("vtm_18.0", "bpg_444", -18.52, -19.43),
    ("vtm_compressai", "bpg_444", -16.94, -18.92),
    ("elic", "bpg_444", -25.33, -23.82),
    ("elic", "vtm_18.0", -6.81, -5.69),
    ("minnen2020_charm", "bpg_444", -15.71, -16.62),
    ("minnen2020_charm", "vtm_18.0", 0.83, 3.64),
    ("bpg_444_x265_compressai", "bpg_444", 1.34, 1.85),
    ("mbt2018_mean_tfc", "bpg_444", -3.35, -3.95),
]


@pytest.mark.parametrize(("test", "anchor", "full", "relative"), PEERS)
def test_table_of_peers(test: str, anchor: str, full: float, relative: float) -> None:
    curves = load_curve(test), load_curve(anchor)
    assert bd_rate(*curves).value == pytest.approx(full, abs=0.1)
    assert relative_rate_at(*curves, 0.46) == pytest.approx(relative, abs=0.1)


def test_ms_ssim_is_compared_in_db() -> None:
    test, anchor = (load_curve(name, "ms_ssim") for name in ("elic", "bpg_444"))
    record = json.loads(builtin_curves()["elic"].read_text(encoding="utf-8"))
    assert test.psnr_db == pytest.approx([-10 * math.log10(1 - value) for value in record["ms_ssim"]])
    assert bd_rate(test, anchor).value < -20
    with pytest.raises(UsageError, match=r"vtm_18\.0: has no ms_ssim; compare by psnr$"):
        load_curve("vtm_18.0", "ms_ssim")
    with pytest.raises(UsageError, match="one metric"):
        bd_rate(test, load_curve("bpg_444"))


# Another version of the library writes nearly the same files.
@pytest.mark.parametrize(
    ("local", "published", "at_most_db"), [("kodak_jpeg_default", "jpeg", 0.2), ("kodak_webp_m4", "webp", 0.05)]
)
def test_local_curves_meet_the_published_ones(local: str, published: str, at_most_db: float) -> None:
    ours, theirs = load_curve(local), load_curve(published)
    rates = [rate for rate in theirs.bpp if ours.bpp[0] <= rate <= ours.bpp[-1]]
    assert len(rates) > 10
    for rate in rates:
        assert psnr_at(ours, rate) == pytest.approx(psnr_at(theirs, rate), abs=at_most_db)


def test_x265_here_is_near_bpg() -> None:
    assert abs(bd_rate(load_curve("kodak_x265_444"), load_curve("bpg_444"), (29.0, 36.0)).value) < 5


# Other versions and settings of the encoder; a lost colour transform, say, costs far more.
@pytest.mark.parametrize(
    ("local", "published"), [("kodak_jpeg2000", "jpeg2000_openjpeg_tfc"), ("kodak_avif444", "av1_compressai")]
)
def test_local_curves_are_near_the_published_ones(local: str, published: str) -> None:
    assert abs(bd_rate(load_curve(local), load_curve(published), (29.0, 36.0)).value) < 15


def test_reading_a_curve_at_its_own_points() -> None:
    for rate, psnr in zip(A.bpp, A.psnr_db, strict=True):
        assert psnr_at(A, rate) == pytest.approx(psnr)
        assert rate_at(A, psnr) == pytest.approx(rate)


def test_relative_rate_of_one_point() -> None:
    assert relative_rate(0.4, 32.0, A) == pytest.approx(-20.0)
    assert relative_rate(0.4, 32.0, Curve("one point", (0.5,), (32.0,))) == pytest.approx(-20.0)


def test_result_says_what_it_rests_on() -> None:
    result = bd_rate(A, B)
    assert (result.low, result.high, result.points, result.warning) == (28.2, 37.5, (5, 4), None)
    assert bd_rate(A, B, (29.0, 36.0)).low == 29.0
    by_rate = bd_psnr(A, B)
    assert [by_rate.low, by_rate.high] == pytest.approx([0.12, 1.2])


def test_small_overlap_is_said() -> None:
    high = Curve("high", (0.8, 1.0, 1.2, 1.5), (36.0, 38.0, 40.0, 43.0))
    warning = bd_rate(high, A).warning
    assert warning is not None and "30 % of the range of high" in warning  # 36.0 to 38.1 of 36.0 to 43.0


def test_a_short_curve_within_a_long_one_is_no_small_overlap() -> None:
    long = Curve("long", (0.01, 0.1, 1.0, 10.0), (20.0, 28.0, 37.0, 53.0))
    assert bd_rate(A, long).warning is None


@pytest.mark.parametrize(
    ("test", "anchor", "window", "message"),
    [
        (Curve("three", (0.1, 0.2, 0.3), (30.0, 31.0, 32.0)), A, None, "three: 3 points"),
        (A, Curve("one", (0.1,), (30.0,)), None, "one: 1 points"),
        (Curve("far", (0.1, 0.2, 0.3, 0.4), (40.0, 41.0, 42.0, 43.0)), A, None, "share no range"),
        (A, B, (28.0, 36.0), "does not hold the window"),
        (A, B, (36.0, 29.0), "does not hold the window"),
    ],
)
def test_no_delta_is_an_error_not_a_figure(
    test: Curve, anchor: Curve, window: tuple[float, float] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bd_rate(test, anchor, window)


def test_reading_outside_a_curve() -> None:
    with pytest.raises(UsageError, match="outside"):
        relative_rate_at(A, B, 0.05)
    with pytest.raises(UsageError, match="outside"):
        relative_rate(0.1, 45.0, A)


@pytest.mark.parametrize(
    ("bpp", "psnr_db"),
    [
        ((), ()),
        ((0.1, 0.2), (30.0,)),
        ((0.0, 0.2), (30.0, 31.0)),
        ((0.1, math.inf), (30.0, 31.0)),
        ((0.1, 0.2), (30.0, math.nan)),
        ((0.2, 0.1), (30.0, 31.0)),
        ((0.1, 0.2), (30.0, 30.0)),
    ],
    ids=["empty", "lengths", "no rate", "infinite", "nan", "rate falls", "psnr stays"],
)
def test_no_curve(bpp: tuple[float, ...], psnr_db: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="bad"):
        Curve("bad", bpp, psnr_db)


def test_points_that_gain_nothing_are_left_out() -> None:
    curve = Curve.from_points("c", [(0.3, 32.0), (0.1, 30.0), (0.2, 29.0), (0.4, 32.0), (0.4, 33.0)])
    assert (curve.bpp, curve.psnr_db) == ((0.1, 0.3, 0.4), (30.0, 32.0, 33.0))


@pytest.mark.parametrize("name", list(builtin_curves()))
def test_builtin_curve(name: str) -> None:
    curve, about = load_curve(name), about_curve(name)
    assert 1 <= len(curve.bpp) <= about.points
    assert about.bpp[0] <= curve.bpp[0] and curve.pictures == about.pictures
    assert curve.psnr_db[0] > 20 and curve.psnr_db[-1] < 60
    if about.has_ms_ssim:
        assert load_curve(name, "ms_ssim").psnr_db[0] > 3


def test_names_of_builtin_curves() -> None:
    names = builtin_curves()
    assert {"elic", "kodak_x265_444", "tecnick/bpg_444", "clic2020_pro_valid/c3"} <= set(names)
    assert len(names) >= 201
    assert load_curve("kodak/elic") == load_curve("elic") != load_curve("elic_sm")


def test_builtin_curves_say_where_they_come_from() -> None:
    for name, file in builtin_curves().items():
        record = json.loads(file.read_text(encoding="utf-8"))
        told = ("tag", "dataset", "machine") if name.startswith("kodak_") else ("source", "licence", "averaging")
        assert all(record[key] for key in told), name


def test_curve_from_a_file(tmp_path: Path) -> None:
    published = tmp_path / "published.json"
    published.write_text(json.dumps({"codec": "X", "bpp": A.bpp, "psnr_rgb": A.psnr_db}))
    assert load_curve(published) == load_curve(str(published)) == Curve("X", A.bpp, A.psnr_db)
    lossless = published.with_name("lossless.json")
    lossless.write_text(json.dumps({"codec": "X", "bpp": [*A.bpp, 9.0], "psnr_rgb": [*A.psnr_db, None]}))
    assert load_curve(lossless) == Curve("X", A.bpp, A.psnr_db)


def test_curve_from_files_of_other_programs_and_of_the_store(tmp_path: Path) -> None:
    """Whatever `rdc results import` takes is a curve too, if it holds a single one."""
    theirs, exported = tmp_path / "theirs.json", tmp_path / "exported.json"
    lists = {"bpp": A.bpp, "psnr": A.psnr_db, "ms-ssim": [0.9, 0.95, 0.97, 0.98, 0.99]}
    theirs.write_text(json.dumps({"name": "X", "description": "x", "results": lists}))
    assert load_curve(theirs) == Curve("X", A.bpp, A.psnr_db)
    assert load_curve(theirs, "ms_ssim").psnr_db[0] == pytest.approx(10)
    results = read_results(theirs, "kodak")
    exported.write_text(dump_results(results))
    assert load_curve(exported) == Curve("X", A.bpp, A.psnr_db, pictures="kodak")
    exported.write_text(dump_results([*results, replace(results[0], codec="Y")]))
    with pytest.raises(BadInput, match="holds 2 curves"):
        load_curve(exported)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\xff",
        b"{",
        b"[1, 2]",
        b"{}",
        b'{"bpp": [1], "psnr_rgb": []}',
        b'{"bpp": ["x"], "psnr_rgb": [1]}',
        b'{"bpp": [-1], "psnr_rgb": [30]}',
        b'{"bpp": 1, "psnr_rgb": 30}',
        b'{"curve": []}',
    ],
)
def test_file_without_a_curve(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "curve.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"curve\.json"):
        load_curve(path)


def test_unknown_name_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean bpg_444"):
        load_curve("bpg444")
    with pytest.raises(UsageError, match="rdc bdrate --list"):
        load_curve("@")
    for missing in (tmp_path / "curve.json", "nowhere.json", tmp_path):
        with pytest.raises(RdcError, match="check the path") as caught:
            load_curve(missing)
        assert caught.value.exit_code == 1


def test_excess_at_one_rate_is_that_of_the_curve_nearby() -> None:
    """Of a curve of slope -lmbda, points beside the best cost nothing more; more bits at the same PSNR are that."""
    assert excess_at_one_rate((0.5, 32.0), (0.5, 32.0), 0.013) == 0
    assert excess_at_one_rate((0.6, 32.0), (0.5, 32.0), 0.013) == pytest.approx(20)
    best, slope = (0.5, 32.0), 0.013
    error = 255**2 / 10 ** (best[1] / 10) + 0.5  # half a unit of MSE more, and what that is worth in bits less
    along = (best[0] - slope * 0.5, 10 * math.log10(255**2 / error))
    assert excess_at_one_rate(along, best, slope) == pytest.approx(0, abs=1e-9)


def test_a_file_named_as_a_built_in_curve_does_not_take_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = load_curve("bpg_444")
    Path("bpg_444").write_text("no curve")
    assert load_curve("bpg_444") == wanted
    with pytest.raises(BadInput, match="no JSON"):
        load_curve("./bpg_444")


def test_a_curve_has_those_of_the_other_metrics_beside_it() -> None:
    jxl, avif = load_curve("kodak_jxl"), load_curve("kodak_avif444")
    assert jxl.others["ms_ssim"] == load_curve("kodak_jxl", "ms_ssim")
    by_structure = bd_rate(avif.others["ms_ssim"], jxl.others["ms_ssim"]).value
    assert bd_rate(avif, jxl).value < by_structure - 10, "JPEG XL is better by MS-SSIM than by PSNR"
    assert not load_curve("cool_chic_5.0").others
    assert not load_curve("kodak_jxl", "ms_ssim").others
