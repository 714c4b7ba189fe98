"""sweep: many trainings from one file, on this machine or on a Ray cluster."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdcodec.cli import io
from rdcodec.errors import RdcError, UsageError
from rdcodec.system import core_count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rdcodec.training.recipe import Recipe
    from rdcodec.training.sweep import Sweep, Trial
    from rdcodec.training.trial import Job
    from rdcodec.training.workers import Status, Workers

SWEEP_FILE = "sweep.toml"
TYPICAL_SHARE = 0.35  # of a matrix product's speed, that training reaches


def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="TOML file of the sweep.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder of its trials; repeat it to continue.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="PATH", help="Photographs, as for rdc train; may be repeated."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DB", help="Results store that every finished trial goes into.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar=io.FLAG, help="Show trials and what they cost; train nothing.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: auto, ray://HOST:PORT, or local."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Trials in parallel.")] = 1,
    device: io.Device = "cpu",
    threads: io.Threads = 0,
    no_progress: io.NoProgress = False,
    verbose: io.Verbose = 0,
) -> None:
    """Train every combination that a sweep file describes, at equal budgets.

    After an interruption of any kind, the same command continues: finished trials are not run again, others resume
    from their checkpoints. A trial that fails is tried once more, then named at the end.

    Example: [bold]rdc sweep sweeps/light.toml --dry-run[/bold]
    """
    from rdcodec.training.sources import open_sources
    from rdcodec.training.sweep import list_trials, read_sweep, recipe_of

    asked = read_sweep(file)
    recipe = recipe_of(asked, file.parent)
    trials = list_trials(asked, file.parent)
    if dry_run:
        show_plan(asked, trials, recipe, device)
        return
    if output is None or not data:
        raise UsageError("a sweep needs photographs and a folder: rdc sweep SWEEP --data photos/ -o DIR")
    open_sources(data)  # UsageError, before anything is written, if one is not there
    _claim(output, file)
    share = max(1, (threads or core_count()) // jobs)
    made = _jobs(asked, trials, recipe, output, data, share, device)
    from rdcodec.training.workers import LocalWorkers, RayWorkers, run_trials

    workers: Workers = LocalWorkers(jobs) if ray is None else RayWorkers(ray, share, device)
    with _screen(not no_progress) as show:
        kept = _keeper(store)

        def watch(statuses: "Sequence[Status]") -> None:
            kept(statuses)
            show(statuses)

        ended = run_trials(made, workers, watch)
    _report(ended, output)


def show_plan(asked: "Sweep", trials: "Sequence[Trial]", recipe: "Recipe", device: str) -> None:
    """What the trials are and what they cost; times are estimates for this machine."""
    from rdcodec.measure.bench import roofline
    from rdcodec.models.precision import fast_dtype, pick_device
    from rdcodec.training.sweep import training_tflop

    at = pick_device(device)
    speed = TYPICAL_SHARE * roofline(at, fast_dtype(at))[0]
    table = io.table("trial", ">parameters", ">kFLOPs/px", ">training", ">about")
    total = 0.0
    for trial in trials:
        tflop = training_tflop(trial, asked, recipe)
        total += tflop
        cells = (f"{trial.parameters / 1e6:.2f} M", f"{trial.kflops_per_px:.1f}", _compute(tflop))
        table.add_row(trial.name, *cells, _duration(1000 * tflop / speed))
    io.show(table, title=f"{asked.name}: {len(trials)} trials, {asked.search} search")
    io.write_text(
        f"in all {_compute(total)}, about {_duration(1000 * total / speed)} on this machine: "
        f"an estimate, at {speed:.0f} GFLOP/s, {TYPICAL_SHARE:.0%} of its matrix product\n"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    for unit, size, most in (("min", 60, 90), ("h", 3600, 72), ("days", 86400, 730)):
        if seconds < most * size:
            return f"{seconds / size:.1f} {unit}" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / (365 * 86400):.0f} years"


def _compute(tflop: float) -> str:
    return f"{tflop:.4g} TFLOP" if tflop < 1e4 else f"{tflop / 1e6:.3g} EFLOP"


def _claim(output: Path, file: Path) -> None:
    """Keep the sweep's file in its folder; UsageError if the folder is another sweep's."""
    text = file.read_bytes()
    kept = output / SWEEP_FILE
    if kept.exists() and kept.read_bytes() != text:
        raise UsageError(f"{output}: holds another sweep, or {file} has changed since: choose a new folder with -o")
    if not kept.exists():
        if output.exists() and any(output.iterdir()):
            raise UsageError(f"{output}: is not empty and holds no sweep: choose a new folder with -o")
        io.write_output(kept, text, force=False)


def _jobs(
    asked: "Sweep",
    trials: "Sequence[Trial]",
    recipe: "Recipe",
    output: Path,
    data: Sequence[Path],
    threads: int,
    device: str,
) -> "list[Job]":
    from dataclasses import asdict

    from rdcodec.training.sweep import budget_of
    from rdcodec.training.trial import Job

    folder = (output / "trials").resolve()
    folder.mkdir(exist_ok=True)
    return [
        Job(
            name=trial.name,
            folder=str(folder / trial.name),
            config=trial.config.model_dump(mode="json"),
            recipe=recipe.model_dump(mode="json"),
            budget=asdict(budget_of(asked, recipe)),
            sources=tuple(str(path.resolve()) for path in data),
            seed=asked.seed,
            threads=threads,
            device=device,
            command=shlex.join(["rdc", *sys.argv[1:]]),
        )
        for trial in trials
    ]


def _keeper(store: Path | None) -> "Callable[[Sequence[Status]], None]":
    """What puts the results of trials into the store as they end, and those of the classical codecs beside them."""
    kept: set[str] = set()

    def keep(statuses: "Sequence[Status]") -> None:
        new = [status for status in statuses if status.state == "done" and status.job.name not in kept]
        if store is None or not new:
            return
        from rdcodec.store.db import Store
        from rdcodec.training.trial import read_results
        from rdcodec.training.validation import anchor_results

        with Store(store) as opened:
            for status in new:
                opened.add(read_results(status.job))
                kept.add(status.job.name)
            opened.add(anchor_results(Path(new[0].job.folder).parent))

    return keep


def _screen(enabled: bool) -> Any:
    """Yields what shows the trials: one table that is renewed on a terminal, else a line for each change."""
    import contextlib
    from collections.abc import Iterator

    @contextlib.contextmanager
    def lines() -> "Iterator[Callable[[Sequence[Status]], None]]":
        known: dict[str, tuple[str, int]] = {}

        def show(statuses: "Sequence[Status]") -> None:
            for status in statuses:
                now = status.state, status.attempts
                if known.get(status.job.name) != now and status.state != "waiting":
                    io.say(_line(status, statuses))
                known[status.job.name] = now

        yield show

    @contextlib.contextmanager
    def live() -> "Iterator[Callable[[Sequence[Status]], None]]":
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True, highlight=False)
        with Live(console=console, transient=True, auto_refresh=False) as screen:
            yield lambda statuses: screen.update(_table(statuses, console.height - 6), refresh=True)

    return live() if enabled and sys.stderr.isatty() else lines()


def _line(status: "Status", statuses: "Sequence[Status]") -> str:
    done = sum(other.state == "done" for other in statuses)
    again = " again" if status.attempts > 1 and status.state == "running" else ""
    problem = f": {status.problem}" if status.state == "failed" else ""
    return f"{status.job.name}: {status.state}{again}{problem}  ({done} of {len(statuses)} done)"


def _table(statuses: "Sequence[Status]", rows: int) -> "RenderableType":
    """What runs comes first, then what failed, what is done, and what waits, as far as the screen goes."""
    from rdcodec.training.trial import last_record

    order = ("running", "failed", "done", "waiting")
    counts = {state: sum(status.state == state for status in statuses) for state in order}
    title = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    table = io.table("trial", "state", ">done", ">loss", ">bpp", ">PSNR dB", ">left")
    table.title = f"{len(statuses)} trials: {title}"
    for status in sorted(statuses, key=lambda status: order.index(status.state))[: max(rows, 1)]:
        record = last_record(status.job) if status.state in ("running", "done") else None
        cells = ["", "", "", "", ""]
        if record:
            share = f"{record.get('done') or 0:.0%}"
            cells = [share, f"{record['loss']:.4f}", f"{record['bpp']:.3f}", f"{record['psnr_db']:.2f}", ""]
            if status.state == "running":
                cells[-1] = _duration(record["eta_s"])
        table.add_row(status.job.name, status.state, *cells)
    return table


def _report(ended: "Sequence[Status]", output: Path) -> None:
    failed = [status for status in ended if status.state == "failed"]
    done = len(ended) - len(failed)
    io.say(f"{done} of {len(ended)} trials are done, in {output}")
    for status in failed:
        io.say(f"failed {status.attempts} times: {status.job.name}: {status.problem}")
    if failed:
        names = ", ".join(status.job.name for status in failed[:5])
        raise RdcError(f"{len(failed)} of {len(ended)} trials failed ({names}): the same command tries them again")
