"""Shares of a batch: over two processes, or one after the other, they make the step of the whole batch."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest
import torch
import torch.multiprocessing
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import MUON, RECIPE, assemble, checkpoint, log, make_quick, same, start, toml

from rdcodec.codec.pipeline import load
from rdcodec.errors import UsageError
from rdcodec.models.base import ImageModel
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.weights import FILE_NAME
from rdcodec.training import loop, run
from rdcodec.training.checkpoint import CHECKPOINT
from rdcodec.training.data import Batch, Crops, held, load_photos
from rdcodec.training.feed import Feed
from rdcodec.training.group import Group, own_device, processes
from rdcodec.training.loop import train_step
from rdcodec.training.plan import RUN_FILE, Plan
from rdcodec.training.recipe import Recipe, Stage
from rdcodec.training.run import Setting

pytestmark = pytest.mark.xdist_group("group")  # what two processes make is made once
CPU = torch.device("cpu")
STEPS = 5
TINY_RUNS = Path(__file__).parent / "tiny_runs.py"


@dataclass(frozen=True)
class Case:
    """Five steps of a global batch of so many samples."""

    batch: int
    recipe: Recipe = RECIPE
    micro_batch: int | None = None


CASES = {
    "even": Case(4),
    "odd": Case(3),
    "odd, one by one": Case(3, micro_batch=1),
    "muon": Case(4, MUON),
}


def final_state(plan: Plan, case: Case, group: Group | None = None) -> dict[str, Any]:
    """Weights, their average and progress after the steps, in float64, with noise and clipping."""
    torch.set_num_threads(1)
    recipe = case.recipe.model_copy(update={"stages": (Stage(until=1.0, batch=case.batch, crop=64),)})
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        patch.setattr(run, "ImageModel", lambda config: ImageModel(config).double())
        state = assemble(
            replace(plan, recipe=recipe), Path(), STEPS, group, micro_batch=case.micro_batch, anchors=False
        )
    make = state.feed.make
    state.feed.make = lambda step, stage: [double(batch) for batch in make(step, stage)]
    losses = [torch.stack(train_step(state).losses) for _ in range(STEPS)]
    progress = state.progress
    assert progress.skipped_steps == 0 and progress.usual_norm > 2 * recipe.clip_norm
    return {"model": state.model.state_dict(), "average": state.average.state_dict(), "losses": losses}


def double(batch: Batch) -> Batch:
    return Batch(batch.x.double(), batch.quality.double(), Noise(batch.noise.y.double(), batch.noise.z.double()))


def furthest(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of a weight, of a weight's average, of a loss relative to its size."""
    found = [(one[part][name] - other[part][name]).abs().max() for part in ("model", "average") for name in one[part]]
    found += [(a / b - 1).abs().max() for a, b in zip(one["losses"], other["losses"], strict=True)]
    return torch.stack(found).max().item()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def torchrun_variables(rank: int, port: int) -> dict[str, str]:
    return {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}


def work(rank: int, port: int, plan: Plan, folder: Path) -> None:
    """One of the two processes."""
    os.environ |= torchrun_variables(rank, port)
    with processes(CPU) as group:
        assert (group.rank, group.size) == (rank, 2)
        ended: dict[str, Any] = {name: final_state(plan, case, group) for name, case in CASES.items()}
    torch.save({**ended, "threads": thread_names()}, folder / f"{rank}.pt")


def thread_names() -> list[str]:
    """Of this process, as the kernel has them; none where it does not tell."""
    return [path.read_text(encoding="utf-8").strip() for path in Path("/proc/self/task").glob("*/comm")]


@pytest.fixture(scope="module")
def plan(tiny_config: ModelConfig, picture_folder: Path) -> Plan:
    return Plan(tiny_config, RECIPE, (str(picture_folder),), seed=0)


