"""What every command shares: options, messages and results, bytes in and out, the overwrite rule.

stdout holds the payload or the result; everything else goes to stderr.
"""

import contextlib
import json
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, cast

import typer

from rdcodec.errors import NO_TORCH, NeedsModel, RdcError, UsageError, is_out_of_memory
from rdcodec.system import write_whole

if TYPE_CHECKING:
    from rich.table import Table

STREAM = "-"
MAX_PIXELS = 100_000_000  # as in rdcodec.codec.image, whose import costs NumPy and Pillow
OUT_OF_MEMORY = "out of memory: try a smaller picture, or fewer --jobs"

logger = logging.getLogger("rdcodec")


# Options that mean the same everywhere


def set_verbosity(count: int) -> None:
    """`-v`: debug notes of the library, and tracebacks of errors. Each run of `main` starts quiet."""
    if count:
        logger.setLevel(logging.DEBUG)


def parse_bytes(text: str | int) -> int:
    """'58213', '58kB' (1000), '1.5MB' or '64KiB' (1024) as a number of bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([km]?)(i?)b?\s*", str(text), re.IGNORECASE)
    if not match or (match[3] and not match[2]):
        raise typer.BadParameter(f"{text!r} is not a size: write bytes, 58kB or 1.5MB")
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** ("", "k", "m").index(match[2].lower()))
    if size < 1:
        raise typer.BadParameter(f"{text!r} is not a size of at least one byte")
    return size


FLAG = ""  # metavar of an option without a value: typer's default, <bool>, says nothing

Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        metavar=FLAG,
        callback=set_verbosity,
        show_default=False,
        help="Show the traceback of an error.",
    ),
]
Force = Annotated[bool, typer.Option("-f", "--force", metavar=FLAG, help="Overwrite existing files.")]
Json = Annotated[bool, typer.Option("--json", metavar=FLAG, help="One JSON object per line on stdout.")]
Threads = Annotated[int, typer.Option("--threads", min=0, metavar="N", help="CPU threads in all; 0: every core.")]
Effort = Annotated[
    int,
    typer.Option("-e", "--effort", min=1, max=9, metavar="N", help="1: one pass; 2 to 9: search, each twice as long."),
]
Jobs = Annotated[int, typer.Option("--jobs", min=0, metavar="N", help="Files at once; 0: one per core.")]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: auto, ray://HOST:PORT, or local."),
]
MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, metavar="N", help="Refuse larger pictures.")]
FileModel = Annotated[
    str | None,
    typer.Option("-m", "--model", metavar="RUN", help="Run folder, for .rdc files of unreleased weights."),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where the networks run.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", metavar=FLAG, help="No progress bar, even on a terminal.")]


# Messages and results


def shown(name: object) -> str:
    """A name as a terminal may show it: control characters, and bytes that are no text, as escapes."""
    return "".join(char if char.isprintable() else _escape(char) for char in str(name))


def _escape(char: str) -> str:
    is_byte = "\udc80" <= char <= "\udcff"  # of a file name that is not UTF-8, as os.fsdecode marks it
    return f"\\x{ord(char) - 0xDC00:02x}" if is_byte else ascii(char)[1:-1]


def say(line: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(shown(line) + "\n")
    sys.stderr.flush()


def report(error: BaseException) -> int:
    """Write an error as one line, `rdc: ...`, and return its exit code; with -v its traceback comes first."""
    if logger.isEnabledFor(logging.DEBUG):
        traceback.print_exception(error)
    message, code = explain(error)
    is_ours = isinstance(error, RdcError | OSError)  # any line break is then one in a name, which `say` escapes
    say("rdc: " + (message if is_ours else " ".join(message.split())))
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """Message and exit code of an exception."""
    match error:
        case RdcError():
            return str(error), error.exit_code
        case typer.TyperException():
            text = error.format_message().rstrip(".")
            command = getattr(getattr(error, "ctx", None), "command_path", "rdc")
            return f"{text[:1].lower()}{text[1:]} (see {command} --help)", error.exit_code
        case KeyboardInterrupt():
            return "interrupted", 130
        case ModuleNotFoundError(name="torch"):
            return NO_TORCH, NeedsModel.exit_code
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}", 1
        case _ if is_out_of_memory(error):
            return OUT_OF_MEMORY, 1
    return f"unexpected {type(error).__name__}: {error}: run again with -v and report what it shows", 1


def write_text(text: str) -> None:
    """Text of a result, on stdout."""
    with _named_output("standard output"):
        sys.stdout.write(text)
        sys.stdout.flush()


def json_line(kind: str, record: dict[str, Any]) -> None:
    """One object per line on stdout; infinities and NaN, which JSON lacks, become null."""
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
    write_text(json.dumps({"schema": f"rdcodec.{kind}/1", **clean}) + "\n")


def table(*columns: str) -> "Table":
    """An empty table; a column whose name starts with '>' is for numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", header_style="bold")
    for column in columns:
        is_number = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if is_number else "left", no_wrap=is_number)
    return made


