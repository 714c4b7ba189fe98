"""What fitted tables and the encoder's choice among integers bring, each alone and both, and the time of encoding.

    python benchmarks/encoder_steps.py H.2 H.3 --data NAME=PICTURES [--data ...] [--pictures 24] [--json FILE]

The first tag has the tables of the networks' Gaussians, the second the same networks with fitted ones. PICTURES is a
folder or an archive; of `validation=train.zip` the held-out photographs are taken. BD-rate (PSNR, means over pictures
at six qualities) against the old tables and the nearest integers; times are ratios of sums, in turns, of analysis and
coding together, with one thread.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec import engine
from rdcodec.codec.pipeline import Codec, load
from rdcodec.measure.bdrate import Curve, bd_rate
from rdcodec.measure.machine import machine
from rdcodec.models.weights import find_weights, read_weights
from rdcodec.training.data import decoded, load_photos
from rdcodec.training.validation import cut

QUALITIES = (10, 25, 40, 55, 70, 85)
PLAIN, TABLES = "neither", "fitted tables"


class Nearest(Codec):
    """Rounds to the nearest integer, whatever it costs."""

    def _worth(self, tenths: int) -> None:
        return None


def pictures(name: str, sources: list[Path], count: int) -> list[NDArray[np.uint8]]:
    photos = load_photos(sources)
    chosen = (
        photos.validation if name == "validation" else sorted(photos.train + photos.validation, key=lambda p: p.name)
    )
    return [cut(photo) for photo in decoded(chosen[:count], print)]


def measure(old: str, new: str, images: list[NDArray[np.uint8]]) -> dict[str, dict[str, object]]:
    codecs = {PLAIN: plain(old), TABLES: plain(new), "choice": load(old), "both": load(new)}
    seconds, points = dict.fromkeys(codecs, 0.0), {name: np.zeros((len(QUALITIES), 2)) for name in codecs}
    for image in images:
        for row, quality in enumerate(QUALITIES):
            psnr_db = 0.0
            for name, codec in codecs.items():
                start = time.perf_counter()
                coded = codec.encode(image, quality)
                seconds[name] += time.perf_counter() - start
                psnr_db = psnr_db if name == TABLES else coded.psnr_db  # tables alone change no symbol
                points[name][row] += coded.bpp / len(images), psnr_db / len(images)
    curves = {name: Curve.from_points(name, [(bpp, db) for bpp, db in rows]) for name, rows in points.items()}
    return {
        name: {
            "bd_rate_percent": bd_rate(curve, curves[PLAIN]).value,
            "encode_time_ratio": seconds[name] / seconds[PLAIN],
            "bpp": [round(bpp, 6) for bpp in curve.bpp],
            "psnr_db": [round(db, 4) for db in curve.psnr_db],
        }
        for name, curve in curves.items()
    }


def plain(tag: str) -> Codec:
    return Nearest(read_weights(find_weights(tag)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--data", action="append", required=True, metavar="NAME=PICTURES")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine.set_threads(1)
    sources: dict[str, list[Path]] = {}
    for given in options.data:
        name, _, path = given.partition("=")
        sources.setdefault(name, []).append(Path(path))
    found: dict[str, object] = {}
    for name, paths in sources.items():
        images = pictures(name, paths, options.pictures)
        found[name] = {"pictures": len(images), **measure(options.old, options.new, images)}
        print(name, json.dumps(found[name]), flush=True)
    record = {"old": options.old, "new": options.new, "qualities": QUALITIES, "machine": machine(), "pictures": found}
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
