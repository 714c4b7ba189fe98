"""What runs on other machines, as far as it can be seen from here: the workflows name things that there are."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no checkout")


def commands(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_there_are_tests_wheels_and_the_leaderboard() -> None:
    assert [path.stem for path in WORKFLOWS] == ["leaderboard", "test", "wheels"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_whole(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["name"] == path.stem and workflow[True]  # YAML reads the key `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["timeout-minutes"]
        for step in job["steps"]:
            assert len(step.keys() & {"run", "uses"}) == 1
            assert "uses" not in step or re.fullmatch(r"[\w./-]+@v[\d.]+", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_there_is(path: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in commands(yaml.safe_load(path.read_text(encoding="utf-8"))):
        for target in re.findall(r"\bmake ([a-z-]+)", command):
            assert target in targets
        for file in re.findall(r"\btests/\S+", command):
            assert (ROOT / file).exists()


def test_wheels_are_built_for_every_python_that_the_tests_begin_and_end_with() -> None:
    built = [re.fullmatch(r"cp3(\d+)-\*", pattern) for pattern in PROJECT["tool"]["cibuildwheel"]["build"]]
    minors = [int(match[1]) for match in built if match]
    assert len(minors) == len(built) and minors == list(range(minors[0], minors[-1] + 1))
    assert PROJECT["project"]["requires-python"] == f">=3.{minors[0]}"
    tested = yaml.safe_load((FOLDER / "test.yml").read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]["matrix"]
    assert tested["python"] == [f"3.{minors[0]}", f"3.{minors[-1]}"]
