"""The log of a training run on stderr: a bar where that is a terminal, else a line for each record."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rdcodec.cli import io

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Record = dict[str, Any]
Show = Callable[[Record], None]


@contextlib.contextmanager
def training_log(enabled: bool) -> Iterator[Show]:
    """Yields what shows a record. The bar vanishes when training ends or breaks off, and leaves its last line."""
    if enabled and sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        if not console.is_dumb_terminal:
            with _live(console) as show:
                yield show
            return
    yield lambda record: io.say(line(record))


@contextlib.contextmanager
def _live(console: "Console") -> Iterator[Show]:
    from rich.live import Live

    last: Record = {}
    live = Live(console=console, transient=True, refresh_per_second=2, redirect_stdout=sys.stdout.isatty())

    def show(record: Record) -> None:
        if record["kind"] == "validation":
            console.print(validation_rows(record), soft_wrap=True)
            return
        last.update(record)
        live.start()
        live.update(bar(record), refresh=True)

    try:
        yield show
    finally:
        live.stop()
        if last:
            io.say(line(last))


def line(record: Record) -> str:
    """A record in one line."""
    if record["kind"] == "validation":
        points = [f"{bpp:.3f} bpp {psnr:.2f} dB" for bpp, psnr in zip(record["bpp"], record["psnr_db"], strict=True)]
        return "  ".join([f"step {record['step']}  validation", *points, *_bd_rates(record)])
    return (
        f"step {record['step']}  {record['seconds'] / 60:.1f} min  {_means(record)}  "
        f"{record['steps_per_s']:.2f} steps/s  {_speed(record)}  {_duration(record['eta_s'])} left"
    )


def bar(record: Record) -> "RenderableType":
    """A training record in two lines: how far the run is, and what it reaches."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    done: float | None = record.get("done")
    top = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for ratio in (None, None, 1, None, None, None):
        top.add_column(ratio=ratio, no_wrap=True)
    top.add_row(
        Spinner("dots"),
        f"step {record['step']}",
        ProgressBar(total=1.0 if done is not None else None, completed=done or 0.0, pulse=done is None),
        "" if done is None else f"{done:.0%}",
        f"{record['steps_per_s']:.2f} steps/s",
        f"{_duration(record['eta_s'])} left",
    )
    return Group(top, Text(f"   {_means(record)}  {_speed(record)}", no_wrap=True, overflow="ellipsis"))


def validation_rows(record: Record) -> str:
    """A validation record in four lines: the loss and BD-rates, then a column for each quality."""
    rates = _bd_rates(record)
    beside = ["BD-rate: " + "  ".join(rates)] if rates else []  # none where no classical codec was run
    head = "  ".join([f"step {record['step']}", "validation", f"loss {record['loss']:.4f}", *beside])
    rows = [
        ("quality", [f"{quality:.0f}" for quality in record["quality"]]),
        ("bpp", [f"{bpp:.3f}" for bpp in record["bpp"]]),
        ("PSNR dB", [f"{psnr:.2f}" for psnr in record["psnr_db"]]),
    ]
    lines = [f"   {name:<7}" + "".join(f"{value:>8}" for value in values) for name, values in rows]
    return "\n".join([head, *lines])


def _means(record: Record) -> str:
    psnr = f"  {record['psnr_db']:.2f} dB" if "psnr_db" in record else ""
    return f"loss {record['loss']:.4f}  {record['bpp']:.3f} bpp{psnr}"


def _speed(record: Record) -> str:
    share = record.get("data_share")  # of the time, spent waiting for data
    data = "" if share is None else f"data {share:.0%}  "
    return f"{data}{record['gflop_per_s']:.0f} GFLOP/s ({record['roofline_share']:.0%} of a matrix product)"


def _bd_rates(record: Record) -> list[str]:
    return [f"{name} {io.number(delta, 1, True, ' %')}" for name, delta in record["bd_rate_percent"].items()]


def _duration(seconds: float) -> str:
    """'45 s', '12 min' or '3 h 05 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
