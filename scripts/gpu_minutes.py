"""Train a model for some minutes of one GPU, without a moment in which the card waits.

    python scripts/gpu_minutes.py I --start I.2.safetensors --seconds 200 --data FOLDER -o RUN

What `rdc train` does, for a card that is dear: the photographs lie on the card, crops are taken there, and a whole
step (crops, forward, backward, both optimisers, moving average) is one CUDA graph around a network that torch.compile
made. The budget is wall time from the first step. Zip files that are moved into FOLDER while it runs join the
photographs. With --after FILE it compiles at once and begins when FILE is there: several models can follow each other
without the card waiting for the compiler. The noise comes from the card's own generator: unlike `rdc train`, a run
cannot be repeated bit by bit.

RUN gets run.json, log.jsonl and restart.safetensors of the averaged weights, last.pt for a model that grows from this
one, and at the end the file `done`. Nothing is validated here: `rdc train --resume RUN --data PHOTOS` validates on any
machine and writes the weights, without another step, since the budget is spent.
"""

import argparse
import json
import math
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rdcodec.errors import RdcError, UsageError
from rdcodec.measure.bench import matmul_gflop_per_s
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.precision import fast_dtype
from rdcodec.models.weights import find_config, read_weights
from rdcodec.training.checkpoint import Progress, save_restart
from rdcodec.training.data import Batch, BatchMaker, CodedPhoto, decoded, load_photos
from rdcodec.training.follow import can_follow, follow
from rdcodec.training.grow import contains, grow
from rdcodec.training.loop import LOG_STEPS, SPIKE, Losses, Meter, rate_distortion, update_average
from rdcodec.training.optimizer import Muon, make_optimizers
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Budget, Recipe, Stage, load_recipe
from rdcodec.training.run import LOG, forward_macs_per_px
from rdcodec.training.start import start_model

DONE = "done"
LAST = "last.pt"
SAVE_SECONDS = 45.0
CPU_LOG_STEPS = 2  # steps are slow there
SAID = 10  # one record of so many is printed
FIRST_ZIPS = 2  # the KLT is that of the photographs of so many
USUAL_DECAY = 0.98  # of the moving average of gradient norms

Place = tuple[int, int, int]  # first pixel in the buffer, height, width
State = dict[str, Tensor]


