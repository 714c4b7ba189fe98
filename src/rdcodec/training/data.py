"""Photographs in memory, and batches that are a pure function of (seed, step, index in the batch)."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rdcodec.errors import BadInput, UsageError
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.training.memory import explain_out_of_memory
from rdcodec.training.sources import File, open_sources

HOLD_OUT = 32  # one name in 32 is held out for validation
MIN_SIDE = 256
WINDOW = 32  # files read and not yet decoded

T = TypeVar("T")
R = TypeVar("R")


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
    file_name = Path(name).name.encode("utf-8", "surrogateescape")  # which a name that is no UTF-8 is read with
    return hashlib.sha256(file_name).digest()[0] % HOLD_OUT == 0


def load_photos(sources: Sequence[Path]) -> Photos:
    """Decode every picture of folders, zip files and tar files into memory.

    Those of a source come in the order of their names, whatever kind it is. Pictures with a side under MIN_SIDE are
    left out. Unreadable ones, and the damaged rest of an archive, are skipped and named in the result.
    Raises UsageError for a source that is not there, BadInput if nothing could be read.
    """
    photos = Photos([], [], [])
    with explain_out_of_memory("reading photographs", "give fewer sources with --data"), ThreadPoolExecutor() as pool:
        for files in open_sources(sources):
            found: list[Photo] = []
            for name, pixels in _in_window(pool, _decode, files):
                if pixels is None:
                    photos.unreadable.append(name)
                elif min(pixels.shape[:2]) >= MIN_SIDE:
                    found.append(Photo(name, pixels))
            for photo in sorted(found, key=lambda photo: Path(photo.name)):
                (photos.validation if is_held_out(photo.name) else photos.train).append(photo)
    if not photos.train:
        skipped = f" (unreadable: {first_few(photos.unreadable)})" if photos.unreadable else ""
        where = ", ".join(map(str, sources))
        raise BadInput(f"{where}: no readable picture of {MIN_SIDE} pixels or more a side{skipped}")
    return photos


def first_few(names: Sequence[str], most: int = 5) -> str:
    """A list for a message: 'a, b, c, d, e and 7 more'."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _in_window(pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """As pool.map, but an item is only taken when there are fewer than WINDOW under way: they may be large."""
    under_way: deque[Future[R]] = deque()
    for item in items:
        under_way.append(pool.submit(work, item))
        if len(under_way) == WINDOW:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _decode(file: File) -> tuple[str, NDArray[np.uint8] | None]:
    name, data = file
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return name, np.array(picture.convert("RGB"))
    except MemoryError:
        raise
    except Exception:  # Pillow's plugins raise anything on damaged files; the caller names what was skipped
        return name, None


class Batch(NamedTuple):
    """x (B, 3, S, S) float32 on the 0..255 scale; quality (B,); noise for y and z."""

    x: Tensor
    quality: Tensor
    noise: Noise

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        x, quality, y, z = (
            part.pin_memory().to(device, non_blocking=True)
            for part in (self.x, self.quality, self.noise.y, self.noise.z)
        )
        return Batch(x.contiguous(memory_format=torch.channels_last), quality, Noise(y, z))


@dataclass(frozen=True)
class BatchMaker:
    """Draws crops with flips, transposes and some down-scaling."""

    photos: Sequence[Photo]
    seed: int
    latent_channels: int
    hyper_channels: int
    stratified: bool = False
    down_scaled: float = 0.25

    def batch(self, step: int, size: int, indexes: Sequence[int], of: int) -> Batch:
        """The samples `indexes` of the global batch, `of` samples, of a step; crops of size x size, a multiple of 64.

        Stratified, the qualities of a global batch lie one in each of as many equal parts of the scale.
        """
        samples = [self._sample(step, size, index, of) for index in indexes]
        x, quality, noise_y, noise_z = (torch.stack(part) for part in zip(*samples, strict=True))
        return Batch(x.to(memory_format=torch.channels_last), quality, Noise(noise_y, noise_z))

    def _sample(self, step: int, size: int, index: int, of: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, step, index]))
        crop = self._crop(rng, size)
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < 0.5:
            crop = crop.flip(1)
        if rng.random() < 0.5:
            crop = crop.transpose(1, 2)
        part = (index + rng.random()) / of if self.stratified else rng.random()
        quality = torch.tensor(100 * part, dtype=torch.float32)
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
