"""Sweeps: one TOML file that stands for many trainings, over architectures, widths, depths and lambdas.

A sweep starts from one configuration and has axes. An axis has choices, each with a label and the changes that it
makes to the configuration; a trial takes one choice of every axis and is called by their labels, as in
elic-charm-conv. All trials have the same recipe and the same budget.
"""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from rdcodec.errors import UsageError
from rdcodec.measure.cost import count_model
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import ModelConfig
from rdcodec.models.records import Record, parse_record, read_toml
from rdcodec.models.weights import find_config
from rdcodec.training.recipe import Budget, Recipe, load_recipe
from rdcodec.training.run import forward_macs_per_px

NAME = r"^[A-Za-z][A-Za-z0-9-]{0,22}$"  # what may be the name of a model
Between = Annotated[tuple[float, float], Field(strict=False)]
Choices = dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9]+$")], dict[str, Any]]
BACKWARD = 3  # a training step costs about three passes forward


class Limits(Record):
    """Which trials are run: lowest and highest value of each, the ends included."""

    parameters_millions: Between | None = None
    kflops_per_px: Between | None = None


class Sweep(Record):
    """What a sweep file says.

    base: a model of the package, or a TOML file beside the sweep's. tflop, steps: the budget of each trial, one of
    them. search: every combination of the axes, or so many `trials` of them, drawn with `seed`, after `limits`.
    """

    name: Annotated[str, Field(pattern=NAME)]
    base: str
    recipe: str = "short"
    tflop: Annotated[float, Field(gt=0)] | None = None
    steps: PositiveInt | None = None
    search: Literal["grid", "random"] = "grid"
    trials: PositiveInt | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    limits: Limits = Field(default_factory=Limits)
    axes: dict[str, Choices] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.tflop is None) == (self.steps is None):
            raise ValueError("give the budget of a trial as tflop or as steps")
        if (self.trials is not None) != (self.search == "random"):
            raise ValueError("trials says how many of a random search, and of no other")
        if empty := [axis for axis, choices in self.axes.items() if not choices]:
            raise ValueError(f"axis {empty[0]} has no choices")
        return self


@dataclass(frozen=True)
class Trial:
    """One training of a sweep. choices: the label taken of each axis."""

    name: str
    config: ModelConfig
    choices: Mapping[str, str]

    @cached_property
    def parameters(self) -> int:
        """Of the whole model."""
        return count_model(self.config).parameters

    @cached_property
    def kflops_per_px(self) -> float:
        """The decoder's, the headline figure."""
        return count_model(self.config).kflops_per_px

    @cached_property
    def training_flops_per_px(self) -> float:
        """Of a step, forward and backward."""
        return training_flops_per_px(blueprint(self.config))


def training_flops_per_px(model: ImageModel) -> float:
    """FLOPs of a training step per pixel, forward and backward."""
    return BACKWARD * 2 * forward_macs_per_px(model)


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file; UsageError names the key that is unknown or of the wrong kind."""
    return parse_record(Sweep, read_toml(path, "no such file; give a sweep's TOML file"), str(path))


def list_trials(sweep: Sweep, beside: Path) -> list[Trial]:
    """The trials within the limits, in the order of the axes. UsageError for a combination that is no model.

    beside: the folder of the sweep's file, where its base may lie.
    """
    base = _base(sweep.base, beside)
    trials = [_trial(sweep, base, labels) for labels in itertools.product(*sweep.axes.values())]
    trials = [trial for trial in trials if _is_within(trial, sweep.limits)]
    if sweep.trials is not None:
        chosen = random.Random(sweep.seed).sample(range(len(trials)), min(sweep.trials, len(trials)))
        trials = [trials[index] for index in sorted(chosen)]
    if not trials:
        raise UsageError(f"{sweep.name}: no trial is within its limits")
    return trials


def budget_of(sweep: Sweep, recipe: Recipe) -> Budget:
    """What each trial may spend."""
    if sweep.tflop is not None:
        return Budget.of("flops", 1e12 * sweep.tflop, recipe)
    assert sweep.steps is not None
    return Budget.of("steps", sweep.steps, recipe)


def recipe_of(sweep: Sweep, beside: Path) -> Recipe:
    """The recipe of the package, or of a file beside the sweep's."""
    return load_recipe(_beside(sweep.recipe, beside))


def training_tflop(trial: Trial, sweep: Sweep, recipe: Recipe) -> float:
    """10^12 FLOPs that a trial will spend, the optimiser's left out."""
    if sweep.tflop is not None:
        return sweep.tflop
    assert sweep.steps is not None
    ends = [stage.until for stage in recipe.stages]
    shares = [end - begin for begin, end in zip([0.0, *ends], ends, strict=False)]
    pixels = sum(share * stage.batch * stage.crop**2 for share, stage in zip(shares, recipe.stages, strict=True))
    return 1e-12 * sweep.steps * pixels * trial.training_flops_per_px


def _base(name: str, beside: Path) -> dict[str, Any]:
    return find_config(_beside(name, beside)).model_dump(exclude_none=True)


def _beside(name: str, folder: Path) -> str:
    """The path of a TOML file beside the sweep's; else the name as it is."""
    path = folder / name
    return str(path) if path.suffix == ".toml" and path.is_file() else name


def _trial(sweep: Sweep, base: dict[str, Any], labels: tuple[str, ...]) -> Trial:
    name = "-".join(labels) or sweep.name
    config = base
    for choices, label in zip(sweep.axes.values(), labels, strict=True):
        config = changed(config, choices[label])
    if not name[0].isalpha():
        name = f"{sweep.name}-{name}"
    record = parse_record(ModelConfig, {**config, "name": name}, f"{sweep.name}, trial {name}")
    return Trial(name, record, dict(zip(sweep.axes, labels, strict=True)))


def changed(config: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with some of its values replaced, at any depth; a table of another `kind` is replaced whole."""
    merged: dict[str, Any] = dict(config)
    for key, new in changes.items():
        old = config.get(key)
        same = isinstance(old, Mapping) and isinstance(new, Mapping) and new.get("kind") in (None, old.get("kind"))
        merged[key] = changed(old, new) if same else new
    return merged


def _is_within(trial: Trial, limits: Limits) -> bool:
    """A trial is counted, which takes seconds, only where there is a limit."""
    parameters, kflops = limits.parameters_millions, limits.kflops_per_px
    if parameters is not None and not parameters[0] <= trial.parameters / 1e6 <= parameters[1]:
        return False
    return kflops is None or kflops[0] <= trial.kflops_per_px <= kflops[1]
