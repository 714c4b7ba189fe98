"""`rdc`: the commands, and the one place where an exception becomes a line on stderr and an exit code."""

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from rdcodec.cli import io

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 usage, 3 bad input, 4 no model, 5 check failed, 130 or 143 interrupted."
COMMANDS = {  # module and function, by the panel of the help that shows them
    "Start here": ("demo.demo",),
    "Pictures": ("codec.compress", "codec.decompress", "codec.info", "measure.compare", "web.web"),
    "Models": ("zoo.models", "zoo.flops", "train.train", "sweep.sweep", "release.release"),
    "Laboratory": (
        *("measure.eval_", "measure.anchors", "bdrate.bdrate", "bench.bench", "report.report"),
        *("results.results", "submit.submit", "site.site"),
    ),
}


def app(first: str = "") -> typer.Typer:
    """The command line. Where `first` is the name of a command, with that one alone: others need not be imported."""
    places = {
        place.partition(".")[2].rstrip("_"): (panel, place) for panel, places in COMMANDS.items() for place in places
    }
    made = typer.Typer(
        name="rdc",
        help="A neural image codec with real files, and the laboratory that measures it.",
        epilog=EXIT_CODES,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_root)
    for name in [first] if first in places else places:
        panel, place = places[name]
        module, _, function = place.partition(".")
        command = getattr(importlib.import_module(f"rdcodec.cli.{module}"), function)
        if isinstance(command, typer.Typer):
            made.add_typer(command, rich_help_panel=panel)
        else:
            made.command(name, rich_help_panel=panel)(command)
    return made


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        from rdcodec import __version__, _native
        from rdcodec.codec.container import VERSION

        try:
            torch = f"torch {version('torch')}"
        except PackageNotFoundError:
            torch = "without torch"
        typer.echo(f"rdc {__version__}, format {VERSION}, kernels {_native.kernels()}, {torch}")
        raise typer.Exit


def _root(
    context: typer.Context,
    verbose: io.Verbose = 0,
    show_version: Annotated[
        bool,
        typer.Option("-V", "--version", metavar=io.FLAG, callback=_show_version, is_eager=True, help="Show versions."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        context.get_help()
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Every exception ends here, as one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    io.logger.setLevel(logging.WARNING)
    came: list[int] = []
    try:
        with _signals(came), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters to a user is an RdcError, in one line
            code = app(*arguments[:1])(arguments, prog_name="rdc", standalone_mode=False)
            sys.stdout.flush()
    except SystemExit as exit_:  # stdout was closed by its reader
        code = exit_.code
    except BaseException as error:
        code = io.report(error)
        _abandon_stdout()
    if code == 130:
        io.say("rdc: terminated" if came else "rdc: interrupted")
        code = 128 + came[0] if came else code
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _signals(came: list[int]) -> Iterator[None]:
    """SIGTERM and SIGHUP end what is inside as an interrupt does, tidily, and are noted; an ignored one stays so."""
    ending = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]  # Windows has none
    in_main = threading.current_thread() is threading.main_thread()
    handled = [number for number in ending if in_main and signal.getsignal(number) == signal.SIG_DFL]

    def end(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _abandon_stdout() -> None:
    """Flush stdout; where that fails, leave the interpreter's flush at exit nothing to fail on again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
