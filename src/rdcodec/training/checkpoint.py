"""The state of a run on disk: written whole or not at all."""

import math
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rdcodec.errors import BadInput
from rdcodec.training.recipe import Budget

CHECKPOINT = "checkpoint.pt"


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

    @property
    def spent(self) -> float:
        """In the budget's unit."""
        return self.step if self.budget.unit == "steps" else self.seconds

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
    run: Path, progress: Progress, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write RUN/checkpoint.pt beside its old version, then replace it."""
    state = {
        "progress": asdict(progress),
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = run / (CHECKPOINT + ".partial")
    torch.save(state, partial)
    partial.replace(run / CHECKPOINT)


def load_checkpoint(run: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore everything from RUN/checkpoint.pt; BadInput if it cannot be read."""
    path = run / CHECKPOINT
    try:
        _check_sums(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        progress = dict(state["progress"])
        return Progress(Budget(**progress.pop("budget")), **progress)
    except FileNotFoundError:
        raise BadInput(f"{path}: no checkpoint to resume from") from None
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise BadInput(f"{path}: not a checkpoint of this model ({type(error).__name__})") from None


def _check_sums(path: Path) -> None:
    """A checkpoint is a zip file with checksums, which torch writes and does not read."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
