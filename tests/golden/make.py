"""Make the golden models and files of format version 1 that FOLDER lacks: run once, committed for ever.

    python tests/golden/make.py FOLDER

Another machine or torch gives other floats, and so other files: what counts is that those in the repository decode
to the integers of golden.json. New models and their files may be added to them; none is ever changed.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import rdcodec
from rdcodec.codec import colour
from rdcodec.codec.container import SINGLE_RATE, Header, Section, pack, read_header, unpack
from rdcodec.codec.engine import Latents
from rdcodec.codec.picture import Picture
from rdcodec.codec.pipeline import Codec, load
from rdcodec.codec.sections import sections_of
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.export.weights import export
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import layers_of
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.records import parse_record
from rdcodec.models.transforms.kinds import LightTransform, Trunk
from rdcodec.models.weights import read_weights
from rdcodec.training.data import Photo
from rdcodec.training.start import start_model

TRUNK = Trunk(width=8, blocks=1)
TRANSFORM = LightTransform(kind="light", stride8=TRUNK, stride16=TRUNK)
CONFIG = ModelConfig(
    name="Golden",
    summary="for golden files: a transform codec with a lively entropy model",
    latent_channels=24,
    analysis=TRANSFORM,
    synthesis=TRANSFORM,
    entropy=CheckerboardEntropy(kind="checkerboard", hyper_channels=6, features=8, hidden=12),
)

# Of pixels on integers: widths as a release makes them, as many channels as a depthwise layer has taps among them.
UNEVEN = LightTransform(
    kind="light",
    stride8=Trunk(width=8, blocks=2, mixed=(9, 5), hidden=(12, 0)),
    stride16=Trunk(width=9, blocks=2, mixed=(1, 9), hidden=(0, 7)),
)

# Of the paper's kinds, one each: one rate, hyper-transforms of convolutions with LeakyReLU, and of Swin blocks.
GDN = {"kind": "conv", "channels": (4, 4, 4), "norm": "gdn"}
LEAKY = {"kind": "conv", "strides": (2, 2, 1), "kernels": (5, 5, 3), "activation": "leaky_relu"}
SWIN = {"kind": "swin", "window": 3, "head_channels": 4}
HYPERPRIOR = {
    "kind": "hyperprior",
    "hyper_analysis": LEAKY | {"channels": (10, 8, 6), "strides": (1, 2, 2), "kernels": (3, 5, 5)},
    "hyper_synthesis": LEAKY | {"channels": (8, 12, 32)},
    "filters": (3, 3),
}
CHARM = {
    "kind": "charm",
    "hyper_analysis": SWIN | {"widths": (12, 8), "depths": (1, 1)},
    "hyper_synthesis": SWIN | {"widths": (8, 12), "depths": (2, 2), "outputs": 20},
    "filters": (3, 3),
    "slices": (3, 5, 8),
    "reduction": {"kernel": 3, "channels": 5},
    "widths": (8, 6),
    "kernels": (3, 3, 3),
    "merge_kernel": 1,
}


def single_rate(name: str, entropy: dict[str, object]) -> ModelConfig:
    """A tiny model of one rate with that entropy model."""
    data = {"name": name, "summary": "for golden files: a lively entropy model", "latent_channels": 16, "lmbda": 0.01}
    return parse_record(ModelConfig, data | {"analysis": GDN, "synthesis": GDN, "entropy": entropy}, name)


def make_checkerboard(photo: Photo, config: ModelConfig = CONFIG) -> ImageModel:
    """Entropy networks with scales from the smallest to the largest and means off the grid, so that all is used."""
    torch.manual_seed(1)
    model = ImageModel(config)
    start_model(model, [photo], seed=1, patches=20_000)
    entropy = model.entropy
    with torch.no_grad():
        entropy.factorized_prior.log_scale.values.uniform_(math.log(0.1), 2)
        entropy.hyper_shift.values.normal_()
        for network in map(entropy.part, ("first", *(name for _, name in entropy.later))):
            network[-1].weight.mul_(15)
            network[-1].bias.normal_(std=0.5)
    return model.eval().requires_grad_(False)


def make_pixels(photo: Photo) -> ImageModel:
    """As `make_checkerboard`, its synthesis far from the transform that it starts as."""
    changes = {"name": "Golden-pixels", "analysis": UNEVEN, "synthesis": UNEVEN}
    return with_far_synthesis(make_checkerboard(photo, CONFIG.model_copy(update=changes)))


def make_three(photo: Photo) -> ImageModel:
    """As `make_pixels`, with three passes, between whose layers are other numbers of channels."""
    entropy = CONFIG.entropy.model_copy(update={"passes": 3, "hidden_each": (5, 9, 12, 12, 7)})
    changes = {"name": "Golden-three", "analysis": UNEVEN, "synthesis": UNEVEN, "entropy": entropy}
    return with_far_synthesis(make_checkerboard(photo, CONFIG.model_copy(update=changes)))


def with_far_synthesis(model: ImageModel) -> ImageModel:
    """A light model whose synthesis is far from the transform that it starts as."""
    model.synthesis.tint.values.uniform_(-0.5, 0.5)
    for layer in layers_of(model.synthesis.trunk):
        layer.reset_parameters()
    model.synthesis.trunk[-2].weight.mul_(0.3)
    return model


def make_lively(config: ModelConfig) -> ImageModel:
    """As `make_checkerboard`, from random weights: also those that start at zero, the biases, of attention too.

    What merges the slices of CHARM is far from the sum that it starts as.
    """
    torch.manual_seed(1)
    model = ImageModel(config)
    entropy, m = model.entropy, config.latent_channels
    levels = torch.linspace(-4.5, 4.5, m)
    with torch.no_grad():
        layers_of(model.analysis)[-1].weight.mul_(3)
        for name, parameter in entropy.hyper_synthesis.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.5)
        if config.entropy.kind == "hyperprior":
            last = layers_of(entropy.hyper_synthesis)[-1]
            last.weight.mul_(4)
            shuffled = len(last.bias) // (2 * m)  # outputs of a layer that stand for one channel
            last.bias[m * shuffled :] = levels.repeat_interleave(shuffled)
            return model.eval().requires_grad_(False)
        for networks, level in zip(entropy.networks, levels.split(config.entropy.slices), strict=True):
            networks.mean[-1].weight.mul_(8)
            networks.scale[-1].weight.mul_(8)
            networks.scale[-1].bias.add_(level)
            networks.lrp[-1].weight.mul_(10)
            if networks.merge is not None:
                networks.merge.weight.add_(0.05 * torch.randn_like(networks.merge.weight))
                networks.merge.bias.normal_(std=0.1)
    return model.eval().requires_grad_(False)


RELEASED = (  # of each a file
    *("I.1", "H.2", "I.3", "J.2", "H.3", "I.4", "J.3"),
    *("H.4", "I.5", "J.4", "H.5", "I.6", "J.5", "H.6", "I.7", "J.6"),
)
MODELS: dict[str, Callable[[Photo], ImageModel]] = {
    "Golden.1": make_checkerboard,
    "Golden-pixels.1": make_pixels,
    "Golden-three.1": make_three,
    "Golden-hyperprior.1": lambda _: make_lively(single_rate("Golden-hyperprior", HYPERPRIOR)),
    "Golden-charm.1": lambda _: make_lively(single_rate("Golden-charm", CHARM)),
}


def pictures(photo: NDArray[np.uint8]) -> dict[str, tuple[NDArray[np.uint8], float]]:
    """Pictures of the checkerboard model and their quality, by name of the file."""
    rng = np.random.default_rng(1)
    noise = np.where(rng.integers(0, 2, (48, 80, 1)) > 0, 255, 0).astype(np.uint8).repeat(3, 2)
    return {
        "one-pixel": (photo[100:101, 200:201], 50),
        "small": (photo[100:117, 200:215], 33.3),
        "square": (photo[96:160, 200:264], 50),
        "odd": (photo[96:166, 180:310], 64.1),
        "lowest": (photo[96:166, 180:310], 0),
        "highest": (photo[96:166, 180:310], 100),
        "noise": (noise, 100),
        "flat": (np.full((40, 200, 3), 255, np.uint8), 20),
    }


def few_pictures(kind: str, photo: NDArray[np.uint8]) -> dict[str, tuple[NDArray[np.uint8], None]]:
    """Pictures of a model of one rate, by name of the file."""
    parts = {"one-pixel": photo[100:101, 200:201], "odd": photo[96:166, 180:310], "tall": photo[40:237, 190:265]}
    return {f"{kind}-{name}": (part, None) for name, part in parts.items()}


def pixel_pictures(kind: str, photo: NDArray[np.uint8]) -> dict[str, tuple[NDArray[np.uint8], float]]:
    """Pictures of a model whose pixels are integers, and their quality, by name of the file."""
    sides = {"one-pixel": (1, 1, 50), "odd": (70, 130, 64.1), "lowest": (37, 50, 0), "highest": (50, 37, 100)}
    return {f"{kind}-{name}": (photo[96 : 96 + h, 180 : 180 + w], q) for name, (h, w, q) in sides.items()}


def encode_latents(codec: Codec, y: Latents, z: Latents, like: Header) -> tuple[bytes, NDArray[np.int32], Latents]:
    """File, symbols and y_hat of latents in quantised units, y (h, w, M) and z (h/4, w/4, N); no analysis."""
    coded = codec.engine.encode(y, np.ones(y.shape[2], np.float32), z, like.quality)
    data = pack(replace(like, symbols_crc=coded.crc), coded.stream)
    return data, np.concatenate(coded.symbols), codec.decode_latents(*unpack(data))


def extremes(codec: Codec, like: Header) -> tuple[bytes, NDArray[np.int32], Latents]:
    """The largest symbols that a file can hold, of 40 x 100 pixels: no picture has them."""
    rng = np.random.default_rng(2)
    height, width = (-(-side // codec.model.multiple) * codec.model.multiple for side in (40, 100))
    of_y, of_z = codec.model.latent_shapes(height, width)
    y = rng.choice([-40000.0, -600, 0, 3, 40000], of_y).astype(np.float32)
    z = rng.choice([-40000.0, -128, 0, 127, 40000], of_z).astype(np.float32)
    quality = SINGLE_RATE if codec.single_rate else 777
    first_channels_last = (np.ascontiguousarray(part.transpose(1, 2, 0)) for part in (y, z))
    return encode_latents(codec, *first_channels_last, replace(like, width=100, height=40, quality=quality))


def sums(symbols: NDArray[np.int32], y_hat: Latents) -> dict[str, str]:
    """SHA-256 of the symbols (int16) and of y_hat (rows, columns, channels; int32 steps of 1/64), little-endian."""
    parts = {"symbols": symbols.astype("<i2"), "y_hat": (y_hat * MEAN_ONE).astype("<i4")}
    return {name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in parts.items()}


def made_of(data: bytes) -> dict[str, bytes]:
    """A file without sections with those that this version knows, by name: all optional ones, and with transparency."""
    header, stream = unpack(data)
    alpha = np.arange(header.height * header.width, dtype=np.int64).reshape(header.height, header.width) ** 2 % 256
    samples = np.zeros((header.height, header.width, 3), np.uint8)
    exif = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0rdc\0\0\0\0\0"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    plain = Picture(samples, None, True, colour.of_code_points(12, 13), exif, xmp)
    pictures = {"metadata": plain, "alpha": replace(plain, grey=False, alpha=alpha.astype(np.uint8))}
    return {name: pack(replace(header, sections=sections_of(picture)), stream) for name, picture in pictures.items()}


def main() -> None:
    folder = Path(sys.argv[1])
    with Image.open(Path(rdcodec.__file__).parent / "data" / "astronaut.png") as picture:
        photo = np.array(picture.convert("RGB"))
    record = folder / "golden.json"
    found = json.loads(record.read_text()) if record.exists() else {}

    def keep(codec: Codec, name: str, data: bytes, symbols: NDArray[np.int32], y_hat: Latents) -> None:
        with (folder / f"{name}.rdc").open("xb") as file:  # never one that is there already
            file.write(data)
        found[name] = {"tag": read_header(data).header.tag, "bytes": len(data), **sums(symbols, y_hat)}
        if codec._weights.pixels:
            found[name]["pixels"] = hashlib.sha256(codec.decompress(data).tobytes()).hexdigest()

    for tag, make_model in MODELS.items():
        weights = folder / f"{tag}.safetensors"
        if weights.exists():
            continue
        export(make_model(Photo("astronaut", photo)), weights, [photo[:256, :256]], tag)
        codec = Codec(read_weights(weights), torch.device("cpu"))
        kind = tag.removesuffix(".1").removeprefix("Golden").removeprefix("-")
        start = f"{kind}-" if kind else ""
        few = few_pictures if codec.single_rate else pixel_pictures
        chosen = few(kind, photo) if kind else pictures(photo)
        for name, (image, quality) in chosen.items():
            coded = codec.encode(image, quality)
            keep(codec, name, coded.data, np.concatenate(coded.symbols), coded.y_hat)
        header, stream = unpack(coded.data)
        keep(codec, f"{start}extremes", *extremes(codec, header))
        if not start:
            sections = (Section(1, b"of a later version"), Section(127, b""))
            data = pack(replace(header, sections=sections), stream)
            keep(codec, "sections", data, np.concatenate(coded.symbols), coded.y_hat)
    for name, data in made_of((folder / "small.rdc").read_bytes()).items():
        if name not in found:
            with (folder / f"{name}.rdc").open("xb") as file:
                file.write(data)
            found[name] = {**found["small"], "bytes": len(data)}
            for section in read_header(data).header.sections:
                found[name][f"section {section.id}"] = hashlib.sha256(section.payload).hexdigest()
    for tag in RELEASED:
        if f"released-{tag}" not in found:
            codec = load(tag)
            coded = codec.encode(photo[60:220, 140:320], 50)
            keep(codec, f"released-{tag}", coded.data, np.concatenate(coded.symbols), coded.y_hat)
    record.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
