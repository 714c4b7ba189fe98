"""Start, resume and finish training runs: a run is a folder."""

import contextlib
import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from rdcodec.errors import UsageError
from rdcodec.export.weights import export
from rdcodec.measure.bench import roofline
from rdcodec.measure.flops import count_parts
from rdcodec.models.base import ImageModel
from rdcodec.models.precision import fast_dtype
from rdcodec.models.weights import FILE_NAME, Weights, read_weights
from rdcodec.system import write_whole
from rdcodec.training.as_coded import AsCoded, Seen
from rdcodec.training.checkpoint import RESTART, Progress, load_checkpoint, save_restart
from rdcodec.training.data import (
    KEPT_SHARE,
    AnyPhoto,
    Batch,
    BatchMaker,
    Crops,
    Photos,
    Source,
    decoded,
    first_few,
    held,
    load_photos,
)
from rdcodec.training.feed import Feed
from rdcodec.training.follow import can_follow, follow
from rdcodec.training.graphs import fastest
from rdcodec.training.group import Group, own_device, processes
from rdcodec.training.grow import contains, grow
from rdcodec.training.latents import Latents, OnLatents
from rdcodec.training.logs import LOG, open_tensorboard, whole_records
from rdcodec.training.loop import Run, fit, save
from rdcodec.training.optimizer import Muon, make_optimizers
from rdcodec.training.plan import RUN_FILE, Only, Plan
from rdcodec.training.recipe import Budget, Stage
from rdcodec.training.start import start_model
from rdcodec.training.stepper import Eager
from rdcodec.training.validation import anchor_curves

