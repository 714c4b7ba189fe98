"""Runs: started, interrupted, resumed, ended early, and what is left behind each time."""

import copy
import json
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_start import convolutional
from tiny_runs import (
    MUON,
    RECIPE,
    Watcher,
    assemble,
    checkpoint,
    interrupt,
    learned,
    log,
    make_quick,
    quiet,
    resume,
    same,
    start,
)

from rdcodec.codec.pipeline import Codec, load
from rdcodec.errors import BadInput, NeedsModel, RdcError, UsageError
from rdcodec.measure.anchors import ANCHORS
from rdcodec.measure.rd import evaluate
from rdcodec.models.base import ImageModel
from rdcodec.models.config import ModelConfig
from rdcodec.models.rate import lmbda_of_quality
from rdcodec.models.weights import FILE_NAME, read_weights
from rdcodec.training import loop, run, stepper, validation
from rdcodec.training.checkpoint import CHECKPOINT, Progress, load_checkpoint
from rdcodec.training.data import Batch, Photo, decoded, is_held_out, load_photos
from rdcodec.training.feed import Feed
from rdcodec.training.group import Group
from rdcodec.training.interrupt import noted_interrupts
from rdcodec.training.logs import LOG, TENSORBOARD
from rdcodec.training.loop import Clock, Step, train_step, validation_record
from rdcodec.training.optimizer import Muon, make_optimizers
from rdcodec.training.plan import RUN_FILE, Plan
from rdcodec.training.recipe import Budget, Stage
from rdcodec.training.record import training_result
from rdcodec.training.release import release
from rdcodec.training.run import LOCK, Setting
from rdcodec.training.stepper import Losses, rate_distortion, update_average
from rdcodec.training.validation import anchor_curves, cut, validate

pytestmark = pytest.mark.xdist_group("loop")  # runs that many tests share are trained once
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """One anchor, few patches for the start, and no time for the machine's own speed."""
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        yield


