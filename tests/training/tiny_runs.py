"""Tiny runs for tests: started, resumed, taken apart and compared.

As a program it is `rdc train` in a process of its own: `python tiny_runs.py LIMIT train ...` logs and saves every step,
and waits at step LIMIT to be killed.
"""

import json
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rdcodec.cli.main import main
from rdcodec.training import follow, loop, run, validation
from rdcodec.training.checkpoint import CHECKPOINT, Progress
from rdcodec.training.data import load_photos
from rdcodec.training.group import Group
from rdcodec.training.loop import Step, train_step
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Budget, Recipe, Stage
from rdcodec.training.run import Setting
from rdcodec.training.start import start_model

RECIPE = Recipe(
    stages=(Stage(until=0.75, batch=2, crop=64), Stage(until=1.0, batch=2, crop=128)),
    start="klt",
    optimizer="adam",
    learning_rate=2e-3,
    matrix_rate=1.0,
    shortcut_rate=0.1,
    weight_decay=0.0,
    warmup_steps=2,
    decay_share=0.5,
    clip_norm=1.0,
    average_decay=0.5,
    lmbda_weight=-0.5,
    stratified=False,
)
MUON = RECIPE.model_copy(update={"optimizer": "muon", "weight_decay": 0.1, "stratified": True})

Watcher = Callable[[loop.Run], None]


def make_quick(patch: Callable[[object, str, object], None]) -> None:
    """One anchor, few patches for the start, and no time for the machine's own speed."""
    patch(validation, "VALIDATION_ANCHORS", ("jpeg",))
    for module in (run, follow):
        patch(module, "start_model", partial(start_model, patches=1500))
    patch(follow, "BATCHES", 1)
    patch(run, "roofline", lambda *_: (100.0, 1024))


def interrupt(*_: object) -> None:
    """SIGINT, as from a terminal, wherever this is called."""
    signal.raise_signal(signal.SIGINT)


def quiet(what: object) -> None:
    """Neither screen nor log."""


def start(plan: Plan, folder: Path, steps: int, **setting: Any) -> None:
    run.start(plan, folder, Budget.of("steps", steps, plan.recipe), quiet, quiet, Setting(**setting))


def resume(folder: Path, finish_in: float | None = None, **setting: Any) -> None:
    run.resume(folder, quiet, quiet, Setting(**setting), finish_in)


def assemble(plan: Plan, folder: Path, steps: int, group: Group | None = None, **setting: Any) -> loop.Run:
    photos = load_photos([Path(source) for source in plan.sources])
    progress = Progress(Budget.of("steps", steps, plan.recipe))
    return run._assemble(plan, folder, photos, progress, Setting(**setting), group or Group(), quiet, quiet)


def checkpoint(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)
    return state


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def same(one: Any, other: Any) -> bool:
    """Bit for bit, all the way down."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def learned(folder: Path) -> dict[str, Any]:
    """A checkpoint but for what the clock says."""
    state = checkpoint(folder)
    assert state["progress"].pop("seconds") > 0
    return state


def toml(plan: Plan, folder: Path) -> list[str]:
    """Write model and recipe as files; the options that name them and the photographs."""
    for name, record in (("model", plan.config), ("recipe", plan.recipe)):
        (folder / f"{name}.toml").write_text(_lines(record.model_dump(exclude_none=True)), encoding="utf-8")
    data = [option for source in plan.sources for option in ("--data", source)]
    return [str(folder / "model.toml"), "--recipe", str(folder / "recipe.toml"), "--seed", str(plan.seed), *data]


def _lines(record: dict[str, Any]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in record.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def _wait_to_be_killed_at(limit: int) -> None:
    def step(state: loop.Run) -> Step:
        while state.progress.step >= limit:
            signal.pause()
        return train_step(state)

    loop.train_step = step


if __name__ == "__main__":
    make_quick(setattr)
    validation.VALIDATION_ANCHORS = ()
    loop.CHECKPOINT_SECONDS = 0.0
    loop.LOG_STEPS = 1
    torch.set_num_threads(1)
    if int(sys.argv[1]):
        _wait_to_be_killed_at(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