@pytest.fixture(scope="module")
def two(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes ended with, by case."""
    folder = tmp_path_factory.mktemp("two")
    torch.multiprocessing.spawn(work, (free_port(), plan, folder), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def whole(plan: Plan) -> Callable[[int], dict[str, Any]]:
    """What one process makes of whole batches of so many samples."""
    found = {batch: final_state(plan, Case(batch)) for batch in (3, 4)}
    return found.__getitem__


# Shares


@given(st.integers(1, 100), st.integers(1, 20))
def test_shares_make_up_the_batch(batch: int, size: int) -> None:
    """Each sample once, and no process has two more than another."""
    shares = [Group(rank, size).share(batch) for rank in range(size)]
    assert sorted(index for share in shares for index in share) == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_alone() -> None:
    with processes(CPU) as group:
        assert group == Group() and group.leads
        model = torch.nn.Linear(2, 2)
        assert group.parallel(model) is model
        assert group.sum([1.0, 2.0], CPU).tolist() == [1, 2]


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
@pytest.mark.parametrize("batch", [3, 4])
def test_one_part_after_the_other_is_the_whole_batch(
    plan: Plan, whole: Callable[[int], dict[str, Any]], batch: int, micro_batch: int
) -> None:
    assert furthest(final_state(plan, Case(batch, micro_batch=micro_batch)), whole(batch)) < 1e-9


@pytest.mark.parametrize("case", ["even", "odd", "odd, one by one"])
def test_two_processes_are_one(two: list[dict[str, Any]], whole: Callable[[int], dict[str, Any]], case: str) -> None:
    assert furthest(two[0][case], whole(CASES[case].batch)) < 1e-9


@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_weights(two: list[dict[str, Any]], case: str) -> None:
    assert same(two[0][case], two[1][case])


def test_no_thread_of_the_group_outlives_it(two: list[dict[str, Any]]) -> None:
    """One that frees a tensor while Python ends would abort the process."""
    for process in two:
        assert not [name for name in process["threads"] if "gloo" in name]


def test_the_comparison_sees_a_wrong_share(plan: Plan, whole: Callable[[int], dict[str, Any]]) -> None:
    """What these tests measure is far from 1e-9 where a sample is missing."""
    assert furthest(final_state(plan, Case(3)), whole(4)) > 1e-4


# A whole run


def torchrun(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "localhost", "--master-port", str(free_port())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(TINY_RUNS), "0", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_torchrun_leaves_one_run(plan: Plan, tmp_path: Path) -> None:
    """With the records and files of one process, and its validation; the model is about that of one process."""
    done = torchrun("train", *toml(plan, tmp_path), "--steps", "4", "-o", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} >= {CHECKPOINT, "log.jsonl", RUN_FILE, FILE_NAME}
    assert not list(folder.glob("*.partial"))
    records = [(record["kind"], record["step"]) for record in log(folder)]
    assert records == [("validation", 0), *(("train", step) for step in range(1, 5)), ("validation", 4)]
    assert done.stderr.count("reading photographs") == 1
    load(folder)
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        start(plan, tmp_path / "alone", 4, anchors=False)
    first, last = (log(tmp_path / "alone")[n] for n in (0, -1))
    assert log(folder)[0]["bpp"] == first["bpp"]
    assert log(folder)[-1]["bpp"] == pytest.approx(last["bpp"], rel=0.01)
    progress, alone = (checkpoint(path)["progress"] for path in (folder, tmp_path / "alone"))
    assert all(progress[key] == alone[key] for key in ("step", "pixels", "flops", "budget", "skipped_steps"))


def test_a_process_that_does_not_lead_writes_nothing(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it logs, saves or validates."""
    make_quick(monkeypatch.setattr)
    monkeypatch.setattr(Group, "parallel", lambda group, model: model)
    monkeypatch.setattr(Group, "sum", lambda group, values, device: torch.as_tensor(values, dtype=torch.float64))
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "VALIDATE_SECONDS", 0.0)
    state = assemble(plan, tmp_path / "run", 3, Group(1, 2))
    assert loop.fit(state) and state.progress.step == 3
    assert not (tmp_path / "run").exists() and not list(tmp_path.iterdir())


def test_more_processes_than_samples(plan: Plan, tmp_path: Path) -> None:
    """Said before anything is done: a process without a share would hold the others up."""
    for rank in range(3):
        with pytest.raises(UsageError, match=r"3 processes .* batch of 2"):
            assemble(plan, tmp_path / "run", 3, Group(rank, 3))


def test_no_budget_counts_waiting_for_another_process(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All meet before the clocks start: the first process alone validates, and each makes its own latents."""
    order: list[str] = []
    state = assemble(plan, tmp_path, STEPS)
    state.prepare = lambda: order.append("prepared")
    monkeypatch.setattr(Group, "sum", lambda group, values, device: order.append("met") or torch.as_tensor(values))

    def begin() -> None:
        order.append("clock")
        raise InterruptedError

    monkeypatch.setattr(loop, "Clock", begin)
    monkeypatch.setattr(loop, "emit_validation", lambda state: order.append("validated"))
    with pytest.raises(InterruptedError):
        loop.fit(state)
    assert order == ["validated", "prepared", "met", "clock"]


# Cards, which are not here: what would be asked of them


@pytest.fixture
def rank_three(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The card of the fourth process of a machine."""
    monkeypatch.setenv("LOCAL_RANK", "3")
    return torch.device("cuda", 3)


def test_each_process_has_its_own_card(plan: Plan, rank_three: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []

    def stop(device: torch.device) -> None:
        seen.append(device)
        raise InterruptedError

    monkeypatch.setattr(run, "processes", stop)
    with pytest.raises(InterruptedError):
        start(plan, Path("none"), 1, device=torch.device("cuda"))
    assert seen == [rank_three] and own_device(CPU) == CPU


def test_batches_go_to_the_card_of_their_process(
    plan: Plan, rank_three: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From threads, whose current card is the first one until they are told."""
    told: list[tuple[str, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))  # photographs stay with the machine
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: told.append((current_thread().name, device)))
    sent: list[torch.device] = []
    monkeypatch.setattr(Batch, "to", lambda batch, device: sent.append(device) or batch)
    photos = load_photos([Path(source) for source in plan.sources])
    make = run._maker(plan, Crops(held(photos, rank_three)), Setting(device=rank_three), Group())
    feed = Feed(make, rank_three)
    feed.take(0, RECIPE.stages[0])
    feed.pool.shutdown()
    assert set(sent) == {rank_three} == {device for _, device in told}
    assert all(name.startswith("ThreadPool") for name, _ in told)


def test_processes_wait_for_a_long_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def begin(backend: str, **options: Any) -> None:
        asked.update(options)
        raise InterruptedError

    monkeypatch.setattr(torch.distributed, "init_process_group", begin)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InterruptedError), processes(CPU):
        pass
    assert asked["timeout"] >= timedelta(hours=1)
