"""models, flops, compare, eval, bdrate, train: figures that agree with the library's own."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import Rdc, command, photo, shell
from rdcodec.cli.train import parse_seconds
from rdcodec.cli.zoo import parse_size
from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import bd_rate
from rdcodec.measure.rd import Evaluation
from rdcodec.measure.reading import load_curve
from rdcodec.metrics import ms_ssim, psnr_db


def records(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_models_lists_every_configuration(rdc: Rdc, monkeypatch: pytest.MonkeyPatch) -> None:
    from rdcodec.models.config import config_names

    listed = {record["name"]: record for record in records(rdc("models", "--json").out)}
    assert set(listed) == set(config_names())
    assert listed["I"]["tag"] == "I.999"
    monkeypatch.setattr("rdcodec.models.base.blueprint", None)  # nothing is counted twice
    text = rdc("models").out
    for name, record in listed.items():
        assert name in text and f"{record['kflops_per_px']:.1f}" in text
        assert record["summary"] in " ".join(text.split())
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


def test_models_stand_beside_table_1(rdc: Rdc) -> None:
    """Which figures of a model meet its row, to the last digit printed there."""
    from rdcodec.measure.published import table_1

    listed = {record["name"]: record for record in records(rdc("models", "--json").out)}
    assert {published.row for published in table_1().values()} == set("ABCDEFG")
    assert listed["I"]["table_1_row"] is None and listed["I"]["table_1_parameters_m"] is None
    for name, published in table_1().items():
        record = listed[name]
        key = "parameters" if published.with_analysis else "parameters_without_analysis"
        assert round(record[key] / 1e6, 1) == published.parameters_m == record["table_1_parameters_m"]
        assert record["kflops_per_px"] == published.kflops_per_px == record["table_1_kflops_per_px"]
        assert record["table_1_relative_rate_percent"] == published.relative_rate_percent


def test_flops_parts_add_up(rdc: Rdc) -> None:
    *parts, total = records(rdc("flops", "J", "--size", "256x128", "--json").out)
    assert total["component"] == "total" and len(parts) >= 2
    assert sum(part["flops"] for part in parts) == total["flops"]
    assert total["kflops_per_px"] == pytest.approx(total["flops"] / (256 * 128) / 1000)
    (alone,) = records(rdc("flops", "J", "--size", "256x128", "--by", "total", "--json").out)
    assert alone == total
    text = rdc("flops", "J", "--size", "256x128").out
    assert "100.0 %" in text and f"{total['kflops_per_px']:.1f}" in text


def test_flops_by_layer_adds_up_to_the_components(rdc: Rdc) -> None:
    *components, whole = records(rdc("flops", "E", "--size", "100x333", "--json").out)
    *layers, total = records(rdc("flops", "E", "--size", "100x333", "--by", "layer", "--json").out)
    for key in ("flops", "macs", "elementwise", "parameters"):
        assert total[key] == whole[key] == sum(row[key] for row in layers) == sum(row[key] for row in components)
    assert len(layers) > len(components) and {row["component"] for row in components} == {
        row["component"] for row in layers
    }
    text = rdc("flops", "E", "--size", "100x333", "--by", "layer").out
    assert "WindowAttention" in text and "synthesis.trunk.1.attention.1.qkv" in text and "deconv 5x5 s2" in text


def test_flops_as_a_formula(rdc: Rdc) -> None:
    terms = records(rdc("flops", "E", "--formula", "--json").out)
    (counted,) = records(rdc("flops", "E", "--size", "500x301", "--by", "total", "--json").out)
    value = 0.0
    for term in terms:
        m = term["multiple"]
        value += term["flops_per_padded_px"] * (-(-500 // m) * m) * (-(-301 // m) * m)
    assert value == pytest.approx(counted["flops"], rel=1e-12)
    assert "ceil(W / m)" in rdc("flops", "E", "--formula").out


def test_flops_of_a_file_and_of_weights(rdc: Rdc, weights: Path) -> None:
    (by_file,) = records(rdc("flops", weights / "tiny.toml", "--by", "total", "--json").out)
    (by_tag,) = records(rdc("flops", "I.999", "--by", "total", "--json").out)
    assert by_file["flops"] == by_tag["flops"] > 0
    assert rdc("flops", "Q").code == 4


def test_size() -> None:
    assert parse_size("768x512") == (768, 512)
    for text in ("768", "0x5", "768x512x3", "-1x5", "7 x 5", "999999999x1"):
        with pytest.raises(UsageError, match="768x512"):
            parse_size(text)


def test_compare_two_pictures(rdc: Rdc, work: Path) -> None:
    photo(192, 176).save("a.png")
    photo(192, 176).save("b.jpg", quality=30)
    done = rdc("compare", "a.png", "b.jpg", "--json")
    (record,) = records(done.out)
    a, b = (np.asarray(photo(192, 176)), read("b.jpg"))
    assert record["psnr_db"] == psnr_db(a, b) and record["ms_ssim"] == ms_ssim(a, b)
    assert record["b_file_bytes"] == Path("b.jpg").stat().st_size
    assert record["b_bpp"] == pytest.approx(record["b_file_bytes"] * 8 / (192 * 176), abs=1e-5)
    text = rdc("compare", "a.png", "b.jpg").out
    assert f"PSNR {record['psnr_db']:.2f} dB" in text and "192x176" in text


def read(name: str) -> np.ndarray:
    from rdcodec.codec.image import read_image

    return read_image(Path(name))


def test_compare_with_a_coded_picture(rdc: Rdc, coded: Path) -> None:
    assert rdc("decompress", coded, "-o", "back.png").code == 0
    assert "the pictures are equal" in rdc("compare", "back.png", coded).out
    (record,) = records(rdc("compare", "back.png", coded, "--json").out)
    assert record["equal"] is True and record["psnr_db"] is None and record["ms_ssim"] is None
    assert "under 161 pixels" in rdc("compare", "photo.png", coded).out


def test_eval_measures_real_files(rdc: Rdc, work: Path) -> None:
    Path("set").mkdir()
    for seed in (0, 1):
        photo(192, 176, seed).save(f"set/{seed}.png")
    done = rdc("eval", "I", "--data", "set", "-q", "10,90", "-o", "deep/I.json", "--anchors", "jpeg")
    assert done.code == 0 and "I on 2 pictures of set" in done.out
    assert "jpeg" in done.out.splitlines()[-1], "why there is no BD-rate of two points"
    result = Evaluation.load(Path("deep/I.json"))
    assert result.codec == "I" and result.tag == "I.999" and result.dataset["name"] == "set"
    assert [(row.image, row.setting) for row in result.rows] == [
        ("0.png", 10),
        ("0.png", 90),
        ("1.png", 10),
        ("1.png", 90),
    ]
    assert rdc("compress", "set/1.png", "-q", "90", "-o", "1.rdc").code == 0
    assert result.rows[-1].file_bytes == Path("1.rdc").stat().st_size
    assert rdc("eval", "I", "--data", "set", "-o", "deep/I.json").code == 2, "exists"


def test_eval_of_a_classical_codec(rdc: Rdc, work: Path) -> None:
    Path("set").mkdir()
    photo(192, 176).save("set/one.png")
    done = rdc("eval", "jpeg", "--data", "set", "-q", "20,40,60,80", "-o", "jpeg.json", "--anchor", "jpeg")
    assert done.code == 0, done.err
    assert "jpeg on 1 pictures" in done.out and "BD-rate" in done.out
    done = rdc("eval", "webp", "--data", "set", "--anchor", "jpeg.json", "--jobs", "2")
    assert done.code == 0 and "-" in done.out, "times are left out with several jobs"
    assert rdc("eval", "jpeg", "--data", "set", "-q", "20,loud").code == 2
    Path("void").mkdir()
    assert rdc("eval", "jpeg", "--data", "void").code == 3


def test_bdrate_agrees_with_the_library(rdc: Rdc) -> None:
    (record,) = records(rdc("bdrate", "bpg_444", "vtm_18.0", "--json").out)
    expected = bd_rate(load_curve("vtm_18.0"), load_curve("bpg_444"))
    assert record["bd_rate_percent"] == expected.value
    assert (record["overlap_low"], record["overlap_high"]) == (expected.low, expected.high)
    assert (record["test_points"], record["anchor_points"], record["fit"]) == (*expected.points, "pchip")
    text = rdc("bdrate", "bpg_444", "vtm_18.0", "webp").out
    assert f"{expected.value:+.2f} %" in text and "PCHIP" in text
    high = {"codec": "high", "bpp": [6.0, 8.0, 10.0, 12.0], "psnr_rgb": [50.0, 60.0, 75.0, 90.0]}
    Path("high.json").write_text(json.dumps(high))
    assert "compared over 10 %" in " ".join(rdc("bdrate", "bpg_444", "high.json").out.split())


def test_bdrate_refuses_what_has_no_answer(rdc: Rdc, work: Path) -> None:
    def curve(name: str, bpp: list[float], psnr: list[float]) -> None:
        Path(name).write_text(json.dumps({"codec": name, "bpp": bpp, "psnr_rgb": psnr}))

    curve("few.json", [1, 2, 3], [30, 31, 32])
    curve("far.json", [1, 2, 3, 4], [80, 81, 82, 83])
    curve("one.json", [0.46], [33.0])
    for name in ("few.json", "far.json"):
        assert rdc("bdrate", "bpg_444", name).message.startswith(f"rdc: {name}")
    done = rdc("bdrate", "bpg_444", "one.json")
    assert done.code == 0 and "one.json against " in done.out and "0.460 bpp" in done.out
    Path("foreign.json").write_text("{}")
    assert rdc("bdrate", "bpg_444", "foreign.json").code == 3


def test_training_options(rdc: Rdc, work: Path) -> None:
    assert [parse_seconds("--finish-in", text) for text in ("90s", "30m", "1.5h")] == [90, 1800, 5400]
    for text in ("30", "m", "-5m", "1d"):
        with pytest.raises(UsageError, match=r"--pause-after .*30m"):
            parse_seconds("--pause-after", text)
    for arguments, words in (
        (["I", "--steps", "5"], "folder"),
        (["--steps", "5", "-o", "run"], "CONFIG"),
        (["I", "-o", "run", "--steps", "5", "--minutes", "1"], "one budget"),
        (["I", "-o", "run", "--steps", "5", "--finish-in", "1m"], "--resume"),
        (["I", "--resume", "run"], "as the run began"),
        (["--resume", "run", "--recipe", "short"], "as the run began"),
        (["--resume", "run", "--seed", "0"], "as the run began"),
        (["none.toml", "--steps", "0", "-o", "run"], "none.toml"),
    ):
        done = rdc("train", *arguments)
        assert done.code == 2 and words in done.message
    unknown = rdc("train", "Q", "--steps", "0", "-o", "run")
    assert unknown.code == 4 and "no model Q" in unknown.message
    assert not Path("run").exists()
    Path("full").mkdir()
    Path("full/notes.txt").touch()
    assert "exists already" in rdc("train", "I", "--steps", "0", "-o", "full").message
    assert rdc("train", "--resume", "full").code == 3


SLOW = """
import pathlib, time, zlib
import numpy as np

