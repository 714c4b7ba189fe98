"""Make the golden model and files of format version 1: run once, committed for ever.

    python tests/golden/make.py FOLDER

Another machine or torch gives other floats, and so other files: what counts is that those in the repository decode
to the integers of golden.json. New files may be added to them; none is ever changed.
"""

import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import rdcodec
from rdcodec.codec import rans
from rdcodec.codec.container import Header, Section, pack, read_header, unpack
from rdcodec.codec.crc import crc32c
from rdcodec.codec.pipeline import Codec, _Encoder, load
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.models.base import ImageModel
from rdcodec.models.config import CheckerboardEntropy, LightTransform, ModelConfig, Trunk
from rdcodec.models.weights import read_weights
from rdcodec.training.data import Photo
from rdcodec.training.export import export
from rdcodec.training.start import start_model

TAG = "Golden.1"
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


def make_model(photo: Photo) -> ImageModel:
    """Entropy networks with scales from the smallest to the largest and means off the grid, so that all is used."""
    torch.manual_seed(1)
    model = ImageModel(CONFIG)
    start_model(model, [photo], seed=1, patches=20_000)
    entropy = model.entropy
    with torch.no_grad():
        entropy.factorized_prior.log_scale.values.uniform_(math.log(0.1), 2)
        entropy.hyper_shift.values.normal_()
        for network in (entropy.first, entropy.second):
            network[-1].weight.mul_(15)
            network[-1].bias.normal_(std=0.5)
    return model.eval().requires_grad_(False)


def pictures(photo: NDArray[np.uint8]) -> dict[str, tuple[NDArray[np.uint8], float]]:
    """Pictures and their quality, by name of the file."""
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


def encode_latents(codec: Codec, y: Tensor, z: Tensor, like: Header) -> tuple[bytes, NDArray[np.int32], Tensor]:
    """File, symbols and y_hat of latents in quantised units, y (1, M, h, w) and z (1, N, h/4, w/4); no analysis."""
    encoder = _Encoder(y, z, codec.tables.skip_below)
    y_hat = codec.entropy.code(y.shape[2], y.shape[3], like.quality, encoder)
    symbols = np.concatenate(encoder.symbols)
    stream = rans.encode(symbols, np.concatenate(encoder.indexes), codec.tables)
    return pack(replace(like, symbols_crc=crc32c(symbols.astype("<i2"))), stream), symbols, y_hat


def extremes(codec: Codec, like: Header) -> tuple[bytes, NDArray[np.int32], Tensor]:
    """The largest symbols that a file can hold, of 40 x 100 pixels: no picture has them."""
    rng = np.random.default_rng(2)
    y = torch.from_numpy(rng.choice([-40000.0, -600, 0, 3, 40000], (1, CONFIG.latent_channels, 3, 7))).float()
    z = torch.from_numpy(rng.choice([-40000.0, -128, 0, 127, 40000], (1, 6, 1, 2))).float()
    return encode_latents(codec, y, z, replace(like, width=100, height=40, quality=777))


def sums(symbols: NDArray[np.int32], y_hat: Tensor) -> dict[str, str]:
    """SHA-256 of the symbols (int16) and of y_hat (rows, columns, channels; int32 steps of 1/64), little-endian."""
    steps = (y_hat[0].permute(1, 2, 0) * MEAN_ONE).to(torch.int32).contiguous().numpy()
    parts = {"symbols": symbols.astype("<i2"), "y_hat": steps.astype("<i4")}
    return {name: hashlib.sha256(part.tobytes()).hexdigest() for name, part in parts.items()}


def main() -> None:
    folder = Path(sys.argv[1])
    with Image.open(Path(rdcodec.__file__).parent / "data" / "astronaut.png") as picture:
        photo = np.array(picture.convert("RGB"))
    weights = folder / f"{TAG}.safetensors"
    export(make_model(Photo("astronaut", photo)), weights, [Photo("astronaut", photo[:256, :256])], TAG)
    codec = Codec(read_weights(weights), torch.device("cpu"))
    found = {}

    def keep(name: str, data: bytes, symbols: NDArray[np.int32], y_hat: Tensor) -> None:
        with (folder / f"{name}.rdc").open("xb") as file:  # never one that is there already
            file.write(data)
        found[name] = {"tag": read_header(data).header.tag, "bytes": len(data), **sums(symbols, y_hat)}

    for name, (image, quality) in pictures(photo).items():
        coded = codec.encode(image, quality)
        keep(name, coded.data, np.concatenate(coded.symbols), coded.y_hat)
    header, stream = unpack(coded.data)
    keep("extremes", *extremes(codec, header))
    sections = (Section(1, b"of a later version"), Section(127, b""))
    keep("sections", pack(replace(header, sections=sections), stream), np.concatenate(coded.symbols), coded.y_hat)
    coded = load("I.1").encode(photo[60:220, 140:320], 50)
    keep("released-I.1", coded.data, np.concatenate(coded.symbols), coded.y_hat)
    (folder / "golden.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
