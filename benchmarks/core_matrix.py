"""Files of each engine decoded by every other: torch in both formats, and the core with each set of kernels.

    python benchmarks/core_matrix.py --data KODAK --json docs/results/core-matrix.json

Counts decodings whose latents differ from those of the file's writer, and compares pixels with torch in float32: all
pictures with I, six of them with H and J, at six qualities. `matrix.py` does the same for settings of torch, and
`slow_readers.py` for readers that take long. What a results file has of other tags is kept.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from core import codecs

from rdcodec.codec import engine
from rdcodec.codec.container import unpack
from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import Codec
from rdcodec.measure.machine import machine
from rdcodec.models.weights import find_weights, read_weights

QUALITIES = (10, 25, 40, 55, 70, 85)
WRITERS = ("torch float32", "torch bfloat16", "core vnni", "core amx", "core avx2", "core baseline")
MOST = 4  # of them, where all pictures are coded
REFERENCE = "torch float32"
FEW = 6  # pictures whose pixels are compared, and all that H and J code


def run(model: str, pictures: list[Path], crop: int | None) -> dict[str, Any]:
    """Counts of decodings and mismatches, and of each engine the pixels beside the reference."""
    found = codecs(model)
    writers = [name for name in WRITERS if name in found][: MOST if len(pictures) > FEW else None]
    counts: Counter[str] = Counter()
    pixels = {name: {"largest": 0, "beyond_1": 0, "samples": 0} for name in found}
    for number, path in enumerate(pictures):
        image = np.ascontiguousarray(read_image(path)[:crop, :crop])
        for quality in QUALITIES:
            for writer in writers:
                engine.set_threads(1 + number % 2)
                data = found[writer].compress(image, quality)
                symbols = found[writer].decode_latents(*unpack(data))
                for codec in found.values():
                    counts["decodings"] += 1
                    counts["mismatches"] += not np.array_equal(codec.decode_latents(*unpack(data)), symbols)
                if writer == REFERENCE and number % max(1, len(pictures) // FEW) == 0:
                    compare(found, data, pixels)
    about = {"pictures": len(pictures), "writers": writers} | ({"crop": f"{crop}x{crop}"} if crop else {})
    return {"counts": dict(counts), "pixels": pixels, **about, "machine": machine()}


def compare(found: dict[str, Codec], data: bytes, pixels: dict[str, dict[str, int]]) -> None:
    """Add the differences of a file's pixels to the sums."""
    reference = found[REFERENCE].decompress(data).astype(np.int16)
    for name, codec in found.items():
        off = np.abs(codec.decompress(data) - reference)
        pixels[name]["largest"] = max(pixels[name]["largest"], int(off.max()))
        pixels[name]["beyond_1"] += int(np.sum(off > 1))
        pixels[name]["samples"] += off.size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Kodak's pictures")
    parser.add_argument("--models", default="JIH", help="letters of the models")
    parser.add_argument("--crop", type=int, metavar="PX", help="take the upper left square of this side only")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = sorted(arguments.data.glob("*.png"))
    record: dict[str, Any] = {"qualities": QUALITIES}
    if arguments.json and arguments.json.exists():
        record = json.loads(arguments.json.read_text())
    for model in arguments.models:
        tag = read_weights(find_weights(model)).tag
        record[tag] = run(model, pictures if model == "I" else pictures[::4], arguments.crop)
        sys.stdout.write(f"{tag}: {json.dumps(record[tag])}\n")
        sys.stdout.flush()
        if arguments.json:
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
