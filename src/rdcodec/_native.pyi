"""The core (native/module.cpp). Everything here may be called from many threads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indexes = NDArray[np.uint8 | np.uint16]

class Damaged(ValueError): ...
class Misfit(ValueError): ...

def crc32c(data: bytes | NDArray[np.uint8], before: int = 0) -> int: ...
def all_kernels() -> list[str]: ...
def kernels() -> str: ...
def use_kernels(name: str) -> bool: ...

class Tables:
    def __init__(
        self,
        edges: NDArray[np.int32],
        edge_start: NDArray[np.int32],
        radius: NDArray[np.int32],
        bucket: NDArray[np.uint16],
        skip_below: int,
    ) -> None: ...

def encode(symbols: NDArray[np.int32], indexes: Indexes, tables: Tables) -> bytes: ...

class Decoder:
    def __init__(self, stream: bytes, tables: Tables) -> None: ...
    def decode(self, indexes: Indexes) -> NDArray[np.int32]: ...
    def finish(self) -> None: ...

class LightSynthesis:
    def __init__(
        self,
        latents: int,
        wide: int,
        wide_blocks: int,
        deep: int,
        deep_blocks: int,
        arrays: dict[str, Floats],
        pixels: dict[str, NDArray[np.int8]],
    ) -> None: ...
    def run(
        self, y: Floats, unit: Floats, tint: Floats, tenths: int, height: int, width: int, threads: int
    ) -> NDArray[np.uint8]: ...

class LightAnalysis:
    def __init__(
        self, latents: int, wide: int, wide_blocks: int, deep: int, deep_blocks: int, arrays: dict[str, Floats]
    ) -> None: ...
    def run(self, image: NDArray[np.uint8], rows: int, columns: int, threads: int) -> Floats: ...

class HyperAnalysis:
    def __init__(self, latents: int, features: int, hyper: int, arrays: dict[str, Floats]) -> None: ...
    def run(self, y: Floats, gain: Floats, shift: Floats, threads: int) -> Floats: ...

class Checkerboard:
    def __init__(
        self,
        latents: int,
        hyper: int,
        features: int,
        hidden: int,
        passes: int,
        arrays: dict[str, NDArray[Any]],
        tables: Tables,
    ) -> None: ...
    def decode(
        self,
        stream: bytes,
        rows: int,
        columns: int,
        hyper_rows: NDArray[np.uint8],
        offset: NDArray[np.int32],
        threads: int,
    ) -> tuple[Floats, int]: ...
    def encode(
        self,
        y: Floats,
        gain: Floats,
        z: Floats,
        hyper_rows: NDArray[np.uint8],
        offset: NDArray[np.int32],
        threads: int,
        worth: Floats | None,
        savings: Floats | None,
    ) -> tuple[bytes, int, NDArray[np.int16], NDArray[np.uint8]]: ...
