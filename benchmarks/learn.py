"""Can every model learn? Each overfits four small crops until it beats JPEG there, and takes 100 steps on photographs.

    python benchmarks/learn.py --data photos.zip [--models G F] [--threads 2]

Crops: the middle 256x256 of four photographs, scaled down to 64x64. JPEG is Pillow's, optimised, 4:2:0; its rate counts
the coded scan alone, without the headers and tables that would be most of so small a file. A model has learned the
crops once its PSNR (of the four, on 8-bit pictures, rounded latents) is at least 30 dB and its estimated rate under
JPEG's at that PSNR; there it stops. The steps on photographs, two crops of 128x128 each, have learned if the loss of
the last 20 is under half of that of the first 10. The result file keeps the models that are done: what is in it with
the same settings is not run again.
"""

import argparse
import io
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from rdcodec.errors import RdcError
from rdcodec.measure.bdrate import Curve, saving
from rdcodec.measure.flops import count_parts
from rdcodec.measure.machine import machine
from rdcodec.measure.quality import psnr_db
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import CONFIGS, load_config
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.report.tables import markdown_table
from rdcodec.system import write_whole
from rdcodec.training.data import Batch, BatchMaker, Photo, decoded, load_photos
from rdcodec.training.loop import rate_distortion

RESULT = Path(__file__).parent.parent / "docs" / "results" / "learn.json"
MODELS = ("A", "B", "C", "D", "E", "F", "G", "charm2020", "elic", "mbt2018-mean", "swint-charm")
SETTING = {
    "seed": 0,
    "crops": 4,
    "crop_side": 64,
    "learning_rate": 5e-4,
    "warm_up": 20,
    "clip_norm": 1.0,
    "lmbda": 0.05,  # of the crops; photographs are rated with the model's own
    "most_steps": 600,
    "look_every": 20,
    "psnr_db": 30.0,
    "photo_steps": 100,
    "photo_learning_rate": 3e-4,
    "photo_batch": 2,
    "photo_side": 128,
}
CUT = 256  # pixels a side of a photograph that become a crop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="folder, zip or tar of photographs")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    record = kept(arguments.json)
    missing = [name for name in arguments.models if name not in record["models"]]
    photos = decoded(load_photos(arguments.data).train) if missing else []
    crops = [crop(photo) for photo in photos[: SETTING["crops"]]]
    print(HEADER, flush=True)
    for name in arguments.models:
        if name in missing:
            record["models"][name] = {**learn(name, crops, photos), "machine": machine()}
            write(arguments.json, record)
            arguments.json.with_suffix(".md").write_text(page(record), encoding="utf-8")
        print(row(name, record["models"][name]), flush=True)


def kept(path: Path) -> dict[str, Any]:
    """What the result file holds, nothing if its settings are others."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found if found.get("setting") == SETTING else {"setting": SETTING, "models": {}}


def write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1) + "\n")


def crop(photo: Photo) -> NDArray[np.uint8]:
    """The middle of a photograph, scaled down; uint8 (side, side, 3)."""
    top, left = ((side - CUT) // 2 for side in photo.pixels.shape[:2])
    middle = Image.fromarray(photo.pixels[top : top + CUT, left : left + CUT])
    return np.array(middle.resize((SETTING["crop_side"],) * 2, Image.Resampling.LANCZOS))


def learn(name: str, crops: Sequence[NDArray[np.uint8]], photos: Sequence[Photo]) -> dict[str, Any]:
    return {"crops": overfit(name, crops), "photographs": train_on(name, photos)}


def overfit(name: str, crops: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """Steps on the same crops, with new noise each, until JPEG is beaten or the steps are spent."""
    model = fresh(name)
    x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    jpeg = jpeg_curve(crops)
    looks: list[dict[str, Any]] = []
    losses = []
    began = time.perf_counter()
    for loss in steps(model, same(x, model), SETTING["most_steps"], SETTING["learning_rate"], SETTING["lmbda"]):
        losses.append(loss)
        if len(losses) % SETTING["look_every"] == 0:
            looks.append({"step": len(losses), **look(model, x, crops, jpeg)})
            if looks[-1]["beats_jpeg"]:
                break
    return {
        "learned": looks[-1]["beats_jpeg"],
        "steps": len(losses),
        "tflop": round(len(losses) * tflop_per_step(name, len(crops), SETTING["crop_side"]), 3),
        "seconds": round(time.perf_counter() - began, 1),
        "looks": looks,
        "losses": rounded(losses),
    }


def train_on(name: str, photos: Sequence[Photo]) -> dict[str, Any]:
    """Steps on random crops of photographs."""
    model = fresh(name)
    count, side = SETTING["photo_batch"], SETTING["photo_side"]
    maker = BatchMaker(photos, SETTING["seed"], model.config.latent_channels, model.entropy.hyper_channels)
    batches = (maker.batch(step, side, range(count), count) for step in range(SETTING["photo_steps"]))
    began = time.perf_counter()
    lmbda = model.config.lmbda
    losses = list(steps(model, batches, SETTING["photo_steps"], SETTING["photo_learning_rate"], lmbda))
    first, last = fmean(losses[:10]), fmean(losses[-20:])
    return {
        "learned": last < first / 2,
        "steps": len(losses),
        "tflop": round(len(losses) * tflop_per_step(name, count, side), 3),
        "seconds": round(time.perf_counter() - began, 1),
        "first_loss": round(first, 4),
        "last_loss": round(last, 4),
        "losses": rounded(losses),
    }


def fresh(name: str) -> ImageModel:
    torch.manual_seed(SETTING["seed"])
    return ImageModel(load_config(CONFIGS / f"{name}.toml")).to(memory_format=torch.channels_last)


def same(x: Tensor, model: ImageModel) -> Iterator[Batch]:
    """The same samples with new noise, again and again."""
    shapes = model.latent_shapes(*x.shape[2:])
    while True:
        yield Batch(x, torch.zeros(len(x)), Noise(*(torch.rand(len(x), *shape) - 0.5 for shape in shapes)))


def steps(model: ImageModel, batches: Iterator[Batch], count: int, rate: float, lmbda: float) -> Iterator[float]:
    """The loss, bpp + lmbda * MSE, of every step of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.99), fused=True)
    for step, batch in zip(range(count), batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / SETTING["warm_up"])
        loss = rate_distortion(model, batch, torch.full((len(batch.x),), lmbda), 0.0).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), SETTING["clip_norm"])
        if torch.isfinite(norm):
            optimizer.step()
        yield loss.item()


