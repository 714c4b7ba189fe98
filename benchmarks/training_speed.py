"""Our training step against CompressAI's: one network, one batch, the same photographs, one machine, one run.

    python benchmarks/training_speed.py --data photos.zip --compressai-python ENV/bin/python [--threads 2]

Both train the mean-and-scale hyperprior of Minnen et al. 2018 (CompressAI's mbt2018-mean, quality 3) on random crops.
Theirs is the step of its examples/train.py: pictures decoded for every crop by worker processes, two optimisers,
float32. Ours is that of `rdc train`: pictures decoded in memory, flips, transposes and down-scaling, averaged weights;
in float32, and in bfloat16 where that is what the machine would train in. The three take turns in rounds, each turn
warms up first, and medians over all steps count. Run it on an idle machine.
"""

import argparse
import copy
import io
import json
import os
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from rdcodec.measure.cost import count_model
from rdcodec.measure.flops import count_parts
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import ModelConfig, load_config
from rdcodec.models.precision import fast_dtype
from rdcodec.training import stepper
from rdcodec.training.data import MIN_SIDE, BatchMaker, Crops, Photos, decoded, is_held_out, load_photos
from rdcodec.training.group import Group
from rdcodec.training.optimizer import make_optimizers
from rdcodec.training.recipe import load_recipe

HERE = Path(__file__).parent
CONFIG = HERE / "configs" / "mbt2018-mean-128.toml"
RESULT = HERE.parent / "docs" / "results" / "training-speed.json"
WARM_UP = 3  # steps of a turn that do not count
RATE = 1e-4  # CompressAI's; ours for light models is too high for this network
CPU = torch.device("cpu")

