"""The core without Python: under sanitizers, on damaged streams, and on other processors, which are emulated."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rdcodec.codec.container import unpack
from rdcodec.codec.engine import at_quality
from rdcodec.codec.native_engine import NativeEngine
from rdcodec.codec.pipeline import Codec
from rdcodec.models.sizes import latent_size
from rdcodec.models.transforms.kinds import LightTransform
from rdcodec.models.weights import read_weights

NATIVE = Path(__file__).parents[1] / "native"
GOLDEN = Path(__file__).parent / "golden"
FILES = ("one-pixel", "small", "odd", "lowest", "highest", "extremes")
SOURCES = ("cpu", "rans", "layers", "light", "checkerboard", "tests/check")
CMAKE = shutil.which("cmake")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden files, the tiny model that coded them, and what they decode to."""
    weights = read_weights(GOLDEN / "Golden.1.safetensors")
    codec = Codec(weights)
    engine, light, entropy = codec.engine, weights.config.synthesis, weights.config.entropy
    assert isinstance(engine, NativeEngine) and isinstance(light, LightTransform)
    assert weights.config.analysis == light
    tables = weights.tables
    shape = [
        *(weights.config.latent_channels, entropy.hyper_channels, entropy.features, entropy.hidden),  # type: ignore[attr-defined]
        *(light.stride8.width, light.stride8.blocks, light.stride16.width, light.stride16.blocks),
        *(len(tables.radius), tables.skip_below),
    ]
    arrays: dict[str, NDArray[np.generic]] = {
        "shape": np.array(shape, np.int32),
        **{"edges": tables.edges, "edge_start": tables.edge_start, "radius": tables.radius, "bucket": tables.bucket},
        **{f"exact.{name}": array for name, array in weights.entropy.items()},
    }
    for part in ("synthesis.", "analysis.", "entropy.hyper_analysis."):
        arrays |= {part.removeprefix("entropy.") + name: array for name, array in weights.floats(part).items()}
    for number, name in enumerate(FILES):
        header, stream = unpack((GOLDEN / f"{name}.rdc").read_bytes())
        rows, offset = engine._rows(header.quality)
        y_hat = codec.decode_latents(header, stream)
        sides = (
            *latent_size(*codec._padded(header.height, header.width)),
            header.height,
            header.width,
            name != "extremes",
        )
        of_file = {
            "stream": np.frombuffer(stream, np.uint8),
            "sides": np.array(sides, np.int32),
            "crc": np.array([header.symbols_crc], np.uint32),
            "hyper_rows": rows,
            "offset": offset,
            "unit": 1 / codec._gain(header.quality),
            "tint": 1 + at_quality(weights.floats("synthesis.")["tint.values"], header.quality),
            "y_hat": y_hat,
            "pixels": codec.synthesise(y_hat, header.quality / 10, header.height, header.width),
        }
        arrays |= {f"{key}.{number}": np.ascontiguousarray(array) for key, array in of_file.items()}
    path = tmp_path_factory.mktemp("native") / "case"
    with path.open("wb") as file:
        file.write(struct.pack("<I", len(arrays)))
        for name, array in arrays.items():
            told = name.encode()
            file.write(struct.pack("<I", len(told)) + told)
            file.write(struct.pack(f"<{2 + array.ndim}I", array.ndim, *array.shape, array.nbytes) + array.tobytes())
    return path


def run(*command: str | Path) -> str:
    environment = {"ZIG_GLOBAL_CACHE_DIR": str(Path(command[0]).parent / "zig"), **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CMAKE is None or not shutil.which("c++"), reason="no CMake, or no C++ compiler")
def test_under_sanitizers_with_every_set_of_kernels(case: Path, tmp_path: Path) -> None:
    """Warnings are errors; no access out of bounds, no undefined arithmetic, also on a thousand damaged streams."""
    options = ("-DRDC_CHECK=ON", "-DRDC_STRICT=ON", "-DRDC_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=Release")
    try:
        run(CMAKE or "", "-S", NATIVE, "-B", tmp_path, *options)
    except AssertionError as error:
        if "sanitize" in str(error):
            pytest.skip("this compiler has no sanitizers")
        raise
    run(CMAKE or "", "--build", tmp_path, "--parallel", "2")
    assert "baseline: all as expected, pixels at most" in run(tmp_path / "check", case, "100")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="no qemu-aarch64 (Debian's qemu-user)")
def test_on_arm(case: Path, tmp_path: Path) -> None:
    """The same integers, and pixels within the promise."""
    target = ("-target", "aarch64-linux-musl", "-static")
    check = cross_compiled(tmp_path / "check", *target)
    assert run("qemu-aarch64", check, case, "20").startswith("baseline: all as expected, pixels at most 1 off")


@pytest.mark.slow
def test_as_web_assembly(case: Path, tmp_path: Path) -> None:
    """Likewise; its compiler has no exceptions, so that no damaged streams are decoded."""
    wasmtime = pytest.importorskip("wasmtime", reason="the package wasmtime runs WebAssembly")
    check = cross_compiled(
        tmp_path / "check.wasm", "-target", "wasm32-wasi", "-mcpu=generic+simd128", "-fno-exceptions"
    )
    engine, setting = wasmtime.Engine(), wasmtime.WasiConfig()
    setting.argv = ["check", "/case/case"]
    setting.preopen_dir(str(case.parent), "/case")
    setting.stdout_file, setting.stderr_file = str(tmp_path / "out"), str(tmp_path / "err")
    store, linker = wasmtime.Store(engine), wasmtime.Linker(engine)
    store.set_wasi(setting)
    linker.define_wasi()
    program = linker.instantiate(store, wasmtime.Module.from_file(engine, str(check)))
    try:
        program.exports(store)["_start"](store)
    except wasmtime.ExitTrap as ended:
        assert ended.code == 0, (tmp_path / "err").read_text()
    said = (tmp_path / "out").read_text()
    assert said.startswith("baseline: all as expected, pixels at most 1 off") and said.count("\n") == 1


def cross_compiled(program: Path, *target: str) -> Path:
    """The program `check` for another processor."""
    pytest.importorskip("ziglang", reason="the package ziglang is the cross compiler")
    options = ("-std=c++17", "-O2", "-ffp-contract=fast", "-DRDC_TARGET=baseline", "-o", program)
    sources = (NATIVE / f"{name}.cpp" for name in (*SOURCES, "kernels"))
    run(sys.executable, "-m", "ziglang", "c++", *target, *options, *sources)
    return program
