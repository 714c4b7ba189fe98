"""Files coded under one setting, decoded under every other: do symbols agree, and how far apart are pixels?

    python benchmarks/matrix.py --model I --data FOLDER [--quality 10 40 85] [--pictures 3]
                                [--python OTHER/bin/python] [--json docs/results/matrix-I.json]

A setting is a process of its own: threads, memory layout, number format of the transforms, instruction sets of oneDNN
and ATen, torch.compile, another torch (--python: an interpreter with other packages). Beside the integers runs their
control: the float networks that the model was trained with, deciding the same symbols, nothing done to provoke
failures. A file fails if the decoder refuses it or finds other latents than the encoder had. Pixels are compared with
those of the setting `float32`.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
REFERENCE = "float32"
CONTROL = "float networks"
PATHS = ("integers", CONTROL)


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
    """Settings by name; the reference first, whose pixels the others need."""
    found = {
        REFERENCE: Setting(dtype="float32"),
        "bfloat16": Setting(dtype="bfloat16"),
        "2 threads": Setting(threads=2),
        "contiguous": Setting(contiguous=True),
        "AVX-512": isa("AVX512_CORE", "avx512"),
        "AVX2": isa("AVX2", "avx2"),
        "SSE4.1": isa("SSE41", "default"),
        "no oneDNN": Setting(onednn=False),
        "one picture a process": Setting(alone=True),
    }
    if compiled:
        found["torch.compile"] = Setting(compiled=True)
    for number, python in enumerate(pythons, 1):
        found[f"other torch {number}"] = Setting(python=python)
    return found


# In a process of its own


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """Encode pictures, or decode files, under one setting."""
    import torch

    from rdcodec.codec import pipeline
    from rdcodec.exact import layers
    from rdcodec.models.entropy.checkerboard import CheckerboardModel
    from rdcodec.models.entropy.integer import IntegerCheckerboard

    setting = Setting(**job["setting"])
    torch.set_num_threads(setting.threads)
    torch.backends.mkldnn.enabled = setting.onednn
    if setting.dtype:
        dtype = getattr(torch, setting.dtype)
        pipeline.fast_dtype = lambda device: dtype
    codec = pipeline.load(job["model"])
    networks = {"integers": codec.entropy}
    if isinstance(codec.model.entropy, CheckerboardModel):
        networks[CONTROL] = float_networks(codec.model.entropy)
    if setting.contiguous:
        codec.model.to(memory_format=torch.contiguous_format)
        call = layers.IntegerConv.__call__
        layers.IntegerConv.__call__ = lambda self, x: call(self, x.contiguous())
    if setting.compiled:
        codec.model.synthesis = torch.compile(codec.model.synthesis)
        if isinstance(codec.entropy, IntegerCheckerboard):
            codec.entropy.chains = {name: torch.compile(chain) for name, chain in codec.entropy.chains.items()}
    work = encode_all if job["task"] == "encode" else decode_all
    return {"torch": torch.__version__, "done": work(codec, networks, job)}


def float_networks(model: Any) -> Any:
    """The trained float networks in the place of the integers: same tables, same order, same steps."""
    import torch

    from rdcodec.exact.fixed import MEAN_ONE
    from rdcodec.exact.tables import LEVELS, SCALE_MIN
    from rdcodec.models.entropy import checkerboard as cb
    from rdcodec.models.entropy.integer import LOG_LEVEL

    def indexes(log_scale: torch.Tensor) -> torch.Tensor:
        level = (log_scale - math.log(SCALE_MIN)) / LOG_LEVEL
        return level.round().clamp(0, LEVELS - 1).to(torch.uint8)

    class FloatCheckerboard:
        def code(self, height: int, width: int, tenths: int, coder: Any) -> torch.Tensor:
            at = torch.tensor([tenths / 10])
            rows, columns = -(-height // cb.HYPER_STRIDE), -(-width // cb.HYPER_STRIDE)
            prior = indexes(model.factorized_prior.log_scale(at))[0, :, 0, 0].expand(rows, columns, -1)
            features = model.hyper_synthesis(coder.z(prior).permute(2, 0, 1)[None])[:, :, :height, :width]
            y_0 = self.code_pass(0, model.first(features), at, coder)
            context = model.context(cb.mirror_edge(y_0))[:, :, :height, :width]
            return y_0 + self.code_pass(1, model.second(torch.cat([features, context], 1)), at, coder)

        def code_pass(self, step: int, raw: torch.Tensor, at: torch.Tensor, coder: Any) -> torch.Tensor:
            mean, log_scale = (cb.take_parity(part, step) for part in model._mean_and_scale(raw, at))
            return cb.spread_parity(mean + coder.y(step, mean * MEAN_ONE, indexes(log_scale)), step)

    return FloatCheckerboard()


def encode_all(codec: Any, networks: dict[str, Any], job: dict[str, Any]) -> list[list[str]]:
    """Path, name and digest of the latents of every file, which is written by the name of its content."""
    from rdcodec.codec.image import read_image

    done = []
    for picture in job["pictures"]:
        analysed = codec.analyse(read_image(Path(picture)))
        for path, entropy in networks.items():
            codec.entropy = entropy
            for quality in job["qualities"]:
                coded = codec.code(analysed, quality)
                name = hashlib.sha256(coded.data).hexdigest()[:16] + ".rdc"
                (Path(job["folder"]) / name).write_bytes(coded.data)
                done.append([path, name, digest(coded.y_hat), f"{Path(picture).stem} q{quality}"])
    return done


def decode_all(codec: Any, networks: dict[str, Any], job: dict[str, Any]) -> list[dict[str, Any]]:
    """What every file decodes to: the digest of its latents, or the error; and its pixels beside the reference."""
    import torch

    from rdcodec.codec.container import unpack
    from rdcodec.errors import RdcError

    done = []
    for path, name, _ in job["files"]:
        codec.entropy = networks[path]
        kept: list[torch.Tensor] = []
        inner = type(codec).decode_latents
        codec.decode_latents = lambda header, stream, kept=kept, inner=inner: kept_first(
            kept, inner(codec, header, stream)
        )
        try:
            image = codec.decode(*unpack((Path(job["folder"]) / name).read_bytes()))
        except RdcError as error:
            done.append({"path": path, "file": name, "error": str(error)})
            continue
        record: dict[str, Any] = {"path": path, "file": name, "latents": digest(kept[0])}
        if path == "integers":
            pixels = Path(job["folder"]) / f"{name}.npy"
            if job["is_reference"]:
                np.save(pixels, image)
            difference = np.abs(image.astype(np.int16) - np.load(pixels))
            record |= {"largest": int(difference.max()), "beyond_1": float(np.mean(difference > 1))}
        done.append(record)
    return done


def kept_first(kept: list[Any], value: Any) -> Any:
    kept.append(value)
    return value


def digest(y_hat: Any) -> str:
    return hashlib.sha256(y_hat.contiguous().numpy().tobytes()).hexdigest()[:16]


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
        raise SystemExit(f"{setting}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_parts(job: dict[str, Any], setting: Setting, key: str) -> dict[str, Any]:
    """As `run`; with a process for each item under `key` if the setting wants it."""
    if not setting.alone:
        return run(job, setting)
    groups: dict[str, list[Any]] = defaultdict(list)
    for item in job[key]:
        groups[item if isinstance(item, str) else item[2]].append(item)
    answers = [run({**job, key: group}, setting) for group in groups.values()]
    return {"torch": answers[0]["torch"], "done": [record for answer in answers for record in answer["done"]]}


def matrix(model: str, pictures: list[Path], qualities: list[float], chosen: dict[str, Setting]) -> dict[str, Any]:
    """Run everything; what is returned has JSON types only."""
    torches: dict[str, str] = {}
    coded: dict[str, list[list[str]]] = {}
    decoded: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        job = {"model": model, "folder": folder, "qualities": qualities, "pictures": [str(p) for p in pictures]}
        for name, setting in chosen.items():
            answer = run_parts({**job, "task": "encode"}, setting, "pictures")
            coded[name], torches[name] = answer["done"], answer["torch"]
            print(f"encoded under {name} (torch {torches[name]})", flush=True)
        files = sorted({(path, file, what.split()[0]) for done in coded.values() for path, file, _, what in done})
        for name, setting in chosen.items():
            ask = {**job, "task": "decode", "files": files, "is_reference": name == REFERENCE}
            answer = run_parts(ask, setting, "files")
            decoded[name] = {(record["path"], record["file"]): record for record in answer["done"]}
            print(f"decoded under {name}", flush=True)
        second = second_decoder(model, Path(folder), coded)
    return {"torch": torches, **summary(coded, decoded), "second_decoder": second}


def second_decoder(model: str, folder: Path, coded: dict[str, list[list[str]]]) -> dict[str, int] | None:
    """Files that the decoder of tests/second_decoder.py, in NumPy, decodes to other latents; None for other models."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
    import second_decoder
    from rdcodec.models.weights import find_weights

    weights = second_decoder.read_weights(find_weights(model).read_bytes())
    if "level" not in weights.exact:
        return None
    wanted = {file: latents for done in coded.values() for path, file, latents, _ in done if path == "integers"}
    failed = 0
    for file, latents in wanted.items():
        y_hat = second_decoder.decode((folder / file).read_bytes(), weights).y_hat
        float_y = (y_hat.transpose(2, 0, 1)[None] / np.float32(64)).astype(np.float32)
        failed += hashlib.sha256(np.ascontiguousarray(float_y).tobytes()).hexdigest()[:16] != latents
    return {"files": len(wanted), "failed": failed}


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
    print("\npixels against float32     largest   beyond 1 (worst picture)")
    for name, pixels in result["pixels"].items():
        print(f"    {name:22s}{pixels['largest_difference']:8d}   {pixels['share_beyond_1_worst']:.4%}")
    if second := result["second_decoder"]:
        print(f"\nsecond decoder (NumPy): {second['failed']} of {second['files']} files failed")


def main() -> None:
    if sys.argv[1:] == ["--worker"]:
        print(json.dumps(worker(json.loads(sys.stdin.read()))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="I")
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--quality", type=float, nargs="*", default=[10, 25, 40, 55, 70, 85])
    parser.add_argument("--pictures", type=int, help="how many, from the first in the order of names")
    parser.add_argument("--python", nargs="*", default=[], help="interpreters with another torch")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out: it needs a C++ compiler")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = sorted(path for path in arguments.data.iterdir() if path.suffix in (".png", ".webp"))
    pictures = pictures[: arguments.pictures]
    chosen = settings(arguments.python, not arguments.no_compile)
    result = matrix(arguments.model, pictures, arguments.quality, chosen)
    show(result)
    if arguments.json:
        from rdcodec.measure.machine import machine

        about = {"model": arguments.model, "pictures": len(pictures), "qualities": arguments.quality}
        arguments.json.write_text(json.dumps({**about, "machine": machine(), **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