class Pool:
    """Photographs on the card: one buffer of samples that never moves, and where each photograph lies in it."""

    def __init__(self, device: torch.device, crop: int, gigabytes: float) -> None:
        self.device, self.crop = device, crop
        self.samples = torch.zeros(int(gigabytes * 1e9) // 3, 3, dtype=torch.uint8, device=device)
        self.used = 0
        self.whole: list[Place] = []
        self.scaled: list[Place] = []

    def add(self, pixels: NDArray[np.uint8], scale: float) -> None:
        """A photograph, and itself scaled down, as far as there is room."""
        picture = torch.from_numpy(pixels).to(self.device)
        self._put(picture, self.whole)
        height, width = (round(side / scale) for side in pixels.shape[:2])
        if min(height, width) >= self.crop:
            batch = picture.permute(2, 0, 1)[None].float()
            small = F.interpolate(batch, (height, width), mode="bilinear", antialias=True)
            self._put(small[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8), self.scaled)

    def _put(self, picture: Tensor, places: list[Place]) -> None:
        height, width = picture.shape[:2]
        if min(height, width) < self.crop or self.used + height * width > len(self.samples):
            return
        self.samples[self.used : self.used + height * width] = picture.reshape(-1, 3)
        if self.device.type == "cuda":  # crops are taken in another stream
            torch.cuda.current_stream().synchronize()
        places.append((self.used, height, width))
        self.used += height * width

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """(count, 3): the first pixel of each crop, what a row further adds and what a column further adds."""
        first, height, width = self._photographs(rng, count).T
        last = self.crop - 1
        top, left = (rng.integers(side - last) for side in (height, width))
        base, down, right = first + top * width + left, width, np.ones_like(width)
        flip, mirror, turn = rng.random((3, count)) < 0.5
        base = base + np.where(flip, last * down, 0) + np.where(mirror, last * right, 0)
        down, right = np.where(flip, -down, down), np.where(mirror, -right, right)
        return np.stack([base, np.where(turn, right, down), np.where(turn, down, right)], 1)

    def _photographs(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """(count, 3): the places of photographs, some of them scaled down."""
        whole, scaled = np.array(self.whole), np.array(self.scaled)
        drawn = whole[rng.integers(len(whole), size=count)]
        if not len(scaled):
            return drawn
        use = rng.random(count) < BatchMaker.down_scaled
        return np.where(use[:, None], scaled[rng.integers(len(scaled), size=count)], drawn)

    def crops(self, drawn: Tensor) -> Tensor:
        """(B, 3) as `draw` gives it -> (B, 3, crop, crop) float32."""
        first, down, right = (drawn[:, i, None, None] for i in range(3))
        at = torch.arange(self.crop, device=self.device)
        return self.samples[first + at[:, None] * down + at * right].permute(0, 3, 1, 2).float()


def say(line: str) -> None:
    """A line of the log on standard output, at once."""
    print(line, flush=True)


class Watch(threading.Thread):
    """Brings the zip files of a folder into the pool, those that come later too."""

    def __init__(self, folder: Path, pool: Pool, seed: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.pool = folder, pool
        self.rng = np.random.default_rng(seed)
        self.seen: list[Path] = []
        self.skipped: list[Path] = []
        self.nothing = False  # whether a whole look found only files that cannot be read

    def run(self) -> None:
        on_card = self.pool.device.type == "cuda"
        # A stream of its own does not queue behind the steps.
        stream = torch.cuda.Stream() if on_card else None  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            while True:
                self.look()
                time.sleep(1)

    def look(self) -> None:
        """Take what is new."""
        for path in sorted(self.folder.glob("*.zip")):
            if path in self.seen or path in self.skipped:
                continue
            began = time.perf_counter()
            try:
                photos = decoded(load_photos([path]).train, say)
            except RdcError as error:  # a file that is no archive must not end the watch
                say(f"skipped: {error}")
                self.skipped.append(path)
                continue
            for photo in photos:
                self.pool.add(photo.pixels, self.rng.uniform(1, 2))
            self.seen.append(path)
            print(f"{path.name}: {self.pool.used / 1e6:.0f} MP in {time.perf_counter() - began:.1f} s", flush=True)
        self.nothing = bool(self.skipped) and not self.pool.whole


class Stepper:
    """A step on buffers that never move, recorded once as a CUDA graph where there is CUDA."""

    def __init__(self, config: ModelConfig, recipe: Recipe, pool: Pool) -> None:
        self.recipe, self.pool, device = recipe, pool, pool.device
        self.model, self.average = (_on(device, ImageModel(config)) for _ in range(2))
        self.average.requires_grad_(False)
        self.forward: nn.Module = self.model
        self.graph: torch.cuda.CUDAGraph | None = None
        batch = recipe.stages[0].batch
        self.drawn = torch.ones(batch, 3, dtype=torch.int64, device=device)
        self.quality = torch.linspace(1, 99, batch, device=device)
        self.rate, self.usual_norm = (torch.zeros((), device=device) for _ in range(2))
        self.sums = torch.zeros(4, device=device)  # of the steps followed: loss, bpp, PSNR, and how many they are
        self.optimizers = make_optimizers(self.model, recipe)
        self.groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group in self.groups:
            group["lr"] = torch.zeros((), device=device)
            if "capturable" in group:
                group["capturable"] = device.type == "cuda"

    @property
    def flops(self) -> float:
        """Of one step: forward, backward, and Muon's own products."""
        stage = self.recipe.stages[0]
        network = 6 * forward_macs_per_px(blueprint(self.model.config)) * stage.batch * stage.crop**2
        return network + sum(optimizer.flops for optimizer in self.optimizers if isinstance(optimizer, Muon))

    def prepare(self, compiled: bool) -> None:
        """Compile and record. The weights are changed by it: call `restart` afterwards."""
        if compiled:
            self.forward = torch.compile(self.model, dynamic=False)  # type: ignore[assignment]
        if self.pool.device.type == "cuda":
            self._warm_up()
            self._record()
        else:
            self._step()

    def _warm_up(self) -> None:
        """Steps beside the graph's stream; they make the optimisers' states, which the graph then finds."""
        began = time.perf_counter()
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            try:
                self._step()
            except Exception as error:  # a compiler may raise anything
                print(f"not compiled: {type(error).__name__}: {str(error)[:2000]}", flush=True)
                self.forward = self.model
            for _ in range(2):
                self._step()
                torch.cuda.synchronize()
                print(f"warm-up step, {time.perf_counter() - began:.0f} s", flush=True)
        torch.cuda.current_stream().wait_stream(beside)
        torch.cuda.empty_cache()

    def _record(self) -> None:
        """The graph; without one, steps are launched kernel by kernel."""
        graph = torch.cuda.CUDAGraph()
        self._forget_gradients()  # the graph has its own
        try:
            # The other thread copies photographs meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step()
            graph.replay()
            torch.cuda.synchronize()
            self.graph = graph
        except Exception as error:
            print(f"no CUDA graph: {type(error).__name__}: {str(error)[:300]}", flush=True)
            torch.cuda.synchronize()

    @torch.no_grad()
    def restart(self, state: State) -> None:
        """Begin with these weights and nothing else."""
        self.model.load_state_dict(state)
        self.average.load_state_dict(state)
        for optimizer in self.optimizers:
            for kept in optimizer.state.values():
                for value in kept.values():
                    value.zero_()
        self.sums.zero_()
        self.usual_norm.zero_()

    def run(self, drawn: Tensor, quality: Tensor, rate: float) -> None:
        """One step; nothing here waits for the card."""
        self.drawn.copy_(drawn)
        self.quality.copy_(quality)
        self.rate.fill_(rate)
        if self.graph is None:
            self._step()
        else:
            self.graph.replay()

    def _step(self) -> None:
        self._forget_gradients()
        losses = self._losses()
        losses.loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            sound = self._clip()
            for group in self.groups:
                group["lr"].copy_(self.rate * group["scale"] * sound)
            for optimizer in self.optimizers:
                optimizer.step()
            update_average(self.average, self.model, self.recipe.average_decay)
            figures = torch.stack([*losses, torch.ones_like(losses.loss)])
            self.sums += torch.where(sound, figures, torch.zeros_like(figures))

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _losses(self) -> Losses:
        x = self.pool.crops(self.drawn)
        shapes = self.model.latent_shapes(*x.shape[2:])
        y, z = (torch.rand(len(x), *shape, device=x.device) - 0.5 for shape in shapes)
        batch = Batch(x, self.quality, Noise(y, z))
        return rate_distortion(self.forward, batch, self.model.lmbda(self.quality), self.recipe.lmbda_weight)

    def _clip(self) -> Tensor:
        """Whether the gradients are to be followed: what Progress.is_sound says, on the card. They are zero if not."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        usual, first, finite = self.usual_norm, self.usual_norm == 0, torch.isfinite(norm)
        sound: Tensor = finite & (first | (norm < SPIKE * usual))
        seen = torch.where(finite, torch.minimum(norm, SPIKE * usual.clamp(min=1e-3)), usual)
        usual.copy_(torch.where(first & finite, norm, USUAL_DECAY * usual + (1 - USUAL_DECAY) * seen))
        factor = (self.recipe.clip_norm / norm).clamp(max=1.0)
        for gradient in gradients:  # not a number times zero would stay in the optimisers' moments for ever
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        torch._foreach_mul_(gradients, torch.where(sound, factor, torch.zeros_like(factor)))
        return sound


def _on(device: torch.device, model: ImageModel) -> ImageModel:
    return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@dataclass
class Training:
    """A run: what it was asked to do, how far it is, and what carries it out."""

    folder: Path
    model: str  # as the command line names it
    plan: Plan
    stepper: Stepper
    watch: Watch
    progress: Progress

    def train(self, roofline: float) -> None:
        """Take steps until the budget is spent. roofline: GFLOP/s of the card's own matrix product."""
        progress, flops, meter = self.progress, self.stepper.flops, Meter(self.progress, roofline)
        rng = np.random.Generator(np.random.Philox(key=self.plan.seed))
        began = saved = time.perf_counter()
        chunk = self._draw(rng)
        with (self.folder / LOG).open("w", encoding="utf-8") as log:
            while progress.spent < progress.budget.total:
                steps = self._launch(*chunk)
                chunk = self._draw(rng)  # while the card works
                self._count(steps, flops, meter)
                now = time.perf_counter()
                progress.seconds = now - began
                self._tell(meter.record(progress), steps, log)
                if now - saved > SAVE_SECONDS:
                    saved = now
                    self.save()
        self.save()
        (self.folder / DONE).touch()
        print(f"{self.model}: done, {progress.step} steps, {progress.flops / 1e18:.5f} EFLOP", flush=True)

    def _draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crops (steps, batch, 3) and qualities (steps, batch) of the coming steps."""
        pool, recipe = self.stepper.pool, self.plan.recipe
        steps, batch = LOG_STEPS if pool.device.type == "cuda" else CPU_LOG_STEPS, recipe.stages[0].batch
        drawn = np.stack([pool.draw(rng, batch) for _ in range(steps)])
        share = rng.random((steps, batch))
        quality = 100 * ((np.arange(batch) + share) / batch if recipe.stratified else share)
        return torch.from_numpy(drawn), torch.from_numpy(quality.astype(np.float32))

    def _launch(self, drawn: Tensor, quality: Tensor) -> int:
        """The steps, which the card may not have finished yet; how many."""
        progress, recipe, device = self.progress, self.plan.recipe, self.stepper.pool.device
        for crops, qualities in zip(drawn.to(device), quality.to(device), strict=True):
            warm = min(1.0, (progress.step + 1) / recipe.warmup_steps)
            rate = recipe.learning_rate * warm * progress.budget.rate_factor(progress.spent)
            self.stepper.run(crops, qualities, rate)
            progress.step += 1
        return len(drawn)

    def _count(self, steps: int, flops: float, meter: Meter) -> None:
        """What the steps did; waits for them."""
        progress, stage = self.progress, self.plan.recipe.stages[0]
        sums = self.stepper.sums.clone().cpu()
        self.stepper.sums.zero_()
        meter.sums, meter.count = sums[:3], round(sums[3].item())
        progress.skipped_steps += steps - meter.count
        progress.pixels += steps * stage.batch * stage.crop**2
        progress.flops += steps * flops

    def _tell(self, record: dict[str, Any], steps: int, log: TextIO) -> None:
        log.write(json.dumps(record) + "\n")
        log.flush()
        if (record["step"] // steps) % SAID == 1:
            print(
                f"{self.model} {record['seconds']:.0f} s, step {record['step']}, loss {record['loss']:.4f}, "
                f"{record['gflop_per_s'] / 1000:.2f} TFLOP/s ({record['roofline_share']:.1%} of a matrix product), "
                f"{record['steps_per_s']:.1f} steps/s, {self.stepper.pool.used / 1e6:.0f} MP, "
                f"{record['skipped_steps']} steps not followed",
                flush=True,
            )

    def save(self) -> None:
        """Write the run folder; the weights are the averaged ones."""
        average, eflop = self.stepper.average, self.plan.whole_eflop(self.progress.flops / 1e18)
        replace(self.plan, sources=tuple(str(path.resolve()) for path in self.watch.seen)).save(self.folder)
        state = {name: tensor.cpu() for name, tensor in average.state_dict().items()}
        partial = self.folder / (LAST + ".partial")
        torch.save({"model": self.model, "state": state, "eflop": eflop}, partial)
        partial.replace(self.folder / LAST)
        save_restart(self.folder, self.progress, average)


def first_state(plan: Plan, data: Path) -> tuple[State, float | None]:
    """The weights to begin with, and the training computation behind them in EFLOP, where known."""
    torch.manual_seed(plan.seed)
    model, earlier = ImageModel(plan.config), None
    if plan.warm_start is not None:
        before, earlier = read_start(Path(plan.warm_start))
        if before.config == plan.config:
            return before.state_dict(), earlier
        if contains(plan.config, before.config):
            grow(model, before)
        elif can_follow(plan.config, before.config):
            follow(model, before, first_photos(data), plan.seed)
        else:
            raise UsageError(f"{plan.config.name} cannot grow from {before.config.name}, nor follow it")
    elif plan.recipe.start == "klt":
        start_model(model, first_photos(data), plan.seed)
    return model.state_dict(), earlier


def first_photos(data: Path) -> list[CodedPhoto]:
    """Of the zip files that are there when it begins."""
    return load_photos(sorted(data.glob("*.zip"))[:FIRST_ZIPS]).train


def read_start(path: Path) -> tuple[ImageModel, float | None]:
    """A model that was trained before, and the computation behind it in EFLOP, where known."""
    if path.suffix != ".pt":
        weights = read_weights(path)
        model = ImageModel(weights.config)
        weights.fill(model)
        return model, weights.eflop
    kept = torch.load(path, weights_only=True)
    model = ImageModel(find_config(kept["model"]))
    model.load_state_dict(kept["state"])
    return model, kept["eflop"]


def main() -> None:
    """A run from its command line to its folder."""
    args = arguments()
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / DONE).unlink(missing_ok=True)  # another run may wait for it
    plan = plan_of(args)
    pool = Pool(device, args.crop, args.pool)
    watch = Watch(args.data, pool, args.seed)
    stepper = Stepper(plan.config, plan.recipe, pool)
    # What another run leaves is perhaps not there yet.
    first = None if args.start and args.start.suffix == ".pt" else first_state(plan, args.data)
    watch.start()
    stepper.prepare(not args.no_compile)
    print(f"{args.model}: ready, graph {stepper.graph is not None}", flush=True)
    wait(watch, args.after)
    state, earlier = first or first_state(plan, args.data)
    stepper.restart(state)
    roofline = matmul_gflop_per_s(device, fast_dtype(device))
    progress = Progress(Budget.of("seconds", min(args.seconds, args.until - time.time()), plan.recipe))
    plan = replace(plan, earlier_eflop=earlier)
    Training(args.output, args.model, plan, stepper, watch, progress).train(roofline)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name of a packaged configuration, or a TOML file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="run folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of zip files of photographs")
    parser.add_argument("--seconds", type=float, required=True, help="budget, from the first step")
    parser.add_argument("--start", type=Path, help="weights file, or last.pt of a run of this script")
    parser.add_argument("--after", type=Path, help="file to wait for before the first step")
    parser.add_argument("--recipe", default="gpu30", help="all but its stages, which --batch and --crop replace")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--pool", type=float, default=3.6, help="gigabytes of photographs on the card")
    parser.add_argument("--until", type=float, default=math.inf, help="Unix time at which to end at the latest")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--no-compile", action="store_true")
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    """What run.json keeps but for the photographs and what lies behind the start, which are not known yet."""
    stage = Stage(until=1.0, batch=args.batch, crop=args.crop)
    recipe = load_recipe(args.recipe).model_copy(update={"stages": (stage,)})
    return Plan(find_config(args.model), recipe, (), args.seed, str(args.start.resolve()) if args.start else None)


def wait(watch: Watch, after: Path | None) -> None:
    """Until there are photographs, and the file."""
    while not watch.pool.whole or (after is not None and not after.exists()):
        if watch.nothing or not watch.is_alive():
            raise UsageError(f"{watch.folder}: photographs cannot be read")
        time.sleep(0.1)


if __name__ == "__main__":
    try:
        main()
    except RdcError as error:
        sys.exit(str(error))
