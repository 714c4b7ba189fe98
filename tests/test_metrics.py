"""Metrics against formulas and other programs' figures, and against bad input."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from pytorch_msssim import ms_ssim as reference_ms_ssim

import rdcodec
from rdcodec import perceptual
from rdcodec.metrics import (
    ASKED,
    MS_SSIM_MIN_SIDE,
    MS_WEIGHTS,
    ms_ssim,
    ms_ssim_db,
    psnr_db,
    psnr_hvsm_db,
    psnr_y_db,
    ssimulacra2,
)

Picture = NDArray[np.uint8]

# What multiscale_structural_similarity_index_measure(b, a, data_range=255.0) of torchmetrics 1.9.0 gives in float64:
# a, b: `_waves` of this height and width in 256 levels, and in so many.
TORCHMETRICS = {
    (176, 192, 6): 0.975042643,
    (183, 250, 4): 0.937070734,
    (176, 256, 2): 0.735196424,
}


# What libjxl's tool ssimulacra2 (of 2023) gives for such pictures as PNG, and psnr_hvs_hvsm of psnr-hvsm 0.3.0 for
# their lumas, cut to whole blocks. Sides down to 8 pixels: there the tool gives fewer scales the weights of others.
OTHERS = {
    (176, 192, 6): (41.21176387, 26.55175980),
    (183, 250, 52): (91.46822861, 50.96371249),
    (64, 96, 18): (75.54734945, 38.66451317),
    (31, 17, 86): (96.54069972, 54.02854078),
    (8, 9, 4): (81.29028095, 18.87031435),
}


def _smooth(height: int, width: int, seed: int = 0) -> Picture:
    """A picture with structure at every scale."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _noisy(image: Picture, sigma: float, seed: int = 1) -> Picture:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _reference(a: Picture, b: Picture) -> float:
    x, y = (torch.from_numpy(v.copy()).permute(2, 0, 1)[None].float() for v in (a, b))
    return float(reference_ms_ssim(x, y, data_range=255))


