"""Any model in torch: the paper's, on a card, and the searches of an encoder.

Encoder and decoder walk the integer entropy networks through the same code (`code` of the integer form); they
differ only in the coder that they hand it: one looks each symbol up in y, the other reads it from the stream.
"""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.codec import rans
from rdcodec.codec.container import SINGLE_RATE
from rdcodec.codec.crc import crc32c
from rdcodec.codec.engine import Image, Latents, Symbols, asked_threads, set_threads
from rdcodec.codec.refine import refine
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.exact.tables import Tables
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import pad_to_multiple
from rdcodec.models.entropy.checkerboard import Search
from rdcodec.models.entropy.gaussian import straight_round
from rdcodec.models.entropy.integer import Part
from rdcodec.models.precision import fast_dtype, in_float32, pick_device
from rdcodec.models.sizes import HYPER_STRIDE, STRIDE
from rdcodec.models.transforms.integer import IntegerSynthesis
from rdcodec.models.weights import Weights


@dataclass
class _Encoder:
    """Looks symbols up in y and z, and keeps them in coding order."""

    y_latents: Tensor
    z_latents: Tensor
    tables: Tables
    worth: Tensor | None  # like y
    symbols: list[NDArray[np.int32]] = field(default_factory=list)
    indexes: list[rans.Indexes] = field(default_factory=list)

    def z(self, indexes: Tensor) -> Tensor:
        value = self.z_latents[0].permute(1, 2, 0)
        return self._take(_nearest(value), indexes)

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        value = part(self.y_latents) - mean / MEAN_ONE
        symbols = _nearest(value)
        if self.worth is not None:
            symbols = self._cheaper(value, symbols, indexes.long(), part(self.worth))
        return self._take(symbols, indexes)

    def _cheaper(self, value: Tensor, symbols: Tensor, rows: Tensor, worth: Tensor) -> Tensor:
        """The next symbol towards 0 where it saves more bits than its further squared error is worth."""
        radius = self._edges(self.tables.radius)[rows]
        inside = symbols.abs() <= radius  # others are escaped
        at = self._edges(self.tables.edge_start)[rows] + radius + torch.where(inside, symbols, 0).long()
        sign = symbols.sign()
        error = 1 + 2 * (value - symbols) * sign  # (value - symbols + sign)^2 - (value - symbols)^2
        lower = inside & (self._edges(self.tables.savings)[at] > worth * error)
        return torch.where(lower, symbols - sign, symbols)

    def _edges(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array).to(self.y_latents.device)

    def _take(self, symbols: Tensor, indexes: Tensor) -> Tensor:
        symbols = symbols * (indexes >= self.tables.skip_below)
        self.symbols.append(symbols.to(torch.int32).reshape(-1).cpu().numpy())
        self.indexes.append(_row_numbers(indexes))
        return symbols


def _nearest(value: Tensor) -> Tensor:
    return value.round().clamp_(-rans.MAX_SYMBOL, rans.MAX_SYMBOL)


@dataclass
class _Decoder:
    """Reads symbols from the stream."""

    stream: rans.Decoder
    symbols: list[NDArray[np.int32]] = field(default_factory=list)

    def z(self, indexes: Tensor) -> Tensor:
        return self._read(indexes)

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        return self._read(indexes)

    def _read(self, indexes: Tensor) -> Tensor:
        symbols = self.stream.decode(_row_numbers(indexes))
        self.symbols.append(symbols)
        return torch.from_numpy(symbols).to(indexes.device, torch.float32).reshape(indexes.shape)


def _row_numbers(indexes: Tensor) -> rans.Indexes:
    """Table indexes as the coder takes them; torch knows no comparisons of uint16."""
    flat = indexes.reshape(-1).cpu().numpy()
    return flat if flat.dtype == np.uint8 else flat.astype(np.uint16)


_forked = False


