"""The training loop: one text for CPU and CUDA."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from rdcodec.measure.bdrate import Curve
from rdcodec.models.base import ImageModel
from rdcodec.training.as_coded import Seen
from rdcodec.training.checkpoint import Progress, save_checkpoint
from rdcodec.training.data import Photo
from rdcodec.training.feed import Feed
from rdcodec.training.group import Group
from rdcodec.training.interrupt import interrupt_by, noted_interrupts
from rdcodec.training.recipe import Recipe
from rdcodec.training.stepper import Losses, Stepper
from rdcodec.training.validation import pictures_sha256, validation_summary

CHECKPOINT_SECONDS = 180.0
VALIDATE_SECONDS = 600.0
LOG_STEPS = 50
SPIKE = 8.0  # a gradient this many times the usual norm is not followed
# A step that took this many times the usual was paused, not worked on: it burns no schedule.
PAUSED = 5.0


@dataclass
class Run:
    """All that a training run holds."""

    folder: Path
    recipe: Recipe
    model: ImageModel
    average: ImageModel
    validated: Seen  # the average, as the run sees the model
    optimizers: list[torch.optim.Optimizer]
    stepper: Stepper
    prepare: Callable[[], None]  # what the feed needs before its first batch
    feed: Feed
    validation: list[Photo]
    anchors: dict[str, Curve]
    progress: Progress
    group: Group
    device: torch.device
    forward_macs_per_px: float
    trained_macs_per_px: float  # the share of it that gradients flow back through
    optimizer_flops: float  # of a step
    matmul_gflop_per_s: float
    compiled: bool  # the network, as far as it can be
    emit: Callable[[dict[str, Any]], None]
    say: Callable[[str], None]


class Step(NamedTuple):
    """What a step measured: Losses of the global batch, seconds that this process waited for data."""

    losses: Losses
    sound: bool
    data_seconds: float


def train_step(run: Run) -> Step:
    """One optimiser step; not followed, and counted, if the gradient was not finite or far beyond the usual."""
    progress = run.progress
    stage = progress.budget.stage(progress.spent, run.recipe)
    began = time.perf_counter()
    batches = run.feed.take(progress.step, stage)
    data_seconds = time.perf_counter() - began
    losses, norm = run.stepper.gradients(batches, stage.batch)
    sound = progress.is_sound(norm.item(), SPIKE)
    if sound:
        run.stepper.update(_rate(run))
    pixels = stage.batch * stage.crop**2
    progress.pixels += pixels
    progress.flops += 2 * (run.forward_macs_per_px + 2 * run.trained_macs_per_px) * pixels + run.optimizer_flops
    progress.step += 1
    progress.skipped_steps += not sound
    return Step(losses, sound, data_seconds)


def _rate(run: Run) -> float:
    """The learning rate of the coming step."""
    progress, recipe = run.progress, run.recipe
    warm = min(1.0, (progress.step - progress.warm_from + 1) / recipe.warmup_steps)
    return recipe.learning_rate * warm * progress.budget.rate_factor(progress.spent)


def fit(run: Run, pause_after: float = math.inf, began: float | None = None) -> bool:
    """Train until the budget is spent; checkpoints and validates on a timer. False if it paused before the end.

    pause_after: seconds of wall time from `began` on, by time.perf_counter, or from this call. Interrupt it at any
    moment: a step is finished and saved first, and what is not a step changes nothing.
    """
    progress = run.progress
    if began is None:
        began = time.perf_counter()
    if progress.step == 0:
        emit_validation(run)
    if progress.spent < progress.budget.total:
        _warm_up(run)
    clock, meter = Clock(), Meter(progress, run.matmul_gflop_per_s)
    while True:
        with noted_interrupts() as interrupted:
            end = _take_steps(run, clock, meter, interrupted, pause_after, began)
            save(run)
        if end == "interrupted" or interrupted():
            run.say(f"interrupted at step {progress.step}: go on with rdc train --resume {run.folder}")
            interrupt_by(interrupted())
        if end == "paused":
            return False
        emit_validation(run)
        if end == "spent":
            return True
        clock.lap()


def _take_steps(
    run: Run, clock: "Clock", meter: "Meter", interrupted: Callable[[], int], pause_after: float, began: float
) -> Literal["spent", "interrupted", "paused", "validate"]:
    """Steps until there is something else to do: all processes of the group end with the same one, for one reason."""
    progress = run.progress
    saved = validated = progress.seconds
    while progress.spent < progress.budget.total:
        step = train_step(run)
        mine = clock.lap(), time.perf_counter() - began, float(interrupted())
        step_seconds, wall_seconds, stop = (run.group.sum(mine, run.device) / run.group.size).tolist()
        progress.seconds += step_seconds
        meter.add(step)
        if progress.step % LOG_STEPS == 0:
            run.emit(meter.record(progress))
        if stop:
            return "interrupted"
        if wall_seconds >= pause_after:
            return "paused"
        if progress.seconds - validated >= VALIDATE_SECONDS and progress.spent < progress.budget.total:
            return "validate"
        if progress.seconds - saved >= CHECKPOINT_SECONDS:
            saved = progress.seconds
            save(run)
            clock.lap()
    return "spent"


def _warm_up(run: Run) -> None:
    """Make what batches come from, and compile for the present stage's shapes, in time that no budget counts.

    Processes that are ready wait here for the others, as for the one that validates: in a step it would be counted.
    """
    run.prepare()
    if run.compiled:
        stage = run.progress.budget.stage(run.progress.spent, run.recipe)
        run.say("compiling")
        run.stepper.gradients(run.feed.take(run.progress.step, stage), stage.batch)
    run.group.sum([0.0], run.device)


def save(run: Run) -> None:
    if run.group.leads:
        save_checkpoint(run.folder, run.progress, run.model, run.average, run.optimizers)


def emit_validation(run: Run) -> None:
    """Nothing in a run that holds no photograph out; one process measures for all."""
    if run.validation and run.group.leads:
        run.emit(validation_record(run))


class Clock:
    """Seconds of a lap; a lap that was paused counts as a usual one. What stays slow becomes usual in a dozen laps."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.usual = 0.0

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        if not self.usual:
            self.usual = seconds
        counted = self.usual if seconds > PAUSED * self.usual else seconds
        self.usual = 0.9 * self.usual + 0.1 * min(seconds, PAUSED * self.usual)
        return counted


