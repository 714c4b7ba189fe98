"""The core without Python: under sanitizers, on damaged streams, and on other processors, which are emulated."""

import platform
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from native_check import (
    ARM,
    NATIVE,
    WASM,
    Wasm,
    cross_compiled,
    modelled,
    of_file,
    of_weights,
    packed,
    run,
    run_wasm,
    write_case,
)
from promise import check_pixels
from rdcodec.codec.pipeline import Codec
from rdcodec.measure.machine import machine
from rdcodec.models.weights import Weights, read_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from fuzz_coverage import core_program

GOLDEN = Path(__file__).parent / "golden"
BUILT = Path(__file__).parents[1] / "src" / "rdcodec" / "web" / "rdc.wasm"
EXACT = {
    f"Golden-{kind}.1": tuple(f"{kind}-{name}" for name in ("one-pixel", "odd", "lowest", "highest", "extremes"))
    for kind in ("pixels", "three")
}
FILES = ("one-pixel", "small", "odd", "lowest", "highest", "extremes")
CMAKE = shutil.which("cmake")
CLANG = next(
    filter(None, map(shutil.which, ("clang++", *(f"clang++-{version}" for version in range(21, 13, -1))))), None
)
RIGHT = re.compile(r"baseline: all as expected, pixels at most [01] off, 0 of ")
EXACTLY = re.compile(r"baseline: all as expected, pixels at most 0 off, 0 of ")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Golden files, the tiny model that coded them, and what they decode to."""
    weights = read_weights(GOLDEN / "Golden.1.safetensors")
    path = tmp_path_factory.mktemp("native") / "case"
    files = [(GOLDEN / f"{name}.rdc").read_bytes() for name in FILES]
    write_case(path, weights, files, Codec(weights), no_pictures=[FILES.index("extremes")])
    return path


@pytest.fixture(scope="module")
def exact_cases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Golden files whose pixels are defined, of models of two and three passes: the check wants exactly these."""
    return [exactly(tag, names, tmp_path_factory.mktemp("exact")) for tag, names in EXACT.items()]


def exactly(tag: str, names: Sequence[str], folder: Path) -> Path:
    weights = read_weights(GOLDEN / f"{tag}.safetensors")
    write_case(folder / "case", weights, [(GOLDEN / f"{name}.rdc").read_bytes() for name in names], Codec(weights))
    return folder / "case"


@pytest.mark.slow
@pytest.mark.skipif(CMAKE is None or not shutil.which("c++"), reason="no CMake, or no C++ compiler")
def test_under_sanitizers_with_every_set_of_kernels(case: Path, exact_cases: list[Path], tmp_path: Path) -> None:
    """Warnings are errors; no access out of bounds, no undefined arithmetic, also on a thousand damaged streams."""
    options = ("-DRDC_CHECK=ON", "-DRDC_STRICT=ON", "-DRDC_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=Release")
    try:
        run(CMAKE or "", "-S", NATIVE, "-B", tmp_path, *options)
    except AssertionError as error:
        if "sanitize" in str(error):
            pytest.skip("this compiler has no sanitizers")
        raise
    run(CMAKE or "", "--build", tmp_path, "--parallel", "2")
    assert RIGHT.match(run(tmp_path / "check", case, "100"))
    for exact in exact_cases:
        assert EXACTLY.match(run(tmp_path / "check", exact, "100"))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of another processor")
def test_kernels_whose_instructions_are_missing_here(case: Path, exact_cases: list[Path], tmp_path: Path) -> None:
    """AVX-512, VNNI, BF16 and AMX, modelled in C++: the same integers, pixels as promised."""
    compiler = shutil.which("g++") or pytest.skip("no g++")
    if not {"avx2", "fma"} <= set(machine()["isa"]):
        pytest.skip("the models need AVX2")
    check = modelled(tmp_path / "check", compiler)
    for wanted, words in ((case, ""), *((exact, " 0 off") for exact in exact_cases)):
        said = run(check, wanted, "20").splitlines()
        assert [line.partition(":")[0] for line in said] == ["avx2", "avx512", "vnni", "bf16", "amx"]
        assert all(f"all as expected, pixels at most{words}" in line for line in said)