def show(table: "Table", title: str | None = None, at_least: int = 0) -> None:
    """A table on stdout, as wide as it needs where that is no terminal; it may use `at_least` so many columns."""
    from rich.console import Console

    table.title = title
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.width = max(console.width, at_least)
    with _named_output("standard output"):
        console.print(table, markup=False)


def number(value: float | None, digits: int, sign: bool = False, unit: str = "") -> str:
    """A figure for a table; '-' where there is none."""
    return "-" if value is None else f"{value:{'+' if sign else ''}.{digits}f}{unit}"


@contextlib.contextmanager
def progress(verb: str, total: int, enabled: bool, of_bytes: bool = False) -> Iterator[Callable[..., None]]:
    """A bar on stderr if that is a terminal. Yields a function that advances it by one, or by its argument."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    if total > 1:
        columns[2:2] = [BarColumn(), DownloadColumn() if of_bytes else MofNCompleteColumn()]
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task(verb, total=total)
        yield lambda count=1: bar.advance(task, count)


# Bytes in and out


def place(text: str) -> Path:
    """A path, or an object like one for a URL (s3://, https://, ...), which fsspec reads and writes.

    NeedsModel if the package for it is not installed, UsageError for a URL that is none.
    """
    kind = text.partition("://")[0]
    if not re.fullmatch(r"[a-z][a-z0-9+.-]+", kind) or kind == text:
        return Path(text)
    if kind == "file":
        return Path(text.removeprefix("file://"))
    try:
        from upath import UPath

        found = UPath(text)
        _ = found.fs
    except ImportError as error:
        missing = "pip install 'rdcodec[remote]'" if error.name == "upath" else str(error)
        raise NeedsModel(f"{text}: a package is missing for such URLs: {missing}") from None
    except Exception as error:
        raise UsageError(f"{text}: cannot be used as a URL: {error}") from error
    return cast(Path, found)


def is_remote(path: Path | None) -> bool:
    """Whether it stands for a URL."""
    return path is not None and not isinstance(path, Path)


def read_bytes(source: Path | None, magic: bytes = b"") -> bytes:
    """All bytes of a file, or of stdin; only the first few if it does not start with `magic`."""
    if source is None:
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal: pipe a file into it")
        return _read_all(sys.stdin.buffer, magic)
    try:
        with source.open("rb") as file:
            return _read_all(file, magic)
    except Exception as error:
        if not (isinstance(error, OSError) or is_remote(source)):  # whose libraries raise anything
            raise
        raise RdcError(f"{source}: cannot be read: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__


def regular(source: Path | None) -> Path | bytes:
    """A file by its path, to be read as far as needed; all bytes of stdin, URL, pipe or device, which are read once."""
    if source is None or is_remote(source):
        return read_bytes(source)
    return read_bytes(source) if source.exists() and not source.is_file() else source


def size_of(source: Path | bytes) -> int:
    """Bytes of a file or of what was read."""
    return len(source) if isinstance(source, bytes) else source.stat().st_size


def _read_all(file: BinaryIO, magic: bytes) -> bytes:
    head = file.read(len(magic))
    return head + file.read() if head == magic else head


def refuse_existing(target: Path | None, force: bool) -> None:
    """UsageError if writing would overwrite a file without --force, or put bytes on a terminal."""
    if target is None:
        if sys.stdout.isatty():
            raise UsageError("standard output is a terminal: redirect it or name a file with -o")
    elif target.is_dir():
        raise UsageError(f"{target}: is a folder: name a file")
    elif target.is_file() and not force:
        raise UsageError(f"{target}: exists already: --force overwrites it")


def times_of(source: Path | None) -> tuple[int, int] | None:
    """When a file was read and changed last, in ns; None for stdin, pipes, and what is not there."""
    if source is None or is_remote(source) or not source.is_file():
        return None
    found = source.stat()
    return found.st_atime_ns, found.st_mtime_ns


def write_output(target: Path | None, data: bytes, force: bool, times: tuple[int, int] | None = None) -> None:
    """Write a whole file or nothing: a temporary one beside it, renamed when complete. Makes its folder.

    `times`: as `times_of` gives them, for the file.
    """
    refuse_existing(target, force)
    if target is None:
        with _named_output("standard output"):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return
    with _named_output(str(target), is_remote(target)):
        if is_remote(target):
            target.fs.pipe_file(target.path, data)  # type: ignore[attr-defined]
            return
        if not target.exists():
            Path(os.path.realpath(target)).parent.mkdir(parents=True, exist_ok=True)  # of what a symbolic link names
        write_whole(target, data)
        if times and target.is_file():
            os.utime(target, ns=times)


@contextlib.contextmanager
def _named_output(name: str, remote: bool = False) -> Iterator[None]:
    """Give an OSError while writing the name of what was written; any error if that is a URL."""
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        if remote:
            raise RdcError(f"{name}: cannot be written: {_words(error)}") from error
        if not isinstance(error, OSError):
            raise
        raise RdcError(f"{name}: cannot be written: {os.strerror(error.errno or 0)}") from error
