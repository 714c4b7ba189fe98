"""rdc results: in, out, and what is refused."""

import csv
import io
import json
from pathlib import Path

import pytest

from made_up import metrics
from rdcodec.cli.main import main
from rdcodec.measure.rd import Evaluation, Row
from rdcodec.measure.reading import builtin_curves, load_curve
from rdcodec.store.files import SCHEMA


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RDC_STORE", raising=False)


def evaluation(path: str = "I.json") -> None:
    rows = [
        Row(name, 64, 32, q, int(100 * q), metrics(30.0 + q, 31.0 + q, None), 0.5, 0.25)
        for q in (1.0, 2.0)
        for name in ("a", "b")
    ]
    rows.append(Row("a", 64, 32, 3.0, 900, metrics(float("inf"), float("inf"), 1.0), 0.5, 0.25))
    rows.append(Row("b", 64, 32, 3.0, 900, metrics(40.0, 40.0, 1.0), 0.5, 0.25))
    machine = {"commit": "abc", "dirty": True, "package": "0.1.0", "cpu": "a CPU"}
    dataset = {"name": "photos", "images": 2, "sha256": "ab" * 32}
    Evaluation("I", "I.1", dataset, 1, "2026-01-02T03:04:05+00:00", machine, tuple(rows)).save(Path(path))


def exported(*arguments: str) -> str:
    assert main(["results", "export", "-o", "out", "--force", *arguments]) == 0
    return Path("out").read_text()


def test_an_evaluation_comes_in_once_with_its_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation()
    assert main(["results", "import", "I.json"]) == 0
    assert main(["results", "import", "I.json", "--store", "rdc.sqlite"]) == 0
    assert capsys.readouterr().err == "I.json: 3 results, 3 new\nI.json: 3 results, 0 new\n"
    one, _, lossless = json.loads(exported())["results"]
    assert one["setting"] == 1.0 and one["values"]["bpp"] == pytest.approx(8 * 100 / 2048)
    assert one["values"]["psnr_db"] == 31.0 and one["values"]["jobs"] == 1 and len(one["rows"]) == 2
    assert lossless["values"]["psnr_db"] is None and lossless["rows"][0]["psnr_db"] is None
    origin = one["provenance"]
    assert (origin["source"], origin["commit"], origin["dirty"]) == ("rdcodec", "abc", True)
    assert origin["dataset_sha256"] == "ab" * 32 and origin["machine"]["cpu"] == "a CPU"


def test_a_store_is_imported_into_another(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation()
    assert main(["results", "import", "I.json"]) == 0
    for new in (3, 0):
        assert main(["results", "import", "rdc.sqlite", "--store", "other.sqlite"]) == 0
        assert capsys.readouterr().err.endswith(f"rdc.sqlite: 3 results, {new} new\n")
    assert exported("--store", "other.sqlite") == exported()


def test_what_is_exported_can_be_imported() -> None:
    evaluation()
    assert main(["results", "import", "I.json"]) == 0
    text = exported()
    assert main(["results", "import", "out", "--store", "other.sqlite"]) == 0
    assert exported("--store", "other.sqlite") == text
    assert main(["report", "out", "-o", "page"]) == 0, "an export is a result file"
    rows = list(csv.DictReader(io.StringIO(exported("--format", "csv"))))
    assert [row["setting"] for row in rows] == ["1.0", "2.0", "3.0"]
    assert json.loads(exported("--format", "compressai"))["results"]["bpp"] == [float(row["bpp"]) for row in rows]
    assert main(["results", "import", "out", "--dataset", "photos", "--store", "third.sqlite"]) == 3, "a PSNR is null"


def test_compressais_form_is_a_curve_as_good_as_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "import", str(builtin_curves()["kodak_webp_pillow"])]) == 0
    exported("--format", "compressai")
    assert "schema" not in json.loads(Path("out").read_text())
    ours, theirs = load_curve("kodak_webp_pillow"), load_curve("out")
    assert (theirs.bpp, theirs.psnr_db) == (ours.bpp, ours.psnr_db)
    capsys.readouterr()
    assert main(["bdrate", "kodak_jpeg_pillow", "out", "kodak_webp_pillow", "--json"]) == 0
    one, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert one["bd_rate_percent"] == other["bd_rate_percent"] < 0
    assert one["bd_rate_ms_ssim_percent"] == pytest.approx(other["bd_rate_ms_ssim_percent"])


def test_the_list_is_one_line_a_series(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation()
    main(["results", "import", "I.json"])
    capsys.readouterr()
    assert main(["results", "list", "--kind", "quality"]) == 0
    shown = capsys.readouterr().out
    assert "3 results in rdc.sqlite" in shown and sum("photos" in line for line in shown.splitlines()) == 1
    assert main(["results", "list", "--codec", "none", "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_counts_of_a_model_are_the_same_result_every_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "count", "J"]) == main(["results", "count", "J"]) == 0
    assert capsys.readouterr().err == "1 result, 1 new\n1 result, 0 new\n"
    (found,) = json.loads(exported())["results"]
    assert sum(row["kflops_per_px"] for row in found["rows"]) == pytest.approx(
        found["values"]["kflops_per_px"], abs=1e-4
    )


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", 3, "no JSON: line 1"),
        ("[1]", 3, "no object"),
        ("{}", 3, "codec: is missing"),
        ('{"schema": "other/1"}', 3, "schema: 'other/1' is not known"),
        ('{"schema": "rdcodec.evaluation/1"}', 3, "not a result file"),
        ('{"name": "x", "results": {"bpp": [1], "psnr": [30]}}', 2, "add --dataset"),
        ('{"codec": "x", "dataset": "y", "source": "z", "bpp": [1, 2], "psnr_rgb": [30]}', 3, "psnr_rgb: has to be"),
        ('{"codec": "x", "dataset": "y", "source": "z", "bpp": ["1"], "psnr_rgb": [30]}', 3, "results[0].values.bpp"),
        ('{"schema": "%s", "results": [{"kind": "quality"}]}' % SCHEMA, 3, "results[0].codec: is missing"),  # noqa: UP031
    ],
)
def test_a_wrong_file_is_one_line_and_adds_nothing(
    capsys: pytest.CaptureFixture[str], text: str, code: int, words: str
) -> None:
    evaluation()
    Path("bad.json").write_text(text)
    assert main(["results", "import", "I.json", "bad.json"]) == code
    err = capsys.readouterr().err
    assert err.startswith("rdc: bad.json: ") and err.count("\n") == 1 and words in err
    assert not Path("rdc.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["list"], 1, "rdc.sqlite: no such store"),
        (["import", "none.json"], 1, "none.json: No such file"),
        (["import", "."], 3, "no folder of a training run"),
        (["import", "I.json", "--tag", "I.1"], 2, "--tag"),
        (["count", "Z"], 4, "Z"),
        (["list", "--store", "I.json"], 3, "I.json: file is not a database"),
    ],
)
def test_errors(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str) -> None:
    evaluation()
    assert main(["results", *arguments]) == code
    err = capsys.readouterr().err
    assert err.startswith("rdc: ") and err.count("\n") == 1 and words in err
    assert not Path("rdc.sqlite").exists()
