"""What a measurement ran on: a plain record that is stored beside every result."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from rdcodec.store.records import Provenance
from rdcodec.system import core_count

ISA_FLAGS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
"""Instruction sets that decide how fast, and by which kernel, a network runs (names of /proc/cpuinfo)."""

VECTORS = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx2": "AVX2",
    "sve2": "SVE2",
    "i8mm": "Arm i8mm",
    "asimd": "Arm NEON",
}
"""What of the instruction sets decides most about speed, the widest first."""
NOISE = re.compile(r"\((?:R|TM)\)|\b(?:Processor|CPU)\b|@ .*|\s+\d+-Core\b", re.IGNORECASE)


def processor_name(cpu: str, isa: Iterable[object]) -> str:
    """Short name of a processor with its widest vector instructions: "AMD EPYC, AVX2"."""
    flags = set(map(str, isa))
    widest = next((name for flag, name in VECTORS.items() if flag in flags), "")
    return ", ".join(part for part in (" ".join(NOISE.sub(" ", cpu).split()), widest) if part)


def machine() -> dict[str, Any]:
    """Record of this process's environment; JSON types only, no paths and no host name.

    Keys: cpu, cpu_mhz (now), cores (that this process may use), caches (of the first core, by level and kind), isa,
    memory_gib, load_average (of the last minute, per machine), os, arch, python, package, kernels (of the core), torch,
    onednn, numpy, threads (of torch), gpu (name or None), gpu_driver, gpu_max_mhz, commit and dirty (None outside a
    checkout). What the platform does not tell, and what is not installed, is None.
    """
    from rdcodec import _native  # here, so that tools that only read results start without it

    return {
        "cpu": _cpu_model(),
        "cpu_mhz": _cpu_mhz(),
        "cores": core_count(),
        "caches": _caches(),
        "isa": [flag for flag in ISA_FLAGS if flag in _cpuinfo("flags", "Features").split()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": round(psutil.getloadavg()[0], 2),
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "python": platform.python_version(),
        "package": package_version(),
        "kernels": _native.kernels(),
        "numpy": metadata.version("numpy"),
        **_torch(),
        **_commit(),
    }


def provenance(ran_on: Mapping[str, Any], created_utc: str, command: str | None, **hashes: str | None) -> Provenance:
    """Where a figure comes from that this program measured on a machine (`machine()`). hashes: *_sha256."""
    made_by = {key: ran_on.get(key) for key in ("commit", "dirty", "package")}
    return Provenance("rdcodec", created_utc, command, **made_by, machine=ran_on, **hashes)  # type: ignore[arg-type]


def _torch() -> dict[str, Any]:
    """Of torch and the GPU that it sees."""
    try:
        import torch
    except ModuleNotFoundError:
        return dict.fromkeys(("torch", "onednn", "threads", "gpu", "gpu_driver", "gpu_max_mhz"))
    gpu = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "onednn": _onednn_version(torch.__config__.show()),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if gpu else None,
        "gpu_driver": _ask_gpu("driver_version") if gpu else None,
        "gpu_max_mhz": _number(_ask_gpu("clocks.max.sm")) if gpu else None,
    }


def lasting() -> dict[str, Any]:
    """What of `machine` stays while a measurement is interrupted and goes on: neither clock nor load."""
    return {key: value for key, value in machine().items() if key not in ("cpu_mhz", "load_average")}


def package_version() -> str | None:
    """Version of the installed package; None where it runs from a source tree without installation."""
    try:
        return metadata.version("rdcodec")
    except metadata.PackageNotFoundError:
        return None


@cache
def _commit() -> dict[str, Any]:
    """Commit of the checkout this file lies in, and whether tracked files differ from it."""
    root = Path(__file__).parents[3]
    commit = _run("git", "-C", str(root), "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return {"commit": None, "dirty": None}
    changed = _run("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changed)}


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _ask_gpu(what: str) -> str | None:
    """What nvidia-smi says of the first GPU, without its unit."""
    answer = _run("nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0")
    return answer or None


def _onednn_version(build: str) -> str | None:
    """Of torch's description of its build, which calls the library by an older name."""
    found = re.search(r"(?:MKL-DNN|oneDNN) v(\d+(?:\.\d+)*)", build)
    return found[1] if found else None


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _caches(cpu: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, str] | None:
    """Sizes by name, "L1 data": "32K" and so on, as Linux lists them."""
    found = {}
    for entry in sorted(cpu.glob("index*")):
        try:
            level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        found[f"L{level}" if kind == "Unified" else f"L{level} {kind.lower()}"] = size
    return found or None


def _cpu_mhz() -> float | None:
    frequency = psutil.cpu_freq()
    return round(frequency.current, 1) if frequency else None


def _cpu_model() -> str | None:
    if platform.system() == "Darwin":
        return _run("sysctl", "-n", "machdep.cpu.brand_string")
    return _cpuinfo("model name") or platform.processor() or None


@cache
def _cpuinfo(*keys: str) -> str:
    """Value of the first line of /proc/cpuinfo with one of these keys; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() in keys), "")
