"""Classical codecs, run locally, to measure against.

An anchor is one entry of `ANCHORS`: two functions between a uint8 RGB image and file bytes, and the settings
of its curve. To add one, write the two functions and the entry; `rd.evaluate` takes any of them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any

import numpy as np
import PIL
import PIL.Image
from PIL import features

from rdcodec.codec.image import Pixels
from rdcodec.errors import NeedsModel, RdcError
from rdcodec.measure import external

X265_MIN_SIDE = 32


@dataclass(frozen=True)
class Anchor:
    """A codec with whole files and one integer setting that raises rate and quality.

    encode takes uint8 RGB (height, width, 3) and a setting of `scale`; decode gives the same shape and type
    back. name: in commands and files; label: in tables and figures, as its built-in curve is called. settings: the
    points of its curve, eight or more, about 0.1 to 2 bpp on photographs. version names library and encoder and raises
    NeedsModel where the tool is missing.
    """

    name: str
    label: str
    summary: str
    scale: range
    settings: tuple[int, ...]
    encode: Callable[[Pixels, int], bytes]
    decode: Callable[[bytes], Pixels]
    version: Callable[[], str]

    def tag(self) -> str:
        """What exactly runs, options and versions, for a result's provenance. Raises NeedsModel."""
        return f"{self.summary}; {self.version()}"

    def found(self) -> bool:
        """Whether its tool is here."""
        try:
            return bool(self.version())
        except NeedsModel:
            return False


def at_file_bytes(anchor: Anchor, image: Pixels, target_bytes: int) -> tuple[int, bytes]:
    """Highest setting whose file has at most `target_bytes`, and that file.

    By bisection: where an encoder's sizes do not rise with its setting, the file still holds the target but
    may not be the best. Raises RdcError if even the lowest setting is too large.
    """
    low, high = 0, len(anchor.scale)
    best: tuple[int, bytes] | None = None
    while low < high:
        middle = (low + high) // 2
        setting = anchor.scale[middle]
        data = anchor.encode(image, setting)
        if len(data) <= target_bytes:
            best, low = (setting, data), middle + 1
        else:
            high = middle
    if best is None:
        raise RdcError(f"{anchor.name}: no setting gives {target_bytes} bytes or less; ask for a larger file")
    return best


def _pillow_encoder(fmt: str, **options: Any) -> Callable[[Pixels, int], bytes]:
    def encode(image: Pixels, setting: int) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(image).save(buffer, fmt, quality=setting, **options)
        return buffer.getvalue()

    return encode


def _pillow_decode(data: bytes) -> Pixels:
    with PIL.Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _pillow_version(library: str, feature: str) -> Callable[[], str]:
    def version() -> str:
        found = features.version(feature)
        if not found:
            raise NeedsModel(f"{library}: Pillow was built without it; install a Pillow wheel that has it")
        return f"{library} {found} (Pillow {PIL.__version__})"

    return version


def _heif() -> Any:
    try:
        return import_module("pillow_heif")
    except ImportError as error:
        raise NeedsModel("x265_444: pillow-heif is missing; pip install 'rdcodec[anchors]'") from error


def _x265_encode(image: Pixels, setting: int) -> bytes:
    if min(image.shape[:2]) < X265_MIN_SIDE:
        height, width = image.shape[:2]
        raise RdcError(f"x265_444: {width}x{height} is too small for x265; sides need {X265_MIN_SIDE} pixels")
    buffer = io.BytesIO()
    # For PSNR, as BPG is run: without the psychovisual terms, with which x265 also coarsens chroma by 6 QP
    # in 4:4:4 (9 % of rate on Kodak), and tuned for PSNR in place of SSIM (2 %).
    # About 400 bytes of each file are container: 0.008 bpp on a picture of 768x512.
    parameters = {
        "chroma": "444",
        "preset": "slow",
        "tune": "psnr",
        "tu-intra-depth": "4",
        "x265:psy-rd": "0",
        "x265:psy-rdoq": "0",
    }
    picture = _heif().from_pillow(PIL.Image.fromarray(image))
    picture.save(buffer, quality=setting, enc_params=parameters)
    return buffer.getvalue()


def _x265_decode(data: bytes) -> Pixels:
    picture = _heif().open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    return np.asarray(picture.to_pillow().convert("RGB"))


