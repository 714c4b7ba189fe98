"""The recipes of the package, and what a recipe says beyond the steps: a budget, lambdas."""

from pathlib import Path

import pytest

from rdcodec.cli.main import main
from rdcodec.errors import UsageError
from rdcodec.training.plan import plan_of
from rdcodec.training.recipe import RECIPES, load_recipe

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


def test_what_there_is() -> None:
    assert {"short", "single", "variable", "gpu30", "paper"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_crops_grow_and_no_key_is_missing(name: str) -> None:
    recipe = load_recipe(name)
    crops = [stage.crop for stage in recipe.stages]
    assert crops == sorted(crops)
    assert crops[-1] >= 256  # smaller ones alone teach borders
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    required = (key for key, field in type(recipe).model_fields.items() if field.is_required())
    assert all(f"\n{key} = " in text for key in required)


def test_the_paper() -> None:
    """Section 3: 2 million steps of batch 32."""
    recipe = load_recipe("paper")
    assert recipe.steps == 2_000_000
    assert [stage.batch for stage in recipe.stages] == [32]
    assert sorted(recipe.lmbdas) == [0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483]


def test_a_model_of_one_rate_takes_the_first_lmbda_unless_it_is_given_one() -> None:
    def lmbda(recipe: str, given: float | None) -> float | None:
        return plan_of("G", recipe, [], 0, None, given).config.lmbda

    assert lmbda("paper", None) == load_recipe("paper").lmbdas[0]
    assert lmbda("paper", 0.0035) == 0.0035
    assert lmbda("short", None) == plan_of("G", "short", [], 0, None).config.lmbda
    assert lmbda("short", 0.0483) == 0.0483


@pytest.mark.parametrize(("model", "recipe"), [("J", "short"), ("G", "single"), ("elic", "single")])
def test_without_a_recipe_it_is_that_for_hours_on_a_cpu(model: str, recipe: str) -> None:
    assert plan_of(model, None, [], 0, None).recipe == load_recipe(recipe)


def test_a_model_of_all_rates_takes_none() -> None:
    assert plan_of("J", "paper", [], 0, None).config.lmbda is None
    with pytest.raises(UsageError, match=r"J is one model for all rates.*--lmbda"):
        plan_of("J", "paper", [], 0, None, 0.013)


def test_the_recipe_has_a_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that only the photographs are missing."""
    assert main(["train", "J", "--recipe", "paper", "-o", str(tmp_path / "run")]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["train", "J", "-o", str(tmp_path / "run")]) == 2
    assert "needs one budget" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"), [("steps", "0"), ("steps", "1.5"), ("lmbdas", "[0.0]"), ("lmbdas", "[-1.0]")]
)
def test_a_budget_and_lambdas_that_cannot_be(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((RECIPES / "short.toml").read_text(encoding="utf-8") + f"{key} = {value}\n")
    with pytest.raises(UsageError, match=rf"mine\.toml: {key}"):
        load_recipe(str(path))
