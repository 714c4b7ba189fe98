"""train: a model from a configuration, a recipe and photographs."""

import math
import re
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from rdcodec.cli import io, pool
from rdcodec.cli.screen import training_log
from rdcodec.errors import UsageError


def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="Model name or TOML file; not with --resume.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="RUN", help="Folder of the new run.")] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Folder, zip or tar file of photographs, or folder of such; repeatable. With --resume: others.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", metavar="NAME", help="Recipe name or TOML file; without it: short, or single for one rate."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=0, metavar="N", help="Budget in steps; 0: random weights.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, metavar="X", help="Budget in minutes spent in training steps."),
    ] = None,
    tflop: Annotated[
        float | None,
        typer.Option("--tflop", min=0.01, metavar="X", help="Budget in training computation, 10^12 FLOPs."),
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Continue an interrupted run.")] = None,
    finish_in: Annotated[
        str | None,
        typer.Option("--finish-in", metavar="TIME", help="With --resume: begin the decay now, end in 90s, 30m, 2h."),
    ] = None,
    lmbda: Annotated[
        float | None,
        typer.Option("--lmbda", min=1e-6, metavar="X", help="For a model of one rate: loss is bpp + X * MSE."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Of data order, noise and weights; without it: 0.")
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            "--warm-start",
            metavar="FILE",
            help="Start from these weights: of this model, of a smaller light one, or for G of a light one.",
        ),
    ] = None,
    only: Annotated[
        Literal["entropy", "decoder"] | None,
        typer.Option(
            "--only",
            help="With --warm-start: train the entropy model alone, or what a decoder runs, on latents as in files.",
        ),
    ] = None,
    pause_after: Annotated[
        str | None,
        typer.Option("--pause-after", metavar="TIME", help="Stop 90s, 30m, 2h after the start, to be resumed."),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option("--micro-batch", min=1, metavar="N", help="Crops in memory at once; results do not change."),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Run through torch.compile: for long GPU runs.")] = False,
    no_anchors: Annotated[
        bool, typer.Option("--no-anchors", metavar=io.FLAG, help="Validate without comparing classical codecs.")
    ] = False,
    device: io.Device = "cpu",
    threads: io.Threads = 0,
    no_progress: io.NoProgress = False,
    verbose: io.Verbose = 0,
) -> None:
    """Train a model or continue a run. An interrupt saves a checkpoint; a killed run loses at most three minutes.

    Example: [bold]rdc train I --data photos/ --minutes 60 -o runs/first[/bold]
    """
    began = time.perf_counter()
    for option, number in (("--minutes", minutes), ("--tflop", tflop), ("--lmbda", lmbda)):
        if number == math.inf:
            raise UsageError(f"{option} inf: give a finite number")
    if resume is None:
        _check_new_run(config, output, (steps, minutes, tflop), finish_in)
    elif any(
        given is not None for given in (config, output, recipe, steps, minutes, tflop, lmbda, seed, warm_start, only)
    ):
        raise UsageError("--resume goes on as the run began: give it no model, recipe, budget, lmbda, seed or start")
    finish_s = None if finish_in is None else parse_seconds("--finish-in", finish_in)
    pause_s = math.inf if pause_after is None else parse_seconds("--pause-after", pause_after)
    pool.set_threads(threads)
    from rdcodec.models.precision import pick_device
    from rdcodec.training import run
    from rdcodec.training.memory import explain_out_of_memory, smaller_steps
    from rdcodec.training.plan import RUN_FILE, Plan, plan_of
    from rdcodec.training.recipe import Budget

    setting = run.Setting(pick_device(device), micro_batch, pause_s, compiled, began, not no_anchors)
    if resume is not None:
        remedy = f"{smaller_steps(Plan.read(resume).recipe)}, in {resume / RUN_FILE}"
        with explain_out_of_memory("training", remedy), training_log(not no_progress) as show:
            run.resume(resume, show, io.say, setting, finish_s, data or [])
        return
    assert config is not None and output is not None
    plan = plan_of(config, recipe, data or [], seed or 0, warm_start, lmbda, only)
    if minutes is not None:
        budget = Budget.of("seconds", 60 * minutes, plan.recipe)
    elif tflop is not None:
        budget = Budget.of("flops", 1e12 * tflop, plan.recipe)
    elif (given := plan.recipe.steps if steps is None else steps) is not None:
        budget = Budget.of("steps", given, plan.recipe)
    else:
        raise UsageError("a new run needs one budget: --steps, --minutes or --tflop")
    with explain_out_of_memory("training", smaller_steps(plan.recipe)), training_log(not no_progress) as show:
        run.start(plan, output, budget, show, io.say, setting)


def parse_seconds(option: str, text: str) -> float:
    """'90s', '30m' or '2h' in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match:
        raise UsageError(f"{option} {text}: write a time as 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _check_new_run(
    config: str | None, output: Path | None, budgets: tuple[float | None, ...], finish_in: str | None
) -> None:
    if config is None or output is None:
        raise UsageError("a new run needs a CONFIG and a folder: rdc train I --minutes 60 -o RUN")
    if sum(budget is not None for budget in budgets) > 1:
        raise UsageError("a new run needs one budget: --steps, --minutes or --tflop")
    if finish_in is not None:
        raise UsageError("--finish-in ends a run early: give it with --resume")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: exists already: choose a new folder, or --resume {output}")
