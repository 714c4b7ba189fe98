"""rdc bench: its table, its errors, its file. What the processes answer is made up here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Rdc, listing
from rdcodec.measure import speed
from rdcodec.measure.reading import read_results

# Decoding times that FLOPs do not foretell: G, with the most of the three, is faster than H.
SECONDS = {"G": 0.2, "H": 0.3, "J": 0.1, "I": 0.15}
KFLOPS = {"G": 117.4, "H": 60.0, "J": 10.0, "I": 23.6}


def answer(what: str, job: dict[str, Any], setting: speed.Setting, tick: Callable[[], object]) -> dict[str, Any]:
    """As a process would."""
    if what == "peak":
        return {
            "dtype": "bf16" if setting.dtype == "auto" else setting.dtype,
            "gflop_per_s": {"bf16": 1e3},
            "side": 4096,
        }
    name, coded = job["model"], job["model"] == "I"
    seconds = SECONDS[name] / setting.threads
    totals = ["encode", "decode"] if coded else []
    totals += ["encode networks", "decode networks", "decode: synthesis"]
    speeds = {f"{way}{kind}_mpx_per_s": 1 / seconds for way in ("encode", "decode") for kind in ("", "_networks")}
    return {
        "codec": name,
        "tag": "I.999" if coded else "random weights",
        "dataset": "astronaut-768x512",
        "setting": 50.0 if coded else None,
        "values": {
            **speeds,
            **{
                "device": "cpu",
                "engine": "torch",
                "kernels": None,
                "dtype": job["peak"]["dtype"],
                "threads": setting.threads,
                "isa": setting.isa or None,
            },
            **{"coded": coded, "random_weights": not coded, "pictures": 1, "decode_networks_s": seconds},
            **{"kflops_per_px": KFLOPS[name], "roofline_share": 0.5, "peak_memory_mib": 99.9, "cold_s": 2.5},
            **{"matrix_product_gflop_per_s": 1e3, "matrix_product_side": 4096},
        },
        "rows": [{"part": part, "seconds": seconds, "low_s": seconds, "high_s": seconds} for part in totals],
        "provenance": {},
    }


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_run", answer)


@pytest.mark.usefixtures("fake")
def test_the_screen(rdc: Rdc) -> None:
    done = rdc("bench", "G", "H", "I", "J", "--threads", "1,2", "--isa", "all,avx2", "--cold", "--parts")
    assert done.code == 0 and done.err == ""
    assert max(len(line.rstrip()) for line in done.out.splitlines() if "tau" not in line) <= 100
    rows = [line.split() for line in done.out.splitlines()]
    assert ["I.999", "files", "1", "torch", "bf16", "6.67", "6.67", "150", "(150-150)", "100"] in rows
    assert ["nets", "6.67", "6.67", "150", "(150-150)", "50%", "23.6"] in rows
    assert ["G*", "nets", "2", "torch", "bf16", "10.0", "10.0", "100", "(100-100)", "50%", "117.4", "100"] in rows
    assert "*: random weights" in done.out
    assert "I.999, 2 threads torch bf16: 2.50 s from process start" in done.out
    assert "no cold start of G*, H*, J*: networks alone" in done.out
    assert (
        "by FLOPs and by decoding time, 1 thread torch bf16: Kendall tau 0.67; more FLOPs and yet faster: G before H"
        in done.out
    )
    assert "order by decoding time, 1 thread torch bf16 and 2 threads torch bf16: Kendall tau 1.00" in done.out
    assert "Kendall" not in rdc("bench", "I", "J", "--threads", "1,2").out


@pytest.mark.usefixtures("fake")
def test_file_and_json(rdc: Rdc, work: Path) -> None:
    done = rdc("bench", "I", "J", "--threads", "1,2", "--json", "-o", "new/speed.json")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [(record["codec"], record["values"]["threads"]) for record in records] == [
        *(("I", 1), ("J", 1)),
        *(("I", 2), ("J", 2)),
    ]
    kept = read_results(work / "new" / "speed.json")
    assert [{"schema": "rdcodec.speed/1", **result.to_dict()} for result in kept] == records
    assert kept[0].provenance.command is not None and kept[0].provenance.command.startswith("rdc")
    before = (work / "new" / "speed.json").read_bytes()
    assert "exists already" in rdc("bench", "I", "-o", "new/speed.json").message
    assert (work / "new" / "speed.json").read_bytes() == before
    assert rdc("bench", "I", "-o", "new/speed.json", "--force").code == 0


@pytest.mark.usefixtures("fake")
def test_the_store_gets_the_same_results(rdc: Rdc, work: Path) -> None:
    from rdcodec.store.db import Store

    assert rdc("bench", "I", "J", "--threads", "1,2", "-o", "speed.json", "--store", "all.sqlite").code == 0
    with Store(work / "all.sqlite", write=False) as store:
        kept = store.query(kind="speed")
        assert {result.id for result in kept} == {result.id for result in read_results(work / "speed.json")}
        assert len(kept) == 4
    assert rdc("results", "import", "speed.json", "--store", "all.sqlite").code == 0
    with Store(work / "all.sqlite", write=False) as store:
        assert len(store.query(kind="speed")) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["K"], 4, "no model K"),
        (["A.7"], 4, "no weights of A.7"),
        (["none.toml"], 2, "none.toml: no such configuration"),
        (["I", "--threads", "two"], 2, "--threads two: write whole numbers"),
        (["I", "--threads", "1,"], 2, "--threads"),
        (["I", "--dtype", "fp16"], 2, "choose from auto, fp32, bf16"),
        (["I", "--engine", "cuda"], 2, "choose from auto, torch"),
        (["I", "--isa", "avx3"], 2, "choose from all, sse41, avx2, avx512"),
        (["I", "--size", "big"], 2, "768x512"),
        (["I", "--size", "8x8", "--data", "."], 2, "give one of them"),
        (["I", "--data", "."], 3, "no image in it"),
        (["I", "--data", "none"], 1, "none: No such file"),
        (["I", "--repeats", "0"], 2, "--repeats"),
        (["I", "--isa", "avx2", "--dtype", "bf16"], 2, "--isa avx2"),
        (["I", "--device", "cuda"], 2, "no CUDA device"),
        ([], 2, "--all"),
        (["I", "--all"], 2, "--all"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_errors_are_one_line(rdc: Rdc, work: Path, arguments: list[str], code: int, message: str) -> None:
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    before = listing(work)
    done = rdc("bench", *arguments, "-o", "speed.json")
    assert done.code == code and message in done.message
    assert listing(work) == before


@pytest.mark.usefixtures("fake")
def test_all_are_the_papers_models_and_ours(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (SECONDS, KFLOPS):
        for name in "ABCDEF":
            monkeypatch.setitem(given, name, 1.0)
    assert rdc("bench", "--all", "--threads", "1", "-o", "speed.json").code == 0
    assert [result.codec for result in read_results(work / "speed.json")] == list("ABCDEFGHIJ")


def test_an_interrupted_measurement_leaves_nothing(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(speed, "_run", interrupt)
    done = rdc("bench", "I", "-o", "speed.json")
    assert done.code == 130 and done.message == "rdc: interrupted\n"
    assert listing(work) == []


def test_what_was_finished_before_an_interrupt_is_in_the_store(
    rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rdcodec.store.db import Store

    def interrupt_at_j(what: str, job: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if job.get("model") == "J":
            raise KeyboardInterrupt
        return answer(what, job, *rest)

    monkeypatch.setattr(speed, "_run", interrupt_at_j)
    done = rdc("bench", "I", "J", "--store", "all.sqlite", "-o", "speed.json")
    assert done.code == 130 and done.message == "rdc: interrupted\n"
    assert not (work / "speed.json").exists()
    with Store(work / "all.sqlite", write=False) as store:
        assert [result.codec for result in store.query(kind="speed")] == ["I"]


def test_a_file_that_is_no_store_is_refused_before_anything_is_measured(
    rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> dict[str, Any]:
        raise AssertionError("measured")

    monkeypatch.setattr(speed, "_run", measure)
    (work / "notes.txt").write_text("no store, but text that is long enough to be no empty file")
    done = rdc("bench", "I", "--store", "notes.txt")
    assert done.code == 3 and "results store" in done.message
