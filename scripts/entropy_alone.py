"""Go on with the entropy model of a finished run alone, on latents that are computed once.

    python scripts/entropy_alone.py RUN -o NEW --data photos.zip --minutes 15
    rdc train --resume NEW --data photos.zip

The entropy networks of a hyperprior have a fifth of the model's computation and learn last: with fixed transforms a
minute brings them five times as many steps. Nothing but the rate is left to learn, so that pictures stay as they are.

NEW gets run.json, the run's log with what is added, and restart.safetensors of the averaged weights; `rdc train
--resume` validates these and writes the weights, without another step.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rdcodec.errors import RdcError, UsageError
from rdcodec.measure.flops import count_parts
from rdcodec.models.base import ImageModel
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.precision import in_fast_dtype
from rdcodec.training.checkpoint import Progress, load_checkpoint, save_restart
from rdcodec.training.data import BatchMaker, load_photos
from rdcodec.training.loop import LOG_STEPS, update_average
from rdcodec.training.optimizer import make_optimizers
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Budget
from rdcodec.training.run import LOG

CROP, BATCH = 256, 8
WARM_STEPS = 50
AVERAGE_DECAY = 0.998
SAVE_SECONDS = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--crops", type=int, default=5000, help="whose latents are kept in memory, 0.3 MB each")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    try:
        go_on(parser.parse_args())
    except RdcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def go_on(asked: argparse.Namespace) -> None:
    """Train for `minutes` after the latents are there."""
    plan = Plan.read(asked.run)
    if plan.config.lmbda is None:
        raise UsageError(f"{plan.config.name} has all rates: this is for models of one rate")
    if asked.output.exists():
        raise UsageError(f"{asked.output}: exists already; choose another folder")
    model = ImageModel(plan.config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    unused = make_optimizers(model, plan.recipe)
    progress = load_checkpoint(asked.run, copy.deepcopy(model), model, unused)
    photos = load_photos(asked.data).train
    asked.output.mkdir(parents=True)
    (asked.output / LOG).write_bytes((asked.run / LOG).read_bytes())
    makes = BatchMaker(photos, plan.seed + 1, plan.config.latent_channels, model.entropy.hyper_channels)
    latents, flops = keep_latents(model, makes, asked.crops)
    progress.flops += flops
    progress.pixels += asked.crops * CROP**2
    plan.go_on_with(asked.data).save(asked.output)
    progress.warm_from = progress.step
    learn(model, latents, progress, asked)


@torch.no_grad()
def keep_latents(model: ImageModel, makes: BatchMaker, crops: int) -> tuple[Tensor, float]:
    """y (crops, M, 16, 16), and the FLOPs that they took."""
    found = []
    began = time.perf_counter()
    for step in range(-(-crops // BATCH)):
        x = makes.batch(step, CROP, range(BATCH), BATCH).x
        with in_fast_dtype(x.device):
            found.append(model.analysis(x).float())
    print(f"latents of {crops} crops in {time.perf_counter() - began:.0f} s", flush=True)
    (cost,) = count_parts({"analysis": lambda: model.analysis(x[:1])}, CROP**2)
    return torch.cat(found)[:crops].contiguous(memory_format=torch.channels_last), (
        2000 * cost.kmacs_per_px * crops * CROP**2
    )


def learn(model: ImageModel, latents: Tensor, progress: Progress, asked: argparse.Namespace) -> None:
    """Adam on the rate; the learning rate falls to zero."""
    entropy, average = model.entropy, copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        entropy.parameters(), lr=asked.learning_rate, betas=(0.9, 0.99), weight_decay=0, fused=True
    )
    (cost,) = count_parts({"entropy": lambda: entropy(latents[:1], torch.zeros(1))}, CROP**2)
    flops = 6000 * cost.kmacs_per_px * BATCH * CROP**2
    before, total = progress.seconds, 60 * asked.minutes
    began = saved = time.perf_counter()
    sums = torch.zeros(2)
    for y, noise in draws(latents, entropy.hyper_channels, seed=progress.step):
        elapsed = time.perf_counter() - began
        if elapsed >= total:
            break
        warm = min(1.0, (progress.step - progress.warm_from + 1) / WARM_STEPS)
        optimizer.param_groups[0]["lr"] = asked.learning_rate * warm * (1 - elapsed / total)
        with in_fast_dtype(y.device):
            rated = entropy(y, torch.zeros(BATCH), noise)
        bits = torch.stack([rated.bits_y.sum(), rated.bits_z.sum()]) / (BATCH * CROP**2)
        optimizer.zero_grad(set_to_none=True)
        bits.sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(entropy.parameters(), 1.0)
        optimizer.step()
        update_average(average.entropy, entropy, AVERAGE_DECAY)
        progress.step += 1
        progress.flops += flops
        progress.seconds = before + elapsed
        sums += bits.detach()
        if (progress.step - progress.warm_from) % LOG_STEPS == 0:
            tell(asked.output, progress, sums / LOG_STEPS, elapsed)
            sums.zero_()
        if time.perf_counter() - saved > SAVE_SECONDS:
            saved = time.perf_counter()
            save(asked.output, progress, average)
    save(asked.output, progress, average)


def draws(latents: Tensor, hyper_channels: int, seed: int) -> Iterator[tuple[Tensor, Noise]]:
    """Batches without end, every one of the latents once before any comes again."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = rng.permutation(len(latents))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            y = latents[torch.from_numpy(order[start : start + BATCH])]
            z_side = y.shape[2] // 4
            shapes = (y.shape, (BATCH, hyper_channels, z_side, z_side))
            yield y, Noise(*(torch.rand(shape, generator=generator) - 0.5 for shape in shapes))


def tell(folder: Path, progress: Progress, bits: Tensor, elapsed: float) -> None:
    """A record like those of `rdc train`: here the loss is the rate."""
    record = {"kind": "train", "step": progress.step, "seconds": round(progress.seconds, 2)}
    record |= {"eflop": progress.flops / 1e18, "loss": bits.sum().item(), "bpp": bits.sum().item()}
    with (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
    y, z = bits.tolist()
    print(f"step {progress.step}  {elapsed / 60:.1f} min  {y:.4f} bpp and {z:.4f} of z", flush=True)


def save(folder: Path, progress: Progress, average: ImageModel) -> None:
    """What `rdc train --resume` takes: the averaged weights, of a run whose budget is spent."""
    spent = Budget("seconds", progress.seconds, 0.0)
    save_restart(folder, replace(progress, budget=spent), average)


if __name__ == "__main__":
    sys.exit(main())
