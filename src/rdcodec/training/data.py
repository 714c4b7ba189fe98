"""Photographs in memory, and batches that are a pure function of (seed, step, index in the batch)."""

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rdcodec.errors import BadInput, UsageError
from rdcodec.models.entropy.checkerboard import Noise

SUFFIXES = {".avif", ".png", ".jpg", ".jpeg", ".webp", ".ppm", ".tif", ".tiff"}
HOLD_OUT = 32  # one name in 32 is held out for validation
MIN_SIDE = 256


class Photo(NamedTuple):
    """A picture in memory: uint8 (height, width, 3)."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Photos:
    """The training photographs, the validation slice, and the names of what could not be read."""

    train: list[Photo]
    validation: list[Photo]
    unreadable: list[str]

    @property
    def megapixels(self) -> float:
        """Size of the training part."""
        return sum(photo.pixels.size for photo in self.train) / 3e6


def is_held_out(name: str) -> bool:
    """Whether a photograph belongs to the validation slice: decided by a hash of its file name alone."""
    return hashlib.sha256(Path(name).name.encode()).digest()[0] % HOLD_OUT == 0


def load_photos(sources: Sequence[Path]) -> Photos:
    """Decode every picture of zip files and folders into memory.

    Pictures with a side under MIN_SIDE are left out. Unreadable ones are skipped and named in the result.
    Raises UsageError for a source that is not there, BadInput if nothing could be read.
    """
    train: list[Photo] = []
    validation: list[Photo] = []
    unreadable: list[str] = []
    with ThreadPoolExecutor() as pool:
        for name, pixels in pool.map(_decode, _files(sources)):
            if pixels is None:
                unreadable.append(name)
            elif min(pixels.shape[:2]) >= MIN_SIDE:
                (validation if is_held_out(name) else train).append(Photo(name, pixels))
    if not train:
        raise BadInput(f"{', '.join(map(str, sources))}: no readable picture of {MIN_SIDE} pixels or more a side")
    return Photos(train, validation, unreadable)


def _files(sources: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for source in sources:
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    yield str(path.relative_to(source)), _content(path.read_bytes)
        elif zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if Path(name).suffix.lower() in SUFFIXES:
                        yield name, _content(partial(archive.read, name))
        else:
            raise UsageError(f"{source}: neither a folder nor a zip file of pictures")


def _content(read: Callable[[], bytes]) -> bytes:
    """Nothing, which is no picture, where it cannot be read: a folder with such a name, a damaged or locked entry."""
    try:
        return read()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError):
        return b""


def _decode(file: tuple[str, bytes]) -> tuple[str, NDArray[np.uint8] | None]:
    name, data = file
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return name, np.array(picture.convert("RGB"))
    except Exception:  # Pillow's plugins raise anything on damaged files; the caller names what was skipped
        return name, None


class Batch(NamedTuple):
    """x (B, 3, S, S) float32 on the 0..255 scale; quality (B,); noise for y and z."""

    x: Tensor
    quality: Tensor
    noise: Noise

    def to(self, device: torch.device) -> "Batch":
        noise = Noise(self.noise.y.to(device), self.noise.z.to(device))
        return Batch(self.x.to(device), self.quality.to(device), noise)


@dataclass(frozen=True)
class BatchMaker:
    """Draws crops with flips, transposes and some down-scaling."""

    photos: Sequence[Photo]
    seed: int
    latent_channels: int
    hyper_channels: int
    down_scaled: float = 0.25

    def batch(self, step: int, size: int, indexes: Sequence[int]) -> Batch:
        """The samples `indexes` of the global batch of a step, crops of size x size pixels (multiple of 64)."""
        samples = [self._sample(step, size, index) for index in indexes]
        x, quality, noise_y, noise_z = (torch.stack(part) for part in zip(*samples, strict=True))
        return Batch(x.to(memory_format=torch.channels_last), quality, Noise(noise_y, noise_z))

    def _sample(self, step: int, size: int, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, step, index]))
        crop = self._crop(rng, size)
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < 0.5:
            crop = crop.flip(1)
        if rng.random() < 0.5:
            crop = crop.transpose(1, 2)
        quality = torch.tensor(rng.uniform(0, 100), dtype=torch.float32)
        side = size // 16
        noise_y = rng.random((self.latent_channels, side, side), dtype=np.float32) - np.float32(0.5)
        noise_z = rng.random((self.hyper_channels, side // 4, side // 4), dtype=np.float32) - np.float32(0.5)
        return crop, quality, torch.from_numpy(noise_y), torch.from_numpy(noise_z)

    def _crop(self, rng: np.random.Generator, size: int) -> Tensor:
        photo = self._draw(rng, size)
        height, width = photo.shape[:2]
        scale = rng.uniform(1, 2) if rng.random() < self.down_scaled else 1.0
        side = min(round(size * scale), height, width)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        window = np.ascontiguousarray(photo[top : top + side, left : left + side])
        crop = torch.from_numpy(window).permute(2, 0, 1).float()
        if side == size:
            return crop
        return F.interpolate(crop[None], (size, size), mode="bilinear", antialias=True)[0]

    def _draw(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        for _ in range(1000):
            pixels = self.photos[int(rng.integers(len(self.photos)))].pixels
            if min(pixels.shape[:2]) >= size:
                return pixels
        raise UsageError(f"no photograph has {size} pixels a side: lower the crop size")
