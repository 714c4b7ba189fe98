"""Start, resume and finish training runs: a run is a folder."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdcodec.errors import BadInput, UsageError
from rdcodec.exact.tables import build_gaussian_tables
from rdcodec.measure.bench import matmul_gflop_per_s
from rdcodec.measure.flops import count_parts
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel
from rdcodec.models.config import CONFIGS, ModelConfig, load_config, parse_record
from rdcodec.models.entropy.integer import quantise
from rdcodec.models.precision import fast_dtype
from rdcodec.models.weights import FILE_NAME, UNRELEASED, Weights, read_weights, save_weights, stored
from rdcodec.training.checkpoint import Progress, load_checkpoint
from rdcodec.training.data import BatchMaker, Photo, Photos, load_photos
from rdcodec.training.loop import Run, emit_validation, fit, make_optimizer, save
from rdcodec.training.recipe import Budget, Recipe, load_recipe
from rdcodec.training.start import start_model
from rdcodec.training.validation import anchor_curves, cut

RUN_FILE = "run.json"
CALIBRATION_PHOTOS = 12
CALIBRATION_QUALITIES = (5.0, 50.0, 95.0)


@dataclass(frozen=True)
class Plan:
    """What a run was asked to do; RUN/run.json keeps it."""

    config: ModelConfig
    recipe: Recipe
    sources: tuple[str, ...]
    seed: int
    warm_start: str | None = None

    def save(self, folder: Path) -> None:
        record = {
            "config": self.config.model_dump(),
            "recipe": self.recipe.model_dump(),
            "sources": self.sources,
            "seed": self.seed,
            "warm_start": self.warm_start,
            "machine": machine(),
        }
        (folder / RUN_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        path = folder / RUN_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            config = parse_record(ModelConfig, record["config"], str(path))
            recipe = parse_record(Recipe, record["recipe"], str(path))
            return cls(config, recipe, tuple(record["sources"]), record["seed"], record["warm_start"])
        except FileNotFoundError:
            raise BadInput(f"{folder}: not a run folder (no {RUN_FILE})") from None
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: damaged ({error})") from None


def find_config(model: str) -> ModelConfig:
    """A configuration of the package by name, or one from a TOML file."""
    packaged = CONFIGS / f"{model}.toml"
    return load_config(packaged if packaged.is_file() else Path(model))


def start(
    plan: Plan,
    folder: Path,
    budget: Budget,
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Begin a run in a new folder and train until the budget is spent; a budget of 0 only writes weights."""
    if (folder / RUN_FILE).exists():
        raise UsageError(
            f"{folder}: there is a run already; continue it with --resume {folder}, or choose another folder"
        )
    photos = _read_photos(plan, say) if plan.sources else None
    if budget.total and photos is None:
        raise UsageError("training needs photographs: give zip files or folders with --data")
    run = _assemble(plan, folder, photos, Progress(budget), device, say)
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(folder)
    if budget.total:
        emit_validation(run, report)
        save(run)
        fit(run, report)
    export(run.average, folder / FILE_NAME, run.validation)


def resume(
    folder: Path,
    report: Callable[[dict[str, Any]], None],
    device: torch.device,
    say: Callable[[str], None],
    finish_in: float | None = None,
) -> None:
    """Continue a run from its last checkpoint; `finish_in`, in seconds, starts the decay now.

    A budget in steps gets as many more as the run has done in that time so far.
    """
    plan = Plan.read(folder)
    photos = _read_photos(plan, say)
    run = _assemble(plan, folder, photos, Progress(Budget("steps", 0, 0)), device, say)
    run.progress = load_checkpoint(folder, run.model, run.average, run.optimizer)
    if finish_in is not None:
        done = run.progress
        more = finish_in * done.spent / max(done.seconds, 1e-9)
        done.budget = done.budget.finish(done.spent, more)
        save(run)
    fit(run, report)
    export(run.average, folder / FILE_NAME, run.validation)


