"""The paper's figures from a made-up store: every one is there, and its CSV file holds what is drawn."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rdcodec.cli.main import main
from rdcodec.codec.pipeline import search_steps
from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import psnr_at, rate_at, relative_rate_at
from rdcodec.measure.published import decoders
from rdcodec.measure.reading import load_curve
from rdcodec.report import figures
from rdcodec.report.charts import Chart, Missing, label_points, new_axes
from rdcodec.report.crops import Version, contact_sheet, parse_box
from rdcodec.report.devices import our_series
from rdcodec.report.families import families, family, loss_by_flops
from rdcodec.report.figures import Figure, study_charts
from rdcodec.report.files import report_files
from rdcodec.report.orders import speed_tables
from rdcodec.report.plots import rate_axis
from rdcodec.report.relative import (
    relative_by_flops,
    relative_by_rate,
    relative_by_speed,
    relative_by_training,
)
from rdcodec.report.standings import encoder_kflops_per_px
from rdcodec.report.study import Laboratory, read_laboratory, read_studies
from rdcodec.report.tables import paper_table, results_page
from rdcodec.report.times import time_by_flops
from rdcodec.report.trainings import rate_by_training
from rdcodec.store.db import Store
from rdcodec.store.records import Provenance, Result

FLOPS = {"B": 631.1, "E": 252.1, "G": 117.4, "I": 23.6}
MILLISECONDS = {"B": 900.0, "E": 2000.0, "G": 300.0, "I": 40.0}
BPG = load_curve("bpg_444")


def quality(codec: str, bpp: float, psnr_db: float, setting: float | None, when: str = "2026-01-01") -> Result:
    row = {"width": 768, "height": 512, "file_bytes": 1000}
    rows = tuple({"image": f"{n}.png", **row} for n in range(24))
    values = {"bpp": bpp, "psnr_db": psnr_db, "ms_ssim": 0.9}
    return Result("quality", codec, f"{codec}.1", values, Provenance("rdcodec", when), "kodak", setting, rows)


def below(codec: str, share: float) -> list[Result]:
    """A codec of all rates that needs that share of BPG's."""
    points = enumerate(BPG.psnr_db[4:-4:2])
    return [quality(codec, share * rate_at(BPG, db), db, float(n)) for n, db in points]


def store_results() -> list[Result]:
    found = [*below("I", 1.25), quality("I", 9.0, 20.0, 0.0, "2025-01-01")]  # the last is an older one
    found += [quality(name, 0.46, 33.0 + n, None) for n, name in enumerate("GB")]
    machine = {"cpu": "a CPU"}
    for codec, flops in FLOPS.items():
        counts = {"parameters": 2e6, "kflops_per_px": flops, "training_flops_per_px": 6e3 * flops}
        parts = ({"part": "synthesis", "kflops_per_px": flops / 2},)
        found.append(Result("count", codec, codec, counts, Provenance("rdcodec"), rows=parts))
        for threads in (1, 2):
            rate = threads * 1000 / MILLISECONDS[codec]
            values = {"device": "cpu", "threads": threads, "dtype": "fp32", "decode_networks_mpx_per_s": rate}
            values["decode_mpx_per_s"] = rate / 2 if codec != "E" else None
            found.append(Result("speed", codec, codec, values, Provenance("rdcodec", machine=machine), "768x512"))
    found.append(Result("training", "I", "I.1", {"eflop": 0.0012}, Provenance("rdcodec")))
    return found


def laboratory(results: Sequence[Result]) -> Laboratory:
    with Store(None) as store:
        store.add(results)
        return read_laboratory(store)


@pytest.fixture(scope="module")
def lab() -> Laboratory:
    return laboratory(store_results())


def drawn_points(chart: Chart | Missing) -> set[tuple[float, float]]:
    """Every point of every line in a figure."""
    assert isinstance(chart, Chart)
    first, *others = chart.figure().axes
    axes = (first, *others[:-1])  # the last of several shows ranks
    lines = [line for each in axes for line in each.lines]
    return {(float(x), float(y)) for line in lines for x, y in np.asarray(line.get_xydata()).tolist()}


