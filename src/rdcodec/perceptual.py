"""Metrics that model the eye, by NumPy alone: SSIMULACRA 2 and PSNR-HVS-M, in float64.

Pictures are uint8 (height, width, 3), sRGB, of one shape; `metrics.py` has the records and checks the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
Array: TypeAlias = NDArray[np.float64]

SCALES = 6
SMALLEST = 8
"""Shortest side that has a value."""

# What follows defines the metric: tools/ssimulacra2.cc, tools/gauss_blur.cc and lib/jxl/cms/opsin_params.h of libjxl.
_OPSIN = np.array([[0.3, 0.622, 0.078], [0.23, 0.692, 0.078], [0.24342268924547819, 0.20476744424496821, 0.0]])
_OPSIN[2, 2] = 1.0 - _OPSIN[2].sum()
_BIAS = 0.0037930732552754493
_C2 = 0.0009
_RADIUS, _SIGMA = 5, 1.5
# By component (X, Y, B - Y) and scale: of the mean of SSIM error, new edges, lost edges, then of their 4-norms.
_WEIGHTS = np.array(
    [
        [0.0, 0.0007376606707406586, 0.0, 0.0, 0.0007793481682867309, 0.0],
        [0.0, 0.0004371155730107379, 0.0, 1.1041726426657346, 0.00066284834129271, 0.00015231632783718752],
        [0.0, 0.0016406437456599754, 0.0, 1.8422455520539298, 11.441172603757666, 0.0],
        [0.0007989109436015163, 0.000176816438078653, 0.0, 1.8787594979546387, 10.94906990605142, 0.0],
        [
            0.0007289346991508072,
            0.9677937080626833,
            0.0,
            0.00014003424285435884,
            0.9981766977854967,
            0.00031949755934435053,
        ],
        [0.0004550992113792063, 0.0, 0.0, 0.0013648766163243398, 0.0, 0.0],
        [0.0, 0.0, 0.0, 7.466890328078848, 0.0, 17.445833984131262],
        [0.0006235601634041466, 0.0, 0.0, 6.683678146179332, 0.00037724407979611296, 1.027889937768264],
        [225.20515300849274, 0.0, 0.0, 19.213238186143016, 0.0011401524586618361, 0.001237755635509985],
        [176.39317598450694, 0.0, 0.0, 24.43300999870476, 0.28520802612117757, 0.0004485436923833408],
        [0.0, 0.0, 0.0, 34.77906344483772, 44.835625328877896, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0008680556573291698, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0005313191874358747, 0.0, 0.00016533814161379112, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0004179171803251336, 0.0017290828234722833, 0.0],
        [0.0020827005846636437, 0.0, 0.0, 8.826982764996862, 23.19243343998926, 0.0],
        [
            95.1080498811086,
            0.9863978034400682,
            0.9834382792465353,
            0.0012286405048278493,
            171.2667255897307,
            0.9807858872435379,
        ],
        [0.0, 0.0, 0.0, 0.0005130064588990679, 0.0, 0.00010854057858411537],
    ]
).ravel()

# Annex K of the JPEG standard: steps for luma that the eye just does not see.
_JPEG_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
BLOCK = 8
UNSEEN = 1e-12
"""A mean square error under this is the DCT's rounding."""
_SENSITIVITY = 25.73509 / _JPEG_STEPS
_MASKING = (10.0 / _JPEG_STEPS) ** 2


def ssimulacra2(a: Pixels, b: Pixels) -> float | None:
    """SSIMULACRA 2 of the original `a` and its copy `b`: 100 for equal pictures, 70 is good, below 0 very bad.

    None for a side under 8 pixels. Not symmetric: new edges weigh more than lost ones. It is Sneyers' metric of 2022
    with the weights of April 2023, as libjxl's tool of that name computes it, without its rounding to float32.
    """
    if min(a.shape[:2]) < SMALLEST:
        return None
    norms = np.array(list(_scales(a, b))).swapaxes(0, 1).ravel()
    # Pictures too small for six scales take the weights in this order, too, as libjxl does: those of other scales.
    error = 0.9562382616834844 * float(norms @ _WEIGHTS[: norms.size])
    error = 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100.0 - 10.0 * error**0.6276336467831387 if error > 0 else 100.0


def psnr_hvsm(luma: Array, other: Array) -> float | None:
    """PSNR-HVS-M in dB of two lumas of range 0 to 255, (height, width); `inf` for no visible difference.

    None for a side under 8 pixels. Ponomarenko et al., "On between-coefficient contrast masking of DCT basis
    functions", VPQM 2007: differences of DCT coefficients by the eye's sensitivity, less what the block masks. Blocks
    of 8x8 do not overlap; rows and columns beyond the last whole block are left out.
    """
    if min(luma.shape) < BLOCK:
        return None
    first, second = _blocks(luma), _blocks(other)
    seen, copy = _dct(first), _dct(second)
    mask = np.maximum(_mask(first, seen), _mask(second, copy))[:, None, None] / _MASKING
    mask[:, 0, 0] = 0.0  # nothing masks the mean
    visible = np.maximum(np.abs(seen - copy) - mask, 0.0) * _SENSITIVITY
    error = float(np.mean(np.square(visible)))
    return 10.0 * math.log10(255.0**2 / error) if error > UNSEEN else math.inf