def _read_photos(plan: Plan, say: Callable[[str], None]) -> Photos:
    say("reading photographs")
    photos = load_photos([Path(source) for source in plan.sources])
    say(
        f"{len(photos.train)} photographs to train on ({photos.megapixels:.0f} MP), "
        f"{len(photos.validation)} held out for validation"
    )
    if photos.unreadable:
        say(f"skipped, unreadable: {', '.join(photos.unreadable)}")
    side = max(plan.recipe.crop, plan.recipe.large_crop)
    if not any(min(photo.pixels.shape[:2]) >= side for photo in photos.train):
        raise UsageError(f"no photograph has {side} pixels a side: lower the crops of the recipe")
    return photos


def _assemble(
    plan: Plan,
    folder: Path,
    photos: Photos | None,
    progress: Progress,
    device: torch.device,
    say: Callable[[str], None],
) -> Run:
    torch.manual_seed(plan.seed)
    model = ImageModel(plan.config)
    if plan.warm_start:
        read_weights(Path(plan.warm_start)).fill(model)
    elif photos:
        start_model(model, photos.train, plan.seed)
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = BatchMaker(
        photos.train if photos else [],
        plan.seed,
        plan.config.latent_channels,
        plan.config.entropy.hyper_channels,
    )
    return Run(
        folder=folder,
        recipe=plan.recipe,
        model=model,
        average=copy.deepcopy(model),
        optimizer=make_optimizer(model, plan.recipe),
        batches=batches,
        validation=photos.validation if photos else [],
        anchors=anchor_curves(photos.validation, folder.parent, say) if photos else {},
        progress=progress,
        device=device,
        forward_macs_per_px=forward_macs_per_px(model),
        matmul_gflop_per_s=matmul_gflop_per_s(device, fast_dtype(device)) if photos else math.inf,
    )


def forward_macs_per_px(model: ImageModel) -> float:
    """Multiply-adds of one training pass forward, per pixel."""
    side = 256
    at = next(model.parameters())
    x, quality = at.new_zeros(1, 3, side, side), at.new_full((1,), 50.0)
    (cost,) = count_parts({"forward": lambda: model(x, quality)}, side**2)
    return 1000 * cost.kmacs_per_px


def export(model: ImageModel, path: Path, photos: Sequence[Photo] = (), tag: str | None = None) -> Weights:
    """Write a weights file: floats as they are stored, integers made from these, fresh tables.

    photos: what the reach of the integers is measured on, beside two hard pictures. The tag says that the weights
    are unreleased unless it is given.
    """
    state = stored(model)
    kept = copy.deepcopy(model).cpu().float().eval()
    kept.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    entropy = quantise(kept.entropy, calibration_latents(kept, photos[:CALIBRATION_PHOTOS]))
    tag = tag or f"{model.config.name}.{UNRELEASED}"
    weights = Weights(tag, model.config, state, entropy, build_gaussian_tables())
    save_weights(path, weights)
    return weights


@torch.inference_mode()
def calibration_latents(model: ImageModel, photos: Sequence[Photo]) -> list[tuple[Tensor, float]]:
    """y in quantised units of each photograph, and of two hard pictures, at low, middle and high quality."""
    found: list[tuple[Tensor, float]] = []
    for photo in [*photos, *hard_pictures()]:
        x = torch.from_numpy(cut(photo)).permute(2, 0, 1)[None].float()
        latents = model.analysis(x.contiguous(memory_format=torch.channels_last))
        for quality in CALIBRATION_QUALITIES:
            found.append((latents * model.gain(torch.tensor([quality])), quality))
    return found


def hard_pictures() -> list[Photo]:
    """Noise, and black and white blocks as of text: without them such pictures saturate, at +18 % of rate."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, 256, 3), np.uint8)
    blocks = np.kron(rng.integers(0, 2, (128, 64, 1), np.uint8) * np.uint8(255), np.ones((2, 4, 3), np.uint8))
    return [Photo("noise", noise), Photo("blocks", blocks)]


def plan_of(config: str, recipe: str, sources: Sequence[Path], seed: int, warm_start: Path | None) -> Plan:
    """Resolve names and files into a plan; UsageError where one is unknown."""
    return Plan(
        find_config(config),
        load_recipe(recipe),
        tuple(str(source.resolve()) for source in sources),
        seed,
        str(warm_start.resolve()) if warm_start else None,
    )
