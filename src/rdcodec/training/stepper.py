"""What carries a training step out: gradients of a batch, and what the optimisers make of them."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rdcodec.errors import is_out_of_memory
from rdcodec.models.base import ImageModel
from rdcodec.models.precision import fast_dtype
from rdcodec.models.scale import LMBDA_REFERENCE
from rdcodec.models.sizes import STRIDE
from rdcodec.training.data import Batch
from rdcodec.training.group import Group
from rdcodec.training.recipe import Recipe


class Losses(NamedTuple):
    """Means over the batch: the weighted loss, bpp, PSNR in dB (NaN where nothing is drawn)."""

    loss: Tensor
    bpp: Tensor
    psnr_db: Tensor


class Gradients(NamedTuple):
    """What the gradients of a step, which the parameters hold, are of: losses, and their norm before it was clipped."""

    losses: Losses
    norm: Tensor


class Stepper(Protocol):
    """Carries steps out. Between its two parts the loop decides whether the gradients are followed."""

    def gradients(self, batches: list[Batch], of: int) -> Gradients:
        """Clipped gradients of the mean over the global batch of `of` samples, from this process's part of it."""

    def update(self, rate: float) -> None:
        """Follow them, at this learning rate; the average follows the weights."""


def rate_distortion(forward: nn.Module, batch: Batch, lmbda: Tensor, lmbda_weight: float) -> Losses:
    """Loss of a batch: (bpp + lmbda * MSE), weighted so that no rate starves. lmbda (B,)."""
    with _in_fast_dtype(batch):
        out = forward(batch.x, batch.quality, batch.noise)
    mse = (out.x_hat - batch.x).square().mean((1, 2, 3))
    bpp = (out.bits_y + out.bits_z) / (batch.x.shape[2] * batch.x.shape[3])
    psnr = 10 * torch.log10(255**2 / mse.detach())
    return Losses((_weight(lmbda, lmbda_weight) * (bpp + lmbda * mse)).mean(), bpp.detach().mean(), psnr.mean())


def rate_alone(forward: nn.Module, batch: Batch, lmbda: Tensor, lmbda_weight: float) -> Losses:
    """Loss of a batch of latents: bpp, weighted alike. forward: as that of `OnLatents`."""
    with _in_fast_dtype(batch):
        bits_y, bits_z = forward(batch.x, batch.quality, batch.noise)
    bpp = (bits_y + bits_z) / (batch.x.shape[2] * batch.x.shape[3] * STRIDE**2)
    rate = bpp.detach().mean()
    return Losses((_weight(lmbda, lmbda_weight) * bpp).mean(), rate, torch.full_like(rate, math.nan))


def _in_fast_dtype(batch: Batch) -> AbstractContextManager[object]:
    device = batch.x.device
    dtype = fast_dtype(device) if batch.x.dtype == torch.float32 else batch.x.dtype
    return torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16)


def _weight(lmbda: Tensor, exponent: float) -> Tensor:
    return (lmbda / LMBDA_REFERENCE) ** exponent


@dataclass
class Eager:
    """Runs a step operation by operation.

    parallel: the model, its gradients averaged over the processes of `group`; forward: that, or that compiled.
    on_latents: batches are of latents, and their rate alone is the loss.
    """

    recipe: Recipe
    model: ImageModel
    average: ImageModel
    optimizers: list[torch.optim.Optimizer]
    parallel: nn.Module
    forward: nn.Module
    group: Group
    say: Callable[[str], None]
    on_latents: bool = False

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Those of all optimisers; each has its learning rate."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def gradients(self, batches: list[Batch], of: int) -> Gradients:
        """As Stepper has it. Where the network cannot be compiled, the run goes on without."""
        try:
            return self.backward(batches, of)
        except Exception as error:  # a compiler may raise anything
            if self.forward is self.parallel or is_out_of_memory(error):
                raise
            self.say(f"torch.compile failed, so the run goes on without it ({reason(error)})")
            self.forward = self.parallel
            return self.backward(batches, of)

    def backward(self, batches: list[Batch], of: int) -> Gradients:
        """As `gradients`; what fails is raised. Gradients stay in the memory where the first step put them."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=False)
        loss_of = rate_alone if self.on_latents else rate_distortion
        sums = torch.zeros(3, dtype=torch.float64, device=batches[0].x.device)
        for index, batch in enumerate(batches):
            share = len(batch.x) / of
            with _quiet_until_last(self.parallel, index == len(batches) - 1):
                losses = loss_of(self.forward, batch, self.model.lmbda(batch.quality), self.recipe.lmbda_weight)
                # Gradients are averaged over the processes, and their shares may differ: hence this factor.
                (losses.loss * (share * self.group.size)).backward()  # type: ignore[no-untyped-call]
            sums += share * torch.stack([part.detach() for part in losses])
        losses = Losses(*self.group.sum(sums, sums.device))
        return Gradients(losses, nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm))

    def update(self, rate: float) -> None:
        """As Stepper has it."""
        self.set_rates(rate)
        self.follow()

    def set_rates(self, rate: float) -> None:
        """That of each group, from the recipe's at this step."""
        for group in self.groups:
            group["lr"] = rate * group["scale"]

    def follow(self) -> None:
        """A step of each optimiser at the rates of its groups, and of the average."""
        for optimizer in self.optimizers:
            optimizer.step()
        update_average(self.average, self.model, self.recipe.average_decay)


def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights."""
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def reason(error: Exception) -> str:
    """The kind of an error and its first line, for a message of one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first[:200]}"


def _quiet_until_last(parallel: nn.Module, last: bool) -> AbstractContextManager[object]:
    """Processes exchange gradients once a step."""
    if isinstance(parallel, DistributedDataParallel) and not last:
        return parallel.no_sync()
    return nullcontext()
