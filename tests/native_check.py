"""The program native/tests/check.cpp: what it reads, and how it is compiled and run for emulated processors."""

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec.container import unpack
from rdcodec.codec.engine import at_quality
from rdcodec.codec.native_engine import NativeEngine
from rdcodec.codec.pipeline import Codec
from rdcodec.models.sizes import latent_size
from rdcodec.models.transforms.kinds import LightTransform
from rdcodec.models.weights import Weights

NATIVE = Path(__file__).parents[1] / "native"
SOURCES = ("cpu", "rans", "layers", "light", "checkerboard", "kernels", "tests/check")
ARM = ("-target", "aarch64-linux-musl", "-static")
WASM = ("-target", "wasm32-wasi", "-mcpu=generic+simd128", "-fno-exceptions")


def write_case(
    path: Path, weights: Weights, files: Sequence[bytes], codec: Codec, no_pictures: Sequence[int] = ()
) -> None:
    """Files of these weights, and what `codec` makes of them. no_pictures: numbers of files whose pixels may be any."""
    engine, entropy, tables = NativeEngine(weights), weights.config.entropy, weights.tables
    shape = [
        *(weights.config.latent_channels, entropy.hyper_channels, entropy.features, entropy.hidden),  # type: ignore[attr-defined]
        *(*light_shape(weights.config.synthesis), len(tables.radius), tables.skip_below),
        *light_shape(weights.config.analysis),
    ]
    arrays: dict[str, NDArray[np.generic]] = {
        "shape": np.array(shape, np.int32),
        **{"edges": tables.edges, "edge_start": tables.edge_start, "radius": tables.radius, "bucket": tables.bucket},
        **{f"exact.{name}": array for name, array in weights.entropy.items()},
    }
    for part in ("synthesis.", "analysis.", "entropy.hyper_analysis."):
        arrays |= {part.removeprefix("entropy.") + name: array for name, array in weights.floats(part).items()}
    for number, data in enumerate(files):
        header, stream = unpack(data)
        rows, offset = engine._rows(header.quality)
        y_hat = codec.decode_latents(header, stream)
        latents = latent_size(*codec._padded(header.height, header.width))
        of_file = {
            "stream": np.frombuffer(stream, np.uint8),
            "sides": np.array([*latents, header.height, header.width, number not in no_pictures], np.int32),
            "crc": np.array([header.symbols_crc], np.uint32),
            "hyper_rows": rows,
            "offset": offset,
            "unit": 1 / codec._gain(header.quality),
            "tint": 1 + at_quality(weights.floats("synthesis.")["tint.values"], header.quality),
            "y_hat": y_hat,
            "pixels": codec.synthesise(y_hat, header.quality / 10, header.height, header.width),
        }
        arrays |= {f"{key}.{number}": np.ascontiguousarray(array) for key, array in of_file.items()}
    with path.open("wb") as file:
        file.write(struct.pack("<I", len(arrays)))
        for name, array in arrays.items():
            told = name.encode()
            file.write(struct.pack("<I", len(told)) + told)
            file.write(struct.pack(f"<{2 + array.ndim}I", array.ndim, *array.shape, array.nbytes) + array.tobytes())


def light_shape(transform: object) -> tuple[int, ...]:
    assert isinstance(transform, LightTransform)
    return transform.stride8.width, transform.stride8.blocks, transform.stride16.width, transform.stride16.blocks


def run(*command: str | Path) -> str:
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(Path(tempfile.gettempdir()) / "zig"), **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def cross_compiled(program: Path, target: Sequence[str]) -> Path:
    """The program for another processor; it needs the package ziglang."""
    options = ("-std=c++17", "-O2", "-ffp-contract=fast", "-DRDC_TARGET=baseline", "-o", program)
    run(sys.executable, "-m", "ziglang", "c++", *target, *options, *(NATIVE / f"{name}.cpp" for name in SOURCES))
    return program


def run_wasm(check: Path, case: Path) -> str:
    """What the program says, compiled as WebAssembly, of a case; it needs the package wasmtime."""
    import wasmtime

    engine, setting = wasmtime.Engine(), wasmtime.WasiConfig()
    said, wrong = check.with_suffix(".said"), check.with_suffix(".wrong")
    setting.argv = ["check", f"/case/{case.name}"]
    setting.preopen_dir(str(case.parent), "/case")
    setting.stdout_file, setting.stderr_file = str(said), str(wrong)
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    store.set_wasi(setting)
    linker.define_wasi()
    exports: Any = linker.instantiate(store, wasmtime.Module.from_file(engine, str(check))).exports(store)
    try:
        exports["_start"](store)
    except wasmtime.ExitTrap as ended:
        assert ended.code == 0, wrong.read_text()
    return said.read_text()
