"""Recipes and budgets: the learning rate over a run, and its end that can be called at any moment."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdcodec.errors import UsageError
from rdcodec.models.config import ModelConfig
from rdcodec.training.plan import RUN_FILE, Plan
from rdcodec.training.recipe import RECIPES, Budget, Recipe, Unit, load_recipe

SHORT = load_recipe("short")
SOUND = """
stages = [
  { until = 0.8, batch = 8, crop = 256 },
  { until = 1.0, batch = 8, crop = 384 },
]
start = "klt"
optimizer = "adam"
learning_rate = 1.5e-3
matrix_rate = 1.0
shortcut_rate = 0.1
weight_decay = 0.0
warmup_steps = 200
decay_share = 0.5
clip_norm = 1.0
average_decay = 0.998
lmbda_weight = -0.5
stratified = false
"""
UNITS: tuple[Unit, ...] = ("steps", "seconds", "flops")
totals = st.floats(1, 1e6)
shares = st.floats(0, 1)


# Thousandths: shares that differ in their last bits alone are one share once they are multiplied by a total.
untils = st.lists(st.integers(10, 990), max_size=4, unique=True).map(
    lambda found: [*(n / 1000 for n in sorted(found)), 1.0]
)


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**SHORT.model_dump(), **changes})


def stages(*untils: float) -> list[dict[str, Any]]:
    """A stage up to each share, crops of 64, 128, 192 and so on pixels."""
    return [{"until": until, "batch": 2 + n, "crop": 64 * (n + 1)} for n, until in enumerate(untils)]


# Recipes


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_packaged_recipes(name: str) -> None:
    found = load_recipe(name)
    assert found == load_recipe(str(RECIPES / f"{name}.toml"))
    crops = [stage.crop for stage in found.stages]
    assert crops == sorted(crops) and found.largest_crop == crops[-1]
    assert found.stages[-1].until == 1.0


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nightly: no such recipe; the package has .*short"):
        load_recipe("nightly")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clip_norm", "clip_norn", "unknown key clip_norn; did you mean clip_norm?"),
        ("crop = 256", "crop = 200", r"stages\.0\.crop: .*multiple of 64"),
        ("crop = 384", "crap = 384", r"unknown key stages\.1\.crap; did you mean crop\?"),
        ("batch = 8", "batch = 8.5", r"stages\.0\.batch: "),
        ("until = 0.8", "until = 0", r"stages\.0\.until: "),
        ("until = 0.8", "until = 1.0", "stages: .*every stage lasts until a larger share"),
        ("until = 1.0", "until = 0.9", "stages: .*the last until 1.0"),
        ("until = 1.0", "until = 0.7", "stages: .*every stage lasts until a larger share"),
        ("decay_share = 0.5", "decay_share = 1.5", "decay_share: "),
        ("average_decay = 0.998", "average_decay = 1.0", "average_decay: "),
        ("matrix_rate = 1.0", "matrix_rate = 0.0", "matrix_rate: "),
        ("weight_decay = 0.0", "weight_decay = -0.1", "weight_decay: "),
        ('optimizer = "adam"', 'optimizer = "sgd"', "optimizer: .*'adam' or 'muon'"),
        ('start = "klt"', "", "start: "),
        ("stratified = false", "stratified = 0", "stratified: "),
        ("batch = 8", "batch = ", "not a TOML file"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    assert old in SOUND
    path.write_text(SOUND.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"mine\.toml: {message}"):
        load_recipe(str(path))


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'start = "\xe9"')
    (tmp_path / "folder.toml").mkdir()
    for name, message in (("latin", "not a TOML file"), ("folder", "Is a directory")):
        with pytest.raises(UsageError, match=rf"{name}\.toml: {message}"):
            load_recipe(str(tmp_path / f"{name}.toml"))


def test_a_recipe_has_a_stage(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("stages = []\n")
    with pytest.raises(UsageError, match=r"mine\.toml: stages: "):
        load_recipe(str(tmp_path / "mine.toml"))


@given(untils, st.sampled_from(["adam", "muon"]), st.floats(1e-6, 1), st.booleans())
@settings(max_examples=15)
def test_a_recipe_comes_back_from_its_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_config: ModelConfig,
    untils: list[float],
    optimizer: str,
    rate: float,
    stratified: bool,
) -> None:
    """Through RUN/run.json, whose JSON has lists where the record has tuples."""
    folder = tmp_path_factory.mktemp("run")
    mine = recipe(stages=stages(*untils), optimizer=optimizer, learning_rate=rate, stratified=stratified)
    plan = Plan(tiny_config, mine, ("photos.zip",), seed=7, warm_start="old.safetensors")
    plan.save(folder)
    assert Plan.read(folder) == plan
    assert isinstance(json.loads((folder / RUN_FILE).read_text("utf-8"))["recipe"]["stages"], list)


# Budgets


@given(totals, st.floats(0.01, 1), shares, st.sampled_from(UNITS))
@settings(max_examples=200)
def test_rate_is_constant_and_then_falls_to_zero_in_a_line(total: float, share: float, at: float, unit: Unit) -> None:
    budget = Budget.of(unit, total, recipe(decay_share=share))
    begin = total * (1 - share)
    spent = at * total
    expected = 1.0 if spent <= begin else (total - spent) / (total - begin)
    assert budget.rate_factor(spent) == pytest.approx(expected, abs=1e-6)


def test_rate_by_hand() -> None:
    budget = Budget.of("steps", 100, recipe(decay_share=0.4))
    assert [budget.rate_factor(spent) for spent in (0, 30, 60)] == [1, 1, 1]
    assert [budget.rate_factor(spent) for spent in (70, 80, 90, 100, 120)] == pytest.approx([0.75, 0.5, 0.25, 0, 0])


@given(totals, st.floats(0.01, 1), shares, st.floats(0.1, 1e5))
@settings(max_examples=200)
def test_an_end_called_now_is_a_line_from_now_on(total: float, share: float, at: float, more: float) -> None:
    spent = at * total
    budget = Budget.of("seconds", total, recipe(decay_share=share)).finish(spent, more)
    assert budget.unit == "seconds"
    assert budget.total == spent + more
    assert budget.rate_factor(spent) == pytest.approx(1)
    for part in (0.25, 0.5, 0.75):
        assert budget.rate_factor(spent + part * more) == pytest.approx(1 - part, abs=1e-4)
    assert budget.rate_factor(budget.total) == 0


def test_an_end_called_in_the_decay_keeps_no_older_line() -> None:
    budget = Budget.of("steps", 100, recipe(decay_share=0.5)).finish(90, 10)
    assert budget == Budget("steps", 100, 90)
    assert Budget("steps", 100, 90).finish(95, 0).rate_factor(95) == 0


def test_stages_by_hand() -> None:
    mine = recipe(stages=stages(0.5, 0.8, 1.0))
    budget = Budget.of("steps", 100, mine)
    assert [budget.stage(spent, mine).crop for spent in (0, 49, 50, 79, 80, 99)] == [64, 64, 128, 128, 192, 192]
    ended = budget.finish(10, 10)  # the shares are now those of 20 steps, of which half are over
    assert [ended.stage(spent, mine).crop for spent in (10, 15.9, 16, 19)] == [128, 128, 192, 192]


@given(totals, untils, st.sampled_from(UNITS), shares, st.none() | st.floats(0.1, 1e5))
@settings(max_examples=200)
def test_the_stage_is_that_of_the_share_that_is_spent(
    total: float, untils: list[float], unit: Unit, at: float, more: float | None
) -> None:
    """Also where an end was called; a budget that is spent, or none, is in the last stage."""
    mine = recipe(stages=stages(*untils))
    budget = Budget.of(unit, total, mine)
    if more is not None:
        budget = budget.finish(at * total, more)
    for share in (0.0, *untils, *(until - 1e-6 for until in untils), 1.5):
        expected = sum(until <= share for until in untils[:-1])
        assert budget.stage(share * budget.total * (1 + 1e-12), mine) == mine.stages[expected]
    assert Budget.of(unit, 0, mine).stage(0, mine) == mine.stages[-1]


@given(totals, st.floats(0.01, 1), untils)
@settings(max_examples=100)
def test_stages_and_rates_never_turn_back(total: float, decay: float, untils: list[float]) -> None:
    mine = recipe(decay_share=decay, stages=stages(*untils))
    budget = Budget.of("seconds", total, mine)
    spent = [total * n / 50 for n in range(51)]
    assert all(a <= b for a, b in pairwise(budget.stage(s, mine).until for s in spent))
    assert all(a >= b for a, b in pairwise(budget.rate_factor(s) for s in spent))
    assert budget.stage(total, mine) == mine.stages[-1]


def test_a_run_without_a_budget_divides_by_nothing() -> None:
    assert Budget.of("steps", 0, SHORT).rate_factor(0) == 0
