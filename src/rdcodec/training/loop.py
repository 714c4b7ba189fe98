"""The training loop: one text for CPU and CUDA."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rdcodec.measure.bdrate import Curve
from rdcodec.models.base import ImageModel
from rdcodec.models.precision import fast_dtype
from rdcodec.models.rate import lmbda_of_quality
from rdcodec.training.checkpoint import Progress, save_checkpoint
from rdcodec.training.data import Batch, BatchMaker, Photo
from rdcodec.training.recipe import Recipe
from rdcodec.training.validation import validation_summary

CHECKPOINT_SECONDS = 180.0
VALIDATE_SECONDS = 600.0
LOG_STEPS = 50
# With 0.999 a parameter whose gradients are rare meets a stale small denominator: one run at 2e-3 blew up so.
BETAS = (0.9, 0.99)
SPIKE = 8.0  # a gradient this many times the usual norm is not followed
# A step that took this many times the usual was paused, not worked on: it burns no schedule.
PAUSED = 5.0
LMBDA_REFERENCE = 0.004


class Losses(NamedTuple):
    """Means over the batch: the weighted loss, bpp, PSNR in dB."""

    loss: Tensor
    bpp: Tensor
    psnr_db: Tensor


@dataclass
class Run:
    """All that a training run holds."""

    folder: Path
    recipe: Recipe
    model: ImageModel
    average: ImageModel
    optimizer: torch.optim.Optimizer
    batches: BatchMaker
    validation: list[Photo]
    anchors: dict[str, Curve]
    progress: Progress
    device: torch.device
    forward_macs_per_px: float
    matmul_gflop_per_s: float


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam; the linear shortcuts, which start as the KLT, learn slower."""
    shortcuts = [p for name, p in model.named_parameters() if ".shortcut." in name]
    others = [p for name, p in model.named_parameters() if ".shortcut." not in name]
    groups = [
        {"params": others, "scale": 1.0},
        {"params": shortcuts, "scale": recipe.shortcut_rate},
    ]
    return torch.optim.Adam(groups, lr=recipe.learning_rate, betas=BETAS, fused=True)


def rate_distortion(model: nn.Module, batch: Batch, recipe: Recipe) -> Losses:
    """Loss of a batch: (bpp + lmbda * MSE), weighted so that no rate starves."""
    device = batch.x.device
    dtype = fast_dtype(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        out = model(batch.x, batch.quality, batch.noise)
    mse = (out.x_hat - batch.x).square().mean((1, 2, 3))
    bpp = (out.bits_y + out.bits_z) / (batch.x.shape[2] * batch.x.shape[3])
    lmbda = lmbda_of_quality(batch.quality)
    weight = (lmbda / LMBDA_REFERENCE) ** recipe.lmbda_weight
    psnr = 10 * torch.log10(255**2 / mse.detach())
    return Losses((weight * (bpp + lmbda * mse)).mean(), bpp.detach().mean(), psnr.mean())


def train_step(run: Run) -> Losses | None:
    """One optimiser step; None, counted, if the gradient was not finite or far beyond the usual."""
    recipe, progress = run.recipe, run.progress
    size = progress.budget.crop(progress.spent, recipe)
    batch = run.batches.batch(progress.step, size, range(recipe.batch)).to(run.device)
    warm = min(1.0, (progress.step + 1) / recipe.warmup_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = recipe.learning_rate * group["scale"] * warm * progress.budget.rate_factor(progress.spent)
    losses = rate_distortion(run.model, batch, recipe)
    run.optimizer.zero_grad(set_to_none=True)
    losses.loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), recipe.clip_norm)
    sound = progress.is_sound(norm.item(), SPIKE)
    if sound:
        run.optimizer.step()
        update_average(run.average, run.model, recipe.average_decay)
    pixels = recipe.batch * size * size
    progress.pixels += pixels
    progress.flops += 3 * 2 * run.forward_macs_per_px * pixels
    progress.step += 1
    progress.skipped_steps += not sound
    return losses if sound else None


