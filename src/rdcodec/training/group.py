"""The processes of one run: alone, or several that torchrun started, each with a share of every batch."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# The others wait while the first process validates or runs the classical codecs; torch's own limit is ten minutes.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Group:
    """This process among `size`; the first one writes files and speaks."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> list[int]:
        """Indexes of a global batch that fall to this process."""
        return list(range(self.rank, batch, self.size))

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over the processes."""
        return DistributedDataParallel(model) if self.size > 1 else model

    def sum(self, values: Sequence[float] | Tensor, device: torch.device) -> Tensor:
        """Sum over the processes, float64, in the same order everywhere."""
        total = torch.as_tensor(values, dtype=torch.float64, device=device)
        if self.size > 1:
            dist.all_reduce(total)
        return total


def own_device(device: torch.device) -> torch.device:
    """The card of this process among those of its machine: torch counts "cuda" anew in each thread, from 0."""
    if device.type != "cuda":
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def processes(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's environment describes; one process alone without it. device: as `own_device` has it.

    What uses the group must be done with when the block ends. Then the group's threads end there: one that frees its
    last tensor while Python ends would abort the process.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    import_module("torch._dynamo")  # later, optimisers import it, and it would keep the group for ever
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Group(dist.get_rank(), size)
    finally:
        gc.collect()
        dist.destroy_process_group()
