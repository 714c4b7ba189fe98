"""Runs that are killed, and runs that are paused and carried on elsewhere."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from filelock import FileLock
from safetensors import safe_open
from tiny_runs import MUON, assemble, checkpoint, learned, make_quick, quiet, resume, same, start, toml

from rdcodec.codec.pipeline import load
from rdcodec.errors import BadInput, UsageError
from rdcodec.models.config import ModelConfig
from rdcodec.models.weights import FILE_NAME, read_weights
from rdcodec.training import loop, run, validation
from rdcodec.training.checkpoint import CHECKPOINT, RESTART
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Budget
from rdcodec.training.run import LOCK, Setting

pytestmark = pytest.mark.xdist_group("resume")  # the run that is resumed is trained once
TINY_RUNS = Path(__file__).parent / "tiny_runs.py"
STEPS = 16


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, threads: Callable[[int], None]) -> None:
    """On one thread, for which bit-equal resumption is promised."""
    make_quick(monkeypatch.setattr)
    monkeypatch.setattr(validation, "VALIDATION_ANCHORS", ())
    threads(1)


@pytest.fixture(scope="module")
def plan(tiny_config: ModelConfig, picture_folder: Path) -> Plan:
    """Under Muon, which has a state of its own beside Adam's."""
    return Plan(tiny_config, MUON, (str(picture_folder),), seed=5)


# Killed


def run_until_killed(folder: Path, at: int, random: Random, *arguments: str) -> int:
    """Train in a new process and kill it soon after it has logged step `at`; the step of the last checkpoint."""
    command = [sys.executable, str(TINY_RUNS), str(at + 4), "train", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while last_logged(folder) < at and process.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))  # anywhere in a step, or while a checkpoint is being written
    finally:
        process.kill()
        _, message = process.communicate()
    assert process.returncode == -signal.SIGKILL, message
    assert not (folder / FILE_NAME).exists()
    return int(checkpoint(folder)["progress"]["step"])


def last_logged(folder: Path) -> int:
    try:
        return int(json.loads((folder / "log.jsonl").read_text("utf-8").splitlines()[-1])["step"])
    except (FileNotFoundError, IndexError, ValueError):
        return -1


def test_killed_at_any_moment(plan: Plan, tmp_path: Path) -> None:
    """Twice, and it still ends as the run that nobody touched: weights, average, both optimisers, bit for bit."""
    random = Random(0)
    folder = tmp_path / "killed"
    new = [*toml(plan, tmp_path), "--steps", str(STEPS), "-o", str(folder)]
    before = 0
    for at in sorted(random.sample(range(2, STEPS - 5), 2)):
        step = run_until_killed(folder, at, random, *(new if before == 0 else ["--resume", str(folder)]))
        assert max(before, at - 1) <= step <= at + 4
        before = step
    (folder / f"{CHECKPOINT}.partial").write_bytes(b"half a checkpoint")
    resume(folder)
    start(plan, tmp_path / "whole", STEPS)
    assert same(learned(folder), learned(tmp_path / "whole"))
    one, other = (read_weights(path / FILE_NAME) for path in (folder, tmp_path / "whole"))
    assert same(one.state, other.state)
    assert (one.entropy_hash, one.synthesis_hash) == (other.entropy_hash, other.synthesis_hash)


