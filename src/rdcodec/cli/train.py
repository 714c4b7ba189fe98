"""train: a model from a configuration, a recipe and photographs."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from rdcodec.cli import io, pool
from rdcodec.errors import UsageError


def train(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="Model name or TOML file; not with --resume.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="RUN", help="Folder of the new run.")] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH", help="Folder or zip file of photographs; may be repeated."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME", help="Recipe name or TOML file; without it: short.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=0, metavar="N", help="Budget in steps; 0: random weights.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, metavar="X", help="Budget in minutes of summed step time."),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run that was interrupted.")
    ] = None,
    finish_in: Annotated[
        str | None,
        typer.Option("--finish-in", metavar="TIME", help="With --resume: begin the decay now, end in 90s, 30m, 2h."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Of data order, noise and weights; without it: 0.")
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option("--warm-start", metavar="FILE", help="Start from the weights of this .safetensors file."),
    ] = None,
    device: io.Device = "cpu",
    threads: io.Threads = 0,
    verbose: io.Verbose = 0,
) -> None:
    """Train a model, or go on with a run. An interrupted run loses five minutes at most.

    Example: [bold]rdc train I --data photos/ --minutes 60 -o runs/first[/bold]
    """
    if resume is None:
        _check_new_run(config, output, steps, minutes, finish_in)
    elif any(given is not None for given in (config, output, data, recipe, steps, minutes, seed, warm_start)):
        raise UsageError("--resume goes on as the run began: give it nothing else but --finish-in and --device")
    finish_s = None if finish_in is None else parse_seconds(finish_in)
    pool.set_threads(threads)
    from rdcodec.models.precision import pick_device
    from rdcodec.training import run
    from rdcodec.training.recipe import Budget

    place = pick_device(device)
    if resume is not None:
        run.resume(resume, show_record, place, io.say, finish_s)
        return
    assert config is not None and output is not None
    plan = run.plan_of(config, recipe or "short", data or [], seed or 0, warm_start)
    if minutes is not None:
        budget = Budget.of("seconds", 60 * minutes, plan.recipe)
    else:
        budget = Budget.of("steps", steps or 0, plan.recipe)
    run.start(plan, output, budget, show_record, place, io.say)


def parse_seconds(text: str) -> float:
    """'90s', '30m' or '2h' in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip())
    if not match:
        raise UsageError(f"--finish-in {text}: write a time as 90s, 30m or 2h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def show_record(record: dict[str, Any]) -> None:
    """One line on stderr for a record of the training log."""
    if record["kind"] == "validation":
        points = [f"{bpp:.3f} bpp {psnr:.2f} dB" for bpp, psnr in zip(record["bpp"], record["psnr_db"], strict=True)]
        deltas = [f"{name} {io.number(delta, 1, True, ' %')}" for name, delta in record["bd_rate_percent"].items()]
        io.say("  ".join([f"step {record['step']}  validation", *points, *deltas]))
        return
    io.say(
        f"step {record['step']}  {record['seconds'] / 60:.1f} min  loss {record['loss']:.4f}  "
        f"{record['bpp']:.3f} bpp  {record['psnr_db']:.2f} dB  {record['steps_per_s']:.2f} steps/s  "
        f"{record['gflop_per_s']:.0f} GFLOP/s ({record['roofline_share']:.0%} of a matrix product)  "
        f"{record['eta_s'] / 60:.0f} min left"
    )


def _check_new_run(
    config: str | None, output: Path | None, steps: int | None, minutes: float | None, finish_in: str | None
) -> None:
    if config is None or output is None:
        raise UsageError("a new run needs a CONFIG and a folder: rdc train I --minutes 60 -o RUN")
    if (steps is None) == (minutes is None):
        raise UsageError("a new run needs one budget: --steps or --minutes")
    if finish_in is not None:
        raise UsageError("--finish-in ends a run early: give it with --resume")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output}: exists already: choose a new folder, or --resume {output}")
