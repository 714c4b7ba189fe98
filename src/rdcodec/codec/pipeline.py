"""The whole data path on one screen: picture, latents, symbols, stream, file, and back.

    image -> analysis -> y * gain -> (hyper-latents z, then y in passes) -> symbols -> rANS -> .rdc
    .rdc  -> rANS -> symbols -> y_hat / gain -> synthesis -> image

An engine computes the parts: the core for light models, torch for the others and on a card (`engine.py`). With more
effort, `refine.py` first moves y and z. An encoder then picks the cheaper of two integers (`Codec._worth`).
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec import flat, native_engine, true_colours
from rdcodec.codec.container import ICC, MAX_PIXELS, SINGLE_RATE, Header, Section, pack, unpack
from rdcodec.codec.engine import Engine, Image, Latents, Symbols, at_quality
from rdcodec.codec.rans import Indexes
from rdcodec.codec.target import START, largest_below, smallest_above
from rdcodec.errors import NO_TORCH, BadInput, NeedsModel, RdcError, UsageError
from rdcodec.models.scale import lmbda_at
from rdcodec.models.sizes import ANCHORS, latent_size
from rdcodec.models.weights import UNRELEASED, Weights, find_weights, no_encoder, read_weights

if TYPE_CHECKING:
    import torch

    from rdcodec.codec.torch_engine import TorchEngine
    from rdcodec.models.base import ImageModel

DEFAULT_QUALITY = 50.0
EFFORTS = range(1, 10)  # 1 is one pass without a search
# Squared error of a picture's samples for a squared error in its latents, as the light models magnify it, with which
# training photographs need the fewest bits (docs/training.md).
ERROR_GROWTH = 5.0
LEAST_LIMIT = 1 << 20  # pixels that padding may make of a picture, whatever the limit


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
    latents: Latents  # y in units of the picture
    sections: tuple[Section, ...] = ()  # what the file carries besides the pixels

    @cached_property
    def flats(self) -> flat.Flats | None:
        """The flat areas, if they matter."""
        return flat.find(self.image)


@dataclass(frozen=True)
class Encoded:
    """A coded picture: its file, and what the decoder will make of it."""

    data: bytes
    quality: float | None  # None: the model has one rate
    codec: "Codec"
    image: Image
    y: Latents  # times gain in quantisation steps, not yet rounded
    gain: Latents
    hyper_latents: Latents  # z in quantisation steps, not yet rounded
    coded: Symbols

    @property
    def latents(self) -> Latents:
        """y in quantisation steps, not yet rounded."""
        return self.y * self.gain

    @property
    def symbols(self) -> list[NDArray[np.int32]]:
        """Of z and of each pass of y, in coding order."""
        return [part.astype(np.int32, copy=False) for part in self.coded.symbols]

    @property
    def indexes(self) -> Sequence[Indexes]:
        """Table rows of the symbols."""
        return self.coded.indexes

    @cached_property
    def y_hat(self) -> Latents:
        """What decoding gives for y, in quantisation steps."""
        return self.codec.decode_latents(*unpack(self.data, self.image.size))

    @cached_property
    def reconstruction(self) -> Image:
        """The picture that decoding gives, uint8 (H, W, 3)."""
        return self.codec.synthesise(self.y_hat, self.quality, *self.image.shape[:2])

    @cached_property
    def estimate_bits(self) -> float:
        """Rate of the float model for the same symbols: no integers, no tables, no container."""
        return self.codec.estimate_bits(self.y_hat, self.hyper_latents, self.quality)

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
    """A model with weights and tables: pictures to files and back. Threads may share it, and it can be pickled."""

    def __init__(self, weights: Weights, device: "str | torch.device" = "cpu", engine: str | None = None) -> None:
        """engine: "native" or "torch"; None for the core where it runs the model.

        NeedsModel for weights that do not fit together, or if torch is needed and not installed; UsageError for another
        engine.
        """
        if engine not in (None, "native", "torch"):
            raise UsageError(f"engine {engine!r}: give native or torch")
        self._weights = weights
        self.config = weights.config
        self.decodes_only = weights.decodes_only
        self.device = str(device)
        self.tables = weights.tables
        self.hashes = weights.entropy_hash, weights.synthesis_hash
        if engine is None:
            engine = "native" if self.device == "cpu" and native_engine.runs(self.config) else "torch"
        self.engine: Engine = native_engine.NativeEngine(weights) if engine == "native" else self.torch
        self.info = ModelInfo(self.config.name, weights.tag, self.config.summary, weights.parameters)
        self._log_gain = weights.raw.get("log_gain.values")
        if not self.single_rate and (
            self._log_gain is None or self._log_gain.shape != (ANCHORS, self.config.latent_channels)
        ):
            raise weights.misfit()

    def __reduce__(self) -> "tuple[type[Codec], tuple[Weights, str, str]]":
        """For other processes, which build it again from its weights."""
        return Codec, (self._weights, self.device, self.engine.name)

    @cached_property
    def torch(self) -> "TorchEngine":
        """The codec in torch: for searches and estimates, and for models that the core does not run."""
        return torch_engine()(self._weights, self.device)

    @property
    def model(self) -> "ImageModel":
        """The whole model in floats, in torch. NeedsModel as `analyse`."""
        return self.torch.model

    def compress(
        self,
        image: Image,
        quality: float | None = None,
        effort: int = 1,
        max_pixels: int = MAX_PIXELS,
        sections: tuple[Section, ...] = (),
    ) -> bytes:
        """uint8 (H, W, 3) of any size to the bytes of an .rdc file; quality 0..100 in tenths (default 50).

        effort: 1 is one pass; 2 to 9 search for a better file, each twice as long as the one before. Decoders have
        no more to do. UsageError for a quality that a model of one rate cannot have, or an unknown effort. BadInput
        for a picture so thin that padding makes more of it than `max_pixels` (and a quarter) allows. `sections` go
        into the file as they are: `sections_of` makes them of a picture. With a colour profile among them the quality
        is raised, so that the picture converted to sRGB is as good as one in sRGB.
        """
        return self.encode(image, quality, effort, max_pixels, sections).data

    def encode(
        self,
        image: Image,
        quality: float | None = None,
        effort: int = 1,
        max_pixels: int = MAX_PIXELS,
        sections: tuple[Section, ...] = (),
    ) -> Encoded:
        """As `compress`, with the reconstruction and the estimated rate at hand."""
        tenths = self._tenths(quality)  # first, so that a wrong value costs no analysis
        if search_steps(effort):
            torch_engine()
        if not self.single_rate:
            quality = self.in_true_colours(tenths / 10, image, sections)
        return self.code(self.analyse(image, max_pixels, sections), quality, effort)

    def in_true_colours(self, quality: float, image: Image, sections: tuple[Section, ...]) -> float:
        """The quality to code with, so that it means the same in every colour profile."""

        def decoded(pixels: Image, quality: float) -> Image:
            analysed, tenths = self.analyse(pixels), self._tenths(quality)
            return self._plain(analysed, tenths).reconstruction

        icc = next((section.payload for section in sections if section.id == ICC), None)
        return quality if icc is None else true_colours.quality(quality, image, icc, decoded)

    def analyse(self, image: Image, max_pixels: int = MAX_PIXELS, sections: tuple[Section, ...] = ()) -> Analysed:
        """Run the analysis transform, which does not depend on quality. NeedsModel for weights that only decode.

        BadInput as `compress`.
        """
        _check_image(image)
        height, width = image.shape[:2]
        self._check_padding(height, width, max(max_pixels, height * width))  # the picture itself is here already
        if self.decodes_only:
            raise no_encoder(self.info.tag)
        latents = self.engine.analyse(image, *latent_size(*self._padded(height, width)))
        return Analysed(image, latents, sections)

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
        plain = self._plain(analysed, tenths)
        if not steps:
            return self._with_flats(analysed, plain, tenths)
        y, z = self.torch.search(plain.image, plain.latents, plain.hyper_latents, tenths, steps)
        found = self._code(analysed, y, np.ones_like(plain.gain), z, tenths)
        better = min(plain, found, key=lambda coded: self._cost(coded, tenths))
        return self._with_flats(analysed, better, tenths)

    def _plain(self, analysed: Analysed, tenths: int) -> Encoded:
        """One pass, flat areas as they come."""
        return self._code(analysed, analysed.latents, self._gain(tenths), self._z(analysed, tenths), tenths)

    def _with_flats(self, analysed: Analysed, coded: Encoded, tenths: int) -> Encoded:
        """Coded again until its flat areas are as near to their colours as they get; as it is where there are none."""
        flats, shortcut = analysed.flats, self._shortcut
        if flats is None or shortcut is None:
            return coded
        best, least, rounds, waited = coded, flat.off(flats, coded.reconstruction), 0, 0
        while not flat.is_enough(least, rounds, waited, tenths):
            y = coded.y.copy()
            flat.correct(flats, coded.reconstruction, y, self._gain(tenths) / coded.gain, shortcut)
            coded = self._code(analysed, y, coded.gain, coded.hyper_latents, tenths)
            off, rounds, waited = flat.off(flats, coded.reconstruction), rounds + 1, waited + 1
            if off < least:
                best, least, waited = coded, off, 0
        return best

    @cached_property
    def _shortcut(self) -> NDArray[np.float32] | None:
        """The linear part of a light model's analysis, (768, M); None of others."""
        if self.single_rate or not native_engine.runs(self.config):
            return None
        return self._weights.floats("analysis.")["shortcut.weight"]

    def _z(self, analysed: Analysed, tenths: int) -> Latents:
        """z in quantisation steps, not yet rounded."""
        return self.engine.hyper_analyse(analysed.latents, self._gain(tenths), tenths)

    def _gain(self, tenths: int) -> Latents:
        """Quantisation steps per unit of the latents, (M,)."""
        if self.single_rate:
            return np.ones(self.config.latent_channels, np.float32)
        assert self._log_gain is not None
        gain: Latents = np.exp(at_quality(self._log_gain, tenths))
        return gain

    def _worth(self, tenths: int) -> Latents | None:
        """Bits that a squared quantisation step is worth, (M,); None where nobody has measured `ERROR_GROWTH`."""
        if self.single_rate or not native_engine.runs(self.config):
            return None
        worth = ERROR_GROWTH * lmbda_at(tenths / 10) / 3 / np.square(self._gain(tenths))
        return worth.astype(np.float32)

    def _cost(self, coded: Encoded, tenths: int) -> float:
        """Bits per pixel and weighted distortion: what the model was trained for."""
        return coded.bpp + self.torch.lmbda(tenths) * coded.mse

    def _code(self, analysed: Analysed, y: Latents, gain: Latents, z: Latents, tenths: int) -> Encoded:
        coded = self.engine.encode(y, gain, z, tenths, self._worth(tenths))
        image, hashes = analysed.image, (self.tables.hash(), *self.hashes)
        height, width = image.shape[:2]
        header = Header(self.info.tag, width, height, tenths, *hashes, coded.crc, analysed.sections)
        quality = None if self.single_rate else tenths / 10
        return Encoded(pack(header, coded.stream), quality, self, image, y, gain, z, coded)

    def estimate_bits(self, y: Latents, z: Latents, quality: float | None = None) -> float:
        """Rate of y (h, w, M) and z (h/4, w/4, N), quantised units, under the float model, in bits. It needs torch."""
        return self.torch.estimate_bits(y, z, self._tenths(quality))

    def encode_target(
        self,
        image: Image,
        *,
        bpp: float | None = None,
        file_bytes: int | None = None,
        psnr_db: float | None = None,
        effort: int = 1,
        max_pixels: int = MAX_PIXELS,
        sections: tuple[Section, ...] = (),
    ) -> Encoded:
        """The largest file not over `bpp` or `file_bytes`, or the smallest that reaches `psnr_db`.

        Give exactly one. The analysis runs once; a search of more effort begins at the quality that one pass needs.
        RdcError with the reachable range if there is no such quality, UsageError for a model of one rate, BadInput as
        `compress`.
        """
        self.refuse_single_rate()
        targets = [target for target in (bpp, file_bytes, psnr_db) if target is not None]
        if len(targets) != 1 or not isinstance(targets[0], Real) or not targets[0] > 0:
            raise UsageError("give one of bpp, file_bytes and psnr_db, above 0")
        analysed = self.analyse(image, max_pixels, sections)

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
        """The bytes of an .rdc file to the colours of the picture, uint8 (H, W, 3); `picture_of` adds its sections.

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

    def decode_latents(self, header: Header, stream: bytes) -> Latents:
        """y_hat in quantised units, (h, w, M); errors as `decompress`."""
        if (header.tables_hash, header.entropy_hash, header.synthesis_hash) != (self.tables.hash(), *self.hashes):
            raise NeedsModel(f"the file was made with other weights {header.tag} than those here: give them with -m")
        if (header.quality == SINGLE_RATE) != self.single_rate:
            wrong = (
                "a quality in the file, but a single rate" if self.single_rate else "no quality in the file, but rates"
            )
            raise BadInput(f"{wrong} in {header.tag}: get the file again from its source")
        sides = latent_size(*self._padded(header.height, header.width))
        y_hat, crc = self.engine.decode(stream, *sides, header.quality)
        if crc != header.symbols_crc:
            raise BadInput("the decoded symbols are not those that were coded: get the file again from its source")
        return y_hat

    def synthesise(self, y_hat: Latents, quality: float | None, height: int, width: int) -> Image:
        """Undo the gains and run the synthesis transform: y_hat (h, w, M) to uint8 (height, width, 3)."""
        tenths = self._tenths(quality)
        return self.engine.synthesise(y_hat, self._gain(tenths), tenths, height, width)

    @property
    def single_rate(self) -> bool:
        """Whether the model has a single rate and takes no quality."""
        return self.config.lmbda is not None

    def refuse_single_rate(self) -> None:
        """UsageError if the model has a single rate: it takes neither a quality nor a size."""
        if self.single_rate:
            rate = f"lmbda {self.config.lmbda:g}"
            raise UsageError(f"{self.info.tag} has a single rate ({rate}): leave out the quality or target")

    def _tenths(self, quality: float | None) -> int:
        """The quality, as a header holds it."""
        if quality is not None:
            self.refuse_single_rate()
        if self.single_rate:
            return SINGLE_RATE
        if quality is None:
            quality = DEFAULT_QUALITY
        if not isinstance(quality, Real) or not 0 <= quality <= 100:
            raise UsageError(f"quality {quality!r} is no number from 0 to 100")
        return round(quality * 10)


def search_steps(effort: int) -> int:
    """Steps of the encoder's search: none for effort 1, then 12, 25, 50 and so on. UsageError beyond 1..9."""
    if not isinstance(effort, Integral) or effort not in EFFORTS:
        raise UsageError(f"effort {effort!r} is no whole number from 1 to 9")
    return 0 if effort == 1 else 25 * 2**effort // 8