def test_a_kill_while_the_plan_is_written(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resuming writes it again: what is not all written must not take the place of the whole."""
    plan.save(tmp_path)

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace(plan, sources=("elsewhere.zip",)).save(tmp_path)
    assert Plan.read(tmp_path) == plan


# Paused


@pytest.fixture(scope="module")
def after_one_step(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that paused after the first step of eight."""
    folder = tmp_path_factory.mktemp("paused") / "run"
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        torch.set_num_threads(1)
        start(plan, folder, 8, pause_after=0.0, anchors=False)
    return folder


@pytest.fixture
def paused(after_one_step: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(after_one_step, tmp_path / "run")


def rates_of_the_rest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Resume to the end: the step and the learning rate of every step, as parts of the recipe's."""
    found: list[tuple[int, float]] = []
    train_step = loop.train_step

    def watched(state: loop.Run) -> loop.Step:
        step = state.progress.step
        done = train_step(state)
        found.append((step, state.optimizers[0].param_groups[0]["lr"] / MUON.learning_rate))
        return done

    monkeypatch.setattr(loop, "train_step", watched)
    resume(folder)
    return found


def test_a_paused_run_goes_on_as_if_nothing_was(plan: Plan, paused: Path, tmp_path: Path) -> None:
    assert not (paused / FILE_NAME).exists()
    resume(paused)
    start(plan, tmp_path / "whole", 8)
    assert same(learned(paused), learned(tmp_path / "whole"))


def test_a_pause_at_every_step(plan: Plan, tmp_path: Path) -> None:
    """Also at the last one, after which there is nothing but the end of the run."""
    said: list[str] = []
    folder = tmp_path / "run"
    setting = Setting(pause_after=0.0)
    run.start(plan, folder, Budget.of("steps", 3, plan.recipe), quiet, said.append, setting)
    while not (folder / FILE_NAME).exists():
        run.resume(folder, quiet, said.append, setting)
    assert [line.split(":")[0] for line in said if "paused" in line] == [f"paused at step {n}" for n in (1, 2, 3)]
    assert said[-1] == f"finished at step 3: {folder / FILE_NAME}"
    start(plan, tmp_path / "whole", 3)
    assert same(learned(folder), learned(tmp_path / "whole"))


def test_no_two_processes_train_one_run(plan: Plan, paused: Path, tmp_path: Path) -> None:
    before = checkpoint(paused)
    with FileLock(paused / LOCK), pytest.raises(UsageError, match="another process is training this run"):
        resume(paused)
    assert same(checkpoint(paused), before)
    resume(paused)
    assert (paused / FILE_NAME).exists()


def test_no_two_processes_begin_one_run(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if neither saw the other's when it began to read the photographs."""
    folder, first_values = tmp_path / "run", run._first_values

    def late(*arguments: Any) -> None:
        first_values(*arguments)
        folder.mkdir()
        plan.save(folder)

    monkeypatch.setattr(run, "_first_values", late)
    with pytest.raises(UsageError, match="another process began a run"):
        start(plan, folder, 1)
    assert not (folder / CHECKPOINT).exists()


def test_a_restart_file_is_a_small_checkpoint(paused: Path) -> None:
    assert (paused / RESTART).stat().st_size < 0.4 * (paused / CHECKPOINT).stat().st_size
    before = checkpoint(paused)
    with safe_open(paused / RESTART, "pt") as file:
        assert json.loads(file.metadata()["progress"]) == before["progress"]
        for name, tensor in before["model"].items():
            assert torch.equal(file.get_tensor(name), tensor.to(file.get_tensor(name).dtype))
    assert not list(paused.glob("*.partial"))


def test_a_run_goes_on_from_its_restart_file(paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same step of the same budget, but the learning rate rises again, as the optimisers begin anew."""
    before = checkpoint(paused)["progress"]
    (paused / CHECKPOINT).unlink()
    rates = rates_of_the_rest(paused, monkeypatch)
    assert [step for step, _ in rates] == list(range(1, 8))
    assert [rate for _, rate in rates] == pytest.approx([0.5, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])
    after = checkpoint(paused)["progress"]
    assert (after["step"], after["warm_from"], after["budget"]) == (8, 1, before["budget"])
    assert after["seconds"] > before["seconds"] and after["flops"] > before["flops"]
    load(paused)


def test_a_checkpoint_goes_before_a_restart_file(paused: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = rates_of_the_rest(paused, monkeypatch)
    assert [rate for _, rate in rates] == pytest.approx([1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])
    assert checkpoint(paused)["progress"]["warm_from"] == 0


def test_the_average_begins_at_the_weights_of_a_restart_file(plan: Plan, paused: Path) -> None:
    (paused / CHECKPOINT).unlink()
    state = assemble(plan, paused, 8)
    loop_progress = run.load_checkpoint(paused, state.model, state.average, state.optimizers)
    assert loop_progress.step == 1
    assert same(state.model.state_dict(), state.average.state_dict())
    assert not any(optimizer.state for optimizer in state.optimizers)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-100],
        lambda data: data[:20],
        lambda data: b"",
        lambda data: data.replace(b"decay_start", b"decay_stort"),
        lambda data: data.replace(b'"progress"', b'"pragress"'),
        lambda data: data.replace(b'"synthesis.shortcut.weight"', b'"synthesis.shortcut.height"'),
    ],
    ids=["cut", "header", "empty", "budget", "no progress", "another model"],
)
def test_a_damaged_restart_file(paused: Path, damage: Callable[[bytes], bytes]) -> None:
    (paused / CHECKPOINT).unlink()
    path = paused / RESTART
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(BadInput, match=rf"{RESTART}: not a restart file of this model") as caught:
        resume(paused)
    assert "\n" not in str(caught.value)
    assert not (paused / FILE_NAME).exists()
