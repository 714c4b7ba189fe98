"""How to train: a recipe is one TOML file, a budget is steps, time or computation."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt

from rdcodec.models.records import Record, parse_record, read_toml

RECIPES = Path(__file__).parent / "recipes"
Share = Annotated[float, Field(gt=0, le=1)]
Unit = Literal["steps", "seconds", "flops"]


class Stage(Record):
    """A part of a run: up to which share of its budget, on how many crops a step, of how many pixels a side."""

    until: Share
    batch: PositiveInt
    crop: Annotated[PositiveInt, Field(multiple_of=64)]


def _in_order(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if any(a.until >= b.until for a, b in pairwise(stages)) or stages[-1].until != 1.0:
        raise ValueError("every stage lasts until a larger share of the budget than the one before, the last until 1.0")
    return stages


class Recipe(Record):
    """Everything that shapes a training run apart from model, data, seed and budget."""

    # A TOML or JSON list is no tuple to a strict record.
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1), AfterValidator(_in_order)]
    start: Literal["klt", "random"]
    optimizer: Literal["adam", "muon"]
    learning_rate: Annotated[float, Field(gt=0)]
    matrix_rate: Annotated[float, Field(gt=0)]
    shortcut_rate: Annotated[float, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_steps: PositiveInt
    decay_share: Share
    clip_norm: Annotated[float, Field(gt=0)]
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    lmbda_weight: float
    stratified: bool
    steps: PositiveInt | None = None  # the budget of a run that is given none
    # For models of one rate: those of a rate-distortion curve; a run takes the first unless it is given another.
    lmbdas: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False)] = ()

    @property
    def largest_crop(self) -> int:
        """Pixels a side."""
        return max(stage.crop for stage in self.stages)


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe of the package by name, or one from a file; UsageError if there is none."""
    path = RECIPES / f"{name_or_path}.toml"
    if not path.exists():
        path = Path(name_or_path)
    known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
    return parse_record(Recipe, read_toml(path, f"no such recipe; the package has {known}"), str(path))


@dataclass(frozen=True)
class Budget:
    """What a run may spend, in steps, seconds of summed step time or FLOPs, and where its decay begins."""

    unit: Unit
    total: float
    decay_start: float

    @classmethod
    def of(cls, unit: Unit, total: float, recipe: Recipe) -> "Budget":
        return cls(unit, total, total * (1 - recipe.decay_share))

    def finish(self, spent: float, more: float) -> "Budget":
        """The decay begins now and is over after `more` of the unit."""
        return Budget(self.unit, spent + more, spent)

    def rate_factor(self, spent: float) -> float:
        """1 until the decay begins, then linear to 0."""
        return min(1.0, max(0.0, (self.total - spent) / max(self.total - self.decay_start, 1e-9)))

    def stage(self, spent: float, recipe: Recipe) -> Stage:
        """The stage that this share of the budget lies in."""
        return next((stage for stage in recipe.stages if spent < stage.until * self.total), recipe.stages[-1])