def _waves(height: int, width: int, levels: int) -> Picture:
    """A colour picture by formula, the same with any library, in so many levels."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x * x / (90.0 + 40 * c) + y / 9.0) + np.sin((x - 2 * y) / (3.0 + 11 * c)) for c in range(3)]
    return (np.floor((np.stack(waves, axis=-1) + 2.001) / 4.002 * levels) * (255 // (levels - 1))).astype(np.uint8)


def _as_torchmetrics(a: Picture, b: Picture, habits: bool) -> float:
    """MS-SSIM by operations of torch, with or without what torchmetrics does otherwise than pytorch_msssim.

    Each scale is a mean over all channels, where others multiply the scales of one channel; the coarsest scale counts
    windows on a reflected border; an odd side loses its last row or column, where others add a zero at both ends.
    """
    x, y = (torch.from_numpy(v.copy()).permute(2, 0, 1)[:, None].double() for v in (a, b))
    window = torch.exp(-((torch.arange(11).double() - 5) ** 2) / (2 * 1.5**2))
    kernel = torch.outer(window, window)[None, None] / window.sum() ** 2
    product = torch.ones(3).double()
    for scale, weight in enumerate(MS_WEIGHTS):
        last = scale == len(MS_WEIGHTS) - 1
        border = 5 if last and habits else 0
        p, q = (F.pad(v, (border,) * 4, mode="reflect") for v in (x, y))
        mean_p, mean_q, pp, qq, pq = (F.conv2d(v, kernel) for v in (p, q, p * p, q * q, p * q))
        term = (2 * (pq - mean_p * mean_q) + 58.5225) / (pp - mean_p**2 + qq - mean_q**2 + 58.5225)
        if last:
            term *= (2 * mean_p * mean_q + 6.5025) / (mean_p**2 + mean_q**2 + 6.5025)
        product *= term.mean(dim=(0, 1, 2, 3) if habits else (1, 2, 3)).relu() ** weight
        zeros = (0, 0) if habits else (x.shape[2] % 2, x.shape[3] % 2)
        x, y = (F.avg_pool2d(v, 2, padding=zeros) for v in (x, y))
    return float(product.mean())


def test_psnr_of_one_level_everywhere() -> None:
    a = np.full((8, 9, 3), 100, np.uint8)
    assert psnr_db(a, a + np.uint8(1)) == pytest.approx(20 * math.log10(255))


def test_psnr_does_not_wrap_around() -> None:
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr_db(black, white) == psnr_db(white, black) == 0.0


def test_psnr_takes_the_channels_together() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    b = a.copy()
    b[..., 0] = 30
    assert psnr_db(a, b) == pytest.approx(10 * math.log10(255**2 / (30**2 / 3)))


def test_luma_psnr_weighs_the_channels() -> None:
    a = np.zeros((4, 4, 3), np.uint8)
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        b = a.copy()
        b[..., channel] = 100
        assert psnr_y_db(a, b) == pytest.approx(-20 * math.log10(weight * 100 / 255))


def test_equal_images() -> None:
    a = _smooth(170, 200)
    assert psnr_db(a, a) == psnr_y_db(a, a) == math.inf
    assert ms_ssim(a, a) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("height", "width", "sigma"), [(161, 161, 2.0), (176, 192, 25.0), (163, 250, 8.0), (255, 171, 25.0)]
)
def test_ms_ssim_is_that_of_pytorch_msssim(height: int, width: int, sigma: float) -> None:
    a = _smooth(height, width)
    b = _noisy(a, sigma)
    assert ms_ssim(a, b) == pytest.approx(_reference(a, b), abs=1e-5)


@pytest.mark.parametrize(("height", "width", "levels"), TORCHMETRICS)
def test_ms_ssim_is_that_of_torchmetrics_but_for_three_habits(height: int, width: int, levels: int) -> None:
    a, b = _waves(height, width, 256), _waves(height, width, levels)
    found = TORCHMETRICS[height, width, levels]
    assert _as_torchmetrics(a, b, habits=True) == pytest.approx(found, abs=1e-7)
    assert _as_torchmetrics(a, b, habits=False) == pytest.approx(ms_ssim(a, b), abs=1e-7)
    assert ms_ssim(a, b) != pytest.approx(found, abs=1e-6)  # the switch does something


def test_ms_ssim_of_opposites_is_cut_at_zero() -> None:
    a = _noisy(np.full((176, 176, 3), 128, np.uint8), 60.0)
    b = 255 - a
    assert ms_ssim(a, b) == pytest.approx(_reference(a, b), abs=1e-6) == 0.0


@pytest.mark.parametrize(("height", "width", "levels"), OTHERS)
def test_metrics_of_the_eye_are_those_of_other_programs(height: int, width: int, levels: int) -> None:
    """The tool's recursive filter in float32 adds noise, most of it on large smooth pictures."""
    a, b = _waves(height, width, 256), _waves(height, width, levels)
    of_libjxl, of_hvsm = OTHERS[height, width, levels]
    assert ssimulacra2(a, b) == pytest.approx(of_libjxl, abs=0.01)
    assert psnr_hvsm_db(a, b) == pytest.approx(of_hvsm, abs=1e-5)


def test_the_window_is_libjxls_recursive_filter() -> None:
    """One pass over a line as `FastGaussian1D` runs it: each output from two inputs and the two outputs before."""
    line = np.random.default_rng(3).random(40)
    omega = np.array([1, 3, 5]) * math.pi / 10
    taps = np.array(perceptual._TAPS)
    beta = np.linalg.solve(np.cos(np.outer(np.arange(3), omega)), taps[:3])
    before, last = np.zeros(3), np.zeros(3)
    wide = np.pad(line, 20)
    out = []
    for n in range(-4, 40):
        pair = wide[20 + n - 6] + wide[20 + n + 4]
        before, last = last, -beta * np.cos(6 * omega) * pair + 2 * np.cos(omega) * last - before
        out.append(last.sum())
    found = perceptual._blur(line[:, None] * np.ones((1, 9)))[:, 4]
    assert np.allclose(out[4:], found, atol=1e-12)
    assert taps[0] + 2 * taps[1:].sum() == pytest.approx(1.0, abs=1e-12)
    assert 2 * (np.arange(5) ** 2 @ taps) == pytest.approx(1.5**2, abs=1e-9)


def test_metrics_of_the_eye_know_equal_and_worse_pictures() -> None:
    a = _smooth(170, 203)
    assert ssimulacra2(a, a) == 100.0 and psnr_hvsm_db(a, a) == math.inf
    for metric in ASKED.values():
        assert metric.of
        little, much = metric.of(a, _noisy(a, 3.0)), metric.of(a, _noisy(a, 20.0))
        assert little is not None and much is not None and little > much + 5
    assert ssimulacra2(a[:7], a[:7]) is None and psnr_hvsm_db(a[:, :7], a[:, :7]) is None


