"""Fuzzing that is led by what code inputs reach: the core by libFuzzer, what Python reads of a file by Atheris.

    nice -n 17 python benchmarks/fuzz_coverage.py core --minutes 60 --json docs/results/fuzz-coverage.json
    nice -n 17 python benchmarks/fuzz_coverage.py container --minutes 60 --json docs/results/fuzz-coverage.json

`core` compiles native/tests/fuzz.cpp by clang under AddressSanitizer and UndefinedBehaviorSanitizer, and starts from
files of the golden model. `container` needs the package atheris: `unpack` and what sections are read with may end in
BadInput and in nothing else, and what was unpacked has to pack to the same bytes. The golden files are what it starts
from; half of the inputs get right checksums again. An input that fails stays in --work. What a results file has of the
other run is kept.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "tests")]

GOLDEN = HERE.parent / "tests" / "golden"
SIDES = 6  # native/tests/fuzz.cpp: LONGEST
CONTAINER_PIXELS = 20_000
LONGEST = {"core": 4096, "container": 4096}  # bytes of an input


def core_program(work: Path, compiler: str) -> list[str | Path]:
    """The command that fuzzes the core, its case and its seeds written."""
    from fuzz import golden_codec, read_corpus

    import native_check
    from rdcodec.codec.container import pack
    from rdcodec.export.pixels import with_pixels
    from rdcodec.models.sizes import latent_size
    from rdcodec.models.weights import read_weights

    codec, build, seeds = golden_codec(), work / "build", work / "seeds-core"
    options = ("-DRDC_FUZZ=ON", "-DRDC_STRICT=ON", f"-DCMAKE_CXX_COMPILER={compiler}")
    native_check.run("cmake", "-S", native_check.NATIVE, "-B", build, *options)
    native_check.run("cmake", "--build", build, "--target", "fuzz")
    corpus = read_corpus(codec)
    files = list(zip(corpus.headers, corpus.streams, strict=True))
    weights = with_pixels(read_weights(GOLDEN / "Golden.1.safetensors"), [])
    native_check.write_case(work / "case", weights, [pack(*file) for file in files], codec)
    seeds.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number, (header, stream) in enumerate(files):
        rows, columns = latent_size(*codec._padded(header.height, header.width))
        if max(rows, columns) <= SIDES:
            (seeds / f"file-{number}").write_bytes(bytes([0, rows - 1, columns - 1, number]) + stream)
        coded = bytes([1, 0, int(rng.integers(128))]) + stream
        (seeds / f"coder-{number}").write_bytes(coded)
        y_hat = codec.decode_latents(header, stream).astype(np.float32)
        (seeds / f"latents-{number}").write_bytes(bytes([2, int(rng.integers(256))]) + y_hat.tobytes()[:2000])
    some = {"stream": np.frombuffer(files[0][1], np.uint8), "sides": np.arange(4, dtype=np.int32)}
    (seeds / "arrays").write_bytes(b"\x03" + native_check.packed(some))
    (seeds / "empty").write_bytes(b"\x03" + native_check.packed({"stream": np.zeros(0, np.uint8)}))
    return [build / "fuzz", work / "found-core", seeds]


def container_program(work: Path) -> list[str | Path]:
    """The command that fuzzes what Python reads of a file, its seeds written."""
    seeds = work / "seeds-container"
    seeds.mkdir(exist_ok=True)
    for path in GOLDEN.glob("*.rdc"):
        (seeds / path.name).write_bytes(path.read_bytes())
    return [sys.executable, Path(__file__), "inside", work / "found-container", seeds]


def functions_of(module: ModuleType) -> list[FunctionType]:
    """Its functions and the methods of its classes."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    inner = [value for kind in own if isinstance(kind, type) for value in vars(kind).values()]
    # Those that dataclasses write have no source of their own.
    return [
        value for value in own + inner if isinstance(value, FunctionType) and value.__code__.co_filename != "<string>"
    ]


def inside() -> None:
    """Fuzz in this process, with libFuzzer's arguments; it never returns."""
    import atheris

    from rdcodec.codec import colour, container, metadata, sections
    from rdcodec.errors import BadInput

    for module in (colour, container, metadata, sections):
        for function in functions_of(module):
            atheris.instrument_func(function)
    from fuzz import resealed

    def one(data: bytes) -> None:
        try:
            header, stream = container.unpack(data, CONTAINER_PIXELS)
            assert container.pack(header, stream) == data, "packed, it is another file"
            pixels = np.zeros((header.height, header.width, 3), np.uint8)
            notes = sections.picture_of(pixels, header.sections).notes
            assert all("\n" not in note for note in notes)
        except BadInput as error:
            assert "\n" not in str(error), "an error of more than one line"

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        changed = bytes(atheris.Mutate(data, most))
        return resealed(changed) if seed % 2 else changed

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one, custom_mutator=mutate)
    atheris.Fuzz()


def fuzz(part: str, command: list[str | Path], work: Path, minutes: float) -> dict[str, Any]:
    """Run it for so long: what libFuzzer counted. AssertionError if anything was found."""
    (work / f"found-{part}").mkdir(exist_ok=True)
    limits = (
        f"-max_total_time={round(60 * minutes)}",
        f"-max_len={LONGEST[part]}",
        "-timeout=20",
        "-rss_limit_mb=4096",
    )
    told = (f"-artifact_prefix={work}/failed-{part}-", "-print_final_stats=1")
    began = time.perf_counter()
    log = work / f"{part}.log"
    with log.open("w") as out:
        environment = os.environ | {"RDC_CASE": str(work / "case"), "UBSAN_OPTIONS": "print_stacktrace=1"}
        code = subprocess.run(
            [*command, *limits, *told], stderr=out, stdout=out, env=environment, check=False
        ).returncode
    text = log.read_text(errors="replace")
    failed = sorted(path.name for path in work.glob(f"failed-{part}-*"))
    assert code == 0 and not failed, f"see {log} and {failed}"
    covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    edges, features, inputs = map(int, covered[-1])
    of_seeds = int(covered[0][0])
    executions = int(re.findall(r"number_of_executed_units: (\d+)|Done (\d+) runs", text)[-1][0] or 0)
    return {
        "executions": executions,
        "seconds": round(time.perf_counter() - began),
        "found": len(failed),
        "edges_of_the_seeds": of_seeds,
        "edges": edges,
        "features": features,
        "inputs_kept": inputs,
    }


def main() -> None:
    if sys.argv[1:2] == ["inside"]:
        return inside()
    from rdcodec.measure.machine import machine

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("core", "container"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--work", type=Path, default=Path("build/fuzz"), help="folder of seeds, logs and what was found"
    )
    parser.add_argument("--compiler", default="clang++", help="clang with libFuzzer, for the core")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    is_core = arguments.part == "core"
    command = core_program(work, arguments.compiler) if is_core else container_program(work)
    found = fuzz(arguments.part, command, work, arguments.minutes) | {"machine": machine()}
    print(json.dumps(found, indent=1))
    if arguments.json:
        record = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        arguments.json.write_text(json.dumps(record | {arguments.part: found}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