def _after_fork() -> None:
    """In a forked child: one thread. Those of the parent's pool did not come along, and torch would wait for them."""
    global _forked
    _forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class TorchEngine:
    """An `Engine`, on any device.

    What it computes does not depend on what the caller has set in torch: default type and device, autocast, inference
    mode, gradients.
    """

    name = "torch"

    @torch.inference_mode(False)  # its tensors outlive the caller's mode, and a search needs gradients
    def __init__(self, weights: Weights, device: str) -> None:
        self._weights = weights
        self.device = pick_device(device)
        self.tables = weights.tables
        if asked_threads() and not _forked:
            set_threads(asked_threads())
        with torch.device("cpu"):
            self.entropy = weights.build_entropy().to(self.device)
        self.dtype = fast_dtype(self.device)
        self.decoder = weights.build_decoder()
        self._place(self.decoder, self.decoder.synthesis.inexact())
        self._pixels = IntegerSynthesis(weights, self.device) if weights.pixels else None

    @cached_property
    def model(self) -> ImageModel:
        """The whole model in floats: built when first something is encoded or estimated. NeedsModel as `analyse`."""
        with torch.inference_mode(False):  # the search differentiates it
            model = self._weights.build()
            model.synthesis, model.log_gain = self.decoder.synthesis, self.decoder.log_gain
            self._place(model, model.analysis.inexact())
        return model

    def _place(self, network: torch.nn.Module, inexact: Sequence[torch.nn.Module]) -> None:
        """Bring a network onto the device, and parts of it into the fast type."""
        network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in inexact:
            part.to(self.dtype)

    def _fast(self) -> contextlib.AbstractContextManager[object]:
        """Context in which the transforms compute in the engine's type."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @torch.inference_mode()
    def analyse(self, image: Image, rows: int, columns: int) -> Latents:
        x = self._samples(image)
        bottom, right = STRIDE * rows - x.shape[2], STRIDE * columns - x.shape[3]
        if bottom or right:
            x = torch.nn.functional.pad(x, (0, right, 0, bottom), mode="replicate")
        with self._fast():
            return _array(self.model.analysis(x.contiguous(memory_format=torch.channels_last)))

    @torch.inference_mode()
    def hyper_analyse(self, y: Latents, gain: Latents, tenths: int) -> Latents:
        with in_float32(self.device):
            whole = pad_to_multiple(self._tensor(y * gain), HYPER_STRIDE)
            return _array(self.model.entropy.analyse(whole, self._at(tenths)))

    @torch.inference_mode()
    def encode(self, y: Latents, gain: Latents, z: Latents, tenths: int, worth: Latents | None = None) -> Symbols:
        weight = None if worth is None else self._tensor(np.broadcast_to(worth, y.shape))
        encoder = _Encoder(self._tensor(y * gain), self._tensor(z), self.tables, weight)
        self.entropy.code(y.shape[0], y.shape[1], tenths, encoder)
        symbols = np.concatenate(encoder.symbols)
        stream = rans.encode(symbols, np.concatenate(encoder.indexes), self.tables)
        return Symbols(stream, crc32c(symbols.astype("<i2")), encoder.symbols, encoder.indexes)

    @torch.inference_mode()
    def decode(self, stream: bytes, rows: int, columns: int, tenths: int) -> tuple[Latents, int]:
        decoder = _Decoder(rans.Decoder(stream, self.tables))
        y_hat = self.entropy.code(rows, columns, tenths, decoder)
        decoder.stream.finish()
        return _array(y_hat), crc32c(np.concatenate(decoder.symbols).astype("<i2"))

    @torch.inference_mode()
    def synthesise(self, y_hat: Latents, gain: Latents, tenths: int, height: int, width: int) -> Image:
        if self._pixels is not None:
            pixels = self._pixels(y_hat, tenths)
        else:
            with self._fast():
                x_hat = self.decoder(self._tensor(y_hat), self._at(tenths))
            pixels = x_hat[0].round().clamp_(0, 255).to(torch.uint8)
        out: Image = pixels[:, :height, :width].permute(1, 2, 0).contiguous().cpu().numpy()
        return out

    def search(self, image: Image, y: Latents, z: Latents, tenths: int, steps: int) -> tuple[Latents, Latents]:
        """Latents in quantisation steps that make a better file (`refine.py`)."""
        found = refine(self.model, self._samples(image), self._tensor(y), self._tensor(z), self._at(tenths), steps)
        return _array(found[0]), _array(found[1])

    def lmbda(self, tenths: int) -> float:
        """What weighs the mean squared error of a sample against bits per pixel."""
        return float(self.model.lmbda(self._at(tenths)))

    @torch.inference_mode()
    def estimate_bits(self, y: Latents, z: Latents, tenths: int) -> float:
        """Rate of latents in quantisation steps under the float model, in bits."""
        with in_float32(self.device):
            rated = self.model.entropy(self._tensor(y), self._at(tenths), None, Search(self._tensor(z), straight_round))
        return float(rated.bits_y.double().sum() + rated.bits_z.double().sum())

    def _samples(self, image: Image) -> Tensor:
        """(1, 3, H, W) float32 on the 0..255 scale."""
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device)
        return pixels.permute(2, 0, 1)[None].float()

    def _tensor(self, latents: Latents) -> Tensor:
        """(rows, columns, channels) -> (1, channels, rows, columns), channels last in memory."""
        return torch.from_numpy(np.require(latents, requirements=["W"])).to(self.device).permute(2, 0, 1)[None]

    def _at(self, tenths: int) -> Tensor:
        """Quality as the networks take it; those of a model of one rate take no notice."""
        quality = 0 if tenths == SINGLE_RATE else tenths / 10
        return torch.tensor([quality], dtype=torch.float32, device=self.device)


def _array(latents: Tensor) -> Latents:
    """The inverse of `TorchEngine._tensor`."""
    out: Latents = latents[0].permute(1, 2, 0).float().contiguous().cpu().numpy()
    return out
