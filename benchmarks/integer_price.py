"""What integers cost: coded bits against the float model's rate, and time of the entropy networks against float32.

    python benchmarks/integer_price.py --data FOLDER [--model I] [--pictures 24] [--repeats 5] [--json FILE]

Rate: the stream of a file, without its container, against the estimate of the float model for the same latents, mean
over pictures. Time: the decoder's entropy networks of H, I and J for 768 x 512 pixels on zeros, in turns within one
run; their weights are random, which takes as long.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rdcodec.codec.container import unpack
from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import Codec, load
from rdcodec.exact.layers import exact_arithmetic
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel
from rdcodec.models.config import CONFIGS, load_config
from rdcodec.models.entropy.integer import IntegerCheckerboard, quantise

HEIGHT, WIDTH = 512, 768
LIGHT = ("H", "I", "J")


def price(codec: Codec, images: list[np.ndarray], quality: float) -> float:
    """Mean over the pictures of coded bits over estimated ones, less 1."""
    found = []
    for image in images:
        coded = codec.encode(image, quality)
        found.append(8 * len(unpack(coded.data)[1]) / coded.estimate_bits - 1)
    return statistics.mean(found)


@torch.inference_mode()
def times_ms(name: str, repeats: int) -> dict[str, float]:
    """Medians of the entropy networks of a model, as integers and in float32, one after the other in turns."""
    torch.manual_seed(0)
    model = ImageModel(load_config(CONFIGS / f"{name}.toml")).eval()
    m, n = model.config.latent_channels, model.entropy.hyper_channels
    entropy = IntegerCheckerboard(model.entropy, quantise(model.entropy, [(torch.randn(1, m, 16, 16) * 4, 50.0)]))
    model.entropy.to(memory_format=torch.channels_last)
    z = torch.zeros(1, n, HEIGHT // 64, WIDTH // 64).contiguous(memory_format=torch.channels_last)
    y = torch.zeros(1, m, HEIGHT // 16, WIDTH // 16).contiguous(memory_format=torch.channels_last)

    def networks(chains: dict[str, Callable[[torch.Tensor], torch.Tensor]]) -> None:
        features = chains["hyper_synthesis"](z)
        chains["first"](features)
        chains["second"](torch.cat([features, chains["context"](y)], 1))

    floats = {chain: getattr(model.entropy, chain) for chain in entropy.chains}
    spent: dict[str, list[float]] = {"integers": [], "float32": []}
    with exact_arithmetic(torch.device("cpu")):
        for turn in range(repeats + 2):
            for kind, chains in (("integers", entropy.chains), ("float32", floats)):
                begin = time.perf_counter()
                networks(chains)
                if turn >= 2:
                    spent[kind].append(1e3 * (time.perf_counter() - begin))
    return {kind: round(statistics.median(values), 2) for kind, values in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--model", default="I")
    parser.add_argument("--pictures", type=int, help="how many, from the first in the order of names")
    parser.add_argument("--quality", type=float, nargs="*", default=[10, 25, 40, 55, 70, 85])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.data.iterdir() if path.suffix in (".png", ".webp"))
    images = [read_image(path) for path in paths[: arguments.pictures]]
    codec = load(arguments.model)
    rates, times = {}, {}
    print(f"{codec.info.tag}: coded bits against the float model's, mean over {len(images)} pictures")
    for quality in arguments.quality:
        rates[f"{quality:g}"] = price(codec, images, quality)
        print(f"  q {quality:<5g}{rates[f'{quality:g}']:+8.2%}", flush=True)
    print(f"\nentropy networks, {WIDTH}x{HEIGHT}, {torch.get_num_threads()} threads, ms")
    for name in LIGHT:
        times[name] = spent = times_ms(name, arguments.repeats)
        both = "".join(f"   {kind} {value:7.1f}" for kind, value in spent.items())
        print(f"  {name}{both}   {spent['integers'] / spent['float32']:.2f} x", flush=True)
    if arguments.json:
        about = {"model": codec.info.tag, "pictures": len(images), "machine": machine()}
        record = {**about, "coded_over_estimate_less_1": rates, "entropy_networks_ms": times}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
