"""A codec of one's own, from its file to a row, a point in Fig. 1 and a table in LaTeX: the commands of the docs."""

import re
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Rdc
from rdcodec.errors import UsageError
from rdcodec.measure.anchors import ANCHORS
from rdcodec.measure.codecs import foreign_subject, python_subject
from rdcodec.measure.speed import Setting, Task
from rdcodec.measure.speed_worker import measure_foreign
from rdcodec.store.db import Store

LABORATORY = Path(__file__).parents[2] / "docs" / "laboratory.md"
CODEC = """
import struct
import zlib

import numpy as np
import torch


class Net:
    name, version, settings, device = "net", "1", None, "cpu"

    def __init__(self):
        self.layer = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.parameters = sum(weights.numel() for weights in self.layer.parameters())

    def encode(self, image, setting):
        return struct.pack("<HH", *image.shape[:2]) + zlib.compress((image >> 4).tobytes())

    def decode(self, data):
        levels = np.frombuffer(zlib.decompress(data[4:]), np.uint8).reshape(*struct.unpack_from("<HH", data), 3)
        return (levels << 4) + 8

    def decode_parts(self, data):
        zeros = torch.zeros(1, 3, *struct.unpack_from("<HH", data))
        return {"synthesis": lambda: self.layer(zeros)}


class Broken(Net):
    def decode_parts(self, data):
        raise KeyError("no such network")
"""
COPY = """
import shutil, sys
hold = b"x" * (90 << 20)
shutil.copy(sys.argv[1], sys.argv[2])
"""
PLACED = """

class Placed(Net):
    def __init__(self, device="cpu"):
        super().__init__()
        self.device = device
"""


def pictures(folder: Path, count: int, width: int, height: int) -> None:
    folder.mkdir()
    x = np.arange(width)[None, :, None] + np.arange(height)[:, None, None]
    for index in range(count):
        wave = 128 + 100 * np.sin(x / (40 + index)) * np.ones(3)
        Image.fromarray(wave.astype(np.uint8)).save(folder / f"{index:02}.png")


def test_networks_of_a_foreign_codec_are_counted_and_timed(rdc: Rdc, work: Path) -> None:
    pictures(Path("set"), 2, 48, 32)
    Path("mine.py").write_text(CODEC)
    done = rdc("eval", "mine.py:Net", "--data", "set", "--store", "s.db")
    assert done.code == 0 and "decoder: 0.2 kFLOPs/px" in done.out, done.err
    assert rdc("eval", "jpeg", "--data", "set", "-q", "30,60", "--store", "s.db").code == 0
    with Store(Path("s.db"), write=False) as store:
        (count,), speeds = store.query(kind="count"), {r.codec: r for r in store.query(kind="speed")}
    assert count.codec == "net" and count.values["parameters"] == 3 * 4 * 9
    assert count.values["kflops_per_px"] == pytest.approx(2 * 3 * 4 * 9 / 1000)
    net, jpeg = speeds["net"].values, speeds["jpeg"].values
    assert [row["part"] for row in speeds["net"].rows] == ["synthesis"]
    assert all(float(net[key] or 0) > 0 for key in ("decode_mpx_per_s", "decode_networks_mpx_per_s"))
    assert float(jpeg["encode_mpx_per_s"] or 0) > 0 and jpeg.get("decode_networks_mpx_per_s") is None
    assert jpeg["at_setting"] in (30, 60)


def test_a_foreign_codec_is_timed_beside_ours(rdc: Rdc, work: Path) -> None:
    """In a process of its own, whole files and its decoder's networks, under its own name."""
    Path("mine.py").write_text(CODEC)
    options = "--size 64x48 --repeats 2 --threads 1 --parts --store s.db"
    done = rdc("bench", "mine.py:Net", "jpeg", *options.split())
    assert done.code == 0, done.err
    assert "decode networks: synthesis" in done.out and "jpeg at " in done.out
    with Store(Path("s.db"), write=False) as store:
        net, jpeg = (store.query(kind="speed", codec=name)[0] for name in ("net", "jpeg"))
    assert net.tag.startswith("1; code mine.py") and net.provenance.machine["threads"] == 1
    assert net.values["kflops_per_px"] == pytest.approx(2 * 3 * 4 * 9 / 1000)
    assert [row["part"] for row in net.rows] == ["encode", "decode", "decode networks", "decode networks: synthesis"]
    assert jpeg.values["at_setting"] in ANCHORS["jpeg"].settings and jpeg.values["decode_networks_s"] is None
    for values in (net.values, jpeg.values):
        pixels = 64 * 48 / 1e6 / float(values["decode_s"] or 0)
        assert float(values["decode_mpx_per_s"] or 0) == pytest.approx(pixels, rel=1e-3)


