"""Recipes and budgets: the learning rate over a run, and its end that can be called at any moment."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdcodec.errors import UsageError
from rdcodec.training.recipe import RECIPES, Budget, Recipe, load_recipe

SHORT = load_recipe("short")
Unit = Literal["steps", "seconds"]
totals = st.floats(1, 1e6)
shares = st.floats(0, 1)


def recipe(**changes: float) -> Recipe:
    return Recipe.model_validate({**SHORT.model_dump(), **changes})


# Recipes


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_packaged_recipes(name: str) -> None:
    found = load_recipe(name)
    assert found == load_recipe(str(RECIPES / f"{name}.toml"))
    assert found.crop <= found.large_crop


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nightly: no such recipe; the package has .*short"):
        load_recipe("nightly")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("clip_norm", "clip_norn", "unknown key clip_norn; did you mean clip_norm?"),
        ("crop = 256", "crop = 200", "crop: .*multiple of 64"),
        ("batch = 8", "batch = 8.5", "batch: "),
        ("decay_share = 0.5", "decay_share = 1.5", "decay_share: "),
        ("average_decay = 0.998", "average_decay = 1.0", "average_decay: "),
        ("batch = 8", "batch = ", "not a TOML file"),
    ],
)
def test_errors_name_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    text = (RECIPES / "short.toml").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"mine\.toml: {message}"):
        load_recipe(str(path))


# Budgets


@given(totals, st.floats(0.01, 1), shares, st.sampled_from(["steps", "seconds"]))
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


def test_large_crops_come_last() -> None:
    mine = recipe(decay_share=0.5, large_crop_share=0.4, crop=256, large_crop=384)
    budget = Budget.of("steps", 100, mine)
    assert [budget.crop(spent, mine) for spent in (0, 50, 79, 80, 99)] == [256, 256, 256, 384, 384]
    ended = budget.finish(10, 10)
    assert [ended.crop(spent, mine) for spent in (10, 15.9, 16, 19)] == [256, 256, 384, 384]


@given(totals, st.floats(0.01, 1), st.floats(0.01, 1))
@settings(max_examples=100)
def test_crops_and_rates_never_turn_back(total: float, decay: float, large: float) -> None:
    mine = recipe(decay_share=decay, large_crop_share=large)
    budget = Budget.of("seconds", total, mine)
    spent = [total * n / 50 for n in range(51)]
    assert all(a <= b for a, b in pairwise(budget.crop(s, mine) for s in spent))
    assert all(a >= b for a, b in pairwise(budget.rate_factor(s) for s in spent))
    assert budget.crop(total, mine) == mine.large_crop


def test_a_run_without_a_budget_divides_by_nothing() -> None:
    assert Budget.of("steps", 0, SHORT).rate_factor(0) == 0