@pytest.fixture(autouse=True)
def one_thread(threads: Callable[[int], None]) -> None:
    """What bit-equal resumption is promised for."""
    threads(1)


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Interrupts as at a terminal; a shell's background jobs ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def plan(tiny_config: ModelConfig, picture_folder: Path) -> Plan:
    return Plan(tiny_config, RECIPE, (str(picture_folder),), seed=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs lie side by side, so that anchors run once for all."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def six_steps(plan: Plan, runs: Path) -> Path:
    """A finished run."""
    torch.set_num_threads(1)
    start(plan, runs / "six", 6)
    return runs / "six"


@pytest.fixture
def folder(runs: Path, request: pytest.FixtureRequest) -> Path:
    """A folder for one more run."""
    return runs / str(request.node.name)


def parts(plan: Plan) -> tuple[ImageModel, ImageModel, list[torch.optim.Optimizer]]:
    """What a checkpoint is loaded into."""
    model = ImageModel(plan.config)
    return model, copy.deepcopy(model), make_optimizers(model, plan.recipe)


def before_each_step(monkeypatch: pytest.MonkeyPatch, watch: Watcher) -> None:
    def watched(state: loop.Run) -> Step:
        watch(state)
        return train_step(state)

    monkeypatch.setattr(loop, "train_step", watched)


def stop_at(step: int, how: Callable[[], object]) -> Watcher:
    def stop(state: loop.Run) -> None:
        if state.progress.step == step:
            how()

    return stop


def run_out_of_memory() -> None:
    raise MemoryError


def second_hand(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that goes on by a second with every step, while it waits for data; set `now` to let more time pass."""
    clock = SimpleNamespace(now=0.0)
    take = Feed.take

    def slow_take(feed: Feed, step: int, stage: Stage) -> list[Batch]:
        clock.now += 1
        return take(feed, step, stage)

    monkeypatch.setattr(Feed, "take", slow_take)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def batch_of(state: loop.Run, step: int, samples: int) -> Batch:
    """One batch of a step, crops of 64 pixels."""
    (batch,) = state.feed.make(step, Stage(until=1.0, batch=samples, crop=64))
    return batch


# From start to end


def test_what_a_run_leaves(six_steps: Path, plan: Plan) -> None:
    left = sorted(path.name for path in six_steps.iterdir())
    assert left == [CHECKPOINT, LOG, RUN_FILE, LOCK, TENSORBOARD, FILE_NAME]
    assert Plan.read(six_steps) == plan
    first, last = log(six_steps)
    assert (first["kind"], first["step"], last["kind"], last["step"]) == ("validation", 0, "validation", 6)
    assert first["bpp"] != last["bpp"]
    assert last["bpp"] == sorted(last["bpp"]) and last["psnr_db"] == sorted(last["psnr_db"])
    assert set(last["bd_rate_percent"]) == {"jpeg"}


def test_the_budget_is_spent_as_the_recipe_says(six_steps: Path, tiny_config: ModelConfig) -> None:
    progress = checkpoint(six_steps)["progress"]
    pixels = 2 * (5 * 64**2 + 128**2)  # the large crops come in the last half of the decay: one step
    assert (progress["step"], progress["pixels"], progress["skipped_steps"]) == (6, pixels, 0)
    assert progress["seconds"] > 0
    assert progress["flops"] == pytest.approx(log(six_steps)[-1]["eflop"] * 1e18)
    forward_macs = run.forward_macs_per_px(ImageModel(tiny_config))
    assert progress["flops"] == pytest.approx(6 * forward_macs * pixels)  # 2 a multiply-add, backward as two forwards


def test_the_weights_are_those_of_the_average(six_steps: Path) -> None:
    state, average = read_weights(six_steps / FILE_NAME).state, checkpoint(six_steps)["average"]
    assert all(torch.equal(tensor, average[name].to(tensor.dtype)) for name, tensor in state.items())


def test_learning_rates(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[list[float]] = []
    state = assemble(plan, folder, 6)
    for _ in range(6):
        train_step(state)
        rates.append([group["lr"] / RECIPE.learning_rate for group in state.optimizers[0].param_groups])
    assert [rate for rate, _ in rates] == pytest.approx([0.5, 1, 1, 1, 2 / 3, 1 / 3])
    assert [shortcut for _, shortcut in rates] == pytest.approx([0.1 * rate for rate, _ in rates])
    slow = {id(p) for p in state.optimizers[0].param_groups[1]["params"]}
    assert slow == {id(part.shortcut.weight) for part in (state.model.analysis, state.model.synthesis)}


def test_the_average_follows_the_weights(plan: Plan, folder: Path) -> None:
    state = assemble(plan, folder, 6)
    before = [p.clone() for p in state.average.parameters()]
    train_step(state)
    for old, new, mean in zip(before, state.model.parameters(), state.average.parameters(), strict=True):
        torch.testing.assert_close(mean, (old + new) / 2)


def test_a_few_steps_lower_the_loss(plan: Plan, folder: Path) -> None:
    """On crops that were not trained on."""
    state = assemble(replace(plan, recipe=RECIPE.model_copy(update={"learning_rate": 5e-3})), folder, 30)
    unseen = batch_of(state, 10**6, 8)
    lmbda = lmbda_of_quality(unseen.quality)
    with torch.no_grad():
        before = rate_distortion(state.model, unseen, lmbda, -0.5).loss
    for _ in range(30):
        train_step(state)
    with torch.no_grad():
        assert rate_distortion(state.model, unseen, lmbda, -0.5).loss < 0.98 * before


def test_the_loss_is_its_formula(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stepper, "fast_dtype", lambda device: torch.float32)
    state = assemble(plan, folder, 1)
    batch = batch_of(state, 0, 3)
    losses = rate_distortion(state.model, batch, state.model.lmbda(batch.quality), -0.5)
    with torch.no_grad():
        out = state.model(*batch)
    expected = []
    for n in range(3):
        bpp = (out.bits_y[n] + out.bits_z[n]) / 64**2
        mse = (out.x_hat[n] - batch.x[n]).square().mean()
        lmbda = lmbda_of_quality(batch.quality[n])
        expected.append(((lmbda / 0.004) ** -0.5 * (bpp + lmbda * mse)).item())
    assert losses.loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


# Interruption


def test_three_steps_and_three_are_six(
    plan: Plan, folder: Path, six_steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, average, moments of the optimiser and what is exported: bit for bit."""
    with monkeypatch.context() as patch:
        before_each_step(patch, stop_at(2, interrupt))
        with pytest.raises(KeyboardInterrupt):
            start(plan, folder, 6)
    assert checkpoint(folder)["progress"]["step"] == 3
    assert not (folder / FILE_NAME).exists()
    resume(folder)
    assert same(learned(folder), learned(six_steps))
    one, other = (read_weights(path / FILE_NAME) for path in (folder, six_steps))
    assert same(one.state, other.state)
    assert (one.entropy_hash, one.synthesis_hash) == (other.entropy_hash, other.synthesis_hash)
    assert log(folder)[-1]["bpp"] == log(six_steps)[-1]["bpp"]


def test_an_interrupt_inside_a_step(plan: Plan, folder: Path, six_steps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the optimisers and the counters: the step is finished before the checkpoint is written."""
    calls: list[object] = []

    def interrupted(*arguments: Any) -> None:
        update_average(*arguments)
        calls.append(arguments)
        if len(calls) == 3:
            interrupt()

    with monkeypatch.context() as patch:
        patch.setattr(stepper, "update_average", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(plan, folder, 6)
    assert checkpoint(folder)["progress"]["step"] == 3
    resume(folder)
    assert same(learned(folder), learned(six_steps))


def test_a_second_interrupt_does_not_wait(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a step of minutes: it ends at once, and the last checkpoint stands."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    before_each_step(monkeypatch, stop_at(2, lambda: (interrupt(), interrupt())))
    with pytest.raises(KeyboardInterrupt):
        start(plan, folder, 6)
    assert checkpoint(folder)["progress"]["step"] == 2


@pytest.mark.parametrize("at", [0, 4, 6])
def test_an_interrupt_in_a_validation(
    plan: Plan, folder: Path, six_steps: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """The first, one on the way, the last: all that was done is kept, and the run goes on as if nothing was."""
    second_hand(monkeypatch)

    def interrupted(state: loop.Run) -> dict[str, Any]:
        if state.progress.step == at:
            interrupt()
        return validation_record(state)

    monkeypatch.setattr(loop, "VALIDATE_SECONDS", 2.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validation_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(plan, folder, 6)
    assert checkpoint(folder)["progress"]["step"] == at
    resume(folder)
    assert same(learned(folder), learned(six_steps))
    assert log(folder)[-1]["bpp"] == log(six_steps)[-1]["bpp"]


def test_an_interrupt_of_one_process_stops_the_group(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same step: one that went on would wait for the other for ever."""
    with monkeypatch.context() as patch:
        others = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        patch.setattr(Group, "sum", lambda group, values, device: torch.as_tensor(values) + others[-len(values) :])
        state = assemble(plan, folder, 6)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            loop.fit(state)
    assert checkpoint(folder)["progress"]["step"] == 1


def test_whoever_handles_a_signal_learns_of_it_once_all_is_saved(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a command which SIGTERM ends can say so by its exit code."""
    steps = []

    def end(number: int, frame: object) -> None:
        steps.append(checkpoint(folder)["progress"]["step"])
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        before_each_step(monkeypatch, stop_at(2, lambda: signal.raise_signal(signal.SIGTERM)))
        with pytest.raises(KeyboardInterrupt):
            start(plan, folder, 6)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps == [3]


def test_signals_are_as_before_after_a_run() -> None:
    """Also where they are ignored, as in a shell's background job."""
    with noted_interrupts() as interrupted:
        assert not interrupted()
        interrupt()
        assert interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noted_interrupts() as interrupted:
        interrupt()
        assert not interrupted() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_log_survives_an_interrupt_of_resuming(
    six_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written anew then: what is not all written must not take its place."""
    whole = (six_steps / "log.jsonl").read_text(encoding="utf-8")
    (tmp_path / "log.jsonl").write_text(whole, encoding="utf-8")

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run._forget_after(tmp_path, 6)
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == whole


def test_a_finished_run_can_only_be_exported_again(six_steps: Path) -> None:
    before = read_weights(six_steps / FILE_NAME).state, checkpoint(six_steps)
    (six_steps / FILE_NAME).unlink()
    resume(six_steps)
    assert same((read_weights(six_steps / FILE_NAME).state, checkpoint(six_steps)), before)


def test_another_seed_is_another_run(plan: Plan, folder: Path, six_steps: Path) -> None:
    start(replace(plan, seed=1), folder, 6)
    one, other = (read_weights(path / FILE_NAME) for path in (folder, six_steps))
    assert one.synthesis_hash != other.synthesis_hash


@pytest.mark.parametrize("timer", [2.0, 1000.0])
def test_a_run_that_dies_loses_what_the_timer_allows(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, timer: float
) -> None:
    second_hand(monkeypatch)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", timer)
    before_each_step(monkeypatch, stop_at(5, run_out_of_memory))
    with pytest.raises(MemoryError):
        start(plan, folder, 6)
    assert checkpoint(folder)["progress"]["step"] == (4 if timer == 2 else 0)


def test_an_end_called_early(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand steps were planned; after three, there is time for three more."""
    second_hand(monkeypatch)
    with monkeypatch.context() as patch:
        before_each_step(patch, stop_at(2, interrupt))
        with pytest.raises(KeyboardInterrupt):
            start(plan, folder, 1000)
    rates: list[float] = []
    before_each_step(monkeypatch, lambda state: rates.append(state.progress.budget.rate_factor(state.progress.spent)))
    resume(folder, finish_in=3.0)
    progress = checkpoint(folder)["progress"]
    assert progress["step"] == 6 and progress["budget"] == {"unit": "steps", "total": 6.0, "decay_start": 3}
    assert rates == pytest.approx([1, 2 / 3, 1 / 3])
    load(folder)


# Time


def test_a_budget_in_seconds(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second_hand(monkeypatch)
    run.start(plan, folder, Budget.of("seconds", 4, RECIPE), quiet, quiet, Setting())
    assert (checkpoint(folder)["progress"]["step"], checkpoint(folder)["progress"]["seconds"]) == (4, 4)


def test_a_budget_in_computation(plan: Plan, folder: Path) -> None:
    """Ends with the step that spends it; the stages and the decay follow the computation, not the steps."""
    step_flops = 3 * 2 * run.forward_macs_per_px(ImageModel(plan.config)) * 2 * 64**2
    run.start(plan, folder, Budget.of("flops", 10 * step_flops, RECIPE), quiet, quiet, Setting())
    progress = checkpoint(folder)["progress"]
    assert progress["step"] == 9  # eight steps of small crops, one of large ones, which has four times the pixels
    assert progress["pixels"] == 2 * (8 * 64**2 + 128**2)
    assert progress["flops"] == pytest.approx(12 * step_flops)
    assert progress["budget"] == {"unit": "flops", "total": 10 * step_flops, "decay_start": 5 * step_flops}


def test_muon_counts_its_own_computation(plan: Plan, folder: Path) -> None:
    state = assemble(replace(plan, recipe=MUON), folder, 6)
    muon = next(optimizer for optimizer in state.optimizers if isinstance(optimizer, Muon))
    train_step(state)
    assert muon.flops > 0
    assert state.progress.flops == pytest.approx(6 * state.forward_macs_per_px * 2 * 64**2 + muon.flops)


def test_validation_and_checkpoints_burn_no_schedule(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = second_hand(monkeypatch)
    validated: list[int] = []

    def slow(state: loop.Run) -> dict[str, Any]:
        clock.now += 1000
        validated.append(state.progress.step)
        return {"kind": "validation", "step": state.progress.step, "quality": [], "bpp": [], "psnr_db": []}

    monkeypatch.setattr(loop, "validation_record", slow)
    monkeypatch.setattr(loop, "VALIDATE_SECONDS", 2.0)
    run.start(plan, folder, Budget.of("seconds", 5, RECIPE), quiet, quiet, Setting())
    assert checkpoint(folder)["progress"]["step"] == 5
    assert validated == [0, 2, 4, 5]


def test_a_resumed_run_forgets_what_the_interruption_undid(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records after the checkpoint, and lines that were cut off or never written, are about to come again."""
    start(plan, folder, 4)
    whole = log(folder)
    with (folder / "log.jsonl").open("ab") as file:
        file.write(b'{"kind": "train", "step": 5}\n' + bytes(40) + b'\n{"kind": "tra')
    resume(folder)
    assert log(folder)[: len(whole)] == whole
    assert all(record["step"] <= 4 for record in log(folder))


def test_a_pause_counts_as_a_usual_lap(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.0, 10_000.0, 10_001.0, 10_003.0])
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=partial(next, times)))
    clock = Clock()
    assert [clock.lap() for _ in range(5)] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("slowness", [6, 1000])
def test_a_lasting_slowdown_counts(monkeypatch: pytest.MonkeyPatch, slowness: int) -> None:
    """Of a thousand laps all but the first few dozen: or a budget in minutes would take as many times as long."""
    laps = [1.0] * 10 + [float(slowness)] * 1000
    times = iter([0.0, *accumulate(laps)])
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=partial(next, times)))
    clock = Clock()
    counted = sum(clock.lap() for _ in laps)
    assert 0.97 * sum(laps) <= counted <= sum(laps)


def test_every_other_lap_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    laps = [1.0] * 10 + [1.0, 6.0] * 500
    times = iter([0.0, *accumulate(laps)])
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=partial(next, times)))
    clock = Clock()
    assert sum(clock.lap() for _ in laps) >= 0.97 * sum(laps)


def test_the_log_says_how_fast_it_goes(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second_hand(monkeypatch)
    monkeypatch.setattr(loop, "LOG_STEPS", 2)
    reported: list[dict[str, Any]] = []
    run.start(plan, folder, Budget.of("steps", 5, RECIPE), reported.append, quiet, Setting())
    assert reported == log(folder)
    records = [record for record in reported if record["kind"] == "train"]
    assert [(r["step"], r["seconds"], r["steps_per_s"], r["eta_s"]) for r in records] == [(2, 2, 1, 3), (4, 4, 1, 1)]
    for record in records:
        assert record["roofline_share"] == record["gflop_per_s"] / 100
        assert record["data_share"] == 1  # the clock stands still but for the data
        assert record["done"] == record["step"] / 5
        assert all(math.isfinite(record[key]) for key in ("loss", "bpp", "psnr_db"))


# Steps that go wrong


def test_a_step_that_is_not_finite_is_skipped_and_counted(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    before_each_step(monkeypatch, lambda state: seen.append(copy.deepcopy(state.model.state_dict())))

    def second_is_nan(*arguments: Any) -> Losses:
        losses = rate_distortion(*arguments)
        return losses._replace(loss=losses.loss * math.nan) if len(seen) == 2 else losses

    monkeypatch.setattr(stepper, "rate_distortion", second_is_nan)
    start(plan, folder, 4)
    assert [same(one, other) for one, other in pairwise(seen)] == [False, True, False]
    state = checkpoint(folder)
    assert (state["progress"]["step"], state["progress"]["skipped_steps"]) == (4, 1)
    assert all(torch.isfinite(t).all() for part in ("model", "average") for t in state[part].values())


def test_gradients_far_beyond_the_usual_are_not_followed() -> None:
    progress = Progress(Budget("steps", 1000, 500))
    for _ in range(100):
        assert progress.is_sound(2.0, spike=8.0)
        progress.step += 1
    assert progress.usual_norm == pytest.approx(2)
    assert not progress.is_sound(17.0, spike=8.0)
    assert not any(progress.is_sound(norm, spike=8.0) for norm in (math.nan, math.inf))
    assert progress.usual_norm < 2.5
    assert progress.is_sound(15.0, spike=8.0)
    followed = [progress.is_sound(40.0, spike=8.0) for _ in range(60)]
    assert not followed[0] and followed[-1]  # what stays is the new usual


# Weights without training


def test_no_steps_give_random_weights_that_work(tiny_config: ModelConfig, folder: Path) -> None:
    start(Plan(tiny_config, RECIPE, (), seed=3), folder, 0)
    assert sorted(path.name for path in folder.iterdir()) == [RUN_FILE, LOCK, FILE_NAME]
    codec = load(folder)
    assert codec.info.tag == "Tiny.0"
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    encoded = codec.encode(image, 60)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


def test_what_a_run_starts_from(plan: Plan, folder: Path) -> None:
    """Both shortcuts are the KLT, or random and two."""
    for start_from, alike in (("klt", True), ("random", False)):
        mine = replace(plan, recipe=RECIPE.model_copy(update={"start": start_from}))
        start(mine, folder / start_from, 0)
        state = read_weights(folder / start_from / FILE_NAME).state
        assert torch.equal(state["analysis.shortcut.weight"], state["synthesis.shortcut.weight"]) == alike


def test_a_warm_start_goes_on_from_weights(plan: Plan, folder: Path, six_steps: Path) -> None:
    warm = replace(plan, warm_start=str(six_steps / FILE_NAME))
    start(warm, folder, 0)
    old, new = (read_weights(path / FILE_NAME) for path in (six_steps, folder))
    assert same(old.state, new.state)
    assert Plan.read(folder).warm_start == warm.warm_start


def test_a_warm_start_from_a_teacher(plan: Plan, folder: Path, six_steps: Path) -> None:
    """A model of one rate takes over the latents of one of all rates: not the KLT that it would begin with."""
    student = replace(plan, config=convolutional(latents=plan.config.latent_channels))
    start(student, folder / "klt", 0)
    start(replace(student, warm_start=str(six_steps / FILE_NAME)), folder / "teacher", 0)
    first, second = (read_weights(folder / name / FILE_NAME).state for name in ("klt", "teacher"))
    corners = first["analysis.last.weight"][..., 0, 0], second["analysis.last.weight"][..., 0, 0]
    assert not corners[0].any() and corners[1].all()  # the KLT of blocks needs no more than its four taps


def test_a_warm_start_from_another_model(plan: Plan, folder: Path, six_steps: Path) -> None:
    wider = plan.config.model_copy(update={"latent_channels": 48})
    with pytest.raises(NeedsModel, match=r"weights Tiny\.0 do not fit"):
        start(replace(plan, config=wider, warm_start=str(six_steps / FILE_NAME)), folder, 0)
    assert not folder.exists()


# What cannot be


def test_a_folder_with_a_run_is_left_alone(plan: Plan, six_steps: Path) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in six_steps.rglob("*") if path.is_file()}

    before = files()
    with pytest.raises(UsageError, match="--resume"):
        start(plan, six_steps, 6)
    assert files() == before


def test_training_needs_photographs(plan: Plan, folder: Path) -> None:
    with pytest.raises(UsageError, match="--data"):
        start(replace(plan, sources=()), folder, 1)
    assert not folder.exists()


def test_photographs_smaller_than_the_largest_crop(plan: Plan, folder: Path) -> None:
    """Said at the start, not when the large crops begin."""
    stages = (*RECIPE.stages[:1], Stage(until=1.0, batch=2, crop=512))
    with pytest.raises(UsageError, match="512 pixels"):
        start(replace(plan, recipe=RECIPE.model_copy(update={"stages": stages})), folder, 6)
    assert not folder.exists()


def test_nothing_to_resume(tmp_path: Path, tiny_config: ModelConfig, picture_folder: Path) -> None:
    with pytest.raises(BadInput, match="not a run folder"):
        resume(tmp_path)
    Plan(tiny_config, RECIPE, (str(picture_folder),), 0).save(tmp_path)
    with pytest.raises(BadInput, match="no checkpoint to resume from"):
        resume(tmp_path)


def damaged(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return rewrite


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no checkpoint"),
        lambda path: torch.save([1, 2], path),
        damaged(lambda state: state.pop("average")),
        damaged(lambda state: state.pop("progress")),
        damaged(lambda state: state["progress"].pop("budget")),
        damaged(lambda state: state["progress"].update(novelty=1)),
        damaged(lambda state: state["model"].pop("log_gain.values")),
        damaged(lambda state: state["optimizers"][0]["param_groups"].pop()),
    ],
)
def test_a_damaged_checkpoint(plan: Plan, six_steps: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    (tmp_path / CHECKPOINT).write_bytes((six_steps / CHECKPOINT).read_bytes())
    damage(tmp_path / CHECKPOINT)
    with pytest.raises(BadInput, match=rf"{CHECKPOINT}: not a checkpoint of this model"):
        load_checkpoint(tmp_path, *parts(plan))


def test_a_damaged_run_is_not_resumed(plan: Plan, six_steps: Path, tmp_path: Path) -> None:
    plan.save(tmp_path)
    (tmp_path / CHECKPOINT).write_bytes((six_steps / CHECKPOINT).read_bytes()[:-1000])
    with pytest.raises(BadInput, match=CHECKPOINT):
        resume(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_flipped_bit_of_a_checkpoint(plan: Plan, six_steps: Path, tmp_path: Path) -> None:
    """Is noticed, unless it lies where nothing is: the file has gaps between its tensors."""
    data, whole = (six_steps / CHECKPOINT).read_bytes(), checkpoint(six_steps)
    refused = 0
    for at in np.linspace(1000, len(data) - 100, 12).astype(int):
        (tmp_path / CHECKPOINT).write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        model, average, optimizers = parts(plan)
        try:
            load_checkpoint(tmp_path, model, average, optimizers)
        except BadInput:
            refused += 1
        else:
            found = model.state_dict(), average.state_dict(), [optimizer.state_dict() for optimizer in optimizers]
            assert same(found, (whole["model"], whole["average"], whole["optimizers"]))
    assert refused >= 6


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 1}'])
def test_a_damaged_plan(tmp_path: Path, text: str) -> None:
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(RdcError, match=RUN_FILE):
        Plan.read(tmp_path)


# Validation


@pytest.fixture
def held_out(picture_folder: Path) -> list[Photo]:
    return decoded(load_photos([picture_folder]).validation)


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The anchors that were run."""
    ran: list[str] = []

    def counting(anchor: Any, *arguments: Any, **options: Any) -> Any:
        ran.append(anchor.name)
        return evaluate(anchor, *arguments, **options)

    monkeypatch.setattr(validation, "evaluate", counting)
    return ran


def test_anchors_run_once(held_out: list[Photo], tmp_path: Path, evaluations: list[str]) -> None:
    said: list[str] = []
    first = anchor_curves(held_out, tmp_path / "cache", said.append)
    assert evaluations == ["jpeg"]
    assert "with jpeg as" in said[0] and "jpeg took" in said[-1] and "--no-anchors" in said[-1]
    said.clear()
    assert anchor_curves(held_out, tmp_path / "cache", said.append) == first
    assert evaluations == ["jpeg"] and not said
    other = [Photo(held_out[0].name, held_out[0].pixels[::-1])]
    assert anchor_curves(other, tmp_path / "cache", said.append) != first
    assert evaluations == ["jpeg", "jpeg"]


def test_a_run_has_its_folder_before_the_anchors(plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may take minutes: an interrupt there is resumed from."""

    def interrupted(*arguments: object) -> None:
        assert (folder / RUN_FILE).exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "anchor_curves", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(plan, folder, 1)
    resume(folder)
    assert [record["step"] for record in log(folder)] == [0, 1]


def test_a_missing_anchor_is_done_without(
    held_out: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise NeedsModel("libwonder: missing; install it")

    monkeypatch.setattr(validation, "VALIDATION_ANCHORS", ("wonder", "jpeg"))
    monkeypatch.setitem(ANCHORS, "wonder", replace(ANCHORS["webp"], name="wonder", version=missing))
    said: list[str] = []
    assert set(anchor_curves(held_out, tmp_path, said.append)) == {"jpeg"}
    assert any("libwonder: missing" in line for line in said)


def test_a_run_without_held_out_photographs(plan: Plan, picture_folder: Path, tmp_path: Path) -> None:
    """As most small folders are: one name in 32 is held out."""
    (tmp_path / "few").mkdir()
    for path in picture_folder.iterdir():
        if not is_held_out(path.name):
            (tmp_path / "few" / path.name).write_bytes(path.read_bytes())
    start(replace(plan, sources=(str(tmp_path / "few"),)), tmp_path / "run", 1)
    assert load(tmp_path / "run").info.name == "Tiny"


def test_validation_measures_what_files_will(
    fair_run: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the encoder's choice among integers."""
    monkeypatch.setattr(Codec, "_worth", lambda codec, tenths: None)
    codec = load(fair_run)
    found = validate(read_weights(fair_run / FILE_NAME).build(), [Photo("photo", photo)], CPU, (40, 70))
    for bpp, psnr_db, quality in zip(found["bpp"], found["psnr_db"], (40, 70), strict=True):
        encoded = codec.encode(photo, quality)
        assert bpp == pytest.approx(encoded.estimate_bits / (192 * 256), rel=0.01)
        assert psnr_db == pytest.approx(encoded.psnr_db, abs=0.1)


def test_pictures_are_cut_to_what_needs_no_padding(photo: np.ndarray) -> None:
    assert cut(Photo("photo", photo[:150, :129])).shape == (128, 128, 3)


@pytest.mark.parametrize("where", ["bpp", "psnr_db"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_validation_that_is_not_finite(
    plan: Plan, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, value: float
) -> None:
    """Has no BD-rate, and the run goes on: its checkpoint may be sound again later."""

    def odd(*arguments: Any) -> dict[str, list[float]]:
        curve = validate(*arguments)
        return {**curve, where: [value, *curve[where][1:]]}

    monkeypatch.setattr(validation, "validate", odd)
    start(plan, folder, 1)
    record = log(folder)[-1]
    assert record["kind"] == "validation" and record["step"] == 1
    if not math.isfinite(value):
        assert record["bd_rate_percent"] == {"jpeg": None}
    assert "## Validation" in card(folder)


def card(folder: Path) -> str:
    release(folder, "Tiny.1", folder / "released")
    return (folder / "released" / "Tiny.1.md").read_text(encoding="utf-8")


def test_figures_that_are_not_finite_are_left_out_of_results(six_steps: Path, tmp_path: Path) -> None:
    """A store keeps numbers only."""
    shutil.copytree(six_steps, tmp_path / "run")
    records = log(six_steps)
    records[-1]["bpp"][2] = math.nan
    lines = [*records, {"kind": "train", "step": 6, "seconds": 1.0, "eflop": 0.1, "loss": math.nan}]
    (tmp_path / "run" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    result = training_result(tmp_path / "run")
    assert result.id and result.values["loss"] is None
    assert len(result.rows) == 6 * len(records) - 1