def data(chart: Chart | Missing) -> list[dict[str, str]]:
    assert isinstance(chart, Chart)
    return list(csv.DictReader(io.StringIO(chart.data())))


@pytest.mark.parametrize(
    ("make", "x", "y"),
    [
        (relative_by_flops, "kflops_per_px", "relative_rate_percent"),
        (relative_by_speed, "decode_mpx_per_s", "relative_rate_percent"),
        (relative_by_training, "eflop", "relative_rate_percent"),
        (families, "bpp", "psnr_db"),
        (relative_by_rate, "bpp", "relative_rate_percent"),
        (lambda lab, study: time_by_flops(lab), "kflops_per_px", "decode_ms_per_mpx"),
    ],
)
def test_the_csv_holds_what_is_drawn(lab: Laboratory, make, x: str, y: str) -> None:  # type: ignore[no-untyped-def]
    chart = make(lab, lab.studies[0])
    written = {(float(row[x]), float(row[y])) for row in data(chart) if row[x]}
    level = {float(row[y]) for row in data(chart) if not row[x]} | {0.0}
    drawn = {point for point in drawn_points(chart) if point[1] not in level}
    assert written and drawn == {point for point in written if point[1] not in level}


def test_relative_rates_are_those_of_the_curves(lab: Laboratory) -> None:
    (study,) = lab.studies
    rows = {(row["codec"], row["by"]): row for row in data(relative_by_flops(lab, study))}
    assert float(rows["I.1", "rdcodec"]["relative_rate_percent"]) == pytest.approx(25, abs=0.2)
    assert float(rows["B.1", "rdcodec"]["relative_rate_percent"]) == pytest.approx(
        100 * (0.46 / rate_at(BPG, 34.0) - 1), abs=1e-3
    )
    assert [float(rows[name, "paper"]["relative_rate_percent"]) for name in "ABG"] == [-22.86, -21.93, -4.68]
    vtm = load_curve("vtm_18.0")
    expected = 100 * (0.46 / rate_at(BPG, psnr_at(vtm, 0.46)) - 1)
    assert float(rows[vtm.name, "published"]["relative_rate_percent"]) == pytest.approx(expected, abs=1e-3)
    over_rates = [row for row in data(relative_by_rate(lab, study)) if row["curve"] == "rdcodec I.1"]
    assert np.allclose([float(row["relative_rate_percent"]) for row in over_rates], 25, atol=1)


def test_frontiers(lab: Laboratory) -> None:
    rows = data(relative_by_flops(lab, lab.studies[0]))
    on = {(row["by"], row["codec"]) for row in rows if row["on_frontier"] == "1" and row["by"] != "published"}
    assert on == {("paper", name) for name in "ABCDEFG"} | {("rdcodec", f"{name}.1") for name in "IGB"}
    speeds = [row for row in data(relative_by_speed(lab, lab.studies[0])) if row["series"].startswith("CPU, 1 thread")]
    assert [row["codec"] for row in speeds if row["on_frontier"] == "1"] == ["I.1", "G.1", "B.1"]


def test_ranks_and_inversions_are_named(lab: Laboratory) -> None:
    chart = time_by_flops(lab)
    assert isinstance(chart, Chart)
    device = "| Kodak's size | CPU, 1 thread, torch fp32 |"
    assert f"{device} B, E, G, I | 0.67 | B than E |" in chart.note
    assert "| Kodak's size | A100, the paper | A to G | 1.00 | - |" in chart.note
    assert f"{device} 0.33 | B than E | 0.33 | B than E |" in chart.note, "on GPUs E is faster than B"
    assert "- Pairs that order all alike: 1." in chart.note
    rows = {(row["series"], row["codec"]): row for row in data(chart)}
    row = rows["CPU, 2 threads, torch fp32", "E"]
    assert (row["decode_ms_per_mpx"], row["flops_rank"], row["time_rank"]) == ("1000.0", "3.0", "4.0")


