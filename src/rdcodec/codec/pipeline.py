"""The whole data path on one screen: picture, latents, symbols, stream, file, and back.

    image -> analysis -> y * gain -> (hyper-latents z, then y in passes) -> symbols -> rANS -> .rdc
    .rdc  -> rANS -> symbols -> y_hat / gain -> synthesis -> image

With more effort `refine.py` moves y and z before they are rounded; what follows does not change.

Encoder and decoder walk the integer entropy networks through the same code (`code` of the integer form); they
differ only in the coder that they hand it: one looks each symbol up in y, the other reads it from the stream.
"""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.codec import rans
from rdcodec.codec.container import MAX_PIXELS, SINGLE_RATE, Header, pack, unpack
from rdcodec.codec.crc import crc32c
from rdcodec.codec.refine import refine
from rdcodec.codec.target import START, largest_below, smallest_above
from rdcodec.errors import BadInput, NeedsModel, RdcError, UsageError
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.models.base import ImageModel, latent_size
from rdcodec.models.blocks import pad_to_multiple
from rdcodec.models.entropy.checkerboard import HYPER_STRIDE, Search
from rdcodec.models.entropy.integer import Part
from rdcodec.models.precision import fast_dtype, in_fast_dtype, in_float32, pick_device
from rdcodec.models.weights import UNRELEASED, Weights, find_weights, no_encoder, read_weights

Image = NDArray[np.uint8]
DEFAULT_QUALITY = 50.0
EFFORTS = range(1, 10)  # 1 is one pass without a search
LEAST_LIMIT = 1 << 20  # pixels that padding may make of a picture, whatever the limit


@dataclass
class _Encoder:
    """Looks symbols up in y and z, and keeps them in coding order."""

    y_latents: Tensor
    z_latents: Tensor
    skip_below: int
    symbols: list[NDArray[np.int32]] = field(default_factory=list)
    indexes: list[rans.Indexes] = field(default_factory=list)

    def z(self, indexes: Tensor) -> Tensor:
        return self._take(self.z_latents[0].permute(1, 2, 0), indexes)

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        return self._take(part(self.y_latents) - mean / MEAN_ONE, indexes)

    def _take(self, value: Tensor, indexes: Tensor) -> Tensor:
        symbols = value.round().clamp_(-rans.MAX_SYMBOL, rans.MAX_SYMBOL)
        symbols = symbols * (indexes >= self.skip_below)
        self.symbols.append(symbols.to(torch.int32).reshape(-1).cpu().numpy())
        self.indexes.append(_row_numbers(indexes))
        return symbols


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


@dataclass(frozen=True)
class ModelInfo:
    """What a loaded codec is."""

    name: str
    tag: str
    summary: str
    parameters: int


@dataclass(frozen=True)
class Analysed:
    """A picture after the analysis transform, ready to be coded at any quality."""

    image: Image
    latents: Tensor


