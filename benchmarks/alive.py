"""How many hidden channels of light models ever pass a ReLU, layer by layer: those that never do are wasted.

    python benchmarks/alive.py MODEL... --data PICTURES [--pictures 8] [--json FILE]

PICTURES is a folder or an archive. Of each picture 512 by 512 pixels are coded and decoded at qualities 5, 50 and 95.
"""

import argparse
import json
from pathlib import Path

from rdcodec.codec.pipeline import Codec, load
from rdcodec.export.channels import busy_shares
from rdcodec.export.weights import CALIBRATION_QUALITIES
from rdcodec.measure.machine import machine
from rdcodec.training.data import Photo, decoded, load_photos

SIDE = 512


def alive(codec: Codec, photos: list[Photo]) -> dict[str, list[int]]:
    """Channels that were above 0 somewhere, and all channels, of every ReLU."""
    shares = busy_shares(codec.model, [photo.pixels[:SIDE, :SIDE] for photo in photos])
    return {name: [int((share > 0).sum()), len(share)] for name, share in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    photos = load_photos([options.data])
    chosen = decoded((photos.validation + photos.train)[: options.pictures], print)
    layers = {}
    for codec in (load(model, engine="torch") for model in options.models):
        layers[codec.info.tag] = alive(codec, chosen)
        for name, (count, of) in layers[codec.info.tag].items():
            print(f"{codec.info.tag}  {name:36}  {count:4} of {of}")
    if options.json:
        record = {
            "pictures": len(chosen),
            "qualities": CALIBRATION_QUALITIES,
            "alive_of_all": layers,
            "machine": machine(),
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