def test_families_are_those_of_the_results_or_of_the_package(lab: Laboratory) -> None:
    found = {m.codec: family(m) for m in lab.studies[0].results}
    assert found["B"] == "ELIC + CHARM, SwinT hyper" and found["G"] == "conv + hyperprior"
    assert found["I"] == "light + checkerboard"
    point = quality("w48-d2", 0.46, 33.0, None)
    (trial,) = read_studies([replace(point, values={**point.values, "family": "light + checkerboard"})])[0].results
    (other,) = read_studies([point])[0].results
    assert family(trial) == "light + checkerboard" and family(other) is None


def test_the_frontier_of_a_sweep_is_of_losses(lab: Laboratory) -> None:
    """Drawn from what a sweep leaves in the store, even where no trial is good enough to be set beside an anchor."""
    found: list[Result] = []
    for name, flops, loss in (("a", 5.0, 0.7), ("b", 6.0, 0.8), ("c", 9.0, 0.6)):
        values = {"bpp": 0.5, "psnr_db": 12.0, "estimated": True, "family": "light + checkerboard"}
        found.append(Result("quality", name, name, values, Provenance("rdcodec"), "validation slice"))
        found.append(Result("count", name, name, {"kflops_per_px": flops}, Provenance("rdcodec")))
        found.append(Result("training", name, name, {"loss": loss}, Provenance("rdcodec")))
    (study,) = read_studies([result for result in found if result.kind == "quality"])
    kinds = {kind: tuple(r for r in found if r.kind == kind) for kind in ("count", "training")}
    sweep = Laboratory((study,), (), kinds["count"], kinds["training"])
    assert [(row["codec"], row["on_frontier"]) for row in data(loss_by_flops(sweep, study))] == [
        *(("a", "1"), ("b", "0"), ("c", "1")),
    ]
    assert all(row["letter"] == "" and row["family"] for row in data(families(lab, study)))
    assert isinstance(loss_by_flops(lab, lab.studies[0]), Missing)


def test_what_the_last_doubling_of_training_brought() -> None:
    """A run whose rate falls by a tenth with every doubling: the figure says so, and the guess goes on so."""
    curve = [(0.25, 28.0), (0.5, 31.0), (1.0, 34.0), (2.0, 37.0)]
    rows = [
        {"eflop": 1e-4 * 2**n, "quality": float(q), "bpp": bpp * 0.9**n, "psnr_db": db}
        for n in range(4)
        for q, (bpp, db) in enumerate(curve)
    ]
    run = Result("training", "I", "I.1", {"eflop": 8e-4}, Provenance("rdcodec"), rows=tuple(rows))
    chart = rate_by_training(Laboratory((), (), (), (run,)))
    found = {(row["run"], float(row["eflop"])): float(row["excess_percent"]) for row in data(chart)}
    assert found["I.1", 1e-4] == pytest.approx(100 * (0.9**-3 - 1), abs=1e-3)
    assert found["I.1", 8e-4] == pytest.approx(0, abs=1e-6)
    assert found["I.1, guess", 32e-4] == pytest.approx(-19, abs=1e-3)
    assert isinstance(chart, Chart)
    assert "I.1: the last doubling of the computation lowered the rate by 10.0 %" in chart.note
    assert isinstance(rate_by_training(Laboratory((), (), (), (replace(run, rows=()),))), Missing)
    later = replace(
        run, tag="I.2", rows=tuple({**row, "eflop": 16 * row["eflop"]} for row in rows if row["eflop"] > 3e-4)
    )
    shown = {row["run"] for row in data(rate_by_training(Laboratory((), (), (), (later, run))))}
    assert shown == {"I.1", "I.2", "I.2, guess"}  # two looks are enough; what I.1 might have become has come