def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def fit(run: Run, report: Callable[[dict[str, Any]], None]) -> None:
    """Train until the budget is spent; checkpoints and validates on a timer, logs to RUN/log.jsonl.

    `report` gets each log record. Interrupt it at any moment: the last checkpoint is at most
    CHECKPOINT_SECONDS old, and a keyboard interrupt writes one first.
    """
    progress = run.progress
    clock = Clock()
    meter = Meter(progress, run.matmul_gflop_per_s)
    saved = validated = progress.seconds
    try:
        while progress.spent < progress.budget.total:
            losses = train_step(run)
            progress.seconds += clock.lap()
            meter.add(losses)
            if progress.step % LOG_STEPS == 0:
                emit(run, report, meter.record(progress))
            if progress.seconds - validated >= VALIDATE_SECONDS:
                validated = progress.seconds
                emit_validation(run, report)
                clock.lap()
            if progress.seconds - saved >= CHECKPOINT_SECONDS:
                saved = progress.seconds
                save(run)
                clock.lap()
    except KeyboardInterrupt:
        save(run)
        raise
    emit_validation(run, report)
    save(run)


def save(run: Run) -> None:
    save_checkpoint(run.folder, run.progress, run.model, run.average, run.optimizer)


def emit(run: Run, report: Callable[[dict[str, Any]], None], record: dict[str, Any]) -> None:
    """Append a record to the log and hand it to the screen."""
    with (run.folder / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")
    report(record)


def emit_validation(run: Run, report: Callable[[dict[str, Any]], None]) -> None:
    """Nothing in a run that holds no photograph out."""
    if run.validation:
        emit(run, report, validation_record(run))


class Clock:
    """Seconds of a lap; a lap that was paused counts as a usual one."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.usual = float("inf")

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        if seconds > PAUSED * self.usual:
            return self.usual
        self.usual = seconds if self.usual == float("inf") else 0.9 * self.usual + 0.1 * seconds
        return seconds


class Meter:
    """Means and speeds since the last record."""

    def __init__(self, progress: Progress, matmul_gflop_per_s: float) -> None:
        self.matmul_gflop_per_s = matmul_gflop_per_s
        self.restart(progress)

    def restart(self, progress: Progress) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)
        self.count = 0
        self.step, self.seconds, self.flops = progress.step, progress.seconds, progress.flops

    def add(self, losses: Losses | None) -> None:
        if losses is not None:
            self.sums += torch.stack([x.detach().double().cpu() for x in losses])
            self.count += 1

    def record(self, progress: Progress) -> dict[str, Any]:
        loss, bpp, psnr = (self.sums / max(self.count, 1)).tolist()
        elapsed = max(progress.seconds - self.seconds, 1e-9)
        gflop_per_s = (progress.flops - self.flops) / elapsed / 1e9
        record = {
            "kind": "train",
            "step": progress.step,
            "seconds": round(progress.seconds, 2),
            "eflop": progress.flops / 1e18,
            "loss": loss,
            "bpp": bpp,
            "psnr_db": psnr,
            "steps_per_s": (progress.step - self.step) / elapsed,
            "gflop_per_s": gflop_per_s,
            "roofline_share": gflop_per_s / self.matmul_gflop_per_s,
            "skipped_steps": progress.skipped_steps,
            "eta_s": _seconds_left(progress, (progress.step - self.step) / elapsed),
        }
        self.restart(progress)
        return record


def _seconds_left(progress: Progress, steps_per_s: float) -> float:
    left = progress.budget.total - progress.spent
    return left if progress.budget.unit == "seconds" else left / max(steps_per_s, 1e-9)


def validation_record(run: Run) -> dict[str, Any]:
    """Rate (estimated), PSNR and BD-rates of the averaged weights on the held-out photographs."""
    progress = run.progress
    summary = validation_summary(run.average, run.validation, run.anchors, run.device)
    return {
        "kind": "validation",
        "step": progress.step,
        "seconds": round(progress.seconds, 2),
        "eflop": progress.flops / 1e18,
        **summary,
    }
