"""The program native/tests/check.cpp: what it reads, and how it is compiled and run for emulated processors."""

import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
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
SOURCES = ("cpu", "rans", "layers", "integers", "pixels", "light", "checkerboard", "kernels")
ARM = ("-target", "aarch64-linux-musl", "-static")
WASM = ("-target", "wasm32-wasi", "-mcpu=generic+simd128", "-fno-exceptions")


def write_case(
    path: Path, weights: Weights, files: Sequence[bytes], codec: Codec, no_pictures: Sequence[int] = ()
) -> None:
    """Files of these weights, and what `codec` makes of them. no_pictures: numbers of files whose pixels may be any."""
    arrays = of_weights(weights) | of_encoder(weights)
    for number, data in enumerate(files):
        header, stream = unpack(data)
        found = of_file(weights, codec, data)
        y_hat = codec.decode_latents(header, stream)
        found["sides"] = np.append(found["sides"], np.int32(number not in no_pictures))
        found |= {"y_hat": y_hat, "picture": codec.synthesise(y_hat, header.quality / 10, header.height, header.width)}
        arrays |= {f"{key}.{number}": array for key, array in found.items()}
    path.write_bytes(packed(arrays))


def of_weights(weights: Weights) -> dict[str, NDArray[np.generic]]:
    """What a decoder needs of them."""
    entropy, tables = weights.config.entropy, weights.tables
    shape = [
        *(weights.config.latent_channels, entropy.hyper_channels, entropy.features, entropy.hidden),  # type: ignore[attr-defined]
        *(*light_shape(weights.config.synthesis), len(tables.radius), tables.skip_below),
        *light_shape(weights.config.analysis),
        len(weights.config.entropy.lattices()),
    ]
    return {
        "shape": np.array(shape, np.int32),
        **{"edges": tables.edges, "edge_start": tables.edge_start, "radius": tables.radius, "bucket": tables.bucket},
        "savings": tables.savings,
        **{f"exact.{name}": array for name, array in weights.entropy.items()},
        **{f"synthesis.{name}": array for name, array in weights.floats("synthesis.").items()},
        **{f"synthesis.log_gain.{name}": array for name, array in weights.floats("log_gain.").items()},
        **{f"pixels.{name}": array for name, array in weights.pixels.items()},
    }


def of_encoder(weights: Weights) -> dict[str, NDArray[np.generic]]:
    """What an encoder needs of them besides."""
    parts = ("analysis.", "entropy.hyper_analysis.")
    return {
        part.removeprefix("entropy.") + name: array for part in parts for name, array in weights.floats(part).items()
    }


def of_picture(weights: Weights, codec: Codec, tenths: int) -> dict[str, NDArray[np.generic]]:
    """What an encoder needs for a picture: what depends on the quality."""
    rows, offset = NativeEngine(weights)._rows(tenths)
    worth = codec._worth(tenths)
    assert worth is not None
    return {
        "gain": codec._gain(tenths),
        "shift": at_quality(weights.floats("entropy.")["hyper_shift.values"], tenths),
        **{"hyper_rows": rows, "offset": offset, "worth": worth},
    }


def of_file(weights: Weights, codec: Codec, data: bytes) -> dict[str, NDArray[np.generic]]:
    """What a decoder needs of a file: its stream, its sides, and what depends on its quality."""
    header, stream = unpack(data)
    rows, offset = NativeEngine(weights)._rows(header.quality)
    latents = latent_size(*codec._padded(header.height, header.width))
    return {
        "stream": np.frombuffer(stream, np.uint8),
        "sides": np.array([*latents, header.height, header.width], np.int32),
        "crc": np.array([header.symbols_crc], np.uint32),
        "hyper_rows": rows,
        "offset": offset,
        "unit": 1 / codec._gain(header.quality),
        "tint": 1 + at_quality(weights.floats("synthesis.")["tint.values"], header.quality),
        "tenths": np.array([header.quality], np.int32),
    }