def test_training_of_a_model_of_one_rate() -> None:
    """Its rate at the last one's PSNR, by the tangent: nothing at the end, what its loss is more before."""
    points = [(0.80, 31.0), (0.60, 32.0), (0.55, 32.5)]
    rows = tuple(
        {"eflop": 1e-3 * 2**n, "lmbda": 0.013, "quality": 0.0, "bpp": bpp, "psnr_db": db}
        for n, (bpp, db) in enumerate(points)
    )
    run = Result("training", "G", "G.1", {"eflop": 4e-3}, Provenance("rdcodec"), rows=rows)
    found = [float(row["excess_percent"]) for row in data(rate_by_training(Laboratory((), (), (), (run,))))]
    loss = [bpp + 0.013 * 255**2 / 10 ** (db / 10) for bpp, db in points]
    assert found[:3] == pytest.approx([100 * (value - loss[-1]) / 0.55 for value in loss], abs=1e-3)


def test_estimates_are_called_so(lab: Laboratory) -> None:
    assert not lab.studies[0].estimated
    point = quality("w48-d2", 0.46, 33.0, None)
    (study,) = read_studies([replace(point, values={**point.values, "estimated": True})])
    assert study.estimated and "estimated" in rate_axis(study)
    assert "rates: estimated by the model" in results_page([(study, [])])


def test_what_others_say_of_their_machine_may_be_of_any_kind() -> None:
    point = quality("mine", 0.46, 33.0, None)
    machine = {"cpu": None, "cores": "many", "threads": 2.0, "isa": 5}
    odd = replace(point.provenance, machine=machine)
    (study,) = read_studies([replace(point, values={**point.values, "jobs": "x"}, provenance=odd)])
    page = results_page([(study, [])])
    assert "- machine: many cores, 2 threads, 5\n" in page and "x pictures at a time" in page


def test_relative_rates_on_other_pictures_are_against_x265_if_nothing_is_nearer_to_bpg() -> None:
    def on_other(codec: str) -> Result:
        tag = "I.1" if codec == "I" else "a version"
        return replace(quality(codec, 0.5, 33.0, 1.0), tag=tag, dataset="mine", rows=())

    (study,) = read_studies([on_other(codec) for codec in ("I", "jpeg", "x265_444", "webp")])
    assert study.reference is not None and study.reference.name == "x265 4:4:4 (pillow-heif)"


def test_a_point_alone_is_no_chart(lab: Laboratory) -> None:
    """Of pictures on which the others do not reach the rate where models of many rates stand."""
    found = [
        replace(quality(codec, bpp, db, None), tag=tag, dataset="mine", rows=())
        for codec, tag, points in (
            ("G", "G.1", [(0.31, 33.0)]),
            ("I", "I.1", [(0.1, 30.0), (0.2, 32.0), (0.3, 34.0), (0.4, 36.0)]),
            ("x265_444", "a version", [(0.1, 29.0), (0.2, 31.0), (0.4, 34.0), (0.6, 37.0)]),
        )
        for bpp, db in points
    ]
    (study,) = read_studies(found)
    chart = relative_by_flops(lab, study)
    assert isinstance(chart, Missing) and "G would be the only point" in chart.reason


def test_training_is_set_beside_the_papers(lab: Laboratory) -> None:
    """The paper's: two million steps of 32 crops of 256x256 at what a step costs per pixel, or of 16 for large models.

    Ours: that of the weights themselves, and that with their start, each under its name.
    """
    counts = [Result("count", name, name, {"training_flops_per_px": 1e6}, Provenance("rdcodec")) for name in "BG"]
    spent = Result("training", "G", "G.1", {"eflop": 0.03335, "own_eflop": 0.000757}, Provenance("rdcodec"))
    table = paper_table(replace(lab, counts=tuple(counts), trainings=(spent,)), lab.studies[0])
    assert table.columns[-2:] == (">own training (EFLOP)", ">with its start (EFLOP)")
    found = {row[0]: row[-2:] for row in table.rows}
    assert found["G"] == ("4.2", "4.2") and found["B"] == ("2.1 or 4.2", "2.1 or 4.2")
    assert found["rdcodec G.1"] == ("0.00076", "0.033")
    assert found["A"] == found["rdcodec I.1"] == ("-", "-")