@torch.inference_mode()
def look(model: ImageModel, x: Tensor, crops: Sequence[NDArray[np.uint8]], jpeg: Curve) -> dict[str, Any]:
    """Rate and PSNR of the crops, in float32, and what JPEG's rate is at that PSNR."""
    out = model(x, torch.zeros(len(x)))
    decoded = out.x_hat.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    psnr = fmean(psnr_db(*pair) for pair in zip(crops, decoded, strict=True))
    bpp = (out.bits_y + out.bits_z).mean().item() / (x.shape[2] * x.shape[3])
    try:
        saved: float | None = saving(bpp, psnr, jpeg)
    except RdcError:  # where JPEG has no such PSNR
        saved = None
    beats = saved is not None and saved > 0 and psnr >= SETTING["psnr_db"]
    return {
        "bpp": round(bpp, 4),
        "psnr_db": round(psnr, 2),
        "saving_percent": saved and round(saved, 1),
        "beats_jpeg": beats,
    }


def jpeg_curve(crops: Sequence[NDArray[np.uint8]]) -> Curve:
    """Means over the crops of the rate of JPEG's scan and of PSNR."""
    points = []
    for quality in range(5, 96, 5):
        rates, psnrs = zip(*(jpeg_point(pixels, quality) for pixels in crops), strict=True)
        points.append((fmean(rates), fmean(psnrs)))
    return Curve.from_points("JPEG", points)


def jpeg_point(pixels: NDArray[np.uint8], quality: int) -> tuple[float, float]:
    """Bits per pixel of the coded scan, PSNR in dB."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")
    data = buffer.getvalue()
    at = data.rindex(b"\xff\xda") + 2  # start of scan; within a scan 0xff is followed by zero
    scan = len(data) - at - int.from_bytes(data[at : at + 2], "big") - 2  # less the end marker
    decoded = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return 8 * scan / (pixels.shape[0] * pixels.shape[1]), psnr_db(pixels, decoded)


def tflop_per_step(name: str, count: int, side: int) -> float:
    """Forward, and twice that backward, 2 per multiply-add."""
    model, x = blueprint(load_config(CONFIGS / f"{name}.toml")), torch.zeros(count, 3, side, side, device="meta")
    (cost,) = count_parts({"forward": lambda: model(x, torch.zeros(count, device="meta"))}, 1)
    return 3 * 2e-12 * cost.macs


def rounded(losses: Sequence[float]) -> list[float]:
    """Means of ten steps each."""
    return [round(fmean(losses[at : at + 10]), 4) for at in range(0, len(losses), 10)]


PAGE = """# Can every model learn?

Written by `benchmarks/learn.py`. Crops: steps until four crops of 64x64 take less than JPEG at the same PSNR, which is
at least 30 dB (its scan alone, without headers). Photographs: the loss, bpp + lmbda * MSE, over the first 10 and the
last 20 of 100 steps on two crops of 128x128. Computation is that of forward and backward passes.

"""


def page(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    columns = ["model", ">steps", ">TFLOP", ">bpp", ">PSNR dB", ">against JPEG"]
    columns += [">first loss", ">last loss", ">TFLOP", ""]
    rows = [cells(name, found) for name, found in sorted(record["models"].items())]
    return PAGE + markdown_table(columns, rows)


def cells(name: str, found: dict[str, Any]) -> list[str]:
    crops, photos = found["crops"], found["photographs"]
    last = crops["looks"][-1]
    saved = "-" if last["saving_percent"] is None else f"{-last['saving_percent']:+.0f} %"
    verdict = "learns" if crops["learned"] and photos["learned"] else "does not learn"
    return [
        *(name, str(crops["steps"]), f"{crops['tflop']:.1f}"),
        *(f"{last['bpp']:.3f}", f"{last['psnr_db']:.2f}", saved),
        *(f"{photos['first_loss']:.1f}", f"{photos['last_loss']:.1f}"),
        *(f"{photos['tflop']:.1f}", verdict),
    ]


HEADER = "model          crops: steps   TFLOP     bpp     dB  to JPEG     photographs: loss   TFLOP"


def row(name: str, found: dict[str, Any]) -> str:
    _, count, tflop, bpp, psnr, saved, first, last, more, verdict = cells(name, found)
    crops = f"{count:>13}{tflop:>8}{bpp:>8}{psnr:>7}{saved:>9}"
    return f"{name:14}{crops}   {first + ' -> ' + last:>19}{more:>8}  {verdict}"


if __name__ == "__main__":
    main()
