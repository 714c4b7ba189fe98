"""How fast models run, and in how much memory: each measurement in a process of its own, kept as results.

A process has one model, number of threads, number format and instruction set: threads and instruction sets are
fixed when torch starts, and memory is that of one model alone. `speed_worker.py` is what runs in it.

A result file (`save`) is JSON: {"schema": "rdcodec.bench/1", "results": [...]}, each result of kind "speed" as
`store.records` describes it. Its values, beside those named there (None: was not measured):

    engine         "native", which is the core, or "torch"; kernels: which ones of the core, else None
    coded          whether whole files were coded; else networks alone ran, and encode_s and decode_s are None
    random_weights whether nobody trained the model: times hold, pictures would be noise
    encode_s, decode_s                        seconds per picture, whole files; mean over pictures, median of passes
    encode_networks_s, decode_networks_s      the same without entropy coding
    *_mpx_per_s                               true megapixels per second of each of the four
    pictures, mpx, repeats                    how many, megapixels of all together, passes that count
    kflops_per_px                             of the decoder, as `rdc flops` counts it at 768x512
    gflop_per_s, roofline_share               of the decoder's networks: 2 x MAC per second, and the share of the
                                              time that they would take at the speed of a matrix product
    matrix_product_gflop_per_s, matrix_product_side   in dtype: what was measured as this machine's most
    peak_memory_mib                           growth of the process (GPU: most that was allocated) from before the
                                              model was loaded; encoder and decoder together
    cold_s                                    from the start of `rdc decompress` to its end, picture written

Codecs that are not ours have device, threads, coded, the speeds of whole files, pictures, mpx, repeats and
peak_memory_mib; where they show the networks of their decoder also decode_networks_* and kflops_per_px, and a row
"decode networks: NAME" each. `at_setting` is their setting.

Rows: part ("encode", "decode" of files, "encode networks", "decode networks", and "encode: ...", "decode: ..." which
add up to them in each pass), seconds, low_s, high_s (median and quartiles over passes), and gflop_per_s and
roofline_share where operations are counted.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rdcodec
from rdcodec.errors import BadInput, CheckFailed, NeedsModel, RdcError, UsageError
from rdcodec.measure.machine import machine, provenance
from rdcodec.store.records import Result
from rdcodec.system import write_whole

SCHEMA = "rdcodec.bench/1"
DTYPES = ("auto", "fp32", "bf16")
ENGINES = ("auto", "torch")
ERRORS: dict[int, type[RdcError]] = {
    error.exit_code: error for error in (RdcError, UsageError, BadInput, NeedsModel, CheckFailed)
}
LIMITS = {
    "sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
}
"""What keeps torch and its libraries from using later x86 instructions; of none of these has bfloat16."""
NEEDED = {"sse41": None, "avx2": "avx2", "avx512": "avx512f"}  # what `machine` has to list

Foreign = Mapping[str, Any]
"""A codec that is not ours, as `measure.codecs.foreign_subject` takes it: codec, settings, commands."""

WORKER = (sys.executable, "-P", "-m", "rdcodec.measure.speed_worker")
PATIENCE_S = 5.0  # with a process that was told to end

Tick = Callable[[], object]
Keep = Callable[[Result], object]


@dataclass(frozen=True)
class Setting:
    """How a process runs: threads, number format (one of DTYPES), limit of instructions ("": none), device, engine.

    engine: "auto" for what a codec would take, the core or torch; "torch". Networks alone run in torch.
    """

    threads: int
    dtype: str = "auto"
    isa: str = ""
    device: str = "cpu"
    engine: str = "auto"


@dataclass(frozen=True)
class Task:
    """What to measure. data: folder of pictures; without it one picture of width x height is made.

    networks: no entropy coding, whether or not the model could. quality: None for the model's own default.
    """

    width: int = 768
    height: int = 512
    data: str | None = None
    quality: float | None = None
    repeats: int = 5
    networks: bool = False
    cold: bool = False


@dataclass(frozen=True)
class Peak:
    """What a machine can do in one setting: the format it would choose, and the matrix product in each format."""

    dtype: str
    gflop_per_s: Mapping[str, float]
    side: int


def measure(
    models: Sequence[str],
    settings: Sequence[Setting],
    task: Task,
    command: str | None = None,
    tick: Tick = lambda: None,
    keep: Keep = lambda result: None,
    foreign: Sequence[Foreign] = (),
) -> list[Result]:
    """A result for every model and every other codec in every setting, each given to `keep` as soon as it is there.

    `tick` is called after each pass, `count_ticks` in all.

    Errors of a process come here as they were raised there; RdcError where one died.
    """
    here = machine()
    for setting in settings:
        _check(setting, here)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    results = []
    for setting in settings:
        common = {"setting": asdict(setting), "task": asdict(task)}
        jobs = [("foreign", {**common, "model": codec["codec"], "foreign": dict(codec)}) for codec in foreign]
        if models:
            peak = _run("peak", common, setting, tick)
            jobs = [*(("model", {**common, "model": model, "peak": peak}) for model in models), *jobs]
        for what, job in jobs:
            found = _run(what, job, setting, tick)
            origin = provenance({**here, "threads": setting.threads}, now, command, **found.pop("provenance"))
            result = Result(kind="speed", provenance=origin, **{**found, "rows": tuple(found["rows"])})
            keep(result)
            results.append(result)
    return results


def count_ticks(models: int, settings: int, pictures: int, repeats: int, foreign: int = 0) -> int:
    """How often `measure` calls `tick`."""
    return settings * (bool(models) + (models + foreign) * pictures * repeats)


def save(results: Sequence[Result], path: Path) -> None:
    """Write a result file, whole or not at all; a line for each result."""
    lines = ",\n".join("    " + json.dumps(result.to_dict(), allow_nan=False) for result in results)
    write_whole(path, f'{{\n  "schema": "{SCHEMA}",\n  "results": [\n{lines}\n  ]\n}}\n')


def _check(setting: Setting, here: Mapping[str, Any]) -> None:
    """UsageError for what this machine cannot be made to do."""
    if not setting.isa:
        return
    needed = NEEDED[setting.isa]
    if here["arch"].lower() not in ("x86_64", "amd64") or (needed and needed not in here["isa"]):
        raise UsageError(f"--isa {setting.isa}: this processor has no such instructions")
    if setting.dtype == "bf16":
        raise UsageError(f"--dtype bf16 --isa {setting.isa}: no bfloat16 within these instructions; choose fp32")


def _run(what: str, job: Mapping[str, Any], setting: Setting, tick: Tick) -> dict[str, Any]:
    """The answer of a fresh process, which is gone when this returns or raises."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [*WORKER, what],
            env=environment(setting),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            encoding="utf-8",
        )
        try:
            for message in _messages(process, job):
                if "done" in message:
                    return dict(message["done"])
                if "error" in message:
                    raise ERRORS.get(message["exit_code"], RdcError)(message["error"])
                tick()
            code = process.wait()
        finally:
            _end(process)
        complaints.seek(0)
        raise RdcError(_obituary(job.get("model", "matrix product"), code, complaints.read().decode(errors="replace")))


def _messages(process: subprocess.Popen[str], job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Hand over a job; what the process then says, a JSON object a line."""
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # broken where it died at once
        pipe.write(json.dumps(job))
    for line in process.stdout:
        yield json.loads(line)


def _end(process: subprocess.Popen[str]) -> None:
    """Let it tidy up, but not for long."""
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout
    process.stdout.close()


def _obituary(model: str, code: int, complaints: str) -> str:
    if code < 0:
        return f"{model}: the measuring process was killed by signal {-code}, perhaps for want of memory: see --size"
    last = complaints.strip().splitlines()[-1:] or ["no word why"]
    return f"{model}: the measuring process ended with code {code} ({last[0]})"


def environment(setting: Setting) -> dict[str, str]:
    """Environment variables of a process that is to run like this; it finds this package."""
    path = os.pathsep.join([str(Path(rdcodec.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = {name: str(setting.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {**os.environ, "PYTHONPATH": path, **threads, **LIMITS.get(setting.isa, {})}
