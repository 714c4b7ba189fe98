"""What integers cost: coded bits against the float model's rate, and time of the entropy networks against float32.

    python benchmarks/integer_price.py --data FOLDER [--model I] [--pictures 24] [--repeats 5] [--json FILE]

Rate: the stream of a file, without its container, against the estimate of the float model for the same latents, and
against the stream that the float networks give with the same tables and coder; means over pictures. The second leaves
nothing but the integers; in the first, tables, positions that are skipped and the coder have their part too. Time, for
768 x 512 pixels, in turns within one run: with a light model, the decoder's entropy networks of H, I and J on zeros,
with random weights, which take as long; with a CHARM model, its whole way through the slices, but for the coder.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from float_networks import float_networks
from torch import Tensor

from rdcodec.codec.container import unpack
from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import Codec, load
from rdcodec.exact.arithmetic import exact_arithmetic
from rdcodec.export.checkerboard import quantise_checkerboard
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel
from rdcodec.models.config import CONFIGS, load_config
from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.integer import IntegerCheckerboard

HEIGHT, WIDTH = 512, 768
LIGHT = ("H", "I", "J")


def prices(codec: Codec, images: list[np.ndarray], quality: float | None) -> dict[str, float]:
    """Means over the pictures of coded bits over those of the float model, less 1: estimated, and really coded."""
    integers, floats = codec.torch.entropy, float_networks(codec.model.entropy)
    found: dict[str, list[float]] = {"over_estimate": [], "over_float_coded": []}
    for image in images:
        analysed = codec.analyse(image)
        coded = codec.code(analysed, quality)
        bits = stream_bits(coded.data)
        found["over_estimate"].append(bits / coded.estimate_bits - 1)
        codec.torch.entropy = floats
        found["over_float_coded"].append(bits / stream_bits(codec.code(analysed, quality).data) - 1)
        codec.torch.entropy = integers
    return {kind: statistics.mean(values) for kind, values in found.items()}


def stream_bits(data: bytes) -> int:
    """Of a file without its container."""
    return 8 * len(unpack(data)[1])


@torch.inference_mode()
def times_ms(name: str, repeats: int) -> dict[str, float]:
    """Medians of the entropy networks of a model, as integers and in float32, one after the other in turns."""
    torch.manual_seed(0)
    model = ImageModel(load_config(CONFIGS / f"{name}.toml")).eval()
    m, n = model.config.latent_channels, model.entropy.hyper_channels
    arrays = quantise_checkerboard(model.entropy, [(torch.randn(1, m, 16, 16) * 4, 50.0)])
    entropy = IntegerCheckerboard(model.config.entropy, m, arrays)
    model.entropy.to(memory_format=torch.channels_last)
    z = torch.zeros(1, n, HEIGHT // 64, WIDTH // 64).contiguous(memory_format=torch.channels_last)
    y = torch.zeros(1, m, HEIGHT // 16, WIDTH // 16).contiguous(memory_format=torch.channels_last)

    def networks(chains: dict[str, Callable[[Tensor], Tensor]]) -> None:
        features = chains["hyper_synthesis"](z)
        chains["first"](features)
        for context, network in model.config.entropy.later():
            chains[network](torch.cat([features, chains[context](y)], 1))

    floats = {chain: getattr(model.entropy, chain) for chain in entropy.chains}
    return in_turns({"integers": lambda: networks(entropy.chains), "float32": lambda: networks(floats)}, repeats)


@torch.inference_mode()
def walk_times_ms(codec: Codec, repeats: int) -> dict[str, float]:
    """As `times_ms`, of all that a decoder does to know y but reading symbols."""
    floats = float_networks(codec.model.entropy)
    rows, columns = HEIGHT // 16, WIDTH // 16
    both = {"integers": codec.torch.entropy, "float32": floats}
    return in_turns({kind: partial(form.code, rows, columns, 0, Zeros()) for kind, form in both.items()}, repeats)


class Zeros:
    """A coder of nothing but zeros."""

    def z(self, indexes: Tensor) -> Tensor:
        """indexes -> symbols."""
        return torch.zeros(indexes.shape)

    def y(self, part: object, mean: Tensor, indexes: Tensor) -> Tensor:
        """indexes -> symbols."""
        return torch.zeros(indexes.shape)


def in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median times of calls that run one after the other, again and again, in ms."""
    spent: dict[str, list[float]] = {kind: [] for kind in calls}
    with exact_arithmetic(torch.device("cpu")):
        for turn in range(repeats + 2):
            for kind, call in calls.items():
                begin = time.perf_counter()
                call()
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
    codec = load(arguments.model, engine="torch")
    about = {"model": codec.info.tag, "pictures": len(images), "machine": machine()}
    rates, times = {}, {}
    print(f"{codec.info.tag}: coded bits against the float model's, mean over {len(images)} pictures")
    print("            estimated       coded")
    for quality in [None] if codec.single_rate else arguments.quality:
        name = "one rate" if quality is None else f"{quality:g}"
        rates[name] = found = prices(codec, images, quality)
        print(f"  q {name:8s}{found['over_estimate']:+9.2%}{found['over_float_coded']:+12.2%}", flush=True)
    print(f"\nentropy networks, {WIDTH}x{HEIGHT}, {torch.get_num_threads()} threads, ms")
    for name in [codec.info.tag] if isinstance(codec.model.entropy, CharmModel) else LIGHT:
        repeats = arguments.repeats
        times[name] = spent = walk_times_ms(codec, repeats) if name == codec.info.tag else times_ms(name, repeats)
        both = "".join(f"   {kind} {value:7.1f}" for kind, value in spent.items())
        print(f"  {name}{both}   {spent['integers'] / spent['float32']:.2f} x", flush=True)
    if arguments.json:
        record = {**about, "coded_less_1": rates, "entropy_networks_ms": times}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
