"""Files coded under one setting, decoded under every other: do symbols agree, and how far apart are pixels?

    python benchmarks/matrix.py --model I --data FOLDER [--quality 10 40 85] [--pictures 3] [--control 3]
                                [--python OTHER/bin/python] [--work FOLDER] [--json docs/results/matrix-I.json]

A setting is a process of its own: threads, memory layout, number format of the transforms, instruction sets of oneDNN
and ATen, torch.compile, another torch (--python: an interpreter with other packages). The control runs along with the
integers: the float networks that the model was trained with decide the same symbols, and nothing is done to provoke
failures. A file fails if the decoder refuses it or finds latents other than the encoder's. Every file is decoded to
latents under every setting, files of the same bytes once. Those coded under `float32` are decoded to pixels too, which
are compared with that setting's, and by tests/second_decoder.py, which counts other pixels too where weights define
them on integers. With --control N, the float networks and the second decoder go through the first N pictures only. With
--work, an interrupted run continues after its last finished setting.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
REFERENCE = "float32"
CONTROL = "float networks"
PATHS = ("integers", CONTROL)
QUALITIES = (10, 25, 40, 55, 70, 85)


@dataclass(frozen=True)
class Setting:
    """How a process is started, and what it does to its codec."""

    environment: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    dtype: str | None = None
    contiguous: bool = False
    compiled: bool = False
    onednn: bool = True
    alone: bool = False  # a process for every picture
    python: str = sys.executable


def isa(onednn: str, aten: str) -> Setting:
    return Setting({"ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten})


def settings(pythons: list[str], compiled: bool) -> dict[str, Setting]:
    """Settings by name; the reference first, whose pixels the others need. AVX-512 only where the processor has it."""
    from rdcodec.measure.machine import machine

    found = {
        REFERENCE: Setting(dtype="float32"),
        "bfloat16": Setting(dtype="bfloat16"),
        "2 threads": Setting({"OMP_WAIT_POLICY": "PASSIVE"}, threads=2),  # threads that wait do not keep cores busy
        "contiguous": Setting(contiguous=True),
        **({"AVX-512": isa("AVX512_CORE", "avx512")} if "avx512f" in machine()["isa"] else {}),
        "AVX2": isa("AVX2", "avx2"),
        "SSE4.1": isa("SSE41", "default"),
        "no oneDNN": Setting(onednn=False),
        "one picture a process": Setting(alone=True),
    }
    if compiled:
        found["torch.compile"] = Setting(compiled=True)
    for python in pythons:
        found[f"torch {torch_version(python)}"] = Setting(python=python)
    return found


def torch_version(python: str) -> str:
    """Of another interpreter, without what it was built for."""
    command = [python, "-c", "import torch; print(torch.__version__)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().partition("+")[0]


# In a process of its own


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """Encode pictures, or decode files, under one setting."""
    import torch
    from float_networks import float_networks

    from rdcodec.codec import pipeline, torch_engine
    from rdcodec.exact import layers

    setting = Setting(**job["setting"])
    torch.set_num_threads(setting.threads)
    torch.backends.mkldnn.enabled = setting.onednn
    if setting.dtype:
        dtype = getattr(torch, setting.dtype)
        torch_engine.fast_dtype = lambda device: dtype
    codec = pipeline.load(job["model"], engine="torch")
    networks = {"integers": codec.torch.entropy}
    if control := float_networks(codec.model.entropy):
        networks[CONTROL] = control
    if setting.contiguous:
        codec.model.to(memory_format=torch.contiguous_format)
        call = layers.IntegerConv.__call__
        layers.IntegerConv.__call__ = lambda self, x: call(self, x.contiguous())
    if setting.compiled:
        compile_networks(codec.model)
    work = encode_all if job["task"] == "encode" else decode_all
    done = work(codec, networks, job)
    return {"torch": torch.__version__, "graphs": compiled_graphs() if setting.compiled else None, "done": done}


def compile_networks(model: Any) -> None:
    """Synthesis and entropy networks, float and on integers, through torch.compile, without a way back in silence."""
    import torch
    from torch import _dynamo, nn

    from rdcodec.exact import arithmetic
    from rdcodec.exact.layers import IntegerChain
    from rdcodec.models.entropy.integer_swin import IntegerSwin
    from rdcodec.models.transforms.integer import IntegerSynthesis

    # Whether torch may round float32 is a setting of the process, which no graph can read.
    arithmetic._rounds = torch.compiler.assume_constant_result(arithmetic._rounds)

    _dynamo.config.recompile_limit = _dynamo.config.accumulated_recompile_limit = 10_000  # chains share their code
    _dynamo.config.fail_on_recompile_limit_hit = True
    for kind in (IntegerChain, IntegerSwin):
        kind.__call__ = torch.compile(kind.__call__, fullgraph=True, dynamic=False)
    IntegerSynthesis._sums = torch.compile(IntegerSynthesis._sums, fullgraph=True, dynamic=False)
    model.synthesis.compile(fullgraph=True, dynamic=False)
    for parent in (model.entropy, *getattr(model.entropy, "networks", ())):
        for network in parent.children():
            if isinstance(network, nn.Sequential) and len(network):
                inside = partial(call, network.forward)  # by itself it would be skipped, as torch's own code
                network.forward = torch.compile(inside, fullgraph=True, dynamic=False)


def call(function: Any, x: Any) -> Any:
    return function(x)


def compiled_graphs() -> int:
    """How many graphs torch.compile made."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def encode_all(codec: Any, networks: dict[str, Any], job: dict[str, Any]) -> list[list[str]]:
    """Path, name and digest of the latents of every file, which is written by the name of its content."""
    from rdcodec.codec.image import read_image

    done = []
    for picture in job["pictures"]:
        analysed = codec.analyse(read_image(Path(picture)))
        for path, entropy in networks.items():
            if path == CONTROL and picture not in job["control"]:
                continue
            codec.torch.entropy = entropy
            for quality in job["qualities"]:
                coded = codec.code(analysed, quality)
                name = hashlib.sha256(coded.data).hexdigest()[:16] + ".rdc"
                (Path(job["folder"]) / name).write_bytes(coded.data)
                what = Path(picture).stem if quality is None else f"{Path(picture).stem} q{quality:g}"
                done.append([path, name, digest(coded.y_hat), what])
    return done


