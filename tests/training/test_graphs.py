"""A step as CUDA graphs is the eager step, told from it by nothing but its speed. The card is a fake.

The fake records operations with the tensors and numbers that they were called with, undoes what recording them did, and
replays them on the same tensors: a number that should have been a tensor, and a tensor that is not the one that stays,
come out as wrong weights.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_runs import RECIPE, assemble, interrupt, learned, make_quick, resume, same, start
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rdcodec.models.config import ModelConfig
from rdcodec.training import loop, run, stepper
from rdcodec.training.data import Batch
from rdcodec.training.graphs import WARM_UP, Graphs, fastest
from rdcodec.training.group import Group
from rdcodec.training.loop import Step, train_step
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Recipe
from rdcodec.training.stepper import Eager, Gradients, Losses

CPU = torch.device("cpu")
STEPS = 16  # twelve on small crops, four on large ones
# Its learning rates are the same numbers in float32: a graph has them as tensors.
EXACT = RECIPE.model_copy(update={"learning_rate": 2.0**-9, "shortcut_rate": 0.125})
EXACT_MUON = EXACT.model_copy(update={"optimizer": "muon", "matrix_rate": 0.5, "weight_decay": 0.125})


class FakeGraph:
    """Stands for torch.cuda.CUDAGraph."""

    made: list["FakeGraph"]

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0
        FakeGraph.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        with torch._C._AutoDispatchBelowAutograd():
            for function, arguments, options, results in self.operations:
                again = function(*arguments, **options)
                for kept, new in zip(tensors(results), tensors(again), strict=True):
                    if place(kept) != place(new):
                        kept.copy_(new)


class Recorder(TorchDispatchMode):
    """Records into a graph; afterwards all memory is as before, and what was allocated meanwhile is not filled yet."""

    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()
        self.graph = graph
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.allocated: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        options = options or {}
        read = tensors((arguments, options))
        for kept in read:
            if place(kept) not in self.allocated:
                self.before.setdefault(place(kept), (kept.untyped_storage(), kept.untyped_storage().clone()))
        results = function(*arguments, **options)
        for made in tensors(results):
            if place(made) not in map(place, read):
                self.allocated[place(made)] = made.untyped_storage()
        self.graph.operations.append((function, arguments, options, results))
        return results

    def restore(self) -> None:
        for storage, kept in self.before.values():
            storage.copy_(kept)
        for storage in self.allocated.values():
            storage.fill_(255)  # floats are no numbers


def tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@contextmanager
def fake_capture(graph: FakeGraph, capture_error_mode: str) -> Iterator[None]:
    """Stands for torch.cuda.graph. Feeding threads may use the card meanwhile."""
    assert capture_error_mode == "thread_local"
    recorder = Recorder(graph)
    try:
        with recorder, pytest.MonkeyPatch.context() as patch:
            # Torch's optimisers then look whether they may be recorded.
            patch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
            patch.setattr(torch.accelerator, "current_stream", lambda: SimpleNamespace(is_capturing=lambda: True))
            yield
    finally:
        recorder.restore()


class FakeStream:
    """Stands for torch.cuda.Stream."""

    current: "FakeStream"

    def __init__(self, device: torch.device) -> None:
        self.waits_for: list[FakeStream] = []

    def wait_stream(self, other: "FakeStream") -> None:
        self.waits_for.append(other)


@contextmanager
def fake_stream(stream: FakeStream) -> Iterator[None]:
    """Stands for torch.cuda.stream."""
    before, FakeStream.current = FakeStream.current, stream
    yield
    FakeStream.current = before


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch.setattr)
    FakeGraph.made, FakeStream.current = [], FakeStream(CPU)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", fake_capture)
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    monkeypatch.setattr(torch.cuda, "stream", fake_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream.current)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Interrupts as at a terminal; a shell's background jobs ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    """What bit-equal results are promised for."""
    threads(1)


@pytest.fixture
def plan(tiny_config: ModelConfig, picture_folder: Path) -> Plan:
    return Plan(tiny_config, EXACT, (str(picture_folder),), seed=0)


def recorded(state: loop.Run) -> Graphs:
    """The run as it is on a GPU."""
    assert isinstance(state.stepper, Eager)
    state.stepper = Graphs(state.stepper, CPU)
    return state.stepper


def ended(state: loop.Run, steps: int = STEPS) -> dict[str, Any]:
    """What it comes to, and the losses on the way."""
    done = [train_step(state) for _ in range(steps)]
    return {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "progress": vars(state.progress),
        "losses": [list(step.losses) for step in done],
        "sound": [step.sound for step in done],
    }


def pair(plan: Plan, folder: Path, **setting: Any) -> tuple[dict[str, Any], dict[str, Any], Graphs]:
    """An eager run, and the same with graphs."""
    eager, other = (assemble(plan, folder, STEPS, **setting) for _ in range(2))
    graphs = recorded(other)
    for state in (eager, other):
        state.prepare()
    return ended(eager), ended(other), graphs


@pytest.mark.parametrize("recipe", [EXACT, EXACT_MUON], ids=["adam", "muon"])
def test_replayed_steps_are_eager_steps(plan: Plan, tmp_path: Path, recipe: Recipe) -> None:
    """Weights, average, moments, counters, learning rates and every loss, bit for bit, over a change of stage."""
    eager, graphs, _ = pair(replace(plan, recipe=recipe), tmp_path)
    assert same(graphs, eager)
    small, update, large = FakeGraph.made
    assert (small.replays, update.replays, large.replays) == (12 - WARM_UP, STEPS - WARM_UP, 4 - WARM_UP)


def test_a_step_that_is_not_followed(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch that is no number: weights, moments and counters stay, and the next step is as ever."""
    runs = [assemble(plan, tmp_path, STEPS) for _ in range(2)]
    for state in runs:
        make = state.feed.make

        def spoilt(step: int, stage: Any, make: Any = make) -> list[Batch]:
            (batch,) = make(step, stage)
            return [batch._replace(x=batch.x * torch.nan) if step == 7 else batch]

        state.feed.make = spoilt
    recorded(runs[1])
    eager, graphs = map(ended, runs)
    assert eager["sound"] == graphs["sound"] == [step != 7 for step in range(STEPS)]
    for found in (eager, graphs):
        assert found["losses"].pop(7)[0].isnan()
    assert same(graphs, eager)


