"""What a synthesis on integers costs: PSNR and time against the same weights on floats, in the core.

    python benchmarks/pixels.py --data KODAK --json docs/results/pixels.json

Both draw the same latents, in turn and in one process. Times are medians, on one thread.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdcodec import _native
from rdcodec.codec import engine
from rdcodec.codec.pipeline import Codec, load
from rdcodec.measure.machine import machine
from rdcodec.models.weights import find_weights, read_weights

QUALITIES = (10, 25, 40, 55, 70, 85, 97)
Picture = NDArray[np.uint8]


def psnr_db(one: Picture, other: Picture) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(np.float64) - other) ** 2)))


def timed(codec: Codec, y_hat: NDArray[np.float32], quality: float, image: Picture) -> tuple[Picture, float]:
    began = time.perf_counter()
    drawn = codec.synthesise(y_hat, quality, *image.shape[:2])
    return drawn, time.perf_counter() - began


def compare(model: str, images: list[Picture]) -> dict[str, Any]:
    """Means over the pictures at each quality, and the ratio of times at all."""
    weights = read_weights(find_weights(model))
    on_integers, on_floats = load(model), Codec(replace(weights, pixels={}))
    rows, ratios = [], []
    for quality in QUALITIES:
        lost, share, most = [], [], 0
        for image in images:
            y_hat = on_integers.encode(image, quality).y_hat
            of_floats, seconds_of_floats = timed(on_floats, y_hat, quality, image)
            of_integers, seconds = timed(on_integers, y_hat, quality, image)
            off = np.abs(of_floats.astype(int) - of_integers)
            lost.append(psnr_db(of_floats, image) - psnr_db(of_integers, image))
            share.append(float(np.mean(off > 0)))
            most = max(most, int(off.max()))
            ratios.append(seconds_of_floats / seconds)
        found = {"lost_db": statistics.mean(lost), "most_lost_db": max(lost), "differ": statistics.mean(share)}
        rows.append({"quality": quality, "largest_difference": most, **{k: round(v, 5) for k, v in found.items()}})
        print(weights.tag, rows[-1], flush=True)
    return {"tag": weights.tag, "times_as_fast": round(statistics.median(ratios), 3), "qualities": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of PNG pictures")
    parser.add_argument("--models", nargs="+", default=["J", "I", "H"])
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    engine.set_threads(1)
    images = [np.array(Image.open(path).convert("RGB")) for path in sorted(given.data.glob("*.png"))]
    found = [compare(model, images) for model in given.models]
    record = {"machine": machine(), "kernels": _native.kernels(), "pictures": len(images), "models": found}
    given.json.write_text(json.dumps(record, indent=1) + "\n")
    for one in found:
        print(f"{one['tag']}: integers are {one['times_as_fast']:.2f} times as fast")


if __name__ == "__main__":
    main()
