"""Sweeps: what a file stands for, and that no trial is lost or run twice, whatever is killed."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock
from tiny_runs import RECIPE, checkpoint, make_quick, toml

from rdcodec.cli.main import main
from rdcodec.errors import RdcError, UsageError
from rdcodec.models.config import ModelConfig, load_config
from rdcodec.training import trial, workers
from rdcodec.training.checkpoint import CHECKPOINT
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Budget, load_recipe
from rdcodec.training.sweep import Sweep, changed, list_trials, read_sweep, recipe_of, training_tflop
from rdcodec.training.trial import RESULTS, Job, carry_out, is_done, read_results
from rdcodec.training.workers import ATTEMPTS, LocalWorkers, RayWorkers, run_trials

SWEEPS = Path(__file__).parents[2] / "sweeps"
STEPS = 30
PLAIN = RECIPE.model_copy(update={"start": "random"})  # the other start has tests of its own
AXES = """
[axes.width]
narrow = { synthesis = { stride8 = { width = 8 } } }
same = {}
[axes.hidden]
few = { entropy = { hidden = 8 } }
many = { entropy = { hidden = 24 } }
"""


@pytest.fixture
def base(tiny_config: ModelConfig, picture_folder: Path, tmp_path: Path) -> Path:
    """A folder with the model and the recipe that the sweeps here start from."""
    toml(Plan(tiny_config, PLAIN, (str(picture_folder),), 0), tmp_path)
    return tmp_path


def sweep_file(base: Path, text: str, budget: str = f"steps = {STEPS}") -> Path:
    path = base / "sweep.toml"
    head = f'name = "tiny"\nbase = "model.toml"\nrecipe = "recipe.toml"\n{budget}\n'
    path.write_text(head + text, encoding="utf-8")
    return path


def trials_of(path: Path) -> dict[str, ModelConfig]:
    return {trial.name: trial.config for trial in list_trials(read_sweep(path), path.parent)}


# What a file stands for


def test_every_combination_of_the_axes_is_a_trial(base: Path) -> None:
    found = trials_of(sweep_file(base, AXES))
    assert list(found) == ["narrow-few", "narrow-many", "same-few", "same-many"]
    plain = load_config(base / "model.toml")
    assert found["narrow-many"].synthesis.stride8.width == 8 != plain.synthesis.stride8.width
    assert found["narrow-many"].synthesis.stride8.blocks == plain.synthesis.stride8.blocks
    assert (found["same-few"].entropy.hidden, found["same-many"].entropy.hidden) == (8, 24)
    assert found["same-few"].analysis == plain.analysis
    assert all(config.name == name for name, config in found.items())


def test_a_random_search_is_a_part_of_the_grid(base: Path) -> None:
    grid = trials_of(sweep_file(base, AXES))
    drawn = [trials_of(sweep_file(base, f'search = "random"\ntrials = 2\nseed = {seed}\n{AXES}')) for seed in range(9)]
    assert all(len(trials) == 2 and trials.items() <= grid.items() for trials in drawn)
    assert len({tuple(trials) for trials in drawn}) > 1
    assert drawn[3] == trials_of(sweep_file(base, f'search = "random"\ntrials = 2\nseed = 3\n{AXES}'))
    assert trials_of(sweep_file(base, f'search = "random"\ntrials = 9\n{AXES}')) == grid


def test_limits_choose_by_cost_without_training(base: Path) -> None:
    path = sweep_file(base, AXES)
    costs = {trial.name: trial for trial in list_trials(read_sweep(path), base)}
    middle = sorted(trial.kflops_per_px for trial in costs.values())[1]
    below = trials_of(sweep_file(base, f"limits = {{ kflops_per_px = [0, {middle!r}] }}\n{AXES}"))
    assert set(below) == {name for name, trial in costs.items() if trial.kflops_per_px <= middle} != set(costs)
    most = max(trial.parameters for trial in costs.values()) / 1e6
    largest = trials_of(sweep_file(base, f"limits = {{ parameters_millions = [{most!r}, 1e9] }}\n{AXES}"))
    assert largest and all(costs[name].parameters / 1e6 == most for name in largest)
    with pytest.raises(UsageError, match="no trial is within its limits"):
        trials_of(sweep_file(base, f"limits = {{ kflops_per_px = [0, 0.001] }}\n{AXES}"))


def test_a_table_of_another_kind_is_replaced_whole() -> None:
    config = {"analysis": {"kind": "conv", "channels": [1], "norm": "gdn"}, "other": {"a": 1, "b": {"c": 2}}}
    assert changed(config, {"analysis": {"kind": "elic", "blocks": 3}})["analysis"] == {"kind": "elic", "blocks": 3}
    assert changed(config, {"analysis": {"kind": "conv", "channels": [2]}})["analysis"]["norm"] == "gdn"
    assert changed(config, {"other": {"b": {"d": 3}}})["other"] == {"a": 1, "b": {"c": 2, "d": 3}}
    assert config["other"] == {"a": 1, "b": {"c": 2}}


@pytest.mark.parametrize(
    ("budget", "text", "message"),
    [
        ("", AXES, "tflop or as steps"),
        ("steps = 3\ntflop = 1.0", AXES, "tflop or as steps"),
        ("steps = 3", "trials = 4\n" + AXES, "of a random search"),
        ("steps = 3", 'search = "random"\n' + AXES, "of a random search"),
        ("steps = 3", "[axes.width]\n", "axis width has no choices"),
        ("steps = 3", 'serach = "grid"\n', "unknown key serach; did you mean search"),
        ("steps = 3", "[axes.width]\nwide = { synthesis = { stride8 = { wdth = 9 } } }\n", "did you mean width"),
        ("steps = 3", "[axes.width]\nwide = { latent_channels = 7 }\n", "trial wide: latent_channels"),
        ("steps = 3", "[axes.width]\n" + "l" * 24 + " = {}\n", "name"),
        ("steps = 3", "axes = 3\n", "axes"),
        ("steps = ", "", "not a TOML file"),
    ],
)
def test_a_file_that_says_nothing_sound(base: Path, budget: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        trials_of(sweep_file(base, text, budget))
    assert "\n" not in str(caught.value)


LONG = "fig2"  # counts hundreds of models
FILES = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem == LONG))
    for path in sorted(SWEEPS.glob("*.toml"))
]


@pytest.mark.parametrize("path", FILES)
def test_sweeps_of_the_repository(path: Path) -> None:
    sweep = read_sweep(path)
    trials = list_trials(sweep, path.parent)
    recipe = recipe_of(sweep, path.parent)
    assert len(trials) > 1 and len({trial.config.model_dump_json() for trial in trials}) == len(trials)
    met: set[tuple[str, str]] = set()
    for one in trials:  # each choice of each axis in a model that is built and counted
        if not met.issuperset(one.choices.items()):
            met.update(one.choices.items())
            assert training_tflop(one, sweep, recipe) > 0


def test_training_compute_is_counted_from_the_stages(base: Path) -> None:
    """As the loop counts it: STEPS steps, of which three quarters have 2 crops of 64 and the rest 2 of 128."""
    path = sweep_file(base, "")
    sweep = read_sweep(path)
    (trial,) = list_trials(sweep, base)
    pixels = STEPS * (0.75 * 2 * 64**2 + 0.25 * 2 * 128**2)
    assert training_tflop(trial, sweep, RECIPE) * 1e12 == pytest.approx(pixels * trial.training_flops_per_px)
    assert training_tflop(trial, Sweep(name="s", base="J", tflop=2.5), RECIPE) == 2.5


# Who carries them out


class Fakes:
    """Workers that end each job at once, with the problem that is written down for it and attempt."""

    room = 2

    def __init__(self, problems: dict[str, list[str | None]]) -> None:
        self.problems = problems
        self.begun: list[str] = []
        self.running: list[str] = []
        self.stopped = False

    def begin(self, job: Job) -> None:
        self.begun.append(job.name)
        self.running.append(job.name)
        assert len(self.running) <= self.room

    def ended(self) -> list[tuple[str, str | None]]:
        name = self.running.pop(0)
        return [(name, self.problems.get(name, [None] * 9)[self.begun.count(name) - 1])]

    def stop(self) -> None:
        self.stopped = True


def fake_jobs(folder: Path, *names: str) -> list[Job]:
    return [Job(name, str(folder / name), {}, {}, {}, (), 0, 1, "cpu", "") for name in names]


def test_a_trial_that_fails_is_tried_again_and_then_reported(tmp_path: Path) -> None:
    problems: dict[str, list[str | None]] = {"b": ["lost", None], "c": ["first", "second", "third"]}
    workers = Fakes(problems)
    ended = {status.job.name: status for status in run_trials(fake_jobs(tmp_path, *"abcd"), workers, lambda _: None)}
    assert [ended[name].state for name in "abcd"] == ["done", "done", "failed", "done"]
    assert [ended[name].attempts for name in "abcd"] == [1, 2, ATTEMPTS, 1]
    assert ended["c"].problem == "second" and not workers.stopped


def test_what_is_done_is_not_begun(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / RESULTS).write_text("{}")
    workers = Fakes({})
    ended = run_trials(fake_jobs(tmp_path, *"abc"), workers, lambda _: None)
    assert workers.begun == ["a", "c"] and [status.state for status in ended] == ["done"] * 3


def test_an_interrupt_stops_the_workers(tmp_path: Path) -> None:
    workers = Fakes({})

    def interrupt(statuses: Sequence[object]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(fake_jobs(tmp_path, "a"), workers, interrupt)
    assert workers.stopped


# Killed


@pytest.fixture
def in_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """What every new process runs first: what makes its training quick, and a program, in which MARK is a path."""

    def set_up(program: str = "", only_in: str = "rdcodec.training.trial") -> Path:
        mark, folder = tmp_path / "mark", tmp_path / "first"
        folder.mkdir()
        text = f"import sys\nif any({only_in!r} in word for word in sys.orig_argv):\n"
        text += textwrap.indent(QUICK + program.replace("MARK", f"Path({str(mark)!r})"), "    ")
        (folder / "sitecustomize.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        return mark

    return set_up


def real_jobs(base: Path, picture_folder: Path, *names: str, steps: int = STEPS) -> list[Job]:
    config = load_config(base / "model.toml")
    budget = asdict(Budget.of("steps", steps, PLAIN))
    folder = base / "trials"
    folder.mkdir(exist_ok=True)
    common = (config.model_dump(mode="json"), PLAIN.model_dump(mode="json"), budget, (str(picture_folder),), 0)
    return [Job(name, str(folder / name), *common, 1, "cpu", "test") for name in names]


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not holds():
        assert process.poll() is None or holds(), "it ended before"
        time.sleep(0.01)


def begun(job: Job) -> bool:
    return (Path(job.folder) / CHECKPOINT).exists()


def steps_done(job: Job) -> int:
    return int(checkpoint(Path(job.folder))["progress"]["step"])


QUICK = """
from pathlib import Path
from rdcodec.training import loop, run, validation