def test_speeds_are_of_one_quality_and_one_way() -> None:
    """I at quality 85 beside H at 50, or I on a faster card beside H on a CPU, would rank neither."""
    models = [*below("I", 1.25), *below("H", 1.1)]
    cpu = {"device": "cpu", "threads": 2, "decode_networks_mpx_per_s": 1.0}

    def speed(codec: str, setting: float | None, rate: float, **how: str) -> Result:
        when = f"2026-01-{int(setting or 1) // 10 + 1:02}"
        values = {**cpu, "decode_mpx_per_s": rate, **how}
        return Result("speed", codec, f"{codec}.1", values, Provenance("rdcodec", when), "kodak", setting)

    speeds = [speed("I", 10.0, 13.0), speed("I", 50.0, 11.5), speed("I", 85.0, 10.7), speed("H", 50.0, 6.7)]
    fast = speed("I", 50.0, 300.0, device="a card")
    lab = laboratory([*models, *speeds, fast])
    assert len(lab.speeds) == 5, "those at other qualities are other measurements"
    table = paper_table(lab, lab.studies[0])
    shown = {row[0]: row[table.columns.index(">decode MP/s")] for row in table.rows}
    assert (shown["rdcodec I.1"], shown["rdcodec H.1"]) == ("11.5", "6.7")
    assert "quality 50" in table.note and "CPU, 2 threads" in table.note
    points = [(row["codec"], row["decode_mpx_per_s"]) for row in data(relative_by_speed(lab, lab.studies[0]))]
    assert sorted(points) == [("H.1", "6.7"), ("I.1", "11.5"), ("I.1", "300.0")]


def test_machines_of_one_name_are_told_apart_and_each_way_is_drawn_once() -> None:
    """Of several runs of a way on a machine the one of most models; CLIC stands by itself."""

    def run(codecs: str, isa: str, seconds: float, pictures: str, **how: str | bool) -> list[Result]:
        machine = {"cpu": "AMD EPYC", "isa": [isa]}
        return [
            Result(
                "speed",
                codec,
                f"{codec}.1",
                {"threads": 2, "dtype": "fp32", "decode_networks_mpx_per_s": 1 / seconds, "kflops_per_px": 9.0} | how,
                Provenance("rdcodec", machine=machine),
                pictures,
            )
            for codec in codecs
        ]

    runs = [
        *run("ABCD", "avx2", 1.0, "kodak, 1 picture", coded=False),
        *run("ABC", "avx2", 2.0, "kodak, 1 picture", coded=True),
        *run("ABC", "avx2", 3.0, "clic, 1 picture", coded=False),
        *run("ABC", "avx512f", 4.0, "kodak"),
        *run("AB", "avx2", 5.0, "kodak", kernels="avx2"),
    ]
    found = our_series(laboratory(runs))
    assert {(s.name, s.pictures): s.times["A"] for s in found} == {
        ("AMD EPYC, AVX2, 2 threads, torch fp32", "kodak"): 1000,
        ("AMD EPYC, AVX2, 2 threads, torch fp32", "clic"): 3000,
        ("AMD EPYC, AVX-512, 2 threads, torch fp32", "kodak"): 4000,
    }


def test_speeds_stand_with_their_own_pictures_networks_apart_from_files() -> None:
    """CLIC's chart has no speed of Kodak's pictures; of two numbers of threads the table takes the larger."""

    def timed(codec: str, pictures: str, rate: float, threads: int, **how: str | bool) -> Result:
        values = {"threads": threads, "decode_mpx_per_s": rate, "decode_networks_mpx_per_s": 2 * rate, "coded": True}
        return Result("speed", codec, f"{codec}.1", values | how, Provenance("rdcodec", machine={"cpu": "x"}), pictures)

    def on_clic(result: Result) -> Result:
        return replace(result, dataset="clic", rows=(), provenance=replace(result.provenance, dataset_sha256="c" * 64))

    files = [*below("I", 1.2), *below("J", 1.4)]
    speeds = [
        *(timed(codec, "4 Kodak pictures", 7.0, 1, kernels="avx2") for codec in "IJ"),
        *(timed(codec, "clic, 1 picture", 5.0, threads, kernels="avx2") for threads in (2, 1) for codec in "IJ"),
        *(timed(codec, "clic, 1 picture", 9.0, 1, coded=False, dtype="fp32") for codec in "IJ"),
    ]
    lab = laboratory([*files, *map(on_clic, files), *below("jpeg", 2.0), *map(on_clic, below("jpeg", 2.0)), *speeds])
    kodak, clic = sorted(lab.studies, key=lambda study: study.name)
    assert (kodak.name, clic.name) == ("Kodak", "clic")
    shown = {study.name: {row["series"] for row in data(relative_by_speed(lab, study))} for study in (kodak, clic)}
    assert all("Kodak" in series for series in shown["Kodak"]), shown
    assert all("clic" in series for series in shown["clic"]), shown
    assert "CPU, 2 threads, core avx2, clic, 1 picture" in paper_table(lab, clic).note
    networks, decoding = speed_tables(lab)
    assert "| CPU, 1 thread, torch fp32, clic, 1 picture | 18.0 | 18.0 |" in networks
    assert "| CPU, 2 threads, core avx2, clic, 1 picture | 5.00 | 5.00 |" in decoding and "18.0" not in decoding