LOCK = "run.lock"
Report = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """How this machine carries a run out; nothing here changes what is learned, but for rounding.

    micro_batch: most crops in memory at once. pause_after: seconds after which to stop, to be resumed; they count
    from `began`, by time.perf_counter, or from the first step. anchors: classical codecs beside each validation.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    micro_batch: int | None = None
    pause_after: float = math.inf
    compiled: bool = False
    began: float | None = None
    anchors: bool = True


def start(plan: Plan, folder: Path, budget: Budget, report: Report, say: Say, setting: Setting) -> None:
    """Begin a run in a new folder and train until the budget is spent; a budget of 0 only writes weights."""
    if (folder / RUN_FILE).exists():
        raise UsageError(
            f"{folder}: there is a run already; continue it with --resume {folder}, or choose another folder"
        )
    if budget.total and not plan.sources:
        raise UsageError("training needs photographs: give folders, zip or tar files with --data")
    setting = replace(setting, device=own_device(setting.device))
    with processes(setting.device) as group:
        _start(plan, folder, budget, group, report, say, setting)


def _start(plan: Plan, folder: Path, budget: Budget, group: Group, report: Report, say: Say, setting: Setting) -> None:
    say, report = (say, report) if group.leads else (_nothing, _nothing)
    photos = _read_photos(plan, say) if plan.sources else None
    run = _assemble(plan, folder, photos, Progress(budget), setting, group, report, say)
    _first_values(run.model, plan, photos)
    run.average.load_state_dict(run.model.state_dict())
    with _alone(folder, group):
        if group.leads:
            if (folder / RUN_FILE).exists():
                raise UsageError(f"{folder}: another process began a run there meanwhile: choose another folder")
            plan.save(folder)
        if budget.total:
            save(run)
        _carry_out(run, plan, setting, say)


def resume(
    folder: Path,
    report: Report,
    say: Say,
    setting: Setting,
    finish_in: float | None = None,
    sources: Sequence[Path] = (),
) -> None:
    """Continue a run from its last checkpoint; `finish_in`, in seconds, starts the decay now.

    A budget in steps or computation gets as much more as the run has done in that time so far.
    sources: photographs to go on with instead of those before, for training and for validation.
    """
    plan = Plan.read(folder)
    if sources:
        plan = plan.go_on_with(sources)
    setting = replace(setting, device=own_device(setting.device))
    with processes(setting.device) as group, _alone(folder, group):
        _resume(plan, folder, finish_in, group, report, say, setting)


def _resume(
    plan: Plan, folder: Path, finish_in: float | None, group: Group, report: Report, say: Say, setting: Setting
) -> None:
    say, report = (say, report) if group.leads else (_nothing, _nothing)
    photos = _read_photos(plan, say)
    run = _assemble(plan, folder, photos, Progress(Budget("steps", 0, 0)), setting, group, report, say)
    run.progress = load_checkpoint(folder, run.model, run.average, run.optimizers)
    if group.leads:
        plan.save(folder)
        _forget_after(folder, run.progress.step)
    if finish_in is not None:
        done = run.progress
        more = finish_in * done.spent / max(done.seconds, 1e-9)
        done.budget = done.budget.finish(done.spent, more)
        save(run)
    _carry_out(run, plan, setting, say)


@contextlib.contextmanager
def _alone(folder: Path, group: Group) -> Iterator[None]:
    """Inside, no other run writes to the folder; UsageError if one does. Processes of one run share it."""
    lock = FileLock(folder / LOCK)
    if group.leads:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(f"{folder}: another process is training this run: wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def _itself(model: ImageModel) -> Seen:
    return model


def _nothing(what: object) -> None:
    """What the processes say that do not lead."""


def _carry_out(run: Run, plan: Plan, setting: Setting, say: Say) -> None:
    if setting.anchors and run.progress.budget.total:  # after the run has a folder and a checkpoint
        run.anchors = anchor_curves(run.validation, run.folder.parent, say)
    finished = fit(run, setting.pause_after, setting.began) if run.progress.budget.total else True
    if not run.group.leads:
        return
    if finished:
        save_restart(run.folder, run.progress, run.average)  # for as long as there are no weights
        eflop = plan.whole_eflop(run.progress.flops / 1e18)
        export(run.average, run.folder / FILE_NAME, [photo.pixels for photo in run.validation], eflop=eflop)
        (run.folder / RESTART).unlink(missing_ok=True)
        say(f"finished at step {run.progress.step}: {run.folder / FILE_NAME}")
    else:
        save_restart(run.folder, run.progress, run.model)
        say(f"paused at step {run.progress.step}: go on with rdc train --resume {run.folder}")


def _read_photos(plan: Plan, say: Say) -> Photos:
    say("reading photographs")
    kept_share = (
        0.0 if plan.only == "entropy" else KEPT_SHARE
    )  # latents are made of photographs that nobody asks for again
    photos = load_photos([Path(source) for source in plan.sources], say, kept_share)
    say(
        f"{len(photos.train)} photographs to train on ({photos.megapixels:.0f} MP), "
        f"{len(photos.validation)} held out for validation"
    )
    if photos.unreadable:
        say(f"skipped, unreadable: {first_few(photos.unreadable)}")
    side = plan.recipe.largest_crop
    if not any(photo.side >= side for photo in photos.train):
        raise UsageError(f"no photograph has {side} pixels a side: lower the crops of the recipe")
    return photos


def _first_values(model: ImageModel, plan: Plan, photos: Photos | None) -> None:
    if plan.warm_start:
        _start_from(model, read_weights(Path(plan.warm_start)), photos.train if photos else [], plan.seed)
    elif photos and plan.recipe.start == "klt":
        start_model(model, photos.train, plan.seed)


def _start_from(model: ImageModel, weights: Weights, photos: Sequence[AnyPhoto], seed: int) -> None:
    if contains(model.config, weights.config):
        grow(model, weights.build())
    elif photos and can_follow(model.config, weights.config):
        follow(model, weights.build(), photos, seed)
    else:
        weights.fill(model)


def _freeze_others(model: ImageModel, only: Only) -> None:
    """Leave gradients to the part that learns."""
    model.requires_grad_(False)
    model.entropy.requires_grad_(True)
    model.synthesis.requires_grad_(only == "decoder")


def _assemble(
    plan: Plan,
    folder: Path,
    photos: Photos | None,
    progress: Progress,
    setting: Setting,
    group: Group,
    report: Report,
    say: Say,
) -> Run:
    device = setting.device
    smallest = min(stage.batch for stage in plan.recipe.stages)
    if smallest < group.size:
        raise UsageError(f"{group.size} processes cannot share a batch of {smallest}: start fewer, or raise the batch")
    torch.manual_seed(plan.seed)
    model = ImageModel(plan.config).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if plan.only:
        _freeze_others(model, plan.only)
    optimizers = make_optimizers(model, plan.recipe)
    average = copy.deepcopy(model)
    on_latents = plan.only == "entropy"
    seen: Callable[[ImageModel], Seen] = AsCoded if plan.only == "decoder" else _itself
    parallel = group.parallel(OnLatents(model) if on_latents else seen(model))
    # Sizes change with the stages alone: better a few compilations than one for any size.
    forward: nn.Module = torch.compile(parallel, dynamic=False) if setting.compiled else parallel  # type: ignore[assignment]
    eager = Eager(plan.recipe, model, average, optimizers, parallel, forward, group, say, on_latents)
    trained_macs = _trained_macs_per_px(model, plan.only) if plan.only else forward_macs_per_px(model)
    source = _source(plan, model, photos, setting.device, group, say)
    held_out = decoded(photos.validation, say) if photos and group.leads else []
    return Run(
        folder=folder,
        recipe=plan.recipe,
        model=model,
        average=average,
        validated=seen(average),
        optimizers=optimizers,
        stepper=fastest(eager, device),
        prepare=source.prepare,
        feed=Feed(_maker(plan, source, setting, group), device),
        validation=held_out,
        anchors={},
        progress=progress,
        group=group,
        device=device,
        forward_macs_per_px=trained_macs if on_latents else forward_macs_per_px(model),
        trained_macs_per_px=trained_macs,
        optimizer_flops=sum(optimizer.flops for optimizer in optimizers if isinstance(optimizer, Muon)),
        compiled=setting.compiled,
        matmul_gflop_per_s=roofline(device, fast_dtype(device))[0] if photos else math.inf,
        emit=_emitter(folder, report) if group.leads else _nothing,
        say=say,
    )


def _source(
    plan: Plan, model: ImageModel, photos: Photos | None, device: torch.device, group: Group, say: Say
) -> Source:
    """What samples are drawn from: where the analysis does not learn, and nothing behind it is drawn, its latents."""
    if plan.only == "entropy":
        return Latents(model, photos.train if photos else [], plan.recipe.largest_crop, group.size, say)
    return Crops(held(photos, device) if photos else [], say=say)


def _maker(plan: Plan, source: Source, setting: Setting, group: Group) -> Callable[[int, Stage], list[Batch]]:
    """What makes this process's micro-batches of a step."""
    m, n = plan.config.latent_channels, plan.config.entropy.hyper_channels
    batches = BatchMaker(source, plan.seed, m, n, plan.recipe.stratified)

    def make(step: int, stage: Stage) -> list[Batch]:
        mine = group.share(stage.batch)
        size = setting.micro_batch or len(mine)
        parts = [mine[at : at + size] for at in range(0, len(mine), size)]
        return [batches.batch(step, stage.crop, part, stage.batch).to(setting.device) for part in parts]

    return make