def test_only_the_entropy_model(plan: Plan, tmp_path: Path) -> None:
    """Where most parameters have no gradient, and batches are of latents, without PSNR."""
    eager, graphs, _ = pair(replace(plan, only="entropy"), tmp_path)
    for found in (eager, graphs):
        assert all(psnr_db.isnan() for _, _, psnr_db in found["losses"])
        found["losses"] = [losses[:2] for losses in found["losses"]]
    assert same(graphs, eager)


@pytest.mark.parametrize("part", ["rate_distortion", "update_average"])
def test_a_step_that_cannot_be_recorded(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """It asks the card for a number. The run says one line, and goes on."""
    real = getattr(stepper, part)

    def asks(first: nn.Module, *rest: Any) -> Any:
        next(first.parameters()).sum().item()
        return real(first, *rest)

    monkeypatch.setattr(stepper, part, asks)
    said: list[str] = []
    eager, other = (assemble(plan, tmp_path, STEPS) for _ in range(2))
    graphs = recorded(other)
    graphs.eager.say = said.append
    assert same(ended(other), ended(eager))
    assert graphs.failed and graphs.recorded is None and graphs.replay_update is None
    (line,) = said
    assert line.startswith("no CUDA graph of a step, so the run goes on without (RuntimeError: operation not permitted")


def test_micro_batches_are_not_recorded(plan: Plan, tmp_path: Path) -> None:
    """But what is made of their gradients is."""
    eager, graphs, stepped = pair(plan, tmp_path, micro_batch=1)
    assert same(graphs, eager)
    assert stepped.recorded is None and [graph.replays for graph in FakeGraph.made] == [STEPS - WARM_UP]


@pytest.mark.parametrize("at", [1, 6])
def test_an_interrupted_run_goes_on_bit_for_bit(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """While it warms up, and after; it ends as the eager run does, its checkpoint included."""
    start(plan, tmp_path / "eager", STEPS, anchors=False)

    def interrupted(state: loop.Run) -> Step:
        if state.progress.step == at:
            interrupt()
        return train_step(state)

    monkeypatch.setattr(run, "fastest", lambda eager, device: Graphs(eager, device))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(plan, tmp_path / "graphs", STEPS, anchors=False)
    resume(tmp_path / "graphs", anchors=False)
    assert sum(graph.replays for graph in FakeGraph.made) > STEPS
    assert same(learned(tmp_path / "graphs"), learned(tmp_path / "eager"))


def test_warming_up_is_done_beside(plan: Plan, tmp_path: Path) -> None:
    """In a stream that waits for the usual one, and that the usual one waits for; then nothing else is."""
    state = assemble(plan, tmp_path, STEPS)
    graphs, usual, seen = recorded(state), FakeStream.current, []
    backward = graphs.eager.backward

    def watched(batches: list[Batch], of: int) -> Gradients:
        seen.append(FakeStream.current)
        return backward(batches, of)

    graphs.eager.backward = watched  # type: ignore[method-assign]
    ended(state, WARM_UP + 2)
    assert len(seen) == WARM_UP + 1  # the last one was recorded
    assert usual.waits_for == seen[:WARM_UP] and all(stream.waits_for == [usual] for stream in seen[:WARM_UP])
    assert FakeStream.current is usual


def test_which_runs_have_graphs(plan: Plan, tmp_path: Path) -> None:
    eager = assemble(plan, tmp_path, STEPS).stepper
    assert isinstance(eager, Eager)
    assert fastest(eager, CPU) is eager
    assert isinstance(fastest(eager, torch.device("cuda", 0)), Graphs)
    eager.group = Group(0, 2)
    assert fastest(eager, torch.device("cuda", 0)) is eager


def test_the_fake_keeps_numbers_and_memory() -> None:
    """Or nothing here would show anything."""
    graph, x, number = FakeGraph(), torch.zeros(2), 1.0
    with fake_capture(graph, "thread_local"):
        y = x + number
        x.add_(y)
    assert x.tolist() == [0, 0] and y.isnan().all()
    x.fill_(3)
    number = 5.0
    graph.replay()
    assert (x.tolist(), y.tolist()) == ([7, 7], [4, 4])
    x = x.clone()
    graph.replay()
    assert x.tolist() == [7, 7]


# The eager one


def test_a_network_that_cannot_be_compiled(plan: Plan, tmp_path: Path) -> None:
    """The run says one line, and goes on without."""
    state, plain = (assemble(plan, tmp_path, STEPS) for _ in range(2))
    said: list[str] = []

    class Refuses(nn.Module):
        def forward(self, *arguments: Any) -> Losses:
            raise ValueError("no such operation\nat length")

    assert isinstance(state.stepper, Eager)
    state.stepper.forward, state.stepper.say = Refuses(), said.append
    assert same(ended(state, 2), ended(plain, 2))
    assert said == ["torch.compile failed, so the run goes on without it (ValueError: no such operation)"]
