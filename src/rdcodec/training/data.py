"""Photographs in memory, and batches that are a pure function of (seed, step, index in the batch)."""

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.machine import machine
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.sizes import HYPER_STRIDE, STRIDE
from rdcodec.training.memory import explain_out_of_memory
from rdcodec.training.sources import open_sources

HOLD_OUT = 32  # one name in 32 is held out for validation
MIN_SIDE = 256
KEPT_SHARE = 0.5  # of the machine's memory, for decoded photographs; beyond it they are decoded anew each time
CARD_SHARE = 0.25  # of a GPU's free memory, for photographs; a step's activations want the rest
TELL_SECONDS = 10.0


class Photo(NamedTuple):
    """A picture in memory: uint8 (height, width, 3)."""

    name: str
    pixels: NDArray[np.uint8]

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def side(self) -> int:
        """The shorter one, in pixels."""
        return int(min(self.pixels.shape[:2]))


class Room:
    """Bytes of decoded pictures that may yet be kept; threads may share it."""

    def __init__(self, size: float) -> None:
        self._left = size
        self._lock = Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            fits = size <= self._left
            self._left -= size * fits
            return fits


class CodedPhoto:
    """A picture file in memory, decoded when its pixels are asked for, and kept so where there is room.

    Its size is known without. Threads may share it. Raises what Pillow does for data that are no picture.
    """

    def __init__(self, name: str, data: bytes, room: Room) -> None:
        with Image.open(io.BytesIO(data)) as picture:
            self.width, self.height = picture.size
        self.name = name
        self._data, self._room = data, room
        self._pixels: NDArray[np.uint8] | None = None

    @property
    def side(self) -> int:
        """The shorter one, in pixels."""
        return min(self.height, self.width)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 (height, width, 3); BadInput if the file is damaged."""
        data = self._data  # before the pixels: another thread may drop it once these are there
        if self._pixels is not None:
            return self._pixels
        pixels = _decode(self.name, data)
        if self._room.take(pixels.nbytes):
            self._pixels = pixels
            self._data = b""
        return pixels


class CardPhoto:
    """A photograph that lies on a GPU from its first use on. Threads may share it."""

    def __init__(self, photo: "Photo | CodedPhoto", device: torch.device) -> None:
        self.side = photo.side
        self._photo, self._device = photo, device
        self._pixels: Tensor | None = None

    @property
    def pixels(self) -> Tensor:
        """uint8 (height, width, 3); BadInput if the file is damaged."""
        if self._pixels is None:
            self._pixels = torch.from_numpy(self._photo.pixels).to(self._device)
        return self._pixels


AnyPhoto = Photo | CodedPhoto


@dataclass(frozen=True)
class Photos:
    """The training photographs, the validation slice, and the names of what could not be read."""

    train: list[CodedPhoto]
    validation: list[CodedPhoto]
    unreadable: list[str]

    @property
    def megapixels(self) -> float:
        """Size of the training part."""
        return sum(photo.height * photo.width for photo in self.train) / 1e6


def held(photos: Photos, device: torch.device) -> Sequence[AnyPhoto | CardPhoto]:
    """The training photographs as batches are to be made of them: on the GPU where all fit beside the network."""
    if not fits_on_card(device, 3e6 * photos.megapixels):
        return photos.train
    return [CardPhoto(photo, device) for photo in photos.train]


def fits_on_card(device: torch.device, size: float) -> bool:
    """Whether so many bytes may lie on a GPU for good, beside a network that trains."""
    return device.type == "cuda" and size <= CARD_SHARE * torch.cuda.mem_get_info(device)[0]


def is_held_out(name: str) -> bool:
    """Whether a photograph belongs to the validation slice: decided by a hash of its file name alone."""
    file_name = Path(name).name.encode("utf-8", "surrogateescape")  # which a name that is no UTF-8 is read with
    return hashlib.sha256(file_name).digest()[0] % HOLD_OUT == 0


def load_photos(
    sources: Sequence[Path], say: Callable[[str], None] = lambda line: None, kept_share: float = KEPT_SHARE
) -> Photos:
    """Take every picture of folders, zip files and tar files into memory, as files: none is decoded yet.

    Those of a source come in the order of their names, whatever kind it is. Pictures with a side under MIN_SIDE are
    left out. What is no picture, and the damaged rest of an archive, are skipped and named in the result. say: told
    from time to time how many there are. kept_share: of the machine's memory, for what is decoded later.
    Raises UsageError for a source that is not there, BadInput if nothing could be read.
    """
    photos, room = Photos([], [], []), Room(kept_share * 2**30 * (machine()["memory_gib"] or 4))
    told, count = time.monotonic(), 0
    with explain_out_of_memory("reading photographs", "give fewer sources with --data"):
        for files in open_sources(sources):
            found: list[CodedPhoto] = []
            for name, data in files:
                count += 1
                try:
                    photo = CodedPhoto(name, data, room)
                except MemoryError:
                    raise
                except Exception:  # Pillow's plugins raise anything on damaged files
                    photos.unreadable.append(name)
                    continue
                if photo.side >= MIN_SIDE:
                    found.append(photo)
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    say(f"{count} picture files read")
            for photo in sorted(found, key=lambda photo: Path(photo.name)):
                (photos.validation if is_held_out(photo.name) else photos.train).append(photo)
    if photos.validation and not photos.train:
        names = first_few([photo.name for photo in photos.validation])
        raise BadInput(f"{names}: held out for validation, and no other picture is there: give more photographs")
    if not photos.train:
        skipped = f" (unreadable: {first_few(photos.unreadable)})" if photos.unreadable else ""
        where = ", ".join(map(str, sources))
        raise BadInput(f"{where}: no readable picture of {MIN_SIDE} pixels or more a side{skipped}")
    return photos


def decoded(photos: Sequence[AnyPhoto], say: Callable[[str], None] = lambda line: None) -> list[Photo]:
    """Those that can be decoded, by several threads; say: told the names of the others."""

    def decode(photo: AnyPhoto) -> Photo | None:
        try:
            return Photo(photo.name, photo.pixels)
        except BadInput as error:
            say(f"skipped: {error}")
            return None

    with ThreadPoolExecutor() as pool:
        return [photo for photo in pool.map(decode, photos) if photo is not None]


def first_few(names: Sequence[str], most: int = 5) -> str:
    """A list for a message: 'a, b, c, d, e and 7 more'."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _decode(name: str, data: bytes) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return np.array(picture.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise anything on damaged files
        raise BadInput(f"{name}: damaged picture") from error