def _x265_version() -> str:
    heif = _heif()
    info = heif.libheif_info()
    encoder = info["encoders"].get("x265")
    if not encoder:
        raise NeedsModel("x265_444: this pillow-heif has no x265 encoder; install its wheel from PyPI")
    return f"{encoder} (libheif {info['libheif']}, pillow-heif {heif.__version__})"


def _jpeg2000_encode(image: Pixels, setting: int) -> bytes:
    buffer = io.BytesIO()
    # OpenJPEG is told a ratio to 24 bits per pixel, and cuts the stream there. Without mct, which Pillow leaves out,
    # R, G and B would be coded as three grey pictures.
    rate: dict[str, Any] = {"quality_mode": "rates", "quality_layers": [2400 / setting]}
    PIL.Image.fromarray(image).save(buffer, "JPEG2000", irreversible=True, mct=1, **rate)
    return buffer.getvalue()


def _jxl() -> Any:
    try:
        return import_module("pillow_jxl")
    except ImportError as error:
        raise NeedsModel("jxl: pillow-jxl-plugin is missing; pip install 'rdcodec[anchors]'") from error


def _jxl_encode(image: Pixels, setting: int) -> bytes:
    _jxl()
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "JXL", quality=setting, effort=7, num_threads=1)
    return buffer.getvalue()


def _jxl_decode(data: bytes) -> Pixels:
    _jxl()
    return _pillow_decode(data)


def _jxl_version() -> str:
    _jxl()
    return f"libjxl of pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')} (Pillow {PIL.__version__})"


_AVIF = {"codec": "aom", "speed": 4, "autotiling": False, "max_threads": 1, "advanced": {"tune": "psnr"}}
_AVIF_EYE = {**_AVIF, "advanced": {"tune": "iq"}}

