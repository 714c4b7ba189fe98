"""Half an hour of a GPU, on a CPU: pieces of one step that hand over to each other, here and on another machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rdcodec.models.config import ModelConfig
from rdcodec.models.weights import FILE_NAME, read_weights
from rdcodec.training import loop, run, validation
from rdcodec.training.checkpoint import CHECKPOINT, RESTART, Progress
from rdcodec.training.group import Group
from rdcodec.training.plan import RUN_FILE, Plan, plan_of
from rdcodec.training.recipe import Budget, Recipe, Stage

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu30.sh"
# rdc as it is, but for one classical codec, no measure of the machine's speed, and every step in the log
QUICK = """
import sys
from functools import partial
from rdcodec.cli.main import main
from rdcodec.training import loop, run, start, validation
run.matmul_gflop_per_s = lambda *_: 100.0
run.start_model = partial(start.start_model, patches=1500)
validation.VALIDATION_ANCHORS = ()
loop.LOG_STEPS = 1
sys.exit(main(sys.argv[1:]))
"""
RECIPE = """
stages = [{ until = 1.0, batch = 2, crop = 64 }]
start = "klt"
optimizer = "adam"
learning_rate = 2e-3
matrix_rate = 1.0
shortcut_rate = 0.1
weight_decay = 0.0
warmup_steps = 2
decay_share = 0.5
clip_norm = 1.0
average_decay = 0.5
lmbda_weight = -0.5
stratified = false
"""
MODEL = """
name = "Tiny"
summary = "for tests"
latent_channels = 8
analysis = { kind = "light", stride8 = { width = 8, blocks = 1 }, stride16 = { width = 8, blocks = 1 } }
synthesis = { kind = "light", stride8 = { width = 8, blocks = 1 }, stride16 = { width = 8, blocks = 1 } }
entropy = { kind = "checkerboard", hyper_channels = 8, features = 8, hidden = 8 }
"""
Piece = Callable[..., subprocess.CompletedProcess[str]]

needs_script = pytest.mark.skipif(
    shutil.which("bash") is None or not SCRIPT.exists(), reason="needs bash and a checkout with scripts/"
)


@pytest.fixture
def piece(tmp_path: Path) -> Piece:
    """Runs the script in an empty folder; a piece ends after its first step unless PIECE says otherwise."""
    (tmp_path / "quick.py").write_text(QUICK)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "model.toml").write_text(MODEL)
    python = tmp_path / "python"
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'[[ $1 == -m ]] && exec "{sys.executable}" "{tmp_path}/quick.py" "${{@:3}}"\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)

    def call(folder: str, *data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {"PYTHON": python, "DEVICE": "cpu", "COMPILE": "", "RECIPE": "recipe.toml", "PIECE": "0.01s"}
        variables = {**os.environ, **{key: str(value) for key, value in settings.items()}, **environment}
        command = [str(SCRIPT), "model.toml", folder, *map(str, data)]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    return call


def trained_steps(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["step"] for record in map(json.loads, lines) if record["kind"] == "train"]


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()]


@needs_script
def test_pieces_hand_over(piece: Piece, tmp_path: Path, picture_folder: Path) -> None:
    first = piece("here", picture_folder, OUT="out")
    assert first.returncode == 0, first.stderr
    assert "gpu30: step 1, " in first.stdout and "TFLOP/s" in first.stdout and "call again" in first.stdout
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run.json", "log.jsonl", f"{RESTART}.00"}

    # The same machine: from the checkpoint.
    second = piece("here", picture_folder, OUT="out")
    assert second.returncode == 0, second.stderr
    assert trained_steps(tmp_path / "here") == [1, 2]
    assert (tmp_path / "here" / CHECKPOINT).exists()

    # Another one, with other photographs, from what was carried; and the end of the run.
    shutil.copytree(picture_folder, tmp_path / "other")
    carried, data = tmp_path / "carried", (tmp_path / "out" / f"{RESTART}.00").read_bytes()
    shutil.copytree(tmp_path / "out", carried)
    for n, start in enumerate(range(0, len(data), len(data) // 3 + 1)):  # as a large model's
        (carried / f"{RESTART}.{n:02}").write_bytes(data[start : start + len(data) // 3 + 1])
    last = piece("there", tmp_path / "other", OUT="end", CARRIED="carried", LAST="0.01s", PIECE="9m")
    assert last.returncode == 0, last.stderr
    assert trained_steps(tmp_path / "there") == [1, 2, 3]
    assert "finished" in last.stdout
    plan = Plan.read(tmp_path / "there")
    assert plan.sources == (str(tmp_path / "other"),) and plan.earlier_sources == (str(picture_folder),)

    # What leaves the machine is a model.
    end = tmp_path / "end"
    assert {path.name for path in end.iterdir()} == {"run.json", "log.jsonl", f"{FILE_NAME}.00"}
    joined = tmp_path / FILE_NAME
    joined.write_bytes(b"".join(path.read_bytes() for path in sorted(end.glob(f"{FILE_NAME}.*"))))
    assert read_weights(joined).tag == "Tiny.0"
    assert len(sizes(end)) <= 8 and max(sizes(end)) <= 16 * 2**20


@needs_script
def test_a_failure_keeps_its_code(piece: Piece, tmp_path: Path) -> None:
    done = piece("here", tmp_path / "nowhere", OUT="out")
    assert done.returncode == 2
    assert "nowhere" in done.stderr and "Traceback" not in done.stderr
    assert piece("here").returncode == 2
    assert not (tmp_path / "here").exists()


# torch.compile


@pytest.fixture
def made(
    tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., loop.Run]:
    """A run of two steps that is yet to begin."""
    monkeypatch.setattr(run, "matmul_gflop_per_s", lambda *_: 100.0)
    monkeypatch.setattr(validation, "VALIDATION_ANCHORS", ())
    recipe = Recipe.model_validate(plan_of("J", "gpu30", [], 0, None).recipe.model_dump())
    recipe = recipe.model_copy(update={"stages": (Stage(until=1.0, batch=2, crop=64),), "start": "random"})
    plan = Plan(tiny_config, recipe, (str(picture_folder),), seed=0)

    def make(say: Callable[[str], None], **setting: Any) -> loop.Run:
        photos = run.load_photos([picture_folder])
        progress = Progress(Budget.of("steps", 2, recipe))
        made = run._assemble(plan, tmp_path, photos, progress, run.Setting(**setting), Group(), print, say)
        made.validation.clear()
        return made

    return make


class Refused(torch.nn.Module):
    def forward(self, *_: object) -> None:
        raise RuntimeError("no compiler\nand much more")


def test_a_run_goes_on_where_it_cannot_be_compiled(made: Callable[..., loop.Run]) -> None:
    said: list[str] = []
    plain, compiled = made(said.append), made(said.append)
    compiled.forward = Refused()
    for each in (plain, compiled):
        assert loop.fit(each)
    assert said == [
        "compiling",
        "torch.compile failed, so the run goes on without it (RuntimeError: no compiler)",
    ]
    assert not compiled.compiled
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_other_errors_are_not_hidden(made: Callable[..., loop.Run]) -> None:
    run = made(print)
    run.parallel = run.forward = Refused()
    with pytest.raises(RuntimeError, match="no compiler"):
        loop.fit(run)


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(made: Callable[..., loop.Run]) -> None:
    """Through a real compiler: the lower bound's own gradient and straight-through rounding are kept."""
    said: list[str] = []
    plain, compiled = made(said.append), made(said.append, compiled=True)
    grads = []
    for each in (plain, compiled):
        stage = each.recipe.stages[0]
        loop._gradients(each, each.feed.take(0, stage), stage.batch)
        grads.append([p.grad for p in each.model.parameters()])
    assert compiled.compiled, said
    for one, other in zip(*grads, strict=True):
        assert one is not None and other is not None
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.02 * one.abs().max().item())


# Other photographs


def test_the_plan_remembers_what_it_was_trained_on(tiny_config: ModelConfig, tmp_path: Path) -> None:
    plan = Plan(tiny_config, plan_of("J", "short", [], 0, None).recipe, ("/a", "/b"), seed=0)
    assert plan.go_on_with([Path("/a"), Path("/b")]) is plan
    other = plan.go_on_with([Path("/b")]).go_on_with([Path("/c")])
    assert other == replace(plan, sources=("/c",), earlier_sources=("/a", "/b"))
    plan.save(tmp_path)
    path = tmp_path / RUN_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "machine": {"cpu": "the first"}}))
    other.save(tmp_path)
    assert Plan.read(tmp_path) == other
    assert json.loads(path.read_text())["machine"] == {"cpu": "the first"}
