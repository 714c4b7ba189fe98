"""How many hidden channels of light models ever pass a ReLU, layer by layer: those that never do are wasted.

    python benchmarks/alive.py MODEL... --data PICTURES [--pictures 8] [--json FILE]

PICTURES is a folder or an archive. Of each picture 512 by 512 pixels are coded and decoded at qualities 10, 50 and 95.
"""

import argparse
import json
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from rdcodec.codec.pipeline import Codec, load
from rdcodec.measure.machine import machine
from rdcodec.training.data import Photo, decoded, load_photos

SIDE, QUALITIES = 512, (10.0, 50.0, 95.0)


def alive(codec: Codec, photos: list[Photo]) -> dict[str, list[int]]:
    """Channels that were above 0 somewhere, and all channels, of every ReLU that ran."""
    seen: dict[str, Tensor] = {}

    def watch(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        found = (output > 0).amax((0, 2, 3))
        seen[name] = seen[name] | found if name in seen else found

    for name, module in codec.model.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(partial(watch, name))
    for photo in photos:
        for quality in QUALITIES:
            _ = codec.encode(photo.pixels[:SIDE, :SIDE], quality).reconstruction
    return {name: [int(found.sum()), len(found)] for name, found in seen.items()}


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
        record = {"pictures": len(chosen), "qualities": QUALITIES, "alive_of_all": layers, "machine": machine()}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