@dataclass(frozen=True)
class Encoded:
    """A coded picture: its file, and what the decoder will make of it."""

    data: bytes
    quality: float | None  # None: the model has one rate
    codec: "Codec"
    image: Image
    latents: Tensor  # y and z, not yet rounded
    hyper_latents: Tensor
    y_hat: Tensor
    symbols: tuple[NDArray[np.int32], ...]  # of z and of each pass of y, in coding order
    indexes: tuple[rans.Indexes, ...]

    @cached_property
    def reconstruction(self) -> Image:
        """The picture that decoding gives, uint8 (H, W, 3)."""
        return self.codec.synthesise(self.y_hat, self.quality, *self.image.shape[:2])

    @cached_property
    def estimate_bits(self) -> float:
        """Rate of the float model for the same rounded latents: no integers, no tables, no container."""
        return self.codec.estimate_bits(self.latents, self.hyper_latents, self.quality)

    @cached_property
    def psnr_db(self) -> float:
        """PSNR of the reconstruction over all RGB samples."""
        return 10 * math.log10(255**2 / self.mse) if self.mse else math.inf

    @cached_property
    def mse(self) -> float:
        """Mean squared error of the reconstruction over all RGB samples, 0..255 scale."""
        return float(np.mean((self.image.astype(np.float32) - self.reconstruction) ** 2, dtype=np.float64))

    @property
    def bpp(self) -> float:
        """All bytes of the file, per pixel."""
        return 8 * len(self.data) / (self.image.size // 3)


class Codec:
    """A model with weights and tables: pictures to files and back.

    Threads may share it. Files do not depend on what the caller has set in torch: default type and device, autocast,
    inference mode, gradients.
    """

    @torch.inference_mode(False)  # its tensors outlive the caller's mode, and a search needs gradients
    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._weights = weights
        self.config = weights.config
        self.decodes_only = weights.decodes_only
        self.device = device
        self.tables = weights.tables
        self.hashes = weights.entropy_hash, weights.synthesis_hash
        with torch.device("cpu"):
            self.entropy = weights.build_entropy().to(device)
        self.dtype = fast_dtype(device)
        self.decoder = weights.build_decoder()
        self._place(self.decoder, self.decoder.synthesis.inexact())
        parameters = sum(tensor.numel() for tensor in weights.state.values())
        self.info = ModelInfo(self.config.name, weights.tag, self.config.summary, parameters)

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

    def compress(
        self, image: Image, quality: float | None = None, effort: int = 1, max_pixels: int = MAX_PIXELS
    ) -> bytes:
        """uint8 (H, W, 3) of any size to the bytes of an .rdc file; quality 0..100 in tenths (default 50).

        effort: 1 is one pass; 2 to 9 search for a better file, each twice as long as the one before. Decoders have
        no more to do. UsageError for a quality that a model of one rate cannot have, or an unknown effort. BadInput
        for a picture so thin that padding makes more of it than `max_pixels` (and a quarter) allows.
        """
        return self.encode(image, quality, effort, max_pixels).data

    def encode(
        self, image: Image, quality: float | None = None, effort: int = 1, max_pixels: int = MAX_PIXELS
    ) -> Encoded:
        """As `compress`, with the reconstruction and the estimated rate at hand."""
        self._tenths(quality)  # so that what is wrong costs no analysis
        search_steps(effort)
        return self.code(self.analyse(image, max_pixels), quality, effort)

    @torch.inference_mode()
    def analyse(self, image: Image, max_pixels: int = MAX_PIXELS) -> Analysed:
        """Run the analysis transform, which does not depend on quality. NeedsModel for weights that only decode.

        BadInput as `compress`.
        """
        _check_image(image)
        height, width = image.shape[:2]
        self._check_padding(height, width, max(max_pixels, height * width))  # the picture itself is here already
        if self.decodes_only:
            raise no_encoder(self.info.tag)
        x = pad_to_multiple(self._samples(image), self.model.multiple).contiguous(memory_format=torch.channels_last)
        with in_fast_dtype(self.device):
            return Analysed(image, self.model.analysis(x))

    def _padded(self, height: int, width: int) -> tuple[int, int]:
        """Sides of what the transforms compute for a picture."""
        multiple = self.config.entropy.multiple
        return -(-height // multiple) * multiple, -(-width // multiple) * multiple

    def _check_padding(self, height: int, width: int, max_pixels: int) -> None:
        """Refuse a thin picture that costs many times its pixels, before anything is allocated for it.

        A quarter more than the limit is left to the padding of other pictures.
        """
        rows, columns = self._padded(height, width)
        if rows * columns > max(max_pixels + max_pixels // 4, LEAST_LIMIT):
            padded = f"{width}x{height} is padded to {columns}x{rows}, {rows * columns} pixels"
            raise BadInput(f"{padded}, more than a quarter above {max_pixels}: allow more with --max-pixels")

    def code(self, analysed: Analysed, quality: float | None = None, effort: int = 1) -> Encoded:
        """Quantise and code analysed latents at one quality; with more effort, the better of this and what is found."""
        steps = search_steps(effort)
        tenths = self._tenths(quality)
        plain = self._code(analysed, self._latents(analysed, tenths), tenths)
        if not steps:
            return plain
        found = self._code(analysed, self._search(plain, tenths, steps), tenths)
        return min(plain, found, key=lambda coded: self._cost(coded, tenths))

    @torch.inference_mode()
    def _latents(self, analysed: Analysed, tenths: int) -> tuple[Tensor, Tensor]:
        """y and z in quantised units, not yet rounded."""
        at = self._at(tenths)
        y = analysed.latents * self.model.gain(at)
        with in_float32(self.device):
            return y, self.model.entropy.analyse(pad_to_multiple(y, HYPER_STRIDE), at)

    def _samples(self, image: Image) -> Tensor:
        """(1, 3, H, W) float32 on the 0..255 scale."""
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device)
        return pixels.permute(2, 0, 1)[None].float()

    def _search(self, plain: Encoded, tenths: int, steps: int) -> tuple[Tensor, Tensor]:
        return refine(
            self.model, self._samples(plain.image), plain.latents, plain.hyper_latents, self._at(tenths), steps
        )

    def _cost(self, coded: Encoded, tenths: int) -> float:
        """Bits per pixel and weighted distortion: what the model was trained for."""
        return coded.bpp + float(self.model.lmbda(self._at(tenths))) * coded.mse

    @torch.inference_mode()
    def _code(self, analysed: Analysed, latents: tuple[Tensor, Tensor], tenths: int) -> Encoded:
        encoder = _Encoder(*latents, self.tables.skip_below)
        rows, columns = latents[0].shape[2:]
        y_hat = self.entropy.code(rows, columns, tenths, encoder)
        symbols, indexes = np.concatenate(encoder.symbols), np.concatenate(encoder.indexes)
        stream = rans.encode(symbols, indexes, self.tables)
        height, width = analysed.image.shape[:2]
        header = Header(
            self.info.tag,
            width,
            height,
            tenths,
            self.tables.hash(),
            *self.hashes,
            symbols_crc=_symbols_crc(symbols),
        )
        data = pack(header, stream)
        found = tuple(encoder.symbols), tuple(encoder.indexes)
        return Encoded(data, None if self.single_rate else tenths / 10, self, analysed.image, *latents, y_hat, *found)

    @torch.inference_mode()
    def estimate_bits(self, y: Tensor, z: Tensor, quality: float | None = None) -> float:
        """Rate of y (1, M, h, w) and z (1, N, h/4, w/4), quantised units, under the float model, in bits."""
        with in_float32(self.device):
            rated = self.model.entropy(y, self._at(self._tenths(quality)), None, Search(z, torch.round))
        return float(rated.bits_y.double().sum() + rated.bits_z.double().sum())

    def encode_target(
        self,
        image: Image,
        *,
        bpp: float | None = None,
        file_bytes: int | None = None,
        psnr_db: float | None = None,
        effort: int = 1,
        max_pixels: int = MAX_PIXELS,
    ) -> Encoded:
        """The largest file not over `bpp` or `file_bytes`, or the smallest that reaches `psnr_db`.

        Give exactly one. The analysis runs once; a search of more effort begins at the quality that one pass needs.
        RdcError with the reachable range if there is no such quality, UsageError for a model of one rate, BadInput as
        `compress`.
        """
        self.refuse_single_rate()
        targets = [target for target in (bpp, file_bytes, psnr_db) if target is not None]
        if len(targets) != 1 or not targets[0] > 0:
            raise UsageError("give one of bpp, file_bytes and psnr_db, above 0")
        analysed = self.analyse(image, max_pixels)

        def meet(effort: int, start: int) -> Encoded:
            def at(tenths: int) -> Encoded:
                return self.code(analysed, tenths / 10, effort)

            if psnr_db is not None:
                return smallest_above(at, lambda coded: coded.psnr_db, psnr_db, "dB", start)
            if bpp is not None:
                return largest_below(at, lambda coded: coded.bpp, bpp, "bpp", start)
            assert file_bytes is not None
            return largest_below(at, lambda coded: float(len(coded.data)), float(file_bytes), "bytes", start)

        start = START
        if effort > 1:
            with suppress(RdcError):  # what is out of one pass's reach may be in that of a search
                start = round(10 * (meet(1, START).quality or 0))
        return meet(effort, start)

    def decompress(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
        """The bytes of an .rdc file to uint8 (H, W, 3).

        BadInput for a damaged file and for more than `max_pixels`, with padding a quarter more; NeedsModel for a file
        that was made with other weights.
        """
        return self.decode(*unpack(data, max_pixels), max_pixels)

    def decode(self, header: Header, stream: bytes, max_pixels: int = MAX_PIXELS) -> Image:
        """Entropy decoding and synthesis of an unpacked file; errors as `decompress`."""
        self._check_padding(header.height, header.width, max_pixels)
        y_hat = self.decode_latents(header, stream)
        quality = None if self.single_rate else header.quality / 10
        return self.synthesise(y_hat, quality, header.height, header.width)

    @torch.inference_mode()
    def decode_latents(self, header: Header, stream: bytes) -> Tensor:
        """y_hat in quantised units, (1, M, h, w); errors as `decompress`."""
        if (header.tables_hash, header.entropy_hash, header.synthesis_hash) != (self.tables.hash(), *self.hashes):
            raise NeedsModel(f"the file was made with other weights {header.tag} than those here: give them with -m")
        if (header.quality == SINGLE_RATE) != self.single_rate:
            wrong = (
                "a quality in the file, but a single rate" if self.single_rate else "no quality in the file, but rates"
            )
            raise BadInput(f"{wrong} in {header.tag}: get the file again from its source")
        rows, columns = latent_size(*self._padded(header.height, header.width))
        decoder = _Decoder(rans.Decoder(stream, self.tables))
        y_hat = self.entropy.code(rows, columns, header.quality, decoder)
        decoder.stream.finish()
        if _symbols_crc(np.concatenate(decoder.symbols)) != header.symbols_crc:
            raise BadInput("the decoded symbols are not those that were coded: get the file again from its source")
        return y_hat

    @torch.inference_mode()
    def synthesise(self, y_hat: Tensor, quality: float | None, height: int, width: int) -> Image:
        """Undo the gains and run the synthesis transform: y_hat (1, M, h, w) to uint8 (height, width, 3)."""
        at = self._at(self._tenths(quality))
        with in_fast_dtype(self.device):
            x_hat = self.decoder(y_hat, at)
        pixels = x_hat[0, :, :height, :width].permute(1, 2, 0)
        out: Image = pixels.round().clamp_(0, 255).to(torch.uint8).contiguous().cpu().numpy()
        return out

    @property
    def single_rate(self) -> bool:
        """Whether the model has one rate, so that no quality can be asked of it."""
        return self.config.lmbda is not None

    def refuse_single_rate(self) -> None:
        """UsageError if the model has one rate: nobody can ask for a quality or a size."""
        if self.single_rate:
            rate = f"lmbda {self.config.lmbda:g}"
            raise UsageError(f"{self.info.tag} has a single rate ({rate}): leave out the quality or target")

    def _tenths(self, quality: float | None) -> int:
        """What a header says of the quality."""
        if quality is not None:
            self.refuse_single_rate()
        if self.single_rate:
            return SINGLE_RATE
        if quality is None:
            quality = DEFAULT_QUALITY
        if not 0 <= quality <= 100:
            raise UsageError(f"quality {quality:g} is outside 0..100")
        return round(quality * 10)

    def _at(self, tenths: int) -> Tensor:
        """Quality as the networks take it; those of a model of one rate take no notice."""
        return torch.tensor([0 if self.single_rate else tenths / 10], dtype=torch.float32, device=self.device)


def search_steps(effort: int) -> int:
    """Steps of the encoder's search: none for effort 1, then 12, 25, 50 and so on. UsageError beyond 1..9."""
    if effort not in EFFORTS:
        raise UsageError(f"effort {effort} is outside 1..9")
    return 0 if effort == 1 else 25 * 2**effort // 8


def _check_image(image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"a picture is uint8 (height, width, 3), not {image.dtype} {image.shape}")


def _symbols_crc(symbols: NDArray[np.int32]) -> int:
    """CRC-32C over the symbols as 16-bit little-endian integers, in coding order."""
    return crc32c(symbols.astype("<i2"))


def load(model: str | Path = "I", device: str = "cpu") -> Codec:
    """A codec by name ("I": its newest weights), tag ("I.3") or run folder (a Path, or text with a slash: "./I").

    NeedsModel if it or its weights are not here; UsageError for a device that is not here. A process that is forked
    afterwards has one thread in torch; start processes with "spawn" to have more.
    """
    path = find_weights(model)
    return _load(path, path.stat().st_mtime_ns, pick_device(device))


def _after_fork() -> None:
    """In a forked child: one thread. Those of the parent's pool did not come along, and torch would wait for them."""
    if _load.cache_info().misses:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int, device: torch.device) -> Codec:
    """Kept as long as the file is the same: a run that goes on writes new weights."""
    return Codec(read_weights(path), device)


def codec_for(header: Header, model: str | Path | None = None, device: str = "cpu") -> Codec:
    """The codec that a file asks for by its tag, or the given one."""
    if model is None and header.tag.endswith(f".{UNRELEASED}"):
        raise NeedsModel(f"the file was made with unreleased weights ({header.tag}); give their run folder with -m")
    return load(header.tag if model is None else model, device)


def compress(image: Image, model: str | Path = "I", quality: float | None = None, effort: int = 1) -> bytes:
    """Code a picture, uint8 (H, W, 3), as the bytes of an .rdc file; quality 0..100 in tenths (default 50).

    effort: 1 to 9; see `Codec.compress`.
    """
    return load(model).compress(image, quality, effort)


def decompress(data: bytes, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode the bytes of an .rdc file to uint8 (H, W, 3)."""
    header, stream = unpack(data, max_pixels)
    return codec_for(header).decode(header, stream, max_pixels)
