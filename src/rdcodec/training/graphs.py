"""A training step as CUDA graphs: recorded once, then a GPU runs it without waiting for Python.

There are two, one for each part of a Stepper: whether a gradient is followed is decided between them, as ever. A graph
repeats operations on the memory that they had when it was recorded, with the numbers that Python had then. So what
changes from step to step lies in tensors that stay: the batch, the learning rates, the gradients, the counters of the
optimisers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.training.data import Batch
from rdcodec.training.stepper import Eager, Gradients, Losses, Stepper, reason

WARM_UP = 3  # steps before anything is recorded: libraries choose their algorithms and optimisers make their state
Replay = Callable[[], None]
T = TypeVar("T")


class Recorded(NamedTuple):
    """The graph of one shape's gradients: what it reads, and what it leaves besides the gradients."""

    batch: Batch
    found: Gradients
    replay: Replay


class Graphs:
    """Carries out steps of one batch as graphs, and others as `Eager` does; also all, once recording has failed.

    The first steps of each shape are not replayed: they warm up, as steps of the run like the others.
    """

    def __init__(self, eager: Eager, device: torch.device) -> None:
        self.eager, self.device = eager, device
        self.rates: list[Tensor] = []  # those of the groups, for the recorded update to read
        self.failed = False
        self.shape: torch.Size | None = None
        self.steps = self.updates = 0  # taken without a graph: of this shape, and in all
        self.recorded: Recorded | None = None
        self.replay_update: Replay | None = None

    def gradients(self, batches: list[Batch], of: int) -> Gradients:
        """As Stepper has it."""
        if self.failed or len(batches) > 1:
            return self.eager.gradients(batches, of)
        (batch,) = batches
        if batch.x.shape != self.shape:
            self.shape, self.steps, self.recorded = batch.x.shape, 0, None
        if self.recorded is None and self.steps >= WARM_UP:
            self.recorded = self._record_gradients(batch, of)
        if self.recorded is None:
            self.steps += 1
            with _beside(self.device):
                return self.eager.gradients(batches, of)
        for kept, new in zip(_parts(self.recorded.batch), _parts(batch), strict=True):
            kept.copy_(new)
        self.recorded.replay()
        losses, norm = self.recorded.found
        return Gradients(Losses(*(part.clone() for part in losses)), norm.clone())  # the next replay writes over them

    def update(self, rate: float) -> None:
        """As Stepper has it."""
        self.eager.set_rates(rate)
        if self.replay_update is None and self.updates >= WARM_UP and not self.failed:
            self.replay_update = self._record_update()
        if self.replay_update is None:
            self.updates += 1
            self.eager.follow()
            return
        for kept, group in zip(self.rates, self.eager.groups, strict=True):
            kept.fill_(group["lr"])
        self.replay_update()

    def _record_gradients(self, batch: Batch, of: int) -> Recorded | None:
        x, quality, y, z = (part.clone() for part in _parts(batch))
        kept = Batch(x, quality, Noise(y, z))
        done = self._record(lambda: self.eager.backward([kept], of))
        return Recorded(kept, *done) if done else None

    def _record_update(self) -> Replay | None:
        """The groups have their rates as tensors only meanwhile: a checkpoint is that of an eager run."""
        groups = self.eager.groups
        before = [dict(group) for group in groups]
        self.rates = [torch.zeros((), device=self.device) for _ in groups]
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        done = self._record(self.eager.follow)
        for group, kept in zip(groups, before, strict=True):
            group.update(kept)
        return done[1] if done else None

    def _record(self, work: Callable[[], T]) -> tuple[T, Replay] | None:
        """Where its results will be, and what does it: recording does nothing yet. None where it cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads make batches meanwhile. A failure would leave the stream of the recording in place.
            with (
                torch.cuda.stream(torch.cuda.current_stream(self.device)),
                torch.cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                found = work()
        except Exception as error:  # a kernel, a library or the compiler may refuse
            self.failed, self.recorded, self.replay_update = True, None, None
            self.eager.say(f"no CUDA graph of a step, so the run goes on without ({reason(error)})")
            return None
        return found, graph.replay


def fastest(eager: Eager, device: torch.device) -> Stepper:
    """On a GPU graphs; several processes exchange gradients inside a step, which is not recorded."""
    return Graphs(eager, device) if device.type == "cuda" and eager.group.size == 1 else eager


def _parts(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.x, batch.quality, batch.noise.y, batch.noise.z


@contextmanager
def _beside(device: torch.device) -> Iterator[None]:
    """In a stream of its own, after what is asked for already: what warms up for a graph must not use the usual one."""
    usual = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(usual)
    with torch.cuda.stream(stream):
        yield
    usual.wait_stream(stream)
