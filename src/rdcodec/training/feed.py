"""Batches on their way to the network, made ahead where there are cores to spare."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import torch

from rdcodec.system import core_count
from rdcodec.training.data import Batch
from rdcodec.training.recipe import Stage

Make = Callable[[int, Stage], list[Batch]]


class Feed:
    """The micro-batches of one step after the other.

    On a GPU, threads make the coming steps' while a step runs. On a CPU they would take the network's cores, and
    each step's are made when it begins.
    """

    def __init__(self, make: Make, device: torch.device) -> None:
        self.make = make
        self.ahead = min(8, max(1, core_count() - 1)) if device.type == "cuda" else 0
        # A thread's current card is the first one until it is told: pinned memory would be its.
        begin = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        self.pool = ThreadPoolExecutor(max(1, self.ahead), initializer=begin)
        self.coming: dict[tuple[int, Stage], Future[list[Batch]]] = {}

    def take(self, step: int, stage: Stage) -> list[Batch]:
        """What this process computes of a step. Steps come in order; a stage may change at any of them."""
        if not self.ahead:
            return self.make(step, stage)
        wanted = [(later, stage) for later in range(step, step + self.ahead + 1)]
        for key in wanted:
            if key not in self.coming:
                self.coming[key] = self.pool.submit(self.make, *key)
        self.coming = {key: future for key, future in self.coming.items() if key in wanted}
        return self.coming.pop(wanted[0]).result()
