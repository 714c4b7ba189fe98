"""models, flops, compare, eval, bdrate, train: figures that agree with the library's own."""

import json
from pathlib import Path

import numpy as np
import pytest

from conftest import Rdc, photo
from rdcodec.cli.train import parse_seconds
from rdcodec.cli.zoo import parse_size
from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import bd_rate, load_curve
from rdcodec.measure.quality import ms_ssim, psnr_db
from rdcodec.measure.rd import Evaluation


def records(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_models_lists_every_configuration(rdc: Rdc) -> None:
    from rdcodec.models.config import config_names

    listed = {record["name"]: record for record in records(rdc("models", "--json").out)}
    assert set(listed) == set(config_names())
    assert listed["I"]["tag"] == "I.999"
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
        assert record["table_1_saving_percent"] == published.saving_percent


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
    assert (record["overlap_low_db"], record["overlap_high_db"]) == (expected.low, expected.high)
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
    assert done.code == 0 and "one.json saves" in done.out and "0.460 bpp" in done.out
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
    assert not Path("run").exists()
    Path("full").mkdir()
    Path("full/notes.txt").touch()
    assert "exists already" in rdc("train", "I", "--steps", "0", "-o", "full").message
    assert rdc("train", "--resume", "full").code == 3
