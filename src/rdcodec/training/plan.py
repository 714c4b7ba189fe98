"""What a run was asked to do: model, recipe, photographs, seed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rdcodec.codec import native_engine
from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.machine import machine
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.kinds import CharmEntropy
from rdcodec.models.records import parse_record
from rdcodec.models.weights import Weights, find_config, no_encoder, read_weights
from rdcodec.system import write_whole
from rdcodec.training.recipe import Recipe, load_recipe

RUN_FILE = "run.json"
Only = Literal["entropy", "decoder"]


@dataclass(frozen=True)
class Plan:
    """What a run was asked to do; RUN/run.json keeps it.

    earlier_sources: what it was trained on before it was resumed with other photographs.
    earlier_eflop: training computation behind the weights of warm_start; None: not known, or no such weights.
    only: the part that learns, while the others stay as warm_start has them; None: all parts.
    """

    config: ModelConfig
    recipe: Recipe
    sources: tuple[str, ...]
    seed: int
    warm_start: str | None = None
    earlier_sources: tuple[str, ...] = ()
    earlier_eflop: float | None = None
    only: Only | None = None

    def save(self, folder: Path) -> None:
        """Write RUN/run.json, whole or not at all; the machine in it stays the one that the run began on."""
        path = folder / RUN_FILE
        began_on: Any = json.loads(path.read_text(encoding="utf-8")).get("machine") if path.exists() else None
        record = {
            "config": self.config.model_dump(),
            "recipe": self.recipe.model_dump(),
            "sources": self.sources,
            "earlier_sources": self.earlier_sources,
            "seed": self.seed,
            "warm_start": self.warm_start,
            "earlier_eflop": self.earlier_eflop,
            "only": self.only,
            "machine": began_on or machine(),
        }
        write_whole(path, json.dumps(record, indent=1) + "\n")

    def whole_eflop(self, own: float) -> float | None:
        """Training computation with that of the start, from this run's own; None where the start's is not known."""
        if self.warm_start is None:
            return own
        return None if self.earlier_eflop is None else own + self.earlier_eflop

    def go_on_with(self, sources: Sequence[Path]) -> "Plan":
        """The same plan with other photographs."""
        taken = _absolute(sources)
        if taken == self.sources:
            return self
        earlier = dict.fromkeys((*self.earlier_sources, *self.sources))
        return replace(self, sources=taken, earlier_sources=tuple(earlier))

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        path = folder / RUN_FILE
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            config = parse_record(ModelConfig, record["config"], str(path))
            recipe = parse_record(Recipe, record["recipe"], str(path))
            start = record["warm_start"], tuple(record.get("earlier_sources", ())), record.get("earlier_eflop")
            if (only := record.get("only")) not in (None, *get_args(Only)):
                raise ValueError(f"only: {only}")
            return cls(config, recipe, tuple(record["sources"]), record["seed"], *start, only)
        except FileNotFoundError:
            raise BadInput(f"{folder}: not a run folder (no {RUN_FILE})") from None
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: damaged ({error})") from None


def plan_of(
    config: str,
    recipe: str | None,
    sources: Sequence[Path],
    seed: int,
    warm_start: Path | None,
    lmbda: float | None = None,
    only: Only | None = None,
) -> Plan:
    """Resolve names and files into a plan; UsageError where one is unknown.

    recipe: without it that for hours on a CPU. lmbda: of a model of one rate; without it the recipe's first counts,
    then the configuration's.
    """
    if only and warm_start is None:
        raise UsageError(f"--only {only} leaves the other parts as they are: say with --warm-start which these are")
    model = find_config(config)
    if only == "decoder" and not native_engine.runs(model):
        raise UsageError(
            f"{model.name} cannot learn so: --only decoder is for light models, whose encoders choose integers"
        )
    if only == "entropy" and isinstance(model.entropy, CharmEntropy) and model.entropy.lrp:
        raise UsageError(
            f"{model.name} cannot learn so: its entropy model predicts residuals, which are part of the picture"
        )
    how = load_recipe(recipe or ("short" if model.lmbda is None else "single"))
    if model.lmbda is not None:
        model = model.model_copy(update={"lmbda": lmbda or next(iter(how.lmbdas), model.lmbda)})
    elif lmbda is not None:
        raise UsageError(f"{model.name} is one model for all rates: give --lmbda to a model of one rate")
    return Plan(
        model,
        how,
        _absolute(sources),
        seed,
        str(warm_start.resolve()) if warm_start else None,
        earlier_eflop=_whole_weights(warm_start).eflop if warm_start else None,
        only=only,
    )


def _whole_weights(path: Path) -> Weights:
    """Weights to start from; NeedsModel where only what decodes was kept of them."""
    weights = read_weights(path)
    if weights.decodes_only:
        raise no_encoder(weights.tag)
    return weights


def _absolute(sources: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(source.resolve()) for source in sources)