def decode_all(codec: Any, networks: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    """What every file decodes to: the digest of its latents, or the error; of some, pixels beside the reference."""
    from rdcodec.codec.container import unpack
    from rdcodec.errors import RdcError

    done = []
    for path, name, _, pixels in job["files"]:
        codec.torch.entropy = networks[path]
        record: dict[str, Any] = {"path": path, "file": name}
        header, stream = unpack((Path(job["folder"]) / name).read_bytes())
        try:
            y_hat = codec.decode_latents(header, stream)
        except RdcError as error:
            done.append({**record, "error": str(error)})
            continue
        record["latents"] = digest(y_hat)
        if pixels:
            quality = None if codec.single_rate else header.quality / 10
            image = codec.synthesise(y_hat, quality, header.height, header.width)
            record |= beside_reference(image, Path(job["folder"]) / f"{name}.npy", job["is_reference"])
        done.append(record)
    return done


def beside_reference(image: np.ndarray, reference: Path, write: bool) -> dict[str, float]:
    """Largest difference, in grey levels, and the shares of samples that differ at all, and by more than 1."""
    if write:
        np.save(reference, image)
    difference = np.abs(image.astype(np.int16) - np.load(reference))
    shares = {"differ": float(np.mean(difference > 0)), "beyond_1": float(np.mean(difference > 1))}
    return {"largest": int(difference.max()), **shares}


def digest(y_hat: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(y_hat).tobytes()).hexdigest()[:16]


# The parent


def run(job: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """A worker's answer."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(setting.threads)}
    command = [setting.python, __file__, "--worker"]
    job = {**job, "setting": vars(setting)}
    done = subprocess.run(
        command, env={**environment, **setting.environment}, input=json.dumps(job), capture_output=True, text=True
    )
    if done.returncode:
        told = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise SystemExit(f"{setting}: {told[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_parts(job: dict[str, Any], setting: Setting, key: str) -> dict[str, Any]:
    """As `run`; with a process for each picture if the setting wants it."""
    if not setting.alone:
        return run(job, setting)
    groups: dict[str, list[Any]] = defaultdict(list)
    for item in job[key]:
        groups[item if isinstance(item, str) else item[2]].append(item)
    answers = [run({**job, key: group}, setting) for group in groups.values()]
    return {**answers[0], "done": [record for answer in answers for record in answer["done"]]}


class Runner:
    """Runs settings one after the other, says how far it is, and keeps their answers in the folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder
        self.steps = steps
        self.step = 0

    def ask(self, job: dict[str, Any], name: str, setting: Setting, key: str) -> dict[str, Any]:
        """The answer of a setting, from the folder if it is there for this very job."""
        self.step += 1
        asked = json.loads(json.dumps({**job, "setting": vars(setting)}))
        kept = self.folder / f"{job['task']} {name}.json"
        begin = time.monotonic()
        record = json.loads(kept.read_text()) if kept.exists() else {}
        if record.get("asked") != asked:
            record = {"asked": asked, "answer": run_parts(job, setting, key)}
            kept.write_text(json.dumps(record))
        answer: dict[str, Any] = record["answer"]
        seconds, files = time.monotonic() - begin, len(answer["done"])
        print(f"{self.step:3d} of {self.steps}: {job['task']} {files} under {name}, {seconds:.0f} s", flush=True)
        return answer


def matrix(
    model: str,
    pictures: list[str],
    control: list[str],
    qualities: list[float | None],
    chosen: dict[str, Setting],
    folder: Path,
) -> dict[str, Any]:
    """Run everything; what is returned has JSON types only."""
    torches: dict[str, dict[str, Any]] = {}
    coded: dict[str, list[list[str]]] = {}
    decoded: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    runner = Runner(folder, 2 * len(chosen))
    job = {"model": model, "folder": str(folder), "qualities": qualities, "pictures": pictures, "control": control}
    for name, setting in chosen.items():
        answer = runner.ask({**job, "task": "encode"}, name, setting, "pictures")
        coded[name], torches[name] = answer["done"], answer["torch"]
    compared = {file for path, file, *_ in coded[REFERENCE] if path == "integers"}
    files = {
        (path, file, what.split()[0], path == "integers" and file in compared)
        for done in coded.values()
        for path, file, _, what in done
    }
    graphs = None
    for name, setting in chosen.items():
        ask = {**job, "task": "decode", "files": sorted(files), "is_reference": name == REFERENCE}
        answer = runner.ask(ask, name, setting, "files")
        decoded[name] = {(record["path"], record["file"]): record for record in answer["done"]}
        graphs = answer["graphs"] or graphs
    stems = {Path(picture).stem for picture in control}
    second = second_decoder(model, folder, [record for record in coded[REFERENCE] if record[3].split()[0] in stems])
    about = {"torch": torches, "compiled_graphs": graphs}
    return {**about, **summary(coded, decoded), "second_decoder": second}


def second_decoder(model: str, folder: Path, coded: list[list[str]]) -> dict[str, int]:
    """Files that the decoder of tests/second_decoder.py, in NumPy, decodes to other latents, or other exact pixels."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
    import second_decoder
    from rdcodec.models.weights import find_weights

    weights = second_decoder.read_weights(find_weights(model).read_bytes())
    wanted = {file: latents for path, file, latents, _ in coded if path == "integers"}
    failed = other_pixels = 0
    for file, latents in wanted.items():
        decoded = second_decoder.decode((folder / file).read_bytes(), weights)
        float_y = (decoded.y_hat / np.float32(64)).astype(np.float32)
        failed += hashlib.sha256(np.ascontiguousarray(float_y).tobytes()).hexdigest()[:16] != latents
        if decoded.pixels is not None:
            other_pixels += not np.array_equal(decoded.pixels, np.load(folder / f"{file}.npy"))
    return {"files": len(wanted), "failed": failed} | ({"other_pixels": other_pixels} if weights.pixels else {})


def summary(coded: dict[str, Any], decoded: dict[str, Any]) -> dict[str, Any]:
    """Failures per pair of settings; pixels per decoder."""
    result: dict[str, Any] = {}
    for path in PATHS:
        failures: dict[str, dict[str, int]] = defaultdict(dict)
        trials = 0
        pictures: set[str] = set()
        for encoder, done in coded.items():
            mine = [(file, latents, what) for kind, file, latents, what in done if kind == path]
            for decoder, records in decoded.items():
                wrong = [what for file, latents, what in mine if records[path, file].get("latents") != latents]
                failures[encoder][decoder] = len(wrong)
                trials += len(mine)
                pictures |= set(wrong)
        if trials:
            failed = sum(sum(row.values()) for row in failures.values())
            distinct = len({file for done in coded.values() for kind, file, *_ in done if kind == path})
            result[path] = {"trials": trials, "distinct_files": distinct, "failed": failed, "failures": failures}
            result[path] |= {"pictures_that_failed": sorted(pictures), "of_pictures": len(mine)}
    pixels = {}
    for decoder, records in decoded.items():
        compared = [record for record in records.values() if "largest" in record]
        if compared:
            pixels[decoder] = {
                "files": len(compared),
                "differ_mean": sum(record["differ"] for record in compared) / len(compared),
                "largest_difference": max(record["largest"] for record in compared),
                "share_beyond_1_worst": max(record["beyond_1"] for record in compared),
            }
    return {**result, "pixels": pixels}


def show(result: dict[str, Any]) -> None:
    """Print failures as a matrix, encoders down and decoders across."""
    for path in PATHS:
        if path not in result:
            continue
        part = result[path]
        names = list(part["failures"])
        print(f"\n{path}: {part['failed']} of {part['trials']} decodings failed", end="")
        print(f", {len(part['pictures_that_failed'])} of {part['of_pictures']} pictures at a quality somewhere")
        print(" " * 26 + "".join(f"{number:5d}" for number in range(1, len(names) + 1)))
        for number, (name, row) in enumerate(part["failures"].items(), 1):
            print(f"{number:3d} {name:22s}" + "".join(f"{row[other] or '.':>5}" for other in names))
    print("\npixels against float32     largest   beyond 1 (worst file)   differ (mean)")
    for name, pixels in result["pixels"].items():
        worst, mean = pixels["share_beyond_1_worst"], pixels["differ_mean"]
        print(f"    {name:22s}{pixels['largest_difference']:8d}{worst:24.4%}{mean:16.2%}")
    second = result["second_decoder"]
    print(f"\nsecond decoder (NumPy): {second['failed']} of {second['files']} files failed", end="")
    print(f", {second['other_pixels']} gave other pixels" if "other_pixels" in second else "")


def main() -> None:
    if sys.argv[1:] == ["--worker"]:
        print(json.dumps(worker(json.loads(sys.stdin.read()))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="I")
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--quality", type=float, nargs="*", help="without it the six of claims")
    parser.add_argument("--pictures", type=int, help="how many, from the first in the order of names")
    parser.add_argument("--control", type=int, help="how many of them for float networks and second decoder")
    parser.add_argument("--python", nargs="*", default=[], help="interpreters with another torch")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it needs a C++ compiler")
    parser.add_argument("--settings", nargs="*", help="names of those to run, without it all; float32 is always run")
    parser.add_argument("--work", type=Path, help="folder that keeps files and answers, to go on after an interruption")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    from rdcodec.codec.pipeline import load
    from rdcodec.measure.machine import machine

    codec = load(arguments.model)
    qualities = [None] if codec.single_rate else arguments.quality or QUALITIES
    pictures = sorted(str(path) for path in arguments.data.iterdir() if path.suffix in (".png", ".webp"))
    pictures = pictures[: arguments.pictures]
    control = pictures[: arguments.control]
    about = {"model": codec.info.tag, "pictures": len(pictures), "control_pictures": len(control)}
    about |= {"qualities": None if codec.single_rate else qualities, "machine": machine()}
    chosen = settings(arguments.python, not arguments.no_compile)
    if arguments.settings:
        chosen = {name: setting for name, setting in chosen.items() if name in (REFERENCE, *arguments.settings)}
    with contextlib.ExitStack() as stack:
        folder = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        result = matrix(arguments.model, pictures, control, qualities, chosen, folder)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps({**about, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