def test_a_time_of_other_weights_is_said() -> None:
    """It stands in for one that was not measured, and only then."""

    def timed(tag: str, rate: float) -> Result:
        values = {"threads": 1, "decode_mpx_per_s": rate, "coded": True, "kernels": "avx2"}
        return Result("speed", tag[0], tag, values, Provenance("rdcodec", machine={"cpu": "x"}), "4 Kodak pictures")

    own, other = timed("I.1", 5.0), timed("J.3", 7.0)
    lab = laboratory([*below("I", 1.2), *below("J", 1.4), own, other])
    table = paper_table(lab, lab.studies[0])
    assert {row[0]: row[8] for row in table.rows if row[0][-2:] == ".1"} == {"rdcodec I.1": "5.0", "rdcodec J.1": "7.0"}
    assert "Times were measured with other weights of a model: J.3 for J.1. " in table.note
    own_alone = laboratory([*below("I", 1.2), own, timed("I.3", 9.0)])
    assert "other weights" not in paper_table(own_alone, own_alone.studies[0]).note


@pytest.mark.parametrize(("source", "by"), [("rdcodec", "other"), ("CompressAI 1.2.8", "published")])
def test_a_foreign_codec_is_not_ours(source: str, by: str) -> None:
    foreign = [
        replace(result, codec="mine", tag="version 3", provenance=replace(result.provenance, source=source))
        for result in below("mine", 1.1)
    ]
    counts = [Result("count", name, name, {"kflops_per_px": 9.0}, Provenance("rdcodec")) for name in ("I", "mine")]
    results = [*below("I", 1.2), *foreign, *counts]
    lab = laboratory(results)
    if by == "other":
        (study,) = lab.studies
        table = paper_table(lab, study)
        assert {row[0]: row[1] for row in table.rows}["mine"] == by
        assert f"mine & {by}" in table.latex() and "mine & rdcodec" not in table.latex()
        assert {
            row["codec"]: row["by"] for row in data(relative_by_flops(lab, study)) if row["codec"] in ("I.1", "mine")
        } == {
            "I.1": "rdcodec",
            "mine": by,
        }
    else:  # published figures stand beside ours as an anchor, and are a subject where there is nothing else
        (study,) = laboratory([*foreign, *counts]).studies
        assert {row[0]: row[1] for row in paper_table(lab, study).rows}["mine"] == by


def test_table_has_the_papers_rows_and_ours(lab: Laboratory) -> None:
    table = paper_table(lab, lab.studies[0])
    rows = {row[0]: row for row in table.rows}
    assert rows["A"][:6] == ("A", "paper", "38.0", "1076.4", "-", "-22.86")
    assert rows["rdcodec B.1"][3:5] == ("631.1", "0.460") and rows["rdcodec I.1"][2] == "2.0"
    assert len(list(csv.reader(io.StringIO(table.data())))) == 1 + len(rows)
    assert table.latex().count(r" \\") == 1 + len(rows) and r"rate (\%)" in table.latex()


