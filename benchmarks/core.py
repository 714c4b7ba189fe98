"""The core compared with torch on this machine: speed in one run, a first picture, and memory for large ones.

    python benchmarks/core.py --data KODAK --json docs/results/core.json

Engines take turns, so other work on the machine affects all of them alike. Figures are medians of the turns, for each
number of threads. Memory and first pictures are those of whole processes (`rdc`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rdcodec import _native
from rdcodec.codec import engine, torch_engine
from rdcodec.codec.container import unpack
from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import Codec
from rdcodec.measure.machine import machine
from rdcodec.models.weights import find_weights, read_weights

MODELS = "HIJ"
# A small process between: a child counts the memory of the one that it was forked from.
LAUNCHER = """
import json, resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
wall = time.perf_counter() - began
print(json.dumps({"wall_s": wall, "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}))
"""
LARGE = {"24 megapixels": (4000, 6000), "100 megapixels": (10000, 10000)}


def codecs(model: str) -> dict[str, Codec]:
    """The model in torch, in both formats, and in the core with each set of kernels."""
    weights = read_weights(find_weights(model))
    found = {}
    own = torch_engine.fast_dtype
    for dtype in dict.fromkeys((torch.float32, own(torch.device("cpu")))):
        torch_engine.fast_dtype = lambda device, dtype=dtype: dtype
        codec = Codec(weights, engine="torch")
        codec.model.eval()  # built now, in this format
        found[f"torch {str(dtype).removeprefix('torch.')}"] = codec
    torch_engine.fast_dtype = own
    before = _native.kernels()
    for kernels in _native.all_kernels():
        _native.use_kernels(kernels)
        found[f"core {kernels}"] = codec = Codec(weights, engine="native")
        codec.compress(np.zeros((16, 16, 3), np.uint8))  # the analysis is built now, for these kernels
    _native.use_kernels(before)
    return found


def in_turns(calls: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Median seconds of each call."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(turns + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def speeds(model: str, image: np.ndarray, turns: int) -> list[dict[str, Any]]:
    """Seconds of decoding, entropy decoding alone and encoding, at quality 50."""
    rows = []
    found = codecs(model)
    for codec in found.values():
        if isinstance(codec.engine, torch_engine.TorchEngine):
            codec.engine._pixels = None  # it draws faster on floats
    data = next(iter(found.values())).compress(image, 50)
    for threads in (1, 2):
        engine.set_threads(threads)
        torch.set_num_threads(threads)
        tasks: dict[str, Callable[[Codec], object]] = {
            "decode": lambda codec: codec.decompress(data),
            "entropy": lambda codec: codec.decode_latents(*unpack(data)),
            "encode": lambda codec: codec.compress(image, 50),
        }
        for task, work in tasks.items():
            calls = {name: (lambda codec=codec, work=work: work(codec)) for name, codec in found.items()}
            for name, seconds in in_turns(calls, turns).items():
                rows.append({"model": model, "threads": threads, "task": task, "engine": name, "seconds": seconds})
    engine.set_threads(0)
    return rows


def process(*arguments: str | Path) -> dict[str, float]:
    """Wall seconds and peak memory of one `rdc`, with its modules compiled as those of an installed one."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "rdcodec", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def processes(pictures: list[Path], turns: int) -> dict[str, Any]:
    """A first picture, large ones, and a folder of pictures with one and two jobs."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coded, out = folder / "a.rdc", folder / "a.png"
        process("compress", pictures[0], "-o", coded)
        runs = [process("decompress", coded, "-o", out, "--force") for _ in range(turns)]
        found["cold decompress"] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        small = np.asarray(Image.open(pictures[0]).convert("RGB"))
        for size, (height, width) in LARGE.items():
            tiled = np.tile(small, (-(-height // len(small)), -(-width // small.shape[1]), 1))[:height, :width]
            Image.fromarray(tiled).save(folder / "large.ppm")
            found[f"compress {size}"] = process("compress", folder / "large.ppm", "-o", coded, "--force")
            found[f"decompress {size}"] = process("decompress", coded, "-o", folder / "large.ppm", "--force")
        for jobs in (1, 2):
            to = folder / str(jobs)
            to.mkdir()
            found[f"compress {len(pictures)} pictures, {jobs} jobs"] = process(
                "compress", *pictures, "-o", to, "--jobs", str(jobs), *(("--threads", "1") if jobs == 1 else ())
            )
    return found


def table(record: dict[str, Any]) -> str:
    """Seconds as multiples of torch's in the same task, in Markdown."""
    here = record["machine"]
    lines = [
        "# The core compared with torch",
        "",
        f"`python benchmarks/core.py --data KODAK`: {here['cpu']}, {here['cores']} cores, torch {here['torch']}, "
        f"{record['picture']} at quality 50, medians of {record['turns']} turns. Multiples are relative to torch in "
        "the format that it chooses there. torch draws on floats, the core on integers, where weights have both. The "
        "core uses the `bf16` kernels only if told to.",
        "",
    ]
    lines += ["| model, threads | engine | decode | entropy decoding | encode |", "|---|---|---:|---:|---:|"]
    rows = record["speeds"]
    for model, threads in dict.fromkeys((row["model"], row["threads"]) for row in rows):
        found = {
            (row["engine"], row["task"]): row["seconds"]
            for row in rows
            if (row["model"], row["threads"]) == (model, threads)
        }
        names = dict.fromkeys(name for name, _ in found)
        own = [name for name in names if name.startswith("torch")][-1]
        for name in names:
            cells = [
                f"{1e3 * found[name, task]:.0f} ms, {found[own, task] / found[name, task]:.2f} x"
                for task in ("decode", "entropy", "encode")
            ]
            lines.append(f"| {model}, {threads} | {name} | {' | '.join(cells)} |")
    lines += ["", "| process | wall | peak memory |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {run['wall_s']:.2f} s | {run['peak_mib']:.0f} MiB |" for name, run in record["processes"].items()
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Kodak's pictures")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = sorted(arguments.data.glob("*.png"))
    record: dict[str, Any] = {"machine": machine(), "picture": pictures[0].name, "turns": arguments.turns}
    record["processes"] = processes(pictures, arguments.turns)
    image = read_image(pictures[0])
    record["speeds"] = [row for model in MODELS for row in speeds(model, image, arguments.turns)]
    record["load_after"] = os.getloadavg()[0]
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
        arguments.json.with_suffix(".md").write_text(table(record))
    sys.stdout.write(table(record))


if __name__ == "__main__":
    main()