class Meter:
    """Means and speeds since the last record."""

    def __init__(self, progress: Progress, matmul_gflop_per_s: float) -> None:
        self.matmul_gflop_per_s = matmul_gflop_per_s
        self.restart(progress)

    def restart(self, progress: Progress) -> None:
        self.sums: Tensor | float = 0.0
        self.count = 0
        self.data_seconds = 0.0
        self.step, self.seconds, self.flops = progress.step, progress.seconds, progress.flops

    def add(self, step: Step) -> None:
        self.data_seconds += step.data_seconds
        if step.sound:
            self.sums = self.sums + torch.stack(step.losses)
            self.count += 1

    def record(self, progress: Progress) -> dict[str, Any]:
        loss, bpp, psnr = (torch.zeros(3) + self.sums / max(self.count, 1)).tolist()
        elapsed = max(progress.seconds - self.seconds, 1e-9)
        gflop_per_s = (progress.flops - self.flops) / elapsed / 1e9
        record = {
            "kind": "train",
            "step": progress.step,
            "done": min(1.0, progress.spent / progress.budget.total),
            "seconds": round(progress.seconds, 2),
            "eflop": progress.flops / 1e18,
            "loss": loss,
            "bpp": bpp,
            **({} if math.isnan(psnr) else {"psnr_db": psnr}),  # latents have none
            "steps_per_s": (progress.step - self.step) / elapsed,
            "gflop_per_s": gflop_per_s,
            "roofline_share": gflop_per_s / self.matmul_gflop_per_s,
            "data_share": self.data_seconds / elapsed,
            "skipped_steps": progress.skipped_steps,
            "eta_s": _seconds_left(progress, (progress.step - self.step) / elapsed),
        }
        self.restart(progress)
        return record


def _seconds_left(progress: Progress, steps_per_s: float) -> float:
    spent_per_step = progress.spent / max(progress.step, 1)
    left = progress.budget.total - progress.spent
    if progress.budget.unit == "seconds":
        return left
    return left / max(spent_per_step * steps_per_s, 1e-9)


def validation_record(run: Run) -> dict[str, Any]:
    """Rate (estimated), PSNR and BD-rates of the averaged weights on the held-out photographs."""
    progress = run.progress
    summary = validation_summary(run.validated, run.validation, run.anchors, run.device)
    return {
        "kind": "validation",
        "step": progress.step,
        "seconds": round(progress.seconds, 2),
        "eflop": progress.flops / 1e18,
        "pictures_sha256": pictures_sha256(run.validation),
        **summary,
    }