@pytest.mark.slow
@pytest.mark.skipif(CMAKE is None or not CLANG, reason="no CMake, or no clang++, which has libFuzzer")
def test_the_fuzzers_inputs(tmp_path: Path) -> None:
    """Streams, latents and arrays as native/tests/fuzz.cpp takes them: its seeds, and some changes to them."""
    try:
        program, _, seeds = core_program(tmp_path, CLANG or "")
    except AssertionError as error:
        if "sanitize" in str(error) or "fuzzer" in str(error):
            pytest.skip("this compiler has no libFuzzer")
        raise
    run("env", f"RDC_CASE={tmp_path / 'case'}", program, seeds, "-runs=500", "-seed=1", "-max_len=4096")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="no qemu-aarch64 (Debian's qemu-user)")
def test_on_arm(case: Path, exact_cases: list[Path], tmp_path: Path) -> None:
    """The same integers, pixels as promised."""
    pytest.importorskip("ziglang", reason="the package ziglang is the cross compiler")
    check = cross_compiled(tmp_path / "check", ARM)
    assert RIGHT.match(run("qemu-aarch64", check, case, "20"))
    for exact in exact_cases:
        assert EXACTLY.match(run("qemu-aarch64", check, exact, "20"))


@pytest.mark.slow
def test_as_web_assembly(case: Path, exact_cases: list[Path], tmp_path: Path) -> None:
    """Likewise; its compiler has no exceptions, so that no damaged streams are decoded."""
    pytest.importorskip("ziglang", reason="the package ziglang is the cross compiler")
    pytest.importorskip("wasmtime", reason="the package wasmtime runs WebAssembly")
    check = cross_compiled(tmp_path / "check.wasm", WASM)
    assert RIGHT.match(run_wasm(check, case, "0"))
    for exact in exact_cases:
        assert EXACTLY.match(run_wasm(check, exact, "0"))


def test_the_module_for_pages() -> None:
    """The built module as a host calls it: golden files give the pictures that they give here, on integers exactly."""
    pytest.importorskip("wasmtime", reason="the package wasmtime runs WebAssembly")
    check_decoder(BUILT)


def check_decoder(program: Path) -> None:
    for tag, names in (("Golden.1", FILES[:-1]), *EXACT.items()):
        check_pictures(program, read_weights(GOLDEN / f"{tag}.safetensors"), names)


def check_pictures(program: Path, weights: Weights, names: Sequence[str]) -> None:
    codec = Codec(weights)

    def start() -> tuple[Wasm, int]:
        module = Wasm(program, GOLDEN)
        module.call("_initialize")
        return module, module.call("rdc_model", *module.put(packed(of_weights(weights))))

    decoder, model = start()
    for name in names:
        data = (GOLDEN / f"{name}.rdc").read_bytes()
        arrays, expected = of_file(weights, codec, data), codec.decompress(data)
        sides = expected.shape[:2]
        picture = decoder.call("rdc_decode", model, *sides, *decoder.put(packed(arrays)))
        check_pixels(decoder.get(picture, expected.size), expected, weights)
        decoder.call("rdc_free", picture)
    for damage, of, words in (
        ({"crc": arrays["crc"] + np.uint32(1)}, sides, "not those that were coded"),
        ({"stream": arrays["stream"][:-1]}, sides, "its length is impossible"),
        ({"unit": arrays["unit"][:-1]}, sides, "unit has another size"),
        ({"tenths": np.array([1001], np.int32)}, sides, "beyond its scale"),
        ({}, (0, 16), "without pixels"),
    ):
        wrong, model = start()
        with pytest.raises(Exception, match="wasm trap"):
            wrong.call("rdc_decode", model, *of, *wrong.put(packed(arrays | damage)))
        assert words in wrong.why