def test_files_of_a_search_have_the_models_decoder() -> None:
    """Beside those of one pass: the same costs, another rate, a line of their own."""
    name = "I.1 effort 4"
    searched = [replace(result, codec=name, tag=name) for result in below("I", 1.1)]
    lab = laboratory([*store_results(), *searched])
    (study,) = lab.studies
    rows = {row[0]: row for row in paper_table(lab, study).rows}
    one_pass, search = rows["rdcodec I.1"], rows[name]
    assert search[2:5] == one_pass[2:5] and search[7:] == one_pass[7:] and float(search[5]) < float(one_pass[5])
    for chart, cost in (
        (relative_by_flops(lab, study), "kflops_per_px"),
        (relative_by_training(lab, study), "eflop"),
    ):
        ours = {row["series"]: row for row in data(chart) if row["codec"] == "I.1"}
        assert set(ours) == {"", "rdcodec, effort 4"}
        assert len({row[cost] for row in ours.values()}) == 1 and all(
            row["on_frontier"] == "1" for row in ours.values()
        )


def test_of_a_repeated_setting_the_newest_counts() -> None:
    older = [quality("I", 2 * float(r.values["bpp"] or 0), 30.0, r.setting, "2025-01-01") for r in below("I", 1)]
    (study,) = laboratory([*older[:3], *below("I", 0.5), *older[3:]]).studies
    (found,) = study.results
    assert [point.provenance.created_utc for point in found.points] == ["2026-01-01"] * len(below("I", 1))


def test_many_results_leave_the_newest_weights_in_figures() -> None:
    tags = [f"G.{n}" for n in range(1, 15)]
    many = [replace(quality("G", 0.46, 32.0 + n / 10, None), tag=tag) for n, tag in enumerate(tags)]
    lab = laboratory([*many, *below("I", 1.2)])
    (study,) = lab.studies
    assert [m.points[0].tag for m in study.shown] == ["G.14", "I.1"]
    rates = [row[5] for row in paper_table(lab, study).rows if row[0].startswith("rdcodec G")]
    assert len(set(rates)) == 14, "the table has all, each with its own"


def test_what_is_missing_is_said(lab: Laboratory) -> None:
    bare = laboratory(below("I", 1.0))
    charts = study_charts(bare, bare.studies[0])
    assert [type(chart) for chart in charts] == [Missing, Missing, Chart, Chart, Missing, Missing]
    assert all("`rdc " in chart.reason for chart in charts if isinstance(chart, Missing))
    assert isinstance(time_by_flops(bare), Missing)
    other = [Result("quality", "x", "1", {"bpp": 1.0, "psnr_db": 30.0}, Provenance("rdcodec"), "photos")]
    alone, unknown = study_charts(laboratory(other), laboratory(other).studies[0])
    assert isinstance(unknown, Missing) and "known family" in unknown.reason
    assert isinstance(alone, Missing) and "--anchor" in alone.reason