class Batch(NamedTuple):
    """x, what the network sees, (B, 3, S, S) float32 on the 0..255 scale unless a source says else; quality (B,);
    noise for y and z."""

    x: Tensor
    quality: Tensor
    noise: Noise

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self
        x, quality, y, z = (
            part if part.device.type == device.type else part.pin_memory().to(device, non_blocking=True)
            for part in (self.x, self.quality, self.noise.y, self.noise.z)
        )
        return Batch(x.contiguous(memory_format=torch.channels_last), quality, Noise(y, z))


class Source(Protocol):
    """Where what a network sees of a sample comes from."""

    def prepare(self) -> None:
        """Do what has to be done once before anything is drawn."""

    def draw(self, rng: np.random.Generator, size: int) -> Tensor:
        """What stands for size x size pixels; the same for a generator in the same state."""


@dataclass(frozen=True)
class Crops:
    """Crops of photographs, (3, size, size) float32 on the 0..255 scale, with flips, transposes and some down-scaling.

    Another photograph takes the place of one that turns out to be damaged; say: told its name, once.
    """

    photos: Sequence[AnyPhoto | CardPhoto]
    down_scaled: float = 0.25
    say: Callable[[str], None] = lambda line: None
    damaged: set[int] = field(default_factory=set)

    def prepare(self) -> None:
        """As Source has it: photographs are decoded when they are drawn."""

    def draw(self, rng: np.random.Generator, size: int) -> Tensor:
        """As Source has it."""
        crop = self._crop(rng, size)
        if rng.random() < 0.5:
            crop = crop.flip(2)
        if rng.random() < 0.5:
            crop = crop.flip(1)
        return crop.transpose(1, 2) if rng.random() < 0.5 else crop

    def _crop(self, rng: np.random.Generator, size: int) -> Tensor:
        photo = self._photo(rng, size)
        height, width = photo.shape[:2]
        scale = rng.uniform(1, 2) if rng.random() < self.down_scaled else 1.0
        side = min(round(size * scale), height, width)
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = torch.as_tensor(photo[top : top + side, left : left + side]).float().permute(2, 0, 1)
        if side == size:
            return crop
        return F.interpolate(crop[None], (size, size), mode="bilinear", antialias=True)[0]

    def _photo(self, rng: np.random.Generator, size: int) -> Tensor | NDArray[np.uint8]:
        for _ in range(1000):
            index = int(rng.integers(len(self.photos)))
            if index in self.damaged or self.photos[index].side < size:
                continue
            try:
                return self.photos[index].pixels
            except BadInput as error:
                if index not in self.damaged:
                    self.damaged.add(index)
                    self.say(f"skipped: {error}")
        raise UsageError(f"no photograph that is whole has {size} pixels a side: lower the crop size")


@dataclass(frozen=True)
class BatchMaker:
    """Draws samples, with a quality and noise for each."""

    source: Source
    seed: int
    latent_channels: int
    hyper_channels: int
    stratified: bool = False

    def batch(self, step: int, size: int, indexes: Sequence[int], of: int) -> Batch:
        """The samples `indexes` of the global batch, `of` samples, of a step; size x size pixels, a multiple of 64.

        Stratified, the qualities of a global batch lie one in each of as many equal parts of the scale.
        """
        samples = [self._sample(step, size, index, of) for index in indexes]
        x, quality, noise_y, noise_z = (torch.stack(part) for part in zip(*samples, strict=True))
        return Batch(x.to(memory_format=torch.channels_last), quality, Noise(noise_y, noise_z))

    def _sample(self, step: int, size: int, index: int, of: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, step, index]))
        seen = self.source.draw(rng, size)
        part = (index + rng.random()) / of if self.stratified else rng.random()
        quality = torch.tensor(100 * part, dtype=torch.float32)
        side = size // STRIDE
        noise_y = rng.random((self.latent_channels, side, side), dtype=np.float32) - np.float32(0.5)
        hyper_side = side // HYPER_STRIDE
        noise_z = rng.random((self.hyper_channels, hyper_side, hyper_side), dtype=np.float32) - np.float32(0.5)
        return seen, quality, torch.from_numpy(noise_y), torch.from_numpy(noise_z)