_ALL = (
    Anchor(
        "jpeg",
        "JPEG 4:2:0 optimised (Pillow)",
        "JPEG 4:2:0, optimised Huffman tables",
        scale=range(1, 101),
        settings=(10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95),
        encode=_pillow_encoder("JPEG", optimize=True, subsampling="4:2:0"),
        decode=_pillow_decode,
        version=_pillow_version("libjpeg-turbo", "libjpeg_turbo"),
    ),
    Anchor(
        "webp",
        "WebP method 6 (Pillow)",
        "WebP lossy, method 6",
        scale=range(0, 101),
        settings=(0, 5, 15, 30, 45, 60, 75, 83, 90, 95),
        encode=_pillow_encoder("WEBP", method=6),
        decode=_pillow_decode,
        version=_pillow_version("libwebp", "webp"),
    ),
    Anchor(
        "avif444",
        "AVIF 4:4:4 (libaom, Pillow)",
        "AVIF 4:4:4 by libaom, speed 4, tuned for PSNR",
        scale=range(0, 100),
        settings=(5, 15, 25, 35, 45, 55, 65, 75, 85),
        encode=_pillow_encoder("AVIF", subsampling="4:4:4", **_AVIF),
        decode=_pillow_decode,
        version=_pillow_version("libavif", "avif"),
    ),
    Anchor(
        "x265_444",
        "x265 4:4:4 (pillow-heif)",
        "HEIC 4:4:4 by x265, preset slow, tuned for PSNR, no psychovisual terms",
        scale=range(0, 100),
        settings=(5, 10, 15, 20, 26, 32, 38, 44, 50, 56),
        encode=_x265_encode,
        decode=_x265_decode,
        version=_x265_version,
    ),
    Anchor(
        "jpeg_default",
        "JPEG 4:2:0 (Pillow)",
        "JPEG as Pillow writes it: 4:2:0, the standard's Huffman tables",
        scale=range(1, 101),
        settings=(10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95),
        encode=_pillow_encoder("JPEG"),
        decode=_pillow_decode,
        version=_pillow_version("libjpeg-turbo", "libjpeg_turbo"),
    ),
    Anchor(
        "webp_m4",
        "WebP method 4 (Pillow)",
        "WebP lossy, method 4 (Pillow's own choice)",
        scale=range(0, 101),
        settings=(0, 5, 15, 30, 45, 60, 75, 83, 90, 95),
        encode=_pillow_encoder("WEBP", method=4),
        decode=_pillow_decode,
        version=_pillow_version("libwebp", "webp"),
    ),
    Anchor(
        "jpeg2000",
        "JPEG 2000 (OpenJPEG, Pillow)",
        "JPEG 2000 by OpenJPEG, 9-7 wavelet, colour transform, setting is the rate in hundredths of a bit per pixel",
        scale=range(5, 2401),
        settings=(10, 20, 30, 50, 75, 100, 150, 200, 300),
        encode=_jpeg2000_encode,
        decode=_pillow_decode,
        version=_pillow_version("OpenJPEG", "jpg_2000"),
    ),
    Anchor(
        "avif420",
        "AVIF 4:2:0 (libaom, Pillow)",
        "AVIF 4:2:0 by libaom, speed 4, tuned for PSNR",
        scale=range(0, 100),
        settings=(5, 15, 25, 35, 45, 55, 65, 75, 85),
        encode=_pillow_encoder("AVIF", subsampling="4:2:0", **_AVIF),
        decode=_pillow_decode,
        version=_pillow_version("libavif", "avif"),
    ),
    Anchor(
        "avif_eye",
        "AVIF for the eye (libaom, Pillow)",
        "AVIF 4:2:0 by libaom, speed 4, tuned for the eye (iq)",
        scale=range(0, 100),
        settings=(5, 15, 25, 35, 45, 55, 65, 75, 85),
        encode=_pillow_encoder("AVIF", subsampling="4:2:0", **_AVIF_EYE),
        decode=_pillow_decode,
        version=_pillow_version("libavif", "avif"),
    ),
    Anchor(
        "jxl",
        "JPEG XL (libjxl, effort 7)",
        "JPEG XL, VarDCT, effort 7",
        scale=range(1, 100),
        settings=(5, 15, 30, 45, 60, 70, 80, 86, 90, 94),
        encode=_jxl_encode,
        decode=_jxl_decode,
        version=_jxl_version,
    ),
    Anchor(
        "cjxl",
        "JPEG XL (cjxl, effort 7)",
        "JPEG XL by cjxl, effort 7",
        scale=range(5, 100),  # older versions refuse less
        settings=(5, 15, 30, 45, 60, 70, 80, 86, 90, 94),
        encode=external.cjxl_encode,
        decode=external.cjxl_decode,
        version=external.cjxl_version,
    ),
    Anchor(
        "mozjpeg",
        "JPEG 4:2:0 (mozjpeg)",
        "JPEG 4:2:0 by mozjpeg, tuned for PSNR",
        scale=range(1, 101),
        settings=(10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95),
        encode=external.mozjpeg_encode,
        decode=_pillow_decode,
        version=external.mozjpeg_version,
    ),
    Anchor(
        "bpg",
        "BPG 4:4:4 (bpgenc, x265)",
        "BPG 4:4:4 by bpgenc, 8 bits, level 9, setting is 51 - QP",
        scale=range(0, 52),
        settings=(6, 9, 12, 15, 18, 21, 24, 27, 30, 33),
        encode=external.bpg_encode,
        decode=external.bpg_decode,
        version=external.bpg_version,
    ),
    Anchor(
        "vvenc",
        "VVC 4:2:0 (VVenC, slow)",
        "VVC intra 4:2:0 by VVenC, preset slow, 10 bits, setting is 63 - QP",
        scale=range(0, 64),
        settings=(18, 21, 24, 27, 30, 33, 36, 39, 42, 45),
        encode=external.vvenc_encode,
        decode=external.vvenc_decode,
        version=external.vvenc_version,
    ),
    Anchor(
        "vtm",
        "VVC 4:4:4 (VTM)",
        "VVC intra 4:4:4 by VTM, 10 bits, setting is 63 - QP",
        scale=range(0, 64),
        settings=(18, 21, 24, 27, 30, 33, 36, 39, 42, 45),
        encode=external.vtm_encode,
        decode=external.vtm_decode,
        version=external.vtm_version,
    ),
)

ANCHORS: dict[str, Anchor] = {anchor.name: anchor for anchor in _ALL}
"""Every anchor by name, installed or not: `version` tells."""


def shown_name(codec: str) -> str:
    """What tables and figures call a codec: the label of a classical one, or else its own name."""
    return ANCHORS[codec].label if codec in ANCHORS else codec
