"""How to train: a recipe is one TOML file, a budget is steps or minutes."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from rdcodec.errors import UsageError
from rdcodec.models.config import Record, parse_record

RECIPES = Path(__file__).parent / "recipes"
Share = Annotated[float, Field(gt=0, le=1)]


class Recipe(Record):
    """Everything that shapes a training run apart from model, data, seed and budget."""

    batch: PositiveInt
    crop: Annotated[PositiveInt, Field(multiple_of=64)]
    large_crop: Annotated[PositiveInt, Field(multiple_of=64)]
    large_crop_share: Share
    learning_rate: Annotated[float, Field(gt=0)]
    shortcut_rate: Annotated[float, Field(ge=0)]
    warmup_steps: PositiveInt
    decay_share: Share
    clip_norm: Annotated[float, Field(gt=0)]
    average_decay: Annotated[float, Field(ge=0, lt=1)]
    lmbda_weight: float


def load_recipe(name_or_path: str) -> Recipe:
    """A recipe of the package by name, or one from a file; UsageError if there is none."""
    path = RECIPES / f"{name_or_path}.toml"
    if not path.exists():
        path = Path(name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise UsageError(f"{name_or_path}: no such recipe; the package has {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from None
    return parse_record(Recipe, data, str(path))


@dataclass(frozen=True)
class Budget:
    """What a run may spend, in steps or in seconds of summed step time, and where its decay begins."""

    unit: Literal["steps", "seconds"]
    total: float
    decay_start: float

    @classmethod
    def of(cls, unit: Literal["steps", "seconds"], total: float, recipe: Recipe) -> "Budget":
        return cls(unit, total, total * (1 - recipe.decay_share))

    def finish(self, spent: float, more: float) -> "Budget":
        """The decay begins now and is over after `more` of the unit."""
        return Budget(self.unit, spent + more, spent)

    def rate_factor(self, spent: float) -> float:
        """1 until the decay begins, then linear to 0."""
        return min(1.0, max(0.0, (self.total - spent) / max(self.total - self.decay_start, 1e-9)))

    def crop(self, spent: float, recipe: Recipe) -> int:
        """Large crops in the last part of the decay."""
        large = self.total - recipe.large_crop_share * (self.total - self.decay_start)
        return recipe.large_crop if spent >= large else recipe.crop