def test_commands_are_timed_with_the_memory_of_their_programs(work: Path) -> None:
    Path("copy.py").write_text(COPY)
    copy = f"{sys.executable} copy.py {{input}} {{output}}"
    foreign = {"codec": "copy", "settings": None, "commands": [copy, copy]}
    found = measure_foreign({"task": asdict(Task(32, 16, repeats=2)), "foreign": foreign}, Setting(1))
    assert found["codec"] == "copy" and found["values"]["at_setting"] is None
    assert found["values"]["peak_memory_mib"] > 90 and "kflops_per_px" not in found["values"]
    assert [row["part"] for row in found["rows"]] == ["encode", "decode"]


def test_a_class_that_takes_a_device_gets_it(work: Path) -> None:
    Path("mine.py").write_text(CODEC + PLACED)
    assert vars(python_subject("mine.py:Placed", None, "cuda").coder)["device"] == "cuda"
    assert vars(python_subject("mine.py:Placed", None).coder)["device"] == "cpu"
    with pytest.raises(UsageError, match="takes no device"):
        python_subject("mine.py:Net", None, "cuda")
    with pytest.raises(UsageError, match="only models and codecs in Python"):
        foreign_subject("jpeg", None, device="cuda")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("jpeg --cold", "--cold is for models"),
        ("jpeg --dtype bf16", "--dtype is for models"),
        ("J jpeg -q 50", "scales of their own"),
        ("J -q 101", "from 0 to 100"),
        ("J jpeg --command x --decode-command y", "one name"),
        ("--all jpeg", "name codecs, or give --all"),
        ("mine.py:Net", "no such file"),
    ],
)
def test_what_does_not_go_together(rdc: Rdc, work: Path, options: str, words: str) -> None:
    done = rdc("bench", *options.split())
    assert done.code == 2 and words in done.message


def test_networks_that_fail_are_one_line(rdc: Rdc, work: Path) -> None:
    pictures(Path("set"), 1, 48, 32)
    Path("mine.py").write_text(CODEC)
    done = rdc("eval", "mine.py:Broken", "--data", "set", "--store", "s.db")
    assert done.code == 1 and "decode_parts" in done.message and "no such network" in done.message


def test_several_jobs_give_no_speed(rdc: Rdc, work: Path) -> None:
    pictures(Path("set"), 2, 48, 32)
    assert rdc("eval", "jpeg", "--data", "set", "-q", "30", "--jobs", "2", "--store", "s.db").code == 0
    with Store(Path("s.db"), write=False) as store:
        assert [result.kind for result in store.query()] == ["quality"]


@pytest.mark.slow
def test_from_ones_own_codec_to_figure_and_table(rdc: Rdc, work: Path) -> None:
    """The commands of docs/laboratory.md, at most six, with a small random model in the place of the checkpoint."""
    if not LABORATORY.exists():
        pytest.skip("no checkout")
    page = LABORATORY.read_text(encoding="utf-8").split("## From your checkpoint")[1]
    block = page.split("```text\n")[1].split("```")[0]
    commands = re.findall(r"^\$ rdc (.*)$", block, re.MULTILINE)
    assert 0 < len(block.strip().splitlines()) <= 6
    pictures(Path("kodak"), 24, 768, 512)
    Path("mine.py").write_text(CODEC)
    for command in (line.replace("examples/compressai_codec.py:Own", "mine.py:Net") for line in commands):
        done = rdc(*command.split())
        assert done.code == 0, done.err
    figure = Path("report/relative-flops-kodak.csv").read_text()
    assert re.search(r"^net,other,,0\.216,", figure, re.MULTILINE) and "Cool-chic 5.0" in figure
    assert "net & other & 0.0 & 0.2" in Path("report/table1-kodak.tex").read_text()
    assert "\\begin{tabular}" in Path("mine.tex").read_text() and "net" in Path("mine.tex").read_text()