def test_what_a_block_hides_does_not_count() -> None:
    """The same small error is seen on a flat block and hidden by a busy one; no block hides its mean."""
    busy = np.random.default_rng(4).integers(0, 2, (8, 8)) * 200.0
    grating = 2.0 * (-1.0) ** np.arange(8)
    assert perceptual.psnr_hvsm(busy, busy + grating) == math.inf
    assert perceptual.psnr_hvsm(np.full((8, 8), 100.0), np.full((8, 8), 100.0) + grating) != math.inf
    assert perceptual.psnr_hvsm(busy, busy + 2.0) == pytest.approx(20 * math.log10(255 / (2.0 * 25.73509 / 16)))


def test_ms_ssim_needs_room_for_five_scales() -> None:
    assert ms_ssim(_smooth(MS_SSIM_MIN_SIDE - 1, 300), _smooth(MS_SSIM_MIN_SIDE - 1, 300, seed=2)) is None
    assert ms_ssim(_smooth(300, MS_SSIM_MIN_SIDE), _smooth(300, MS_SSIM_MIN_SIDE, seed=2)) is not None


def test_ms_ssim_on_the_scale_of_db() -> None:
    assert ms_ssim_db(0.99) == pytest.approx(20.0)
    assert ms_ssim_db(1.0) is None and ms_ssim_db(None) is None


@pytest.mark.parametrize("measure", [psnr_db, psnr_y_db, ms_ssim, ssimulacra2, psnr_hvsm_db])
@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32)),
        (np.zeros((0, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8)),
    ],
    ids=["shapes differ", "grey", "four channels", "float", "empty"],
)
def test_other_arrays_are_refused(measure: object, a: Picture, b: Picture) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match=r"expected uint8|differ in shape"):
        measure(a, b)


@pytest.mark.skipif("RDCODEC_KODAK" not in os.environ, reason="RDCODEC_KODAK names no folder of Kodak images")
def test_a_photograph_as_jpeg() -> None:
    photo = np.asarray(Image.open(Path(os.environ["RDCODEC_KODAK"]) / "kodim23.png").convert("RGB"))
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=30)
    decoded = np.asarray(Image.open(buffer))
    assert ms_ssim(photo, decoded) == pytest.approx(_reference(photo, decoded), abs=1e-5)
    assert psnr_y_db(photo, decoded) > psnr_db(photo, decoded)  # 4:2:0 loses more in chroma


def test_a_metric_is_one_record(tmp_path: Path) -> None:
    """With the record, and nothing else, a metric is measured, kept, shown and compared by; older files lack it."""
    program = """
import json, shlex, sys
from pathlib import Path
import rdcodec.metrics as metrics
mean_error = lambda a, b: -float(abs(a.astype(float) - b).mean())
metrics.METRICS += (metrics.Metric("nearness", "NEARNESS", 3, mean_error),)
metrics.MEASURED = tuple(metric for metric in metrics.METRICS if metric.of)
metrics.ALWAYS = tuple(metric for metric in metrics.MEASURED if not metric.asked)
metrics.CURVES["nearness"] = metrics.METRICS[-1]
from rdcodec.cli.main import main

def rdc(line):
    assert main(shlex.split(line)) == 0, line

rdc("eval jpeg --data photos -q 20,40,60,80 -o jpeg.json")
rdc("eval webp --data photos -q 20,40,60,80 -o webp.json")
rdc("bdrate --help")
rdc("bdrate jpeg.json webp.json --metric nearness")
rdc("report jpeg.json webp.json -o report")
assert "NEARNESS" in Path("report/results.md").read_text(encoding="utf-8")
record = json.loads(Path("jpeg.json").read_text())
columns = record["rows"]["columns"]
at = columns.index("nearness")
for row in (columns, *record["rows"]["values"]):
    del row[at]
del record["curve"]["nearness"]
Path("old.json").write_text(json.dumps(record))
rdc("report old.json webp.json -o mixed")
"""
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(Path(rdcodec.__file__).parent / "data" / "astronaut.png") as photo:
        photo.crop((60, 0, 240, 180)).save(photos / "a.png")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NEARNESS" in done.stdout and "BD-NEARNESS" in done.stdout and "nearness" in done.stdout
