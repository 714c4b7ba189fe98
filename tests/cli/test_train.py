"""rdc train: what it shows, and what it says when memory runs out. (Runs themselves: tests/training.)"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from conftest import TINY, Rdc, command
from rdcodec.cli import screen
from rdcodec.errors import RdcError, is_out_of_memory
from rdcodec.training.memory import explain_out_of_memory
from rdcodec.training.plan import plan_of

TRAIN = {
    "kind": "train",
    "step": 12345,
    "done": 0.42,
    "seconds": 3800.0,
    "loss": 12.1234,
    "bpp": 0.812,
    "psnr_db": 31.2,
    "steps_per_s": 12.34,
    "gflop_per_s": 123456.0,
    "roofline_share": 0.453,
    "data_share": 0.031,
    "eta_s": 43210.0,
}
VALIDATION = {
    "kind": "validation",
    "step": 12400,
    "loss": 0.8123,
    "quality": [10.0, 25.0, 40.0, 55.0, 70.0, 85.0],
    "bpp": [0.1, 0.2, 0.4, 0.8, 1.1, 12.2],
    "psnr_db": [27.0, 28.0, 30.0, 32.0, 34.0, 37.0],
    "bd_rate_percent": {"jpeg": -33.3, "webp": 112.1, "x265_444": None},
}


def test_lines() -> None:
    assert screen.line(TRAIN) == (
        "step 12345  63.3 min  loss 12.1234  0.812 bpp  31.20 dB  12.34 steps/s  data 3%  "
        "123456 GFLOP/s (45% of a matrix product)  12 h 00 min left"
    )
    assert screen.line(VALIDATION).startswith("step 12400  validation  0.100 bpp 27.00 dB  0.200 bpp")
    assert screen.line(VALIDATION).endswith("12.200 bpp 37.00 dB  jpeg -33.3 %  webp +112.1 %  x265_444 -")


def test_rows_without_classical_codecs() -> None:
    assert screen.validation_rows({**VALIDATION, "bd_rate_percent": {}}).splitlines()[0] == (
        "step 12400  validation  loss 0.8123"
    )


def test_without_a_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.training_log(enabled=True) as show:
        show(TRAIN)
        show(VALIDATION)
    assert capsys.readouterr().err == f"{screen.line(TRAIN)}\n{screen.line(VALIDATION)}\n"


def on_terminal(columns: int, script: str, **environment: str) -> str:
    """What a script that shows records writes to a terminal of this width."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    code = (
        f"import json, sys\nfrom rdcodec.cli import io, screen\ntrain, validation = json.loads(sys.argv[1])\n{script}"
    )
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps([TRAIN, VALIDATION])],
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm", "PYTHONPATH": command()["env"]["PYTHONPATH"], **environment},
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode()


SESSION = """
with screen.training_log(True) as show:
    io.say("reading")
    show(validation)
    show(train)
    io.say("said meanwhile")
    show(validation)
    show({**train, "step": 12395, "done": 0.43})
"""


def plain(written: str) -> list[str]:
    """Lines without colours and movements of the cursor."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("columns", [100, 80])
def test_a_bar_on_a_terminal(columns: int) -> None:
    *rows, last, end = plain(on_terminal(columns, SESSION))
    assert rows[0] == "reading" and "said meanwhile" in rows and end == ""
    (head, *_) = [row for row in rows if row.startswith("step 12400")]
    assert head == "step 12400  validation  loss 0.8123  BD-rate: jpeg -33.3 %  webp +112.1 %  x265_444 -"
    assert "   quality      10      25      40      55      70      85" in rows
    assert "   bpp       0.100   0.200   0.400   0.800   1.100  12.200" in rows
    bars = [row for row in rows if "step 12345" in row]
    assert all("━" in row and row.endswith("42%  12.34 steps/s  12 h 00 min left") for row in bars) and bars
    figures = "   loss 12.1234  0.812 bpp  31.20 dB  data 3%  123456 GFLOP/s (45% of a matrix product)"
    assert any(row.startswith(figures[: columns - 1]) for row in rows)
    assert max(len(row) for row in rows if row != head) <= columns and len(head) <= 100
    assert last == screen.line({**TRAIN, "step": 12395})


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize(("enabled", "terminal"), [("False", "xterm"), ("True", "dumb")])
def test_lines_on_a_terminal_where_a_bar_is_not_wanted(enabled: str, terminal: str) -> None:
    written = on_terminal(100, SESSION.replace("True", enabled), TERM=terminal)
    assert "\x1b" not in written and screen.line(TRAIN) in plain(written)


# Memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_out_of_memory_is_recognised(error: Exception) -> None:
    with pytest.raises(RdcError) as raised, explain_out_of_memory("knitting", "lower wool"):
        raise error
    assert str(raised.value) == "out of memory while knitting: lower wool"


def test_out_of_memory_of_a_gpu() -> None:
    import torch  # seconds

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError(2, "No such file"), ValueError("memory")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, explain_out_of_memory("knitting", "lower wool"):
        raise error
    assert raised.value is error


RECIPE = """
stages = [{ until = 0.5, batch = 4096, crop = 256 }, { until = 1.0, batch = 2, crop = 64 }]
start = "random"
optimizer = "adam"
learning_rate = 1e-3
matrix_rate = 1.0
shortcut_rate = 0.1
weight_decay = 0.0
warmup_steps = 1
decay_share = 0.5
clip_norm = 1.0
average_decay = 0.5
lmbda_weight = -0.5
stratified = false
"""

# A limit counts address space, which a process with torch has gigabytes of: what is added to it is limited.
LIMITED = """
import resource, sys
import rdcodec.training.run
from rdcodec.cli.main import main
rdcodec.training.run.roofline = lambda *_: (100.0, 1024)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]), -1))
sys.exit(main(sys.argv[2:]))
"""


REMEDY = (
    "give a smaller --micro-batch, or lower batch or crop in the recipe's stages "
    "(now batch 4096 of crop 256, batch 2 of crop 64)"
)


@pytest.fixture
def new_run(tmp_path: Path) -> list[object]:
    """Arguments of a run whose first batch is 3 GB."""
    (tmp_path / "photos").mkdir()
    Image.effect_noise((256, 256), 30).save(tmp_path / "photos" / "0.png")
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    files = (tmp_path / "tiny.toml", "--recipe", tmp_path / "recipe.toml", "--data", tmp_path / "photos")
    return ["train", *files, "--steps", 2, "--threads", 1, "-o", tmp_path / "run"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc as Linux has them")
def test_a_batch_too_large_for_memory(new_run: list[object], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "400000000", *map(str, new_run)],
        env={**command()["env"], "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    *said, line = done.stderr.splitlines()
    assert line == f"rdc: out of memory while training: {REMEDY}"
    assert [row.partition(" ")[0] for row in said] == ["reading", "1"]
    assert (tmp_path / "run" / "run.json").exists()


def test_no_memory_to_go_on_with_a_run(
    new_run: list[object], tmp_path: Path, rdc: Rdc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe of a run that exists is the one in its folder."""

    def resume(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("rdcodec.training.run.resume", resume)
    plan_of(str(new_run[1]), str(new_run[3]), [], 0, None).save(tmp_path)
    done = rdc("train", "--resume", tmp_path)
    assert done.code == 1
    assert done.message == f"rdc: out of memory while training: {REMEDY}, in {tmp_path / 'run.json'}\n"
