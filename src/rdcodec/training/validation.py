"""Rate and distortion on the held-out photographs, beside JPEG, WebP and x265 run once on the same pixels."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.errors import NeedsModel, RdcError
from rdcodec.measure.anchors import ANCHORS
from rdcodec.measure.bdrate import Curve, bd_rate, relative_rate
from rdcodec.measure.rd import Evaluation, evaluate, fingerprint
from rdcodec.measure.reading import read_results
from rdcodec.models.precision import fast_dtype
from rdcodec.models.scale import LMBDA_REFERENCE
from rdcodec.store.records import Result
from rdcodec.training.as_coded import Seen
from rdcodec.training.data import TELL_SECONDS, Photo

CLAIM_QUALITIES = (10, 25, 40, 55, 70, 85)
PICTURES = "validation slice"
VALIDATION_ANCHORS = ("jpeg", "webp", "x265_444")


def cut(photo: Photo) -> NDArray[np.uint8]:
    """The part of a photograph that needs no padding: sides cut to multiples of 64."""
    height, width = (side // 64 * 64 for side in photo.pixels.shape[:2])
    return np.ascontiguousarray(photo.pixels[:height, :width])


def validate(
    model: Seen,
    photos: Iterable[Photo],
    device: torch.device,
    qualities: Sequence[int] | None = None,
) -> dict[str, list[float]]:
    """Mean bpp (estimate on rounded latents), PSNR and mean squared error of 8-bit pictures, per quality.

    qualities: those of claims unless given; a model of one rate has a single point, whatever its quality is called.
    lmbda stands beside each.
    """
    if qualities is None:
        qualities = CLAIM_QUALITIES if model.config.lmbda is None else (0,)
    sums = torch.zeros(len(qualities), 3, dtype=torch.float64)
    count = 0
    for photo in photos:
        x = torch.from_numpy(cut(photo)).to(device).permute(2, 0, 1)[None].float()
        x = x.contiguous(memory_format=torch.channels_last)
        sums += torch.tensor([_rate_and_error(model, x, quality) for quality in qualities], dtype=torch.float64)
        count += 1
    bpp, psnr_db, mse = (sums / max(count, 1)).T.tolist()
    lmbda = model.lmbda(torch.tensor(qualities, dtype=torch.float32)).tolist()
    return {"quality": [float(q) for q in qualities], "lmbda": lmbda, "bpp": bpp, "psnr_db": psnr_db, "mse": mse}


def validation_loss(curve: dict[str, list[float]]) -> float:
    """Mean over the qualities of bpp + lmbda * MSE, each multiplied by (lmbda / LMBDA_REFERENCE)^-1/2.

    So weighted all rates count about alike; the weights are fixed, whatever the recipe's are.
    """
    lmbda = torch.tensor(curve["lmbda"], dtype=torch.float64)
    loss = torch.tensor(curve["bpp"]) + lmbda * torch.tensor(curve["mse"])
    return (loss * (lmbda / LMBDA_REFERENCE).rsqrt()).mean().item()


@torch.inference_mode()
def _rate_and_error(model: Seen, x: Tensor, quality: float) -> tuple[float, float, float]:
    dtype = fast_dtype(x.device)
    with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
        out = model(x, x.new_tensor([quality]))
    mse = (out.x_hat.clamp(0, 255).round() - x).double().square().mean()
    bits = (out.bits_y + out.bits_z).item()
    return bits / (x.shape[2] * x.shape[3]), (10 * torch.log10(255**2 / mse)).item(), mse.item()


def anchor_curves(photos: Sequence[Photo], cache: Path, say: Callable[[str], None]) -> dict[str, Curve]:
    """Curves of the anchors on the validation photographs; run once, then kept in the folder `cache`.

    An anchor whose library is not installed is left out, and said so.
    """
    images = _images(photos)
    curves: dict[str, Curve] = {}
    for name in VALIDATION_ANCHORS if images else ():
        try:
            what = hashlib.sha256(f"{fingerprint(images)} {ANCHORS[name].tag()}".encode()).hexdigest()[:12]
            path = cache / f"validation-{name}-{what}.json"
            if not path.exists():
                _run_anchor(name, images, path, say)
            curves[name] = Evaluation.load(path).curve()
        except NeedsModel as error:
            say(f"validation goes without {name}: {error}")
    return curves


def _run_anchor(name: str, images: dict[str, NDArray[np.uint8]], path: Path, say: Callable[[str], None]) -> None:
    anchor = ANCHORS[name]
    began = told = time.monotonic()
    done, count = 0, len(images) * len(anchor.settings)
    pixels = sum(image.shape[0] * image.shape[1] for image in images.values())

    def tell(_: object) -> None:
        nonlocal done, told
        done += 1
        if time.monotonic() - told > TELL_SECONDS:
            told = time.monotonic()
            say(f"{name}: {done} of {count} files, {told - began:.0f} s")

    what = f"{len(images)} validation photographs ({pixels / 1e6:.0f} MP)"
    say(f"coding {what} with {name} as {count} files to compare with")
    rows = evaluate(anchor, images, anchor.settings, progress=tell)
    path.parent.mkdir(parents=True, exist_ok=True)
    Evaluation.stamp(rows, codec=name, tag=anchor.tag(), dataset=PICTURES, images=images).save(path)
    say(f"{name} took {time.monotonic() - began:.0f} s, once for all runs in {path.parent}; --no-anchors does without")


def anchor_results(cache: Path) -> list[Result]:
    """What the anchors of a folder found, for the store."""
    paths = sorted(cache.glob("validation-*.json"))
    return [result for path in paths for result in read_results(path)]


def pictures_sha256(photos: Sequence[Photo]) -> str:
    """Of the validation photographs as they are coded, hexadecimal."""
    return fingerprint(_images(photos))


def _images(photos: Sequence[Photo]) -> dict[str, NDArray[np.uint8]]:
    return {photo.name: cut(photo) for photo in photos}


def bd_rates(curve: dict[str, list[float]], anchors: dict[str, Curve]) -> dict[str, float | None]:
    """BD-rate in percent against each anchor, None where the curves do not meet or a point is not finite.

    A single point has its difference in rate to the anchor at the same PSNR.
    """
    points = list(zip(curve["bpp"], curve["psnr_db"], strict=True))
    return {name: _percent(points, anchor) for name, anchor in anchors.items()}


def _percent(points: list[tuple[float, float]], anchor: Curve) -> float | None:
    if not np.isfinite(points).all():
        return None
    try:
        test = Curve.from_points("model", points)
        if len(test.bpp) == 1:
            return relative_rate(test.bpp[0], test.psnr_db[0], anchor)
        return bd_rate(test, anchor).value
    except (RdcError, ValueError):  # the second where there is no curve: a rate of zero
        return None


def validation_summary(
    model: Seen, photos: Sequence[Photo], anchors: dict[str, Curve], device: torch.device
) -> dict[str, Any]:
    """The curve of a model and its BD-rates, as one log record has them."""
    curve = validate(model, photos, device)
    return {**curve, "loss": validation_loss(curve), "bd_rate_percent": bd_rates(curve, anchors)}
