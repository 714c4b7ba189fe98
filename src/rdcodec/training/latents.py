"""Latents that are made once: where the entropy model learns alone, the analysis gives the same ones every time."""

import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.precision import in_fast_dtype
from rdcodec.models.sizes import STRIDE
from rdcodec.training.data import TELL_SECONDS, AnyPhoto, fits_on_card

TILE = 1024  # pixels a side that the analysis sees at once, which limits memory
SIDES = 64  # of tiles are multiples of it
KEPT_SHARE = 0.25  # of the machine's memory; photographs beyond it are left out


class OnLatents(nn.Module):
    """A model whose analysis was run already.

    forward: y (B, M, h, w) as the analysis gives it, quality and noise as `ImageModel` has them -> bits of y and of z
    of each sample, (B,) each. Nothing is drawn.
    """

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, y: Tensor, quality: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        rated = self.model.entropy(y * self.model.gain(quality), quality, noise)
        return rated.bits_y.sum((1, 2, 3)), rated.bits_z.sum((1, 2, 3))


class Latents:
    """Windows of the latents of photographs, (M, size / 16, size / 16) float32, each photograph at its own scale.

    `prepare` makes all latents, once the model has its weights. They lie on a GPU if all fit into a share of its free
    memory, otherwise in the machine's, where `processes` share a quarter of it: photographs beyond are left out, so
    there what is drawn depends on the machine. Windows of up to `largest` pixels can be drawn. Threads may share it.
    """

    def __init__(
        self, model: ImageModel, photos: Sequence[AnyPhoto], largest: int, processes: int, say: Callable[[str], None]
    ) -> None:
        self._model, self._largest, self._processes, self._say = model, largest, processes, say
        self._photos = [photo for photo in photos if photo.side >= largest]
        self._tiles: list[Tensor] = []

    def draw(self, rng: np.random.Generator, size: int) -> Tensor:
        """As Source has it."""
        side = size // STRIDE
        tile = self._tiles[rng.integers(len(self._tiles))]
        top, left = (int(rng.integers(whole - side + 1)) for whole in tile.shape[1:])
        return tile[:, top : top + side, left : left + side]

    def prepare(self) -> None:
        """Make the latents of every photograph that is whole."""
        device = next(self._model.parameters()).device
        stay = fits_on_card(device, self._bytes())
        room = math.inf if stay else 2**30 * KEPT_SHARE * (machine()["memory_gib"] or 4) / self._processes
        told = time.monotonic()
        for number, photo in enumerate(self._photos):
            try:
                found = [tile if stay else tile.cpu() for tile in self._of(photo, device)]
            except BadInput as error:
                self._say(f"skipped: {error}")
                continue
            room -= sum(tile.nbytes for tile in found)
            if room < 0:
                self._say(f"latents of {number} photographs fit into memory; {len(self._photos) - number} are left out")
                break
            self._tiles += found
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                self._say(f"latents of {number + 1} of {len(self._photos)} photographs made")
        if not self._tiles:
            raise UsageError(f"no photograph that is whole has {self._largest} pixels a side: lower the crop size")

    def _bytes(self) -> int:
        """Of all latents, at most."""
        pixels = sum(photo.height * photo.width for photo in self._photos)
        return 4 * self._model.config.latent_channels * pixels // STRIDE**2

    @torch.no_grad()
    def _of(self, photo: AnyPhoto, device: torch.device) -> Iterator[Tensor]:
        pixels = photo.pixels
        step = max(TILE, self._largest)
        for top, rows in _parts(pixels.shape[0], step, self._largest):
            for left, columns in _parts(pixels.shape[1], step, self._largest):
                tile = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
                x = torch.from_numpy(tile).to(device).permute(2, 0, 1)[None].float()
                with in_fast_dtype(device):
                    y: Tensor = self._model.analysis(x.contiguous(memory_format=torch.channels_last))
                yield y[0].float()


def _parts(whole: int, step: int, least: int) -> Iterator[tuple[int, int]]:
    """Where the tiles of a side begin, and their lengths: multiples of SIDES, `least` or more."""
    for begin in range(0, whole, step):
        length = min(step, whole - begin) // SIDES * SIDES
        if length >= least:
            yield begin, length