def _forget_after(folder: Path, step: int) -> None:
    """Drop the records of steps that an interruption undid; they are about to come again."""
    if (folder / LOG).exists():
        kept = [record for record in whole_records(folder) if record["step"] <= step]
        write_whole(folder / LOG, "".join(json.dumps(record) + "\n" for record in kept))


def _emitter(folder: Path, report: Report) -> Report:
    """What writes a record to the log, to TensorBoard and to the screen."""
    tensorboard = open_tensorboard(folder)

    def emit(record: dict[str, Any]) -> None:
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
        tensorboard(record)
        report(record)

    return emit


def forward_macs_per_px(model: ImageModel) -> float:
    """Multiply-adds of one training pass forward, per pixel."""
    side = 256
    at = next(model.parameters())
    x, quality = at.new_zeros(1, 3, side, side), at.new_full((1,), 50.0)
    (cost,) = count_parts({"forward": lambda: model(x, quality)}, side**2)
    return 1000 * cost.kmacs_per_px


def _trained_macs_per_px(model: ImageModel, only: Only) -> float:
    """Those of the part in it that learns."""
    side = 256
    at = next(model.parameters())
    y, quality = at.new_zeros(1, *model.latent_shapes(side, side)[0]), at.new_full((1,), 50.0)
    parts: dict[str, Callable[[], object]] = {"entropy": lambda: model.entropy(y, quality)}
    if only == "decoder":
        parts["synthesis"] = lambda: model.synthesis(y, quality)
    return 1000 * sum(cost.kmacs_per_px for cost in count_parts(parts, side**2))