def _check_image(image: Image) -> None:
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f"a codec takes an array, not {type(image).__name__}: rdcodec.compress takes other pictures too"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UsageError(f"a picture is uint8 (height, width, 3), not {image.dtype} {image.shape}")


def torch_engine() -> "type[TorchEngine]":
    """The engine that needs torch; NeedsModel where that is not installed."""
    try:
        from rdcodec.codec.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise NeedsModel(NO_TORCH) from None
    return TorchEngine


def load(model: str | Path = "I", device: str = "cpu", engine: str | None = None) -> Codec:
    """A codec by name ("I": its newest weights), tag ("I.3") or run folder (a Path, or text with a slash: "./I").

    engine: "native" or "torch"; None for the core where it runs the model.
    NeedsModel if it, its weights or torch are not here and needed; UsageError for a device that is not here.
    """
    path = find_weights(model)
    return _load(path, path.stat().st_mtime_ns, _device(device), engine)


def _device(name: str) -> str:
    """ "cpu" or "cuda" for "auto" too; UsageError as `models.precision.pick_device`."""
    if name == "cpu":
        return name
    try:
        from rdcodec.models.precision import pick_device
    except ModuleNotFoundError:
        if name == "auto":
            return "cpu"
        torch_engine()
    return pick_device(name).type


@lru_cache(maxsize=4)
def _load(path: Path, modified_ns: int, device: str, engine: str | None) -> Codec:
    """Kept while the file stays the same: a run that continues writes new weights."""
    return Codec(read_weights(path), device, engine)


def codec_for(header: Header, model: str | Path | None = None, device: str = "cpu") -> Codec:
    """The codec that a file asks for by its tag, or the given one."""
    if model is None and header.tag.endswith(f".{UNRELEASED}"):
        raise NeedsModel(f"the file was made with unreleased weights ({header.tag}); give their run folder with -m")
    return load(header.tag if model is None else model, device)