def _scales(a: Pixels, b: Pixels) -> Iterator[list[Array]]:
    """Per scale, the six norms of each component."""
    one, two = _linear(a), _linear(b)
    for scale in range(SCALES):
        if scale:
            if min(one.shape[1:]) < SMALLEST:  # as libjxl asks before it halves: the last scale may be smaller
                return
            one, two = _halve(one), _halve(two)
        yield [_norms(x, y) for x, y in zip(_opsin(one), _opsin(two), strict=True)]


def _linear(image: Pixels) -> Array:
    """Linear light, (3, height, width), of sRGB."""
    levels = np.arange(256) / 255.0
    curve = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return np.moveaxis(curve[image], -1, 0)


def _opsin(linear: Array) -> Array:
    """X, Y and B - Y of XYB, moved and stretched to about 0 to 1; (3, height, width)."""
    mixed = np.tensordot(_OPSIN, linear, axes=1) + _BIAS
    cones: Array = np.cbrt(np.maximum(mixed, 0.0)) - np.cbrt(_BIAS)
    long, middle, short = cones
    y = (long + middle) / 2
    return np.stack([(long - middle) / 2 * 14.0 + 0.42, y + 0.01, short - y + 0.55])


def _norms(x: Array, y: Array) -> Array:
    """Means of three error maps of a component (height, width), then their 4-norms."""
    mean_x, mean_y = _blur(x), _blur(y)
    covariance = _blur(x * y) - mean_x * mean_y
    variances = (_blur(x * x) - mean_x**2) + (_blur(y * y) - mean_y**2)
    similar = (1.0 - (mean_x - mean_y) ** 2) * (2.0 * covariance + _C2) / (variances + _C2)
    edges = (1.0 + np.abs(y - mean_y)) / (1.0 + np.abs(x - mean_x)) - 1.0
    maps = [np.maximum(error, 0.0) for error in (1.0 - similar, edges, -edges)]
    return np.array([error.mean() for error in maps] + [np.mean(np.square(error * error)) ** 0.25 for error in maps])


def _taps() -> list[float]:
    """Half of the window that libjxl's recursive filter amounts to: three cosines, the centre first.

    Charalampidis, "Recursive implementation of the Gaussian filter using truncated cosine functions", 2016: the sum
    is one, the variance that of the Gaussian, and the third condition sets the rest to the Gaussian's spectrum.
    """
    omega = np.array([1, 3, 5]) * math.pi / (2 * _RADIUS)
    sign = np.array([1, -1, 1])
    p = sign / np.tan(omega / 2)
    r = sign * p**2 / np.sin(omega)
    cross = np.cross(p, r)
    third = cross / cross[2]
    rho = np.exp(-(_SIGMA**2) * omega**2 / 2) / _RADIUS
    beta = np.linalg.solve(np.stack([p, r, third]), np.array([1.0, _RADIUS**2 - _SIGMA**2, third @ rho]))
    return [float(beta @ np.cos(omega * n)) for n in range(_RADIUS)]


_TAPS = _taps()


def _blur(x: Array) -> Array:
    """Nearly Gaussian, over both axes of (height, width); beyond the border is zero."""
    border = _RADIUS - 1
    for axis in (0, 1):
        wide = np.pad(x, [(border, border) if axis == other else (0, 0) for other in (0, 1)])
        v, out = np.moveaxis(wide, axis, 0), np.multiply(x, _TAPS[0])
        result, pair = np.moveaxis(out, axis, 0), np.moveaxis(np.empty_like(x), axis, 0)
        count = len(result)
        for n, tap in enumerate(_TAPS[1:], start=1):  # the window is symmetric: add the pair, multiply once
            np.add(v[border - n :][:count], v[border + n :][:count], out=pair)
            pair *= tap
            result += pair
        x = out
    return x


def _halve(x: Array) -> Array:
    """Mean over 2x2 pixels; an odd side repeats its last; (3, H, W)."""
    height, width = x.shape[1:]
    if height % 2 or width % 2:
        x = np.pad(x, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    return 0.25 * (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2])


def _blocks(luma: Array) -> Array:
    """Whole blocks, (count, 8, 8)."""
    rows, columns = (side // BLOCK for side in luma.shape)
    whole = luma[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return whole.swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)


def _dct(blocks: Array) -> Array:
    """Orthonormal DCT of blocks (count, 8, 8)."""
    n = np.arange(BLOCK)
    basis = np.cos(np.pi * n[:, None] * (2 * n + 1) / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    transformed: Array = basis @ blocks @ basis.T
    return transformed


def _mask(blocks: Array, coefficients: Array) -> Array:
    """How much each block hides: energy of its coefficients but the mean's, less where its quarters are even."""
    energy = (np.square(coefficients) * _MASKING).sum(axis=(1, 2)) - np.square(coefficients[:, 0, 0]) * _MASKING[0, 0]
    half = BLOCK // 2
    quarters = blocks.reshape(-1, 2, half, 2, half).swapaxes(2, 3).reshape(-1, 4, half * half)
    whole = _spread(blocks.reshape(-1, BLOCK * BLOCK))
    share = np.divide(_spread(quarters).sum(axis=1), whole, out=np.zeros_like(whole), where=whole > 0)
    mask: Array = np.sqrt(np.maximum(energy, 0.0) * share) / 32.0
    return mask


def _spread(values: Array) -> Array:
    """Variance times count over the last axis, as the reference has it."""
    spread: Array = values.var(axis=-1, ddof=1) * values.shape[-1]
    return spread
