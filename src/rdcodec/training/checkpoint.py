"""The state of a run on disk: written whole or not at all."""

import json
import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from rdcodec.errors import BadInput
from rdcodec.models.base import ImageModel
from rdcodec.models.state import stored
from rdcodec.system import replacing, write_whole
from rdcodec.training.recipe import Budget

CHECKPOINT = "checkpoint.pt"
RESTART = "restart.safetensors"  # a checkpoint without the optimiser's state, small enough to carry


@dataclass
class Progress:
    """How far a run is: steps, summed seconds, pixels and floating-point operations spent."""

    budget: Budget
    step: int = 0
    seconds: float = 0.0
    pixels: int = 0
    flops: float = 0.0
    skipped_steps: int = 0
    usual_norm: float = 0.0  # of the gradient, a moving average
    warm_from: int = 0  # the step at which the learning rate began to rise

    @property
    def spent(self) -> float:
        """In the budget's unit."""
        return {"steps": self.step, "seconds": self.seconds, "flops": self.flops}[self.budget.unit]

    def is_sound(self, norm: float, spike: float) -> bool:
        """Whether a gradient of this norm should be followed; keeps the usual norm.

        A norm that stays high becomes the usual one in some dozen steps.
        """
        if not math.isfinite(norm):
            return False
        if self.step < 20 or self.usual_norm == 0.0:
            self.usual_norm = norm if self.usual_norm == 0.0 else 0.5 * (self.usual_norm + norm)
            return True
        sound = norm <= spike * self.usual_norm
        self.usual_norm = 0.98 * self.usual_norm + 0.02 * min(norm, spike * self.usual_norm)
        return sound


def save_checkpoint(
    run: Path, progress: Progress, model: nn.Module, average: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> None:
    """Write RUN/checkpoint.pt beside its old version, then replace it."""
    state = {
        "progress": asdict(progress),
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
    }
    with replacing(run / CHECKPOINT) as file:
        torch.save(state, file)


def load_checkpoint(
    run: Path, model: nn.Module, average: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> Progress:
    """Restore everything from RUN/checkpoint.pt, or what RUN/restart.safetensors has of it; BadInput if unreadable."""
    path = run / CHECKPOINT
    if not path.exists() and (run / RESTART).exists():
        return _load_restart(run / RESTART, model, average)
    try:
        _check_sums(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        progress = dict(state["progress"])
        return Progress(Budget(**progress.pop("budget")), **progress)
    except FileNotFoundError:
        raise BadInput(f"{path}: no checkpoint to resume from") from None
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise BadInput(f"{path}: not a checkpoint of this model ({type(error).__name__})") from None


def save_restart(run: Path, progress: Progress, model: ImageModel) -> None:
    """Write RUN/restart.safetensors: the weights as a weights file keeps them, and how far the run is."""
    state = {name: tensor.contiguous() for name, tensor in stored(model).items()}
    write_whole(run / RESTART, save(state, {"progress": json.dumps(asdict(progress))}))


def _load_restart(path: Path, model: nn.Module, average: nn.Module) -> Progress:
    """The optimisers begin anew, so the learning rate rises again."""
    try:
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()["progress"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
        model.load_state_dict(state)
        average.load_state_dict(state)
        progress = Progress(Budget(**record.pop("budget")), **record)
    except Exception as error:  # safetensors, JSON and torch each have their own
        raise BadInput(f"{path}: not a restart file of this model ({type(error).__name__})") from None
    progress.warm_from = progress.step
    return progress


def _check_sums(path: Path) -> None:
    """A checkpoint is a zip file with checksums, which torch writes and does not read."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
