"""The page, the data, the figures and the README table, on made-up results whose figures are known in advance."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from made_up import metrics
from rdcodec.cli.main import main
from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.measure.anchors import shown_name
from rdcodec.measure.bdrate import Curve, rate_at
from rdcodec.measure.rd import Evaluation, Row
from rdcodec.measure.reading import load_curve, read_results
from rdcodec.report import plots
from rdcodec.report.charts import Chart, Missing
from rdcodec.report.eye import by_metrics, knows_the_eye
from rdcodec.report.files import report_files
from rdcodec.report.study import Laboratory, Study, read_laboratory
from rdcodec.report.tables import BEGIN, END, curves_csv, readme_section, replace_results, results_page
from rdcodec.store.db import Store

JPEG = shown_name("jpeg")
Point = tuple[float | None, float, float, float | None]  # quality, bpp, PSNR in dB, MS-SSIM

POINTS: list[Point] = [
    (10, 0.125, 28.0, 0.91),
    (40, 0.25, 31.0, 0.96),
    (70, 0.5, 34.0, 0.98),
    (85, 1.0, 37.0, 0.99),
]
DEARER: list[Point] = [(None if q is None else q / 10, 2 * bpp, db, None) for q, bpp, db, _ in POINTS]
MACHINE = {"cpu": "a CPU", "cores": 2, "threads": 1, "isa": ["avx2"], "torch": "2.13.0", "gpu": None}


def result_file(
    path: Path,
    points: Sequence[Point] = POINTS,
    *,
    codec: str = "I",
    tag: str = "I.1",
    kodak: bool = False,
    sha256: str = "ab" * 32,
    when: str = "2026-01-02T03:04:05+00:00",
) -> Path:
    """A result on two pictures (or 24 of Kodak's size) that straddle the given means."""
    count, width, height = (24, 768, 512) if kodak else (2, 64, 32)
    rows = [
        Row(f"{n:02}.png", width, height, q, round(bpp * width * height / 8), metrics(db + step, db, ms), None, None)
        for n in range(count)
        for step in [0.5 if n % 2 else -0.5]
        for q, bpp, db, ms in points
    ]
    dataset = {"name": "some photos", "images": count, "sha256": sha256}
    Evaluation(codec, tag, dataset, 1, when, MACHINE, tuple(rows)).save(path)
    return path


def read_studies(files: Sequence[Path], anchors: Sequence[str] | None = None) -> list[Study]:
    """Studies of result files by the way that all results take."""
    with Store(None) as store:
        for file in files:
            store.add(read_results(file))
        return list(read_laboratory(store, anchors).studies)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Two curves, one of twice the rate of the other; the dearer one is the anchor."""
    ours = result_file(tmp_path / "ours.json")
    dearer = result_file(tmp_path / "dearer.json", DEARER, codec="jpeg", tag="libjpeg 3")
    (found,) = read_studies([ours], [str(dearer)])
    return found


def eye_file(path: Path, codec: str, tag: str, rate: float, seen: float) -> Path:
    """Four points of PSNR 28 to 37 dB at `rate` times their rates; seen: what SSIMULACRA 2 adds to twice the PSNR."""
    rows = [
        Row(
            f"{n}.png", 64, 32, q, round(rate * bpp * 256), metrics(db, db, None) | {"ssimulacra2": 2 * db + seen}, 1, 1
        )
        for n in range(2)
        for q, bpp, db, _ in POINTS
    ]
    dataset = {"name": "some photos", "images": 2, "sha256": "ab" * 32}
    Evaluation(codec, tag, dataset, 1, "2026-01-02T03:04:05+00:00", MACHINE, tuple(rows)).save(path)
    return path


def test_codecs_for_the_eye_are_not_judged_on_psnr_alone(tmp_path: Path) -> None:
    """One codec needs half the bits at equal PSNR, the other at equal SSIMULACRA 2: the page shows both."""
    anchor = eye_file(tmp_path / "jpeg.json", "jpeg", "libjpeg", 1.0, 0.0)
    ours = eye_file(tmp_path / "I.json", "I", "I.1", 0.5, -6.0)  # 6 less is the rate of the next lower point: doubled
    theirs = eye_file(tmp_path / "jxl.json", "jxl", "libjxl", 1.0, 6.0)
    with Store(None) as store:
        for file in (anchor, ours, theirs):
            store.add(read_results(file))
        laboratory = read_laboratory(store, [])
    chart = by_metrics(laboratory, laboratory.studies[0])
    assert isinstance(chart, Chart)
    assert {row["curve"]: row["role"] for row in chart.rows} == {
        "rdcodec I.1": "result",
        JPEG: "anchor",
        shown_name("jxl"): "anchor",
    }
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in chart.note.splitlines() if "%" in line]
    assert {row[0]: (row[1], row[3]) for row in table} == {
        "rdcodec I.1": ("-50.0 %", "+0.0 %"),
        shown_name("jxl"): ("+0.0 %", "-50.0 %"),
    }
    with plots.styles():
        assert len(plots.render(chart.figure(), "eye")) == 2
    assert "PSNR and the eye" in report_files(laboratory)["results.md"].decode()


def test_results_without_metrics_of_the_eye_say_how_to_measure_them(study: Study) -> None:
    assert not knows_the_eye(study)
    missing = by_metrics(Laboratory((study,), (), (), ()), study)
    assert isinstance(missing, Missing) and "--metrics ssimulacra2,psnr_hvsm" in missing.reason


PAGE = """
## some photos, 2 pictures

![Rate and distortion on some photos](rd-some-photos.svg)

### rdcodec I.1

<details><summary>Provenance, points and anchors</summary>

- codec: rdcodec, weights I.1
- pictures: some photos, SHA-256 abababababab
- measured: 2026-01-02T03:04:05+00:00, 1 picture at a time
- machine: a CPU, 2 cores, 1 thread, avx2
- software: torch 2.13.0

| quality | bpp | PSNR dB | PSNR-Y dB | MS-SSIM |
| ---: | ---: | ---: | ---: | ---: |
| 10 | 0.1250 | 28.00 | 28.00 | 0.91000 |
| 40 | 0.2500 | 31.00 | 31.00 | 0.96000 |
| 70 | 0.5000 | 34.00 | 34.00 | 0.98000 |
| 85 | 1.0000 | 37.00 | 37.00 | 0.99000 |

| anchor | BD-rate | of pictures, 95 % | by MS-SSIM | 29-36 dB | overlap | points | note |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |
| JPEG 4:2:0 optimised (Pillow) | -50.0 % | - | - | -50.0 % | 28.00-37.00 dB | 4 / 4 |  |

</details>
"""


def test_page(study: Study) -> None:
    page = results_page([(study, ["![Rate and distortion on some photos](rd-some-photos.svg)\n"])])
    assert page.startswith("# Results\n") and page.endswith(PAGE)


def test_page_opens_with_a_verdict_and_folds_the_rest(study: Study) -> None:
    measured = replace(study, reference=study.anchors[0])
    page = results_page([(measured, [])])
    verdict = page.index(f"BD-rate against {JPEG}: rdcodec I.1 -50.0 %.")
    assert verdict < page.index("<details>") < page.index("| quality |") < page.index("</details>")


def test_csv(study: Study) -> None:
    assert curves_csv(study).splitlines() == [
        "curve,role,quality,bpp,psnr_db,psnr_y_db,ms_ssim",
        *("rdcodec I.1,result,10,0.125,28,28,0.91", "rdcodec I.1,result,40,0.25,31,31,0.96"),
        *("rdcodec I.1,result,70,0.5,34,34,0.98", "rdcodec I.1,result,85,1,37,37,0.99"),
        *(f"{JPEG},anchor,,{point},," for point in ("0.25,28", "0.5,31", "1,34", "2,37")),
    ]


def test_readme_section(study: Study) -> None:
    high = Curve("High (made up)", (0.2, 0.4, 0.8, 1.6), (31.0, 32.0, 33.0, 34.0))
    assert readme_section(study, {"Double": study.anchors[0], "High": high}) == (
        "rdcodec I.1 on the 2 some photos pictures (means of whole files), and its rate against that of other codecs "
        "at the same PSNR. Negative means smaller files:\n\n"
        "| quality | bpp | PSNR dB | MS-SSIM | against Double | against High |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| 10 | 0.125 | 28.00 | 0.9100 | -50 % | - |\n"
        "| 40 | 0.250 | 31.00 | 0.9600 | -50 % | +25 % |\n"
        "| 70 | 0.500 | 34.00 | 0.9800 | -50 % | -69 % |\n"
        "| 85 | 1.000 | 37.00 | 0.9900 | -50 % | - |\n"
        # from 31 to 34 dB ours goes from 0.25 to 0.5 bpp, High from 0.2 to 1.6
        "\n- BD-rate of rdcodec I.1 against Double -50.0 %, High -37.5 %.\n\n"
        f"Curves: {JPEG}, High (made up).\n"
    )


def test_lossless_tiny_and_single_rate_results(tmp_path: Path) -> None:
    points: list[Point] = [(None, 0.25, 31.0, None)]
    single = result_file(tmp_path / "B.json", points, codec="B", tag="B.1")
    few = result_file(tmp_path / "few.json", POINTS[:3], tag="I.2")
    lossless = result_file(tmp_path / "lossless.json", [*POINTS, (100, 8.0, float("inf"), 1.0)], tag="I.3")
    anchor = result_file(tmp_path / "dearer.json", DEARER, codec="jpeg", tag="libjpeg 3")
    (found,) = read_studies([single, few, lossless], [str(anchor)])
    page = results_page([(found, [])])
    assert "| - | 0.2500 | 31.00 | 31.00 |\n" in page
    assert f"| {JPEG} | - | - | - | - | - | 1 / 4 | -50.0 % at its only point |" in page
    assert f"| {JPEG} | - | - | - | - | - | 3 / 4 | rdcodec I.2: 3 points, BD needs 4; measure more |" in page
    assert "| 100 | 8.0000 | - | - | 1.00000 |" in page
    assert readme_section(found, {}).count("quality") == 1, "the table is the first result's"
    bd_rates = readme_section(found, {"JPEG": found.anchors[0]})
    assert "BD-rate of rdcodec I.3 against JPEG" in bd_rates and "BD-rate of rdcodec B.1" not in bd_rates
    assert curves_csv(found).splitlines()[1] == "rdcodec B.1,result,,0.25,31,31,"


def test_an_anchor_that_meets_little_of_the_curve_is_said_to(study: Study, tmp_path: Path) -> None:
    high: list[Point] = [(q, bpp, db + 6, ms) for q, bpp, db, ms in POINTS]
    anchor = result_file(tmp_path / "high.json", high, codec="high", tag="h")
    (found,) = read_studies([tmp_path / "ours.json"], [str(anchor)])
    assert "| 34.00-37.00 dB | 4 / 4 | only 33 % of the curve |" in results_page([(found, [])])


def test_results_are_grouped_by_their_pictures(tmp_path: Path) -> None:
    a, b = result_file(tmp_path / "a.json"), result_file(tmp_path / "b.json", codec="ours", tag="3")
    other = result_file(tmp_path / "c.json", sha256="cd" * 32)
    kodak = result_file(tmp_path / "k.json", kodak=True)
    here, there, kodak_study = read_studies([a, other, b, kodak])
    assert [result.label for result in here.results] == ["rdcodec I.1", "ours"]
    assert [result.curve.name for result in here.results] == [result.label for result in here.results]
    assert (here.slug, there.slug, kodak_study.slug) == ("some-photos", "some-photos-cdcdcdcd", "kodak")
    assert (kodak_study.name, kodak_study.picture_count) == ("Kodak", 24)
    assert here.anchors == there.anchors == ()
    names = [anchor.name for anchor in kodak_study.anchors]
    assert [name.partition(" ")[0] for name in names[:5]] == ["BPG", "VTM", "JPEG", "WebP", "AVIF"]
    assert [name.partition(" (")[0] for name in names[5:]] == ["JPEG 2000", "JPEG XL"]


def test_anchors_go_with_their_own_pictures(tmp_path: Path) -> None:
    ours, kodak = result_file(tmp_path / "a.json"), result_file(tmp_path / "k.json", kodak=True)
    mine = str(result_file(tmp_path / "mine.json", DEARER, codec="jpeg", tag="3"))
    here, there = read_studies([ours, kodak], [mine, "elic"])
    assert [anchor.name for anchor in here.anchors] == [JPEG]
    assert [anchor.name for anchor in there.anchors] == ["ELIC (official figures)"]
    with pytest.raises(UsageError, match="bpg_444: measured on other pictures"):
        read_studies([ours], ["bpg_444"])
    nowhere = tmp_path / "nowhere.json"
    nowhere.write_text(json.dumps({"bpp": [1, 2], "psnr_rgb": [30, 31]}))
    with pytest.raises(BadInput, match=r'nowhere.json: does not say .* add "dataset"'):
        read_studies([ours], [str(nowhere)])
    with pytest.raises(UsageError, match=r"bpg_44: .* did you mean bpg_444"):
        read_studies([ours], ["bpg_44"])


def test_results_without_a_curve(tmp_path: Path) -> None:
    flawless = result_file(tmp_path / "a.json", [(100, 8.0, float("inf"), None)])
    with pytest.raises(BadInput, match=r"some photos: no curve in it"):
        read_studies([flawless])
    with pytest.raises(RdcError, match=r"none.json: No such file"):
        read_studies([tmp_path / "none.json"])


README = f"# title\n\ntext\n{BEGIN}\nold\ntable\n{END}\nmore {{text}}\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_markers_are_replaced_and_nothing_else(newline: str) -> None:
    text = README.replace("\n", newline)
    once = replace_results(text, "| new |\n\n| table |\n", "README.md")
    expected = f"# title\n\ntext\n{BEGIN}\n| new |\n\n| table |\n{END}\nmore {{text}}\n"
    assert once == expected.replace("\n", newline)
    assert replace_results(once, "| new |\n\n| table |\n", "README.md") == once


@pytest.mark.parametrize(
    "text", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{END}", f"{BEGIN}\n{BEGIN}\n{END}"]
)
def test_wrong_markers(text: str) -> None:
    with pytest.raises(BadInput, match=r"docs/README.md: needs the lines .*, once each"):
        replace_results(text, "table", "docs/README.md")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = result_file(tmp_path / "I.json", kodak=True)
    readme = tmp_path / "README.md"
    readme.write_text(README)
    command = ["report", str(result), "-o", str(tmp_path / "out"), "--readme", str(readme)]
    assert main(command) == 0
    out, err = capsys.readouterr()
    forms = {"rd": "svg png csv", "table1": "csv md tex", "families": "svg png csv", "relative-rate": "svg png csv"}
    names = ["results.md", *(f"{stem}-kodak.{form}" for stem in forms for form in forms[stem].split())]
    assert out == "" and err.splitlines() == [*(f"{tmp_path}/out/{name}" for name in names), str(readme)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    page = (tmp_path / "out" / "results.md").read_text()
    assert "![Rate and distortion on Kodak](rd-kodak.svg)" in page
    assert page.count("Not drawn: no measured model is") == 4 and "rdc results count MODEL --store DB" in page

    points = list(csv.DictReader((tmp_path / "out" / "rd-kodak.csv").open()))
    assert sum(point["role"] == "result" for point in points) == 4
    bpg = load_curve("bpg_444")
    assert sum(point["curve"] == bpg.name for point in points) == len(bpg.bpp)
    renewed = readme.read_text()
    for name in ("kodak_jpeg_pillow", "kodak_webp_pillow", "bpg_444"):
        rate = rate_at(load_curve(name), 34.0)
        assert f"| {100 * (0.5 / rate - 1):+.0f} % |" in renewed.split("| 70 |")[1]

    assert_is_a_figure(tmp_path / "out" / "rd-kodak.svg", tmp_path / "out" / "rd-kodak.png")
    first = (tmp_path / "out" / "rd-kodak.svg").read_bytes()
    assert main(command) == 2, "the files are there"
    assert "exists already: --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert (tmp_path / "out" / "rd-kodak.svg").read_bytes() == first
    assert readme.read_text() == renewed


def assert_is_a_figure(svg: Path, png: Path) -> None:
    """Curves in the results' colour and the anchors' are there, in both files."""
    assert "#d55e00" in svg.read_text() and "#0072b2" in svg.read_text()
    assert len(list(ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}path"))) > 20
    pixels = np.asarray(Image.open(BytesIO(png.read_bytes())).convert("RGB"))
    assert min(pixels.shape[:2]) > 500
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)):
        assert (pixels == colour).all(axis=2).sum() > 500


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["I.json"], 2, "nothing to write"),
        (["none.json", "-o", "out"], 1, "none.json: No such file"),
        (["README.md", "-o", "out"], 3, "README.md: not a result file"),
        (["-o", "out"], 2, "nothing to report on"),
        (["--store", "none.sqlite", "-o", "out"], 1, "none.sqlite: no such store"),
        (["I.json", "-o", "out", "--crop-from", "a.png"], 2, "--box, --bytes"),
        (["I.json", "-o", "out", "--anchor", "bpg_444"], 2, "bpg_444: measured on other pictures"),
        (["I.json", "--readme", "README.md"], 2, "results on the Kodak pictures"),
        (["kodak.json", "--readme", "plain.md"], 3, "plain.md: needs the lines"),
        (["kodak.json", "--readme", "none.md"], 1, "none.md"),
        (["kodak.json", "--readme", "latin.md"], 3, "latin.md: not a text file"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result_file(Path("I.json"))
    result_file(Path("kodak.json"), kodak=True)
    Path("README.md").write_text(README)
    Path("plain.md").write_text("no markers")
    Path("latin.md").write_bytes(b"\xe9")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["report", *arguments]) == code
    err = capsys.readouterr().err
    assert err.startswith("rdc: ") and err.count("\n") == 1 and words in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = result_file(tmp_path / "I.json", kodak=True)
    assert main(["report", str(result), "-o", str(tmp_path / "out")]) == 4
    assert capsys.readouterr().err == "rdc: figures need matplotlib; pip install 'rdcodec[report]'\n"
    assert not (tmp_path / "out").exists()
    (tmp_path / "README.md").write_text(README)
    assert main(["report", str(result), "--readme", str(tmp_path / "README.md")]) == 0, "it needs no figure"


def test_names_stand_beside_the_ends_or_in_a_legend(study: Study, tmp_path: Path) -> None:
    axes = plots.rd_figure(study).axes[0]
    assert axes.get_legend() is None
    assert [text.get_text() for text in axes.texts] == [JPEG, "rdcodec I.1"]
    names = [f"jpeg {n}" for n in range(plots.MOST_BESIDE)]
    many = replace(study, anchors=tuple(replace(study.anchors[0], name=name) for name in names))
    legend = plots.rd_figure(many).axes[0].get_legend()
    assert legend is not None and {text.get_text() for text in legend.get_texts()} == {*names, "rdcodec I.1"}
    single = result_file(tmp_path / "B.json", [(None, 0.25, 31.0, None)], codec="B", tag="B.1")
    (crowd,) = read_studies([tmp_path / "ours.json", single])
    legend = plots.rd_figure(crowd).axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["rdcodec I.1", "rdcodec B.1"]


def test_a_figure_shows_the_points_of_the_results(study: Study) -> None:
    axes = plots.rd_figure(study).axes[0]
    (marked,) = (line for line in axes.lines if line.get_linestyle() == "None")
    assert marked.get_xydata().tolist() == [list(point[1:3]) for point in POINTS]
    assert axes.get_xlim()[1] >= 1.0 and axes.get_ylim()[0] <= 28.0 and axes.get_ylim()[1] >= 37.0


def test_curves_are_cut_to_what_is_shown() -> None:
    curve = Curve("a", (0.1, 0.2, 0.4, 0.8), (27.0, 30.0, 33.0, 36.0))
    bpp, psnr_db = plots.smooth(curve, most=0.5, least_db=28.0)
    assert psnr_db[0] == 28.0 and 0.48 < bpp[-1] <= 0.5
    assert np.allclose(psnr_db, 27 + 3 * np.log2(bpp / 0.1))
    assert not len(plots.smooth(curve, most=0.5, least_db=37.0)[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.08))
def test_spread(positions: list[float], gap: float) -> None:
    rising = sorted(positions)
    placed = plots.spread(rising, gap, top=1.0)
    assert max(placed) <= 1.0
    assert all(b - a >= gap - 1e-9 for a, b in pairwise(placed))
    if all(b - a >= gap for a, b in pairwise(rising)):
        assert placed == pytest.approx(rising)