Turn = Callable[[int], list[dict[str, float]]]  # so many steps -> seconds and data_seconds of each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip file or folder of photographs")
    parser.add_argument("--compressai-python", type=Path, required=True, help="Python of an environment that has it")
    parser.add_argument("--photos", type=int, default=48, help="how many to train on")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="of each side in a round, beside the warm-up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=4, help="CompressAI's data loading processes; 4 as its example")
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        write_pngs(arguments.data, Path(folder) / "train", arguments.photos)
        photos = load_photos([Path(folder) / "train"])
        compressai = CompressAI(arguments, config, Path(folder))
        turns = {"compressai float32": compressai.turn}
        for dtype in dict.fromkeys((torch.float32, fast_dtype(CPU))):
            turns[f"rdcodec {str(dtype).removeprefix('torch.')}"] = our_turn(config, photos, dtype, arguments)
        load_before = os.getloadavg()[0]
        taken = take_turns(turns, arguments.rounds, arguments.steps)
    record = {
        "machine": machine(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
        "compressai": compressai.versions,
        "setting": {key: getattr(arguments, key) for key in ("batch", "crop", "rounds", "steps", "threads", "workers")},
        "photos": {"count": len(photos.train), "megapixels": round(photos.megapixels, 1)},
        "model": {
            "name": config.name,
            "parameters": count_model(config).parameters,
            "training_gflop_per_step": gflop(arguments),
        },
        "steps": {name: summary(rows, gflop(arguments)) for name, rows in taken.items()},
    }
    record["ratio_to_compressai"] = ratios(record["steps"])
    show(record)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def write_pngs(source: Path, folder: Path, count: int) -> None:
    """The first so many photographs of a zip file or folder that our data path would train on, as PNG."""
    folder.mkdir(parents=True)
    for data in files(source):
        name = f"{len(list(folder.iterdir())):04d}.png"
        while is_held_out(name):
            name = f"x{name}"
        with Image.open(io.BytesIO(data)) as picture:
            if min(picture.size) >= MIN_SIDE:
                picture.convert("RGB").save(folder / name)
                count -= 1
        if count == 0:
            return


def files(source: Path) -> Iterator[bytes]:
    """The contents of a folder's or a zip file's entries, by name."""
    if source.is_dir():
        yield from (path.read_bytes() for path in sorted(source.iterdir()))
        return
    with zipfile.ZipFile(source) as archive:
        yield from (archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/"))


class CompressAI:
    """Its side, in its own environment: every turn is a process of its own."""

    def __init__(self, arguments: argparse.Namespace, config: ModelConfig, folder: Path) -> None:
        self.command = [str(arguments.compressai_python), str(HERE / "compressai_step.py")]
        self.command += ["--data", str(folder), "--lmbda", str(config.lmbda)]
        for name in ("batch", "crop", "threads", "workers"):
            self.command += [f"--{name}", str(getattr(arguments, name))]
        self.versions: dict[str, Any] = {}

    def turn(self, steps: int) -> list[dict[str, float]]:
        command = [*self.command, "--steps", str(WARM_UP + steps), "--seed", str(time.monotonic_ns() % 2**31)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        self.versions, *rows = map(json.loads, done.stdout.splitlines())
        return rows[WARM_UP:]


def our_turn(config: ModelConfig, photos: Photos, dtype: torch.dtype, arguments: argparse.Namespace) -> Turn:
    """Our side, as training/stepper.py does a step; `dtype` in place of what it would choose."""
    recipe = load_recipe("short").model_copy(update={"learning_rate": RATE})
    model = ImageModel(config).to(memory_format=torch.channels_last)
    optimizers = make_optimizers(model, recipe)
    eager = stepper.Eager(recipe, model, copy.deepcopy(model), optimizers, model, model, Group(), print)
    batches = BatchMaker(Crops(decoded(photos.train)), 0, config.latent_channels, config.entropy.hyper_channels)
    taken = 0

    def step() -> dict[str, float]:
        began = time.perf_counter()
        batch = batches.batch(taken, arguments.crop, range(arguments.batch), arguments.batch)
        data_seconds = time.perf_counter() - began
        with patch.object(stepper, "fast_dtype", lambda device: dtype):
            eager.gradients([batch], arguments.batch)
        eager.update(RATE)
        return {"seconds": time.perf_counter() - began, "data_seconds": data_seconds}

    def turn(steps: int) -> list[dict[str, float]]:
        nonlocal taken
        rows = []
        for _ in range(WARM_UP + steps):
            rows.append(step())
            taken += 1
        return rows[WARM_UP:]

    return turn


def take_turns(turns: dict[str, Turn], rounds: int, steps: int) -> dict[str, list[list[dict[str, float]]]]:
    """The rows of every turn, by name; each round begins with another."""
    taken: dict[str, list[list[dict[str, float]]]] = {name: [] for name in turns}
    names = list(turns)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken[name].append(turns[name](steps))
            median = statistics.median(row["seconds"] for row in taken[name][-1])
            print(f"round {number + 1}  {name:20s}{median:8.3f} s/step", flush=True)
    return taken


def summary(turns: list[list[dict[str, float]]], gflop_per_step: float) -> dict[str, Any]:
    """Medians over all steps, their quartiles, and the median of each round."""
    seconds = [row["seconds"] for rows in turns for row in rows]
    low, median, high = statistics.quantiles(seconds, n=4)
    return {
        "steps_per_s": round(1 / median, 4),
        "seconds_per_step": round(median, 4),
        "quartiles_s": [round(low, 4), round(high, 4)],
        "rounds_s": [round(statistics.median(row["seconds"] for row in rows), 4) for rows in turns],
        "data_s": round(statistics.median(row["data_seconds"] for rows in turns for row in rows), 4),
        "gflop_per_s": round(gflop_per_step / median, 1),
    }


def ratios(steps: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How many of our steps run in the time of one of CompressAI's, overall and round by round."""
    theirs, *ours = steps

    def ratio(name: str) -> dict[str, Any]:
        rounds = zip(steps[theirs]["rounds_s"], steps[name]["rounds_s"], strict=True)
        median = steps[theirs]["seconds_per_step"] / steps[name]["seconds_per_step"]
        return {"median": round(median, 3), "rounds": [round(a / b, 3) for a, b in rounds]}

    return {name: ratio(name) for name in ours}


def gflop(arguments: argparse.Namespace) -> float:
    """Of a step of the network: forward, and twice that backward, 2 per multiply-add."""
    x = torch.zeros(arguments.batch, 3, arguments.crop, arguments.crop, device="meta")
    model = blueprint(load_config(CONFIG))
    (cost,) = count_parts({"forward": lambda: model(x, torch.zeros(arguments.batch, device="meta"))}, 1)
    return 3 * 2e-9 * cost.macs


def show(record: dict[str, Any]) -> None:
    print(f"\nload average {record['load_average'][0]} before, {record['load_average'][1]} after")
    for name, found in record["steps"].items():
        ratio = record["ratio_to_compressai"].get(name, {"median": 1.0})["median"]
        print(
            f"{name:20s}{found['steps_per_s']:8.3f} steps/s {found['gflop_per_s']:7.0f} GFLOP/s"
            f"{found['data_s']:8.3f} s for data{ratio:8.2f} x"
        )


if __name__ == "__main__":
    main()