def packed(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """Arrays as native/named.h reads them."""
    parts = [struct.pack("<I", len(arrays))]
    for name, array in arrays.items():
        told, sides = name.encode(), struct.pack(f"<{2 + array.ndim}I", array.ndim, *array.shape, array.nbytes)
        parts += [struct.pack("<I", len(told)), told, sides, np.ascontiguousarray(array).tobytes()]
    return b"".join(parts)


def light_shape(transform: object) -> tuple[int, ...]:
    assert isinstance(transform, LightTransform)
    return transform.stride8.width, transform.stride8.blocks, transform.stride16.width, transform.stride16.blocks


def run(*command: str | Path) -> str:
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(Path(tempfile.gettempdir()) / "zig"), **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def cross_compiled(program: Path, target: Sequence[str]) -> Path:
    """The check for another processor; it needs the package ziglang."""
    options = ("-std=c++17", "-O2", "-ffp-contract=fast", "-DRDC_TARGET=baseline", "-o", program)
    sources = [NATIVE / f"{name}.cpp" for name in (*SOURCES, "tests/check")]
    run(sys.executable, "-m", "ziglang", "c++", *target, *options, *sources)
    return program


def modelled(program: Path, compiler: str) -> Path:
    """The check with every set of kernels for x86-64, where instructions that may be missing are modelled."""
    language = ("-std=c++17", "-O1", "-ffp-contract=fast", "-mavx2", "-mfma")
    options = (*language, "-Wall", "-Wextra", "-Werror", "-Wno-psabi")
    sources = [NATIVE / f"{name}.cpp" for name in (*SOURCES[1:-1], "tests/every_set", "tests/check")]
    made = []
    for model, name in enumerate(("avx2", "avx512", "vnni", "bf16", "amx")):
        made.append(program.with_name(f"{name}.o"))
        models = ("-include", NATIVE / "tests" / "models.h", f"-DRDC_MODEL={model}") if model else ()
        run(compiler, *options, *models, f"-DRDC_TARGET={name}", "-c", NATIVE / "kernels.cpp", "-o", made[-1])
    run(compiler, *options, "-o", program, *sources, *made, "-pthread")
    return program


@cache
def compiled(program: Path) -> tuple[Any, Any]:
    """Engine and module of wasmtime, which take seconds."""
    import wasmtime

    engine = wasmtime.Engine()
    return engine, wasmtime.Module.from_file(engine, str(program))


class Wasm:
    """A WebAssembly program with the exports that it has; it needs the package wasmtime."""

    def __init__(self, program: Path, folder: Path, *arguments: str) -> None:
        """folder: where it finds `arguments`, under the name /case."""
        import wasmtime

        engine, module = compiled(program)
        setting = wasmtime.WasiConfig()
        self._folder = tempfile.TemporaryDirectory()
        told = Path(self._folder.name)
        self._said, self._wrong = told / "said", told / "wrong"
        setting.argv = ["program", *arguments]
        setting.preopen_dir(str(folder), "/case")
        setting.stdout_file, setting.stderr_file = str(self._said), str(self._wrong)
        self.store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
        self.store.set_wasi(setting)
        linker.define_wasi()
        self._exports: Any = linker.instantiate(self.store, module).exports(self.store)
        self._ended = wasmtime.ExitTrap

    def call(self, name: str, *arguments: int) -> Any:
        return self._exports[name](self.store, *arguments)

    def run(self) -> str:
        """All that it says; it has to end well."""
        try:
            self.call("_start")
        except self._ended as ended:
            assert ended.code == 0, self.wrong
        return self._said.read_text()

    @property
    def wrong(self) -> str:
        return self._wrong.read_text()

    @property
    def why(self) -> str:
        """What the codec's module says after a trap."""
        return self.get(self.call("rdc_error"), 256).partition(b"\0")[0].decode()

    def put(self, data: bytes) -> tuple[int, int]:
        """Into memory that it gives: address and size."""
        address = self.call("rdc_allocate", len(data))
        self._exports["memory"].write(self.store, data, address)
        return address, len(data)

    def get(self, address: int, size: int) -> bytes:
        return bytes(self._exports["memory"].read(self.store, address, address + size))


def run_wasm(check: Path, case: Path, *more: str) -> str:
    """What the check, compiled as WebAssembly, says of a case."""
    return Wasm(check, case.parent, f"/case/{case.name}", *more).run()
