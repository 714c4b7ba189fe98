"""How long a training step takes of each trial of a sweep, forward and backward, on this machine.

    python benchmarks/sweep_steps.py sweeps/families.toml [--threads 1]

Trials take turns in rounds, the first of which does not count; medians of the others. Batches are noise, and neither
photographs nor the optimiser's step are in the times.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from rdcodec.models.base import ImageModel
from rdcodec.training.sweep import list_trials, read_sweep

BATCH, CROP, ROUNDS = 8, 128, 6


def step(model: ImageModel, x: torch.Tensor, quality: torch.Tensor) -> float:
    """Seconds of one."""
    began = time.perf_counter()
    out = model(x, quality)
    rate = (out.bits_y.sum() + out.bits_z.sum()) / (BATCH * CROP * CROP)
    (rate + 0.01 * (out.x_hat - x).square().mean()).backward()
    model.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    trials = list_trials(read_sweep(given.sweep), given.sweep.parent)
    models = [ImageModel(trial.config).train() for trial in trials]
    x, quality = torch.rand(BATCH, 3, CROP, CROP) * 255, torch.linspace(5, 95, BATCH)
    rounds = [[step(model, x, quality) for model in models] for _ in range(ROUNDS)]
    for trial, times in zip(trials, zip(*rounds[1:], strict=True), strict=True):
        seconds = statistics.median(times)
        speed = trial.training_flops_per_px * BATCH * CROP * CROP / seconds / 1e9
        print(f"{trial.name:16s}{trial.kflops_per_px:6.1f} kFLOPs/px {1e3 * seconds:6.0f} ms {speed:6.1f} GFLOP/s")


if __name__ == "__main__":
    main()