def test_a_figure_is_one_entry(lab: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page, data and pictures of a new one come without a change elsewhere."""
    new = replace(families(lab, lab.studies[0]), stem="mine", title="A figure of mine")
    monkeypatch.setattr(figures, "FIGURES", (Figure(lambda _lab, _study: new),))
    files = report_files(lab)
    assert {"mine.csv", "mine.svg", "mine.png"} <= set(files)
    assert "![A figure of mine](mine.svg)" in files["results.md"].decode()


def test_the_command_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rdc.sqlite"
    with Store(path) as store:
        store.add(store_results())
    assert main(["report", "--store", str(path), "-o", str(tmp_path / "out")]) == 0
    stems = [
        "rd",
        "families",
        "relative-flops",
        "relative-encoder",
        "relative-rate",
        "relative-speed",
        "relative-training",
    ]
    names = {f"{stem}-kodak.{form}" for stem in stems for form in ("svg", "png", "csv")}
    names |= {f"time-flops.{form}" for form in ("svg", "png", "csv")} | {
        f"table1-kodak.{f}" for f in ("csv", "md", "tex")
    }
    assert {file.name for file in (tmp_path / "out").iterdir()} == names | {"results.md"}
    page = (tmp_path / "out" / "results.md").read_text()
    assert "Not drawn" not in page and all(f"({name})" in page for name in names if name.endswith(".svg"))
    assert capsys.readouterr().out == ""


def test_crops_are_parts_of_the_pictures() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:20, 30:50] = (200, 10, 10)
    box = parse_box("30,10,20,10", 60, 40)
    sheet = contact_sheet(image, box, [Version("x", 100, np.full_like(image, 7))])
    assert (sheet == (200, 10, 10)).all(axis=2).sum() == 20 * 20 * 20 * 10
    assert (sheet == 7).all(axis=2).sum() == 20 * 20 * 20 * 10
    for wrong in ("", "1,2,3", "0,0,61,1", "0,0,0,5", "-1,0,5,5"):
        with pytest.raises(UsageError, match="--box"):
            parse_box(wrong, 60, 40)


def test_decoders_of_others_stand_by_their_curves(lab: Laboratory) -> None:
    (study,) = lab.studies
    rows = {row["codec"]: row for row in data(relative_by_flops(lab, study)) if row["by"] == "published"}
    for decoder in decoders():
        assert decoder.kflops_per_px > 0 and decoder.source and decoder.basis in ("published", "counted here")
        row = rows[decoder.label]
        assert float(row["kflops_per_px"]) == decoder.kflops_per_px
        if decoder.curve:
            expected = relative_rate_at(load_curve(decoder.curve), BPG, 0.46)
            assert float(row["relative_rate_percent"]) == pytest.approx(expected, abs=1e-3)
    estimate = next(decoder for decoder in decoders() if decoder.curve is None)
    vtm = relative_rate_at(load_curve("vtm_18.0"), BPG, 0.46)
    expected = 100 * ((1 + float(estimate.bd_rate["percent"]) / 100) * (1 + vtm / 100) - 1)
    assert float(rows[estimate.label]["relative_rate_percent"]) == pytest.approx(expected, abs=1e-3)


def test_an_encoder_runs_all_but_the_synthesis_and_its_search() -> None:
    rows = ({"part": "hyper_synthesis", "kflops_per_px": 2.0}, {"part": "synthesis", "kflops_per_px": 18.0})
    values = {"parameters": 2e6, "kflops_per_px": 20.0, "training_flops_per_px": 3 * 50e3}
    count = Result("count", "I", "I", values, Provenance("rdcodec"), rows=rows)
    found = replace(laboratory(store_results()), counts=(count,))
    assert encoder_kflops_per_px(found, "I") == pytest.approx(50 - 18)
    assert encoder_kflops_per_px(found, "I.3 effort 4") == pytest.approx(50 - 18 + 3 * search_steps(4) * 20)
    assert encoder_kflops_per_px(found, "jpeg") is None


def test_names_of_close_points_do_not_overlap() -> None:
    figure, axes = new_axes()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    label_points(axes, [(5 + 0.05 * n, 5 + 0.4 * n, f"codec {n}", bool(n % 2)) for n in range(5)])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_classical_codecs_stand_beside_ours_by_their_speed() -> None:
    """Speeds at one PSNR are in the figure, and in no table of speeds at one quality."""
    jpeg = load_curve("kodak_jpeg_pillow")
    speeds = [
        Result("speed", codec, tag, {"threads": 1, "decode_mpx_per_s": rate, "at_psnr_db": 32.0}, Provenance("rdcodec"))
        for codec, tag, rate in (("I", "I.1", 5.0), (jpeg.name, "libjpeg", 180.0))
    ]
    found = laboratory([*below("I", 1.25), *speeds])
    rows = {row["codec"]: row for row in data(relative_by_speed(found, found.studies[0]))}
    assert set(rows) == {"I.1", jpeg.name} and float(rows[jpeg.name]["decode_mpx_per_s"]) == 180
    expected = relative_rate_at(jpeg, BPG, 0.46)
    assert float(rows[jpeg.name]["relative_rate_percent"]) == pytest.approx(expected, abs=1e-3)
    assert not found.comparable_speeds
