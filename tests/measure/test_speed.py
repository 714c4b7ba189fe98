"""Measured speeds: sums that hold, figures that are left out, processes that die, files that are refused."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from made_up import metrics
from rdcodec import _native
from rdcodec.errors import BadInput, NeedsModel, RdcError, UsageError
from rdcodec.measure import speed, speed_worker
from rdcodec.measure.rd import Evaluation, Row
from rdcodec.measure.reading import read_results
from rdcodec.measure.speed import Peak, Setting, Task
from rdcodec.models.config import ModelConfig
from rdcodec.models.weights import FILE_NAME, read_weights, save_weights, weights_sha256

CPU = torch.device("cpu")
PEAK = Peak("fp32", {"fp32": 100.0}, 2048)
BOTH = Peak("bf16", {"fp32": 100.0, "bf16": 200.0}, 2048)
ROW = Row("1.png", 8, 8, 50.0, 100, metrics(30.0, 31.0, 0.9), 0.1, 0.1)
SMALL = Task(width=70, height=50, repeats=2)
TOML = """
name = "Tiny"
summary = "for tests"
latent_channels = 8
[analysis]
kind = "light"
stride8 = { width = 8, blocks = 1 }
stride16 = { width = 8, blocks = 1 }
[synthesis]
kind = "light"
stride8 = { width = 8, blocks = 1 }
stride16 = { width = 8, blocks = 1 }
[entropy]
kind = "checkerboard"
hyper_channels = 8
features = 8
hidden = 8
"""


@pytest.fixture
def toml(tmp_path: Path) -> str:
    (tmp_path / "tiny.toml").write_text(TOML)
    return str(tmp_path / "tiny.toml")


def job(model: str, task: Task = SMALL) -> dict[str, Any]:
    return {"model": model, "task": vars(task), "peak": vars(PEAK)}


@torch.inference_mode()
def measured(model: str, task: Task = SMALL) -> dict[str, Any]:
    """What the process would answer."""
    return speed_worker.measure_model(job(model, task), Setting(1, "fp32"))


def names(found: dict[str, Any]) -> list[str]:
    return [row["part"] for row in found["rows"]]


def test_random_weights_carry_no_figure_of_entropy_coding(toml: str) -> None:
    found = measured(toml)
    values = found["values"]
    assert found["tag"] == "random weights" and found["setting"] is None
    assert values["random_weights"] and not values["coded"]
    for name in ("encode_s", "decode_s", "encode_mpx_per_s", "decode_mpx_per_s", "cold_s"):
        assert values[name] is None
    assert values["decode_networks_s"] > 0 and values["encode_networks_mpx_per_s"] > 0
    assert not [name for name in names(found) if "rANS" in name or name in ("encode", "decode")]
    assert {"decode: hyper_synthesis", "decode: synthesis", "encode: analysis"} <= set(names(found))


def test_weights_code_whole_files_unless_told_not_to(tiny_run: Path) -> None:
    found = measured(str(tiny_run))
    values = found["values"]
    assert values["coded"] and not values["random_weights"] and found["setting"] == 50
    assert values["decode_s"] > 0 and values["encode_mpx_per_s"] > 0
    assert {"encode", "decode", "encode networks", "decode: rANS", "decode: synthesis"} <= set(names(found))
    alone = measured(str(tiny_run), Task(width=70, height=50, repeats=1, networks=True))
    assert not alone["values"]["coded"] and not alone["values"]["random_weights"] and alone["setting"] is None
    assert alone["tag"] == found["tag"] and alone["values"]["decode_s"] is None
    json.dumps([found, alone], allow_nan=False)


def test_weights_in_pieces_have_the_hash_that_an_evaluation_names(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = read_weights(tiny_run / FILE_NAME)
    whole = tmp_path / f"{weights.tag}.safetensors"
    save_weights(whole, weights, 20_000)
    assert len(list(tmp_path.iterdir())) > 2
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(tmp_path))
    found = measured(weights.tag, Task(width=70, height=50, repeats=1, networks=True))
    evaluation = Evaluation("Tiny", weights.tag, {"name": "x", "sha256": ""}, 1, "", {}, (ROW,))
    evaluation.save(tmp_path / "older.json")  # names no hash of its weights
    (of_older_file,) = read_results(tmp_path / "older.json")
    expected = weights_sha256(whole)
    assert found["provenance"]["weights_sha256"] == of_older_file.provenance.weights_sha256 == expected


@pytest.fixture
def own_kernels() -> Iterator[str]:
    """The kernels that the core took for itself, which it has again afterwards."""
    before = _native.kernels()
    yield before
    _native.use_kernels(before)


@torch.inference_mode()
def test_files_are_coded_as_a_codec_codes_them(own_kernels: str) -> None:
    """By the core where it runs the model, within the limits that were asked for; in torch on request."""

    def values(setting: Setting) -> dict[str, Any]:
        task = Task(width=64, height=48, repeats=1)
        found: dict[str, Any] = speed_worker.measure_model({**job("J", task), "peak": vars(BOTH)}, setting)["values"]
        return found

    found = values(Setting(1))
    assert (found["engine"], found["kernels"], found["coded"]) == ("native", own_kernels, True)
    assert found["decode_mpx_per_s"] > 0 and (found["dtype"] == "bf16") == (own_kernels in speed_worker.BF16_KERNELS)
    found = values(Setting(1, "fp32"))
    assert found["engine"] == "native" and found["kernels"] not in speed_worker.BF16_KERNELS
    assert found["dtype"] == "fp32"
    found = values(Setting(1, engine="torch"))
    assert (found["engine"], found["kernels"]) == ("torch", None)
    if "baseline" in _native.all_kernels():
        assert values(Setting(1, isa="sse41"))["kernels"] == "baseline"


@given(st.lists(st.lists(st.integers(1, 1000), min_size=6, max_size=6), min_size=1, max_size=5))
def test_the_parts_of_each_pass_add_up_to_the_whole(passes: list[list[int]]) -> None:
    """Binary fractions of a second, which add without rounding."""
    parts = [f"{way}: {part}" for way in ("encode", "decode") for part in ("rANS", "networks", "rest")]
    seconds = [{name: value / 1024 for name, value in zip(parts, values, strict=True)} for values in passes]
    sums = speed_worker.totals(speed_worker.add_up([seconds, seconds]), coded=True)
    for way in ("encode", "decode"):
        whole = np.array([2 * sum(one[name] for name in parts if name.startswith(way)) for one in seconds])
        assert np.array_equal(sums[way], whole)
        assert np.array_equal(sums[f"{way} networks"], whole - [2 * one[f"{way}: rANS"] for one in seconds])
    assert set(speed_worker.totals(speed_worker.add_up([seconds]), coded=False)) == {
        "encode networks",
        "decode networks",
    }


def test_speeds_are_pixels_by_time() -> None:
    sums: dict[str, NDArray[np.float64]] = {
        "decode networks": np.array([0.5, 0.25, 1.0]),
        "encode networks": np.ones(3),
    }
    values = speed_worker.speeds(sums, [(1000, 1000), (500, 1000)])
    assert (values["pictures"], values["mpx"]) == (2, 1.5)
    assert values["decode_networks_s"] == 0.25 and values["decode_networks_mpx_per_s"] == 3
    assert values["decode_s"] is None


def test_the_roofline_share_is_the_ideal_share_of_the_time() -> None:
    peak = Peak("bf16", {"fp32": 50.0, "bf16": 200.0}, 4096)
    work = {"decode: hyper_synthesis": 5.0, "decode: synthesis": 40.0}
    found = speed_worker.achieved(work, peak, np.array([1.0, 1.0, 9.0]))
    assert found == {"gflop_per_s": 45.0, "roofline_share": pytest.approx(5 / 50 + 40 / 200)}


def test_work_is_what_the_flop_counter_counts(tiny_config: ModelConfig) -> None:
    from rdcodec.measure.flops import count_parts
    from rdcodec.models.base import blueprint

    model = blueprint(tiny_config)
    whole = sum(cost.macs for shape in ((64, 96), (128, 64)) for cost in count_parts(model.decode_parts(*shape), 1))
    for coded in (True, False):
        work = speed_worker.decoder_work(tiny_config, [(64, 96), (128, 64)], coded)
        assert sum(work.values()) == pytest.approx(2e-9 * whole)
        assert (set(work) == {"decode: entropy networks", "decode: synthesis"}) == coded


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_picture_is_cut_or_mirrored_to_any_size(width: int, height: int) -> None:
    image = np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3)
    made = speed_worker.mirrored(image, width, height)
    assert made.shape == (height, width, 3)
    rows = [*range(7), *reversed(range(7))] * 4
    columns = [*range(9), *reversed(range(9))] * 4
    assert np.array_equal(made, image[np.ix_(rows[:height], columns[:width])])


def test_results_come_from_processes_and_go_to_a_file_and_back(toml: str, tmp_path: Path) -> None:
    ticks: list[None] = []
    (result,) = speed.measure([toml], [Setting(1, "fp32")], SMALL, "rdc bench tiny.toml", lambda: ticks.append(None))
    assert len(ticks) == speed.count_ticks(models=1, settings=1, pictures=1, repeats=2)
    assert result.codec == "Tiny" and result.kind == "speed" and result.values["dtype"] == "fp32"
    assert result.provenance.command == "rdc bench tiny.toml" and result.provenance.machine["threads"] == 1
    speed.save([result, result], tmp_path / "speed.json")
    assert read_results(tmp_path / "speed.json") == [result, result]
    assert read_results(tmp_path / "speed.json")[0].id == result.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.json", "tiny.toml"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"schema": "rdcodec.evaluation/1"}', '{"schema": "rdcodec.bench/1"}']
    + [f'{{"schema": "rdcodec.bench/1", "results": [{entry}]}}' for entry in ("1", "{}", '{"kind": "count"}')],
)
def test_foreign_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(BadInput, match=r"x\.json: "):
        read_results(tmp_path / "x.json")
    with pytest.raises(RdcError, match=r"none\.json: No such file"):
        read_results(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", RdcError, "signal 9"),
        ("raise SystemExit('a\\nlast words')", RdcError, r"code 1 \(last words\)"),
        ("pass", RdcError, "no word why"),
        ('import sys; sys.stdin.read(); print(\'{"error": "gone", "exit_code": 4}\')', NeedsModel, "^gone$"),
    ],
)
def test_a_process_that_fails_is_one_line(
    monkeypatch: pytest.MonkeyPatch, script: str, kind: type[RdcError], message: str
) -> None:
    monkeypatch.setattr(speed, "WORKER", (sys.executable, "-c", script))
    with pytest.raises(kind, match=message) as error:
        speed.measure(["X"], [Setting(1)], SMALL)
    assert type(error.value) is kind and "\n" not in str(error.value)


def test_an_interrupt_ends_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys, time; "
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); print('{}', flush=True); time.sleep(9999)"
    )
    monkeypatch.setattr(speed, "WORKER", (sys.executable, "-c", script, str(tmp_path / "pid")))

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        speed.measure(["X"], [Setting(1)], SMALL, tick=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_worker_tells_errors_to_its_parent(tmp_path: Path) -> None:
    """The real worker, asked for a folder of pictures that is not there."""
    task = Task(data=str(tmp_path / "none"))
    message = {**job("J", task), "setting": vars(Setting(1, "fp32"))}
    done = subprocess.run(
        [*speed.WORKER, "model"],
        input=json.dumps(message),
        env=speed.environment(Setting(1)),
        capture_output=True,
        text=True,
    )
    (line,) = done.stdout.splitlines()
    assert "No such file" in json.loads(line)["error"] and json.loads(line)["exit_code"] == 1 and done.returncode == 0


def test_limits_of_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert speed.environment(Setting(3, isa="avx2"))["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert speed.environment(Setting(3))["OMP_NUM_THREADS"] == "3"
    x86 = {"arch": "x86_64", "isa": ["avx2"]}
    speed._check(Setting(1, isa="avx2"), x86)
    speed._check(Setting(1, isa="sse41"), x86)
    for setting, here in (
        (Setting(1, isa="avx512"), x86),
        (Setting(1, isa="avx2"), {"arch": "aarch64", "isa": ["asimd"]}),
        (Setting(1, dtype="bf16", isa="avx2"), x86),
    ):
        with pytest.raises(UsageError, match="--isa"):
            speed._check(setting, here)