run.roofline = lambda *_: (100.0, 1024)
validation.VALIDATION_ANCHORS = ()
"""
DIE_ONCE = """
import os, signal

train_step, mark = loop.train_step, MARK

def step(state):
    if state.progress.step == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(state)

loop.train_step = step
"""


def test_a_killed_process_is_begun_again_from_its_checkpoint(
    base: Path, picture_folder: Path, in_trials: Callable[..., Path]
) -> None:
    (job,) = real_jobs(base, picture_folder, "killed", steps=6)
    mark = in_trials(DIE_ONCE)
    (status,) = run_trials([job], LocalWorkers(1), lambda _: None)
    assert mark.exists() and status.state == "done" and status.attempts == 2 and steps_done(job) == 6
    log = Path(job.folder + ".log").read_text()
    assert log.count("reading photographs") == 2
    kinds = {result.kind for result in read_results(job)}
    assert kinds >= {"count", "training"}
    training = next(result for result in read_results(job) if result.kind == "training")
    assert training.values["steps"] == 6 and training.provenance.source == "rdcodec"


def test_a_trial_that_is_stopped_keeps_a_checkpoint(
    base: Path, picture_folder: Path, in_trials: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a signal, which not every system can send."""
    in_trials()
    monkeypatch.delattr(subprocess.Popen, "send_signal")
    (job,) = real_jobs(base, picture_folder, "stopped", steps=10**6)
    local = LocalWorkers(1)
    local.begin(job)
    process, log = local.processes["stopped"]
    wait_for(lambda: begun(job), process)
    local.stop()
    assert process.returncode == 130 and "interrupted" in log.read_text()
    assert not is_done(job) and steps_done(job) >= 0


