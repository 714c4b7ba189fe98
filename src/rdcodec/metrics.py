"""Metrics of decoded pictures, in float64, and `METRICS`, from which everything else takes them.

Evaluation, comparison, curves, result files, store and tables read the records of `METRICS`. To add a metric, write
its function and its record here, and its name in `store/results.schema.json`. PSNR and MS-SSIM are here, what models
the eye more closely in `perceptual.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rdcodec import perceptual

Pixels: TypeAlias = NDArray[np.uint8]
Array: TypeAlias = NDArray[np.float64]

PEAK = 255.0
BT601 = np.array([0.299, 0.587, 0.114])

# Wang, Simoncelli, Bovik, "Multi-scale structural similarity", Asilomar 2003.
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_SIZE, WINDOW_SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
MS_SSIM_MIN_SIDE = (WINDOW_SIZE - 1) * 2 ** (len(MS_WEIGHTS) - 1) + 1
"""161: below it the window no longer fits the coarsest of the five scales."""


def psnr_db(a: Pixels, b: Pixels) -> float:
    """PSNR in dB over all three channels together; `inf` if the images are equal.

    a, b: uint8 (height, width, 3). Raises ValueError unless both are that, with one shape.
    """
    _check_pair(a, b)
    return _psnr_db(a.astype(np.float64) - b)


def psnr_y_db(a: Pixels, b: Pixels) -> float:
    """PSNR in dB of luma alone (BT.601, full range, not rounded); `inf` if the lumas are equal.

    a, b: uint8 (height, width, 3). Raises ValueError unless both are that, with one shape.
    """
    _check_pair(a, b)
    return _psnr_db((a.astype(np.float64) - b) @ BT601)


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """Five-scale MS-SSIM, mean over the RGB channels, at most 1; None for a side under 161 pixels.

    a, b: uint8 (height, width, 3). Raises ValueError unless both are that, with one shape.
    Smaller images would need fewer scales or a smaller window, and the result could not be set beside
    any other. Window and weights are those of Wang et al. 2003, without padding. Channels are taken one
    by one, negative terms are cut to zero and an odd side is halved with a border of zeros, as
    `pytorch_msssim` does, which gave most published figures of learned codecs.
    """
    _check_pair(a, b)
    if min(a.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    x, y = (np.ascontiguousarray(np.moveaxis(image, -1, 0), dtype=np.float64) for image in (a, b))
    product = np.ones(3)
    for scale, weight in enumerate(MS_WEIGHTS):
        if scale:
            x, y = _halve(x), _halve(y)
        luminance, contrast = _ssim_terms(x, y)
        last = scale == len(MS_WEIGHTS) - 1
        term = (luminance * contrast if last else contrast).mean(axis=(1, 2))
        product *= np.maximum(term, 0.0) ** weight
    return float(product.mean())


def ssimulacra2(a: Pixels, b: Pixels) -> float | None:
    """SSIMULACRA 2 of the original `a` and its copy `b`, at most 100; None for a side under 8 pixels.

    a, b: uint8 (height, width, 3), sRGB. Raises ValueError unless both are that, with one shape.
    """
    _check_pair(a, b)
    return perceptual.ssimulacra2(a, b)


def psnr_hvsm_db(a: Pixels, b: Pixels) -> float | None:
    """PSNR-HVS-M in dB of luma (BT.601, full range, not rounded); `inf` where no difference can be seen.

    a, b: uint8 (height, width, 3). Raises ValueError unless both are that, with one shape. None for a side under
    8 pixels.
    """
    _check_pair(a, b)
    return perceptual.psnr_hvsm(a @ BT601, b @ BT601)


def ms_ssim_db(value: float | None) -> float | None:
    """MS-SSIM, of a picture or the mean over pictures, in dB: -10 log10(1 - value); None for None and for 1."""
    return None if value is None or value >= 1.0 else -10.0 * math.log10(1.0 - value)


@dataclass(frozen=True)
class Metric:
    """What is known of a metric. Higher is better; of several pictures the mean counts.

    name: in result files, with its unit. heading, digits: in tables. of: its value for two pictures as `psnr_db` takes
    them, None where it has none. source, convert: of a metric that is another's value on another scale, of a picture
    and of a mean alike. curves: whether rate-distortion curves can be drawn over it. equal: of two equal pictures,
    where no number can stand in a file. asked: it takes longer and is measured where it is asked for. eye: its BD-rate
    stands beside that by PSNR, since codecs tuned for the eye are not judged on PSNR alone. limits: lowest and highest
    value that is plausible. compressai: its names in CompressAI's results; compare: in Codec-Compare's, and what it is.
    """

    name: str
    heading: str
    digits: int
    of: Callable[[Pixels, Pixels], float | None] | None = None
    source: str = ""
    convert: Callable[[float | None], float | None] = lambda value: value
    curves: bool = True
    equal: float | None = None
    asked: bool = False
    eye: bool = False
    limits: tuple[float, float] = (-math.inf, math.inf)
    compressai: tuple[str, ...] = ()
    compare: tuple[str, str] | None = None

    @property
    def short(self) -> str:
        """Name without the unit, as `--metric` takes it."""
        return self.name.removesuffix("_db")

    @property
    def title(self) -> str:
        """Heading without the unit."""
        return self.heading.removesuffix(self.unit)

    @property
    def unit(self) -> str:
        """As it follows a number: " dB", or nothing."""
        return " dB" if self.name.endswith("_db") else ""

    def read(self, values: Mapping[str, Any]) -> float | None:
        """Its value among others by name; None where it is not known."""
        return self.convert(values.get(self.source)) if self.source else values.get(self.name)


METRICS = (
    Metric(
        *("psnr_db", "PSNR dB", 2, psnr_db),
        equal=math.inf,
        limits=(5.0, 100.0),
        compressai=("psnr-rgb", "psnr"),
        compare=("psnr", "Distortion metric Peak Signal-to-Noise Ratio, over RGB"),
    ),
    Metric(
        *("psnr_y_db", "PSNR-Y dB", 2, psnr_y_db),
        equal=math.inf,
        limits=(5.0, 100.0),
        compare=("psnr_y", "Distortion metric Peak Signal-to-Noise Ratio of luma (BT.601)"),
    ),
    Metric(
        *("ms_ssim", "MS-SSIM", 5, ms_ssim),
        curves=False,
        limits=(0.0, 1.0),
        compressai=("ms-ssim-rgb", "ms-ssim"),
        compare=("msssim", "Distortion metric Multi-Scale Structural Similarity Index Measure"),
    ),
    Metric("ms_ssim_db", "MS-SSIM dB", 2, source="ms_ssim", convert=ms_ssim_db, eye=True, limits=(0.0, 100.0)),
    Metric(
        *("ssimulacra2", "SSIMULACRA2", 2, ssimulacra2),
        asked=True,
        eye=True,
        limits=(-1000.0, 100.0),
        compare=("ssimulacra2", "Distortion metric SSIMULACRA 2"),
    ),
    Metric(
        *("psnr_hvsm_db", "PSNR-HVS-M dB", 2, psnr_hvsm_db),
        equal=math.inf,
        asked=True,
        eye=True,
        limits=(5.0, 170.0),
        compare=("psnr_hvsm", "Distortion metric PSNR-HVS-M of luma"),
    ),
)
"""In the order of tables and files. A name in a released file keeps its meaning."""
MEASURED = tuple(metric for metric in METRICS if metric.of)
"""Those that are computed from pictures, and stand in the rows of result files."""
ALWAYS = tuple(metric for metric in MEASURED if not metric.asked)
"""Those that are measured without being asked for."""
ASKED = {metric.short: metric for metric in MEASURED if metric.asked}
"""Those that `--metrics` takes."""
CURVES = {metric.short: metric for metric in METRICS if metric.curves}
"""Those that curves can be compared by, by their short names."""

EYE = tuple(name for name, metric in CURVES.items() if metric.eye)
"""Short names of those that stand beside PSNR."""


def measure(a: Pixels, b: Pixels, more: Sequence[Metric] = ()) -> dict[str, float | None]:
    """Every metric of `ALWAYS`, and `more`, of the original `a` and its copy `b`, by name."""
    return {metric.name: metric.of(a, b) for metric in MEASURED if metric.of and (not metric.asked or metric in more)}


def _check_pair(a: Pixels, b: Pixels) -> None:
    for image in (a, b):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"expected uint8 (height, width, 3), got {image.dtype} {image.shape}")
    if a.shape != b.shape:
        raise ValueError(f"images differ in shape: {a.shape} and {b.shape}")


def _psnr_db(difference: Array) -> float:
    mse = float(np.mean(np.square(difference)))
    return 10.0 * math.log10(PEAK**2 / mse) if mse else math.inf


def _ssim_terms(x: Array, y: Array) -> tuple[Array, Array]:
    """Luminance term and contrast-structure term of SSIM at every window; x, y (3, H, W)."""
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    contrast = (2 * cov + C2) / (var_x + var_y + C2)
    return luminance, contrast


def _gaussian_window() -> list[float]:
    offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    window = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    return [float(w) for w in window / window.sum()]


def _blur(x: Array) -> Array:
    """Separable Gaussian over the last two axes, valid windows only; (3, H, W) to (3, H-10, W-10)."""
    window, centre = _gaussian_window(), WINDOW_SIZE // 2
    for axis in (1, 2):
        v = np.moveaxis(x, axis, 0)
        n = len(v) - WINDOW_SIZE + 1
        out = window[centre] * v[centre : centre + n]
        for i in range(centre):  # the window is symmetric: add the pair, multiply once
            j = WINDOW_SIZE - 1 - i
            out += window[i] * (v[i : i + n] + v[j : j + n])
        x = np.moveaxis(out, 0, axis)
    return x


def _halve(x: Array) -> Array:
    """Mean over 2x2 blocks; an odd side gets one zero on either end first; (3, H, W)."""
    odd_h, odd_w = x.shape[1] % 2, x.shape[2] % 2
    if odd_h or odd_w:
        x = np.pad(x, ((0, 0), (odd_h, odd_h), (odd_w, odd_w)))
        x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    return 0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])
