"""Which number format the networks that may be inexact run in."""

import contextlib

import torch

from rdcodec.errors import UsageError


def in_float32(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Context in which nothing is cast to bfloat16, whatever holds outside (the meta device knows no casts)."""
    if device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


def pick_device(name: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda"; UsageError for one that is unknown or not here."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"device {name}: give auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, else float32.

    Without the instructions a CPU emulates bfloat16, 7 to 40 times slower than float32. Cards have it from compute
    capability 8 on (T4 and V100 have none).
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float32
    cpu = torch.cpu
    native = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def in_fast_dtype(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Context in which networks compute in the device's fast_dtype."""
    dtype = fast_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