class Slow:
    settings = (1, 2, 3, 4)
    def encode(self, image, setting):
        with open("encoded", "a") as log:
            log.write("x")
        while pathlib.Path("hold").exists() and pathlib.Path("encoded").stat().st_size > 5:
            time.sleep(0.01)
        head = np.array([setting, *image.shape[:2]], np.uint32).tobytes()
        return head + zlib.compress((image >> setting).tobytes())
    def decode(self, data):
        setting, height, width = np.frombuffer(data[:12], np.uint32).tolist()
        return np.frombuffer(zlib.decompress(data[12:]), np.uint8).reshape(height, width, 3) << setting
"""


def two_pictures(side: int = 64) -> None:
    Path("set").mkdir()
    for seed in (0, 1):
        photo(side, side, seed).save(f"set/{seed}.png")


@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_eval_goes_on_after_a_kill(rdc: Rdc, work: Path) -> None:
    two_pictures()
    Path("slow.py").write_text(SLOW)
    Path("hold").touch()
    arguments = ("eval", "slow.py:Slow", "--data", "set", "-o", "slow.json", "--jobs", "2")
    partial = Path("slow.json.partial")
    process = subprocess.Popen(**command(*arguments), stdout=subprocess.DEVNULL)
    while not (partial.exists() and partial.read_text().count("\n") >= 4):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = partial.read_text().count("\n") - 1
    assert 3 <= kept < 8 and not Path("slow.json").exists()
    head = json.loads(partial.read_text().partition("\n")[0])
    assert not {"load_average", "cpu_mhz"} & set(head["machine"]), "a busier machine is not another one"
    Path("encoded").unlink()
    Path("hold").unlink()
    done = shell(*arguments)
    assert done.returncode == 0 and f"going on after {kept} rows" in done.stderr.decode()
    assert len(Path("encoded").read_text()) == 8 - kept, "rows of the killed run are not measured again"
    assert not partial.exists()
    mended = Evaluation.load(Path("slow.json")).rows
    assert rdc(*arguments, "--force").code == 0
    assert Evaluation.load(Path("slow.json")).rows == mended and len(mended) == 8


def test_eval_of_a_codec_in_python(rdc: Rdc, work: Path) -> None:
    two_pictures()
    Path("slow.py").write_text(SLOW)
    done = rdc("eval", "slow.py:Slow", "--data", "set", "-o", "slow.json")
    assert done.code == 0 and "Slow on 2 pictures" in done.out, done.err
    result = Evaluation.load(Path("slow.json"))
    assert result.command == "rdc eval slow.py:Slow --data set -q 1,2,3,4" and "slow.py" in result.tag
    assert [row.setting for row in result.rows] == [1, 2, 3, 4] * 2
    stored = result.results()
    assert [one.setting for one in stored] == [1, 2, 3, 4] and all(one.kind == "quality" for one in stored)
    assert stored[0].provenance.dataset_sha256 == result.dataset["sha256"]
    assert len({one.id for one in stored}) == 4 and [row["image"] for row in stored[0].rows] == ["0.png", "1.png"]
    assert stored[0].values["bpp"] == pytest.approx(np.mean([row.bpp for row in result.rows if row.setting == 1]))
    Path("slow.json.partial").write_text('{"codec": "other"}\n')
    assert "remove it" in rdc("eval", "slow.py:Slow", "--data", "set", "-o", "slow.json", "--force").message


def test_eval_of_our_model_names_its_weights(rdc: Rdc, work: Path, weights: Path) -> None:
    two_pictures()
    assert rdc("eval", "I", "--data", "set", "-q", "50", "-o", "I.json").code == 0
    expected = hashlib.sha256((weights / "I.999.safetensors").read_bytes()).hexdigest()
    assert Evaluation.load(Path("I.json")).results()[0].provenance.weights_sha256 == expected


def test_eval_with_a_search_is_another_codec(rdc: Rdc, work: Path, weights: Path) -> None:
    """Its results stand beside those of the single pass."""
    two_pictures()
    assert rdc("eval", "I", "--data", "set", "-q", "50", "--effort", "2", "-o", "I.json").code == 0
    result = Evaluation.load(Path("I.json"))
    assert result.codec == result.tag == "I.999 effort 2"
    assert result.command == "rdc eval I --data set -q 50 --effort 2"
    for other in ("jpeg", "slow.py:Slow"):
        done = rdc("eval", other, "--data", "set", "-q", "50", "--effort", "2")
        assert done.code == 2 and "for models of rdcodec" in done.message


def test_eval_of_commands(rdc: Rdc, work: Path) -> None:
    two_pictures()
    example = Path(__file__).parents[2] / "examples" / "pillow_codec.py"
    program = f"{shlex.quote(sys.executable)} {shlex.quote(str(example))}"
    encode, decode = f"{program} {{input}} {{output}} {{setting}}", f"{program} {{input}} {{output}}.png"
    both = ("--command", encode, "--decode-command", decode)
    assert rdc("eval", "--data", "set", "-q", "20,80", *both, "-o", "r.json", "--jobs", "2").code == 0
    assert rdc("eval", "webp_m4", "--data", "set", "-q", "20,80", "-o", "w.json").code == 0
    ours, pillow = (Evaluation.load(Path(name)).rows for name in ("r.json", "w.json"))
    assert [(r.file_bytes, r.quality) for r in ours] == [(r.file_bytes, r.quality) for r in pillow]
    for arguments, words in (
        (both[:2], "go together"),
        ((), "no codec"),
        (both, "-q"),
        (("slow.py:Slow",), "no such file"),
    ):
        done = rdc("eval", *arguments, "--data", "set")
        assert done.code == 2 and words in done.message
    assert "--data" in rdc("eval", "jpeg").message
    assert rdc("eval", "jpeg", "--data", "set", "-q", "2.5").code == 2


def test_anchors_make_a_result_each(rdc: Rdc, work: Path) -> None:
    two_pictures()
    done = rdc("anchors", "jpeg", "webp", "--data", "set", "-o", "out")
    assert done.code == 0 and sorted(path.name for path in Path("out").iterdir()) == ["jpeg.json", "webp.json"]
    result = Evaluation.load(Path("out/jpeg.json"))
    assert "libjpeg" in result.tag and "bytes for plain grey" in result.tag
    assert "is kept" in rdc("anchors", "jpeg", "--data", "set", "-o", "out").err
    assert rdc("anchors", "jpg", "--data", "set").code == 2 and rdc("anchors", "jpeg").code == 2
    listed = {record["codec"]: record for record in records(rdc("anchors", "--list", "--json").out)}
    assert listed["jpeg"]["found"] and listed["jpeg"]["overhead_bytes"] > 100
    assert all(record["found"] == (record["missing"] is None) for record in listed.values())
    assert "mozjpeg" in rdc("anchors", "--list").out


def test_bdrate_lists_and_reads_at_a_rate(rdc: Rdc) -> None:
    (record,) = records(rdc("bdrate", "bpg_444", "elic", "--json").out)
    assert record["relative_rate_percent"] == pytest.approx(-23.82, abs=0.01) and record["relative_rate_at_bpp"] == 0.46
    (record,) = records(rdc("bdrate", "bpg_444", "elic", "--json", "--at", "9").out)
    assert record["relative_rate_percent"] is None
    (record,) = records(rdc("bdrate", "bpg_444", "elic", "--json", "--metric", "ms_ssim").out)
    assert record["metric"] == "ms_ssim" and record["bd_rate_29_36_db_percent"] is None
    assert "other names" in rdc("bdrate", "bpg_444", "tecnick/mlic").out
    listed = records(rdc("bdrate", "--list", "--dataset", "tecnick", "--json").out)
    assert len(listed) == 38 and all(record["source"] and record["licence"] for record in listed)
    assert "98" not in rdc("bdrate", "--list", "--dataset", "clic2021").out
    assert rdc("bdrate", "--list", "--dataset", "moon").code == 2 and rdc("bdrate", "bpg_444").code == 2


def test_eval_adds_what_it_measured_to_a_store(rdc: Rdc, tmp_path: Path) -> None:
    from rdcodec.store.db import Store

    folder = tmp_path / "pictures"
    folder.mkdir()
    photo(64, 48).save(folder / "one.png")
    store = str(tmp_path / "lab.sqlite")
    assert rdc("eval", "jpeg", "--data", str(folder), "-q", "20,80", "--store", store).code == 0
    assert rdc("anchors", "webp", "--data", str(folder), "-o", str(tmp_path), "--store", store).code == 0
    with Store(Path(store)) as opened:
        found = opened.query(kind="quality")
    jpeg = [result for result in found if result.codec == "jpeg"]
    assert sorted(result.setting or 0 for result in jpeg) == [20, 80] and len(found) > len(jpeg)
    assert all(len(result.rows) == 1 and result.provenance.dataset_sha256 for result in found)