def test_one_process_at_a_time_works_on_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no fcntl, as on Windows."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    (job,) = fake_jobs(tmp_path / "trials", "a")
    (tmp_path / "trials").mkdir()
    entered = threading.Event()
    monkeypatch.setattr(trial, "is_done", lambda job: entered.set() or True)
    with FileLock(job.folder + ".lock"):
        thread = threading.Thread(target=carry_out, args=(job,))
        thread.start()
        assert not entered.wait(0.3)
    thread.join()
    assert entered.is_set()


def test_a_folder_without_a_checkpoint_begins_anew(
    base: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch.setattr)
    (job,) = real_jobs(base, picture_folder, "early", steps=2)
    Path(job.folder).mkdir()
    (Path(job.folder) / "run.json").write_text("{}")
    carry_out(job)
    assert is_done(job) and steps_done(job) == 2


def test_a_failure_is_told_in_one_line(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ATTEMPTS", 1)
    (job,) = real_jobs(base, tmp_path / "nowhere", "lost")
    (status,) = run_trials([job], LocalWorkers(1), lambda _: None)
    assert status.state == "failed" and status.problem is not None
    assert "nowhere" in status.problem and "exit code 2" in status.problem


WAIT = """
import time

train_step, mark = loop.train_step, MARK

def step(state):
    while state.progress.step == 3 and state.model.config.name == "same" and not mark.exists():
        time.sleep(0.05)
    return train_step(state)

loop.train_step = step
"""


def test_a_sweep_that_is_killed_goes_on(
    base: Path,
    picture_folder: Path,
    tmp_path: Path,
    in_trials: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """SIGKILL of the sweep alone: its trials notice, and the same command finishes what is left, nothing twice."""
    out, mark = tmp_path / "out", in_trials(WAIT)
    path = sweep_file(base, AXES.split("[axes.hidden]")[0], "steps = 6")
    command = ["sweep", str(path), "--data", str(picture_folder), "-o", str(out), "--threads", "1"]
    trials = out / "trials"
    process = subprocess.Popen([sys.executable, "-m", "rdcodec", *command], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (trials / "narrow" / RESULTS).exists() and (trials / "same" / CHECKPOINT).exists(), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    first = (trials / "narrow" / RESULTS).stat().st_mtime_ns
    assert not (trials / "same" / RESULTS).exists()
    mark.touch()
    assert main(command) == 0
    assert "2 of 2 trials are done" in capsys.readouterr().err
    assert (trials / "narrow" / RESULTS).stat().st_mtime_ns == first
    assert checkpoint(trials / "same")["progress"]["step"] == 6


@pytest.mark.slow
def test_a_local_ray_cluster_that_loses_a_worker(
    base: Path, picture_folder: Path, in_trials: Callable[..., Path]
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    jobs = real_jobs(base, picture_folder, "one", "two", steps=6)
    mark = in_trials(DIE_ONCE, only_in="default_worker")
    try:
        ended = run_trials(jobs, RayWorkers("local", 1, "cpu"), lambda _: None)
    finally:
        ray.shutdown()
    assert mark.exists(), "no worker was killed"
    assert [status.state for status in ended] == ["done", "done"], [status.problem for status in ended]
    assert [steps_done(job) for job in jobs] == [6, 6]


def test_no_ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(RdcError, match=r"no Ray cluster at 127\.0\.0\.1:1 "):
        RayWorkers("127.0.0.1:1", 1, "cpu")


# The command


def test_a_dry_run_trains_nothing(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file(base, AXES, "tflop = 0.5")
    assert main(["sweep", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "4 trials" in out and "narrow-few" in out and "in all 2 TFLOP" in out and "an estimate" in out
    assert sorted(path.name for path in base.iterdir()) == ["model.toml", "recipe.toml", "sweep.toml"]


def test_what_a_sweep_needs(base: Path, picture_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(sweep_file(base, AXES))
    data = ["--data", str(picture_folder)]
    assert main(["sweep", path, "-o", str(base / "out")]) == 2
    assert main(["sweep", path, *data]) == 2
    assert main(["sweep", str(base / "none.toml"), *data, "-o", str(base / "out")]) == 2
    assert main(["sweep", path, *data, "-o", str(picture_folder)]) == 2
    other = base / "out"
    other.mkdir()
    (other / "sweep.toml").write_text("another")
    assert main(["sweep", path, *data, "-o", str(other)]) == 2
    assert main(["sweep", path, "--data", str(base / "nowhere"), "-o", str(base / "new")]) == 2
    assert not (base / "new").exists()
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 6 and all(line.startswith("rdc: ") for line in lines)
    assert "another sweep" in lines[4]


def test_photographs_are_named_as_for_one_training(
    base: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Braces too."""
    jobs: list[Job] = []
    monkeypatch.setattr(workers, "run_trials", lambda made, *_: jobs.extend(made) or [])
    for name in ("a", "b"):
        shutil.copytree(picture_folder, base / name)
    data = str(base / "{a,b}")
    assert main(["sweep", str(sweep_file(base, AXES)), "--data", data, "-o", str(base / "out")]) == 0
    assert {job.sources for job in jobs} == {(data,)} and len(jobs) == 4


def test_a_file_named_as_a_recipe_of_the_package_does_not_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text('name = "tiny"\nbase = "I"\nrecipe = "short"\nsteps = 1\n')
    for name in ("I", "short"):
        (tmp_path / name).touch()
    assert recipe_of(read_sweep(path), tmp_path) == load_recipe("short")
