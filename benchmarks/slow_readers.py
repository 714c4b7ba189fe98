"""Files of each engine read by what takes long, and by the core in one thread and in two: crops of a few pictures.

    nice -n 10 python benchmarks/slow_readers.py --data KODAK --json docs/results/slow-readers.json

The slow readers are the second decoder in NumPy, and the core on an emulated ARM64 (qemu-aarch64) and as WebAssembly
(wasmtime), both compiled by ziglang. Latents have to be those of the file's writer, and so have pixels that weights
define on integers. Those that the emulated core makes of floats are compared with torch in float32; more than the
promise allows would end the run. `core_matrix.py` does it with whole pictures. What a results file has of other tags is
kept.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from core import codecs
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import native_check
import second_decoder
from rdcodec.codec import engine
from rdcodec.codec.container import unpack
from rdcodec.codec.pipeline import Codec
from rdcodec.measure.machine import machine
from rdcodec.models.weights import find_weights, read_weights

QUALITIES = (10, 25, 40, 55, 70, 85)
SIDES = 128, 96
STEP = 64  # of the second decoder's integers in a quantisation step


def crops(pictures: list[Path]) -> list[np.ndarray]:
    """The middles of some pictures, uint8 (height, width, 3)."""
    found = []
    for path in pictures:
        with Image.open(path) as picture:
            left, top = ((have - side) // 2 for have, side in zip(picture.size, SIDES, strict=True))
            found.append(np.array(picture.convert("RGB").crop((left, top, left + SIDES[0], top + SIDES[1]))))
    return found


def run(model: str, images: list[np.ndarray], folder: Path) -> dict[str, Any]:
    """Per reader: decodings, and those whose latents or exact pixels differ from the writer's."""
    path = find_weights(model)
    found, second = codecs(model), second_decoder.read_weights(path.read_bytes())
    files: dict[bytes, tuple[np.ndarray, np.ndarray | None]] = {}

    def decode(codec: Codec, data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        header, stream = unpack(data)
        y_hat = codec.decode_latents(header, stream)
        exact = bool(second.pixels)
        return y_hat, codec.synthesise(y_hat, header.quality / 10, header.height, header.width) if exact else None

    def decode_in_numpy(data: bytes) -> tuple[np.ndarray, np.ndarray | None]:
        decoded = second_decoder.decode(data, second)
        return decoded.y_hat / np.float32(STEP), decoded.pixels

    for image in images:
        for quality in QUALITIES:
            for codec in found.values():
                data = codec.compress(image, quality)
                if data not in files:
                    files[data] = decode(codec, data)
    record: dict[str, Any] = {"different_files": len(files), "readers": {}}

    def count(reader: str, read: Callable[[bytes], tuple[np.ndarray, np.ndarray | None]]) -> None:
        pairs = [(read(data), expected) for data, expected in files.items()]
        differ = sum(not np.array_equal(mine, its) for (mine, _), (its, _) in pairs)
        record["readers"][reader] = {"decodings": len(files), "mismatches": differ}
        if second.pixels:
            others = sum(not np.array_equal(mine, its) for (_, mine), (_, its) in pairs)
            record["readers"][reader]["pixel_mismatches"] = others

    for name, codec in found.items():
        for threads in (1, 2):
            engine.set_threads(threads)
            count(f"{name}, {threads} threads", partial(decode, codec))
    count("second decoder in NumPy", decode_in_numpy)
    case = folder / f"case-{model}"
    native_check.write_case(case, read_weights(path), list(files), found["torch float32"])
    for reader, said in {
        "core on ARM64 under qemu, 1 and 3 threads": native_check.run("qemu-aarch64", folder / "arm", case),
        "core as WebAssembly under wasmtime": native_check.run_wasm(folder / "check.wasm", case),
    }.items():
        match = re.match(r"baseline: all as expected, pixels at most (\d) off, (\d+) of (\d+) samples", said)
        assert match, said
        pixels = dict(zip(("largest", "beyond_1", "samples"), map(int, match.groups()), strict=True))
        record["readers"][reader] = {"decodings": 2 * len(files), "mismatches": 0, "pixels": pixels}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Kodak's pictures")
    parser.add_argument("--models", default="IJH", help="letters of the models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = sorted(arguments.data.glob("*.png"))[::8]
    about = {"qualities": QUALITIES, "pictures": len(pictures), "crop": f"{SIDES[0]}x{SIDES[1]}, from the middle"}
    record: dict[str, Any] = dict(about)
    if arguments.json and arguments.json.exists():
        record = json.loads(arguments.json.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        native_check.cross_compiled(folder / "arm", native_check.ARM)
        native_check.cross_compiled(folder / "check.wasm", native_check.WASM)
        for model in arguments.models:
            tag = read_weights(find_weights(model)).tag
            record[tag] = run(model, crops(pictures), folder) | {"machine": machine()}
            sys.stdout.write(f"{tag}: {json.dumps(record[tag])}\n")
            sys.stdout.flush()
            if arguments.json:
                arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
