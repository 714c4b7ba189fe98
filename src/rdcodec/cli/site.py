"""site: the standing bench as a folder of pages, from a store or from result files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdcodec.cli import io
from rdcodec.errors import BadInput, RdcError, UsageError

if TYPE_CHECKING:
    from rdcodec.site.data.board import Board
    from rdcodec.site.pictures import Shots
    from rdcodec.store.records import Result

MARK = "assets/bench.css"


def site(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULT]...", help="Result files and folders, in place of a store.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="SITE", help="Folder for the site.")] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DB", envvar="RDC_STORE", show_envvar=False, help="Store; or set RDC_STORE."),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--docs", metavar="DIR", help="Markdown pages; docs/ of a checkout.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="PICTURE", help="Show this from every codec, at one file size.")
    ] = None,
    size: Annotated[
        int | None, typer.Option("--bytes", metavar="SIZE", parser=io.parse_bytes, help="That file size: 20kB.")
    ] = None,
    box: Annotated[str, typer.Option("--box", metavar="X,Y,W,H", help="The part to show; its middle.")] = "",
    model: Annotated[
        list[str] | None, typer.Option("-m", "--model", metavar="MODEL", help="Model for it, I; may be repeated.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published/--no-published", help="With the built-in curves and the paper's table.")
    ] = True,
    web: Annotated[
        bool, typer.Option("--web", help="With the page that codes pictures in the browser, and its weights.")
    ] = False,
    force: io.Force = False,
    verbose: io.Verbose = 0,
) -> None:
    """Make a static site: leaderboard, frontier, ranks, curves, a page per codec and machine, and the documents.

    It needs no server and loads nothing from elsewhere: open SITE/index.html. In a folder given as RESULT, every
    result file counts.

    Example: [bold]rdc site I.json -o site[/bold]
    """
    if output is None:
        raise UsageError("nothing to write: name a folder with -o")
    if (picture is None) != (size is None):
        raise UsageError("--picture and --bytes: give both")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file: name a folder")
    if output.is_dir() and any(output.iterdir()) and not (force and (output / MARK).is_file()):
        hint = "--force writes the site anew" if (output / MARK).is_file() else "name an empty one"
        raise UsageError(f"{output}: is not empty: {hint}")
    from rdcodec.cli.web import write_page
    from rdcodec.site.build import site_files

    board = _board(results or [], store, published)
    shots = None if picture is None or size is None else _shots(picture, size, box, model or ["I"])
    folder = docs or _own_documents()
    count = total = 0
    for address, content in site_files(board, folder, shots, _stamp(), web):
        _write(output / address, content)
        count, total = count + 1, total + len(content)
    if web:
        write_page(output / "web")
    io.say(f"{output / 'index.html'}: {len(board.codecs)} codecs, {count} files, {total / 1e6:.1f} MB")


def _write(path: Path, content: bytes) -> None:
    """A page whole or not at all. It does not wait for the disk, as other outputs do: a site can be made again."""
    part = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RdcError(f"{path}: {error.strerror}; check that the folder can be written") from error


def _board(paths: list[Path], store: Path | None, published: bool) -> "Board":
    from rdcodec.site.data.board import read_board

    found = _results(paths, store)
    if not any(result.kind in ("quality", "speed") for result in found):
        raise BadInput(f"{paths[0] if paths else store}: holds no result of quality or speed; rdc eval makes some")
    return read_board(found, published)


def _results(paths: list[Path], store: Path | None) -> "list[Result]":
    """Of files, of every result file of folders, and of a store; the same result counts once."""
    from rdcodec.measure.reading import read_results
    from rdcodec.store.db import Store

    if not paths and store is None:
        raise UsageError("nothing to show: give result files, a folder of them, or a store with --store")
    if not paths and store is not None:
        with Store(store, write=False) as opened:
            return opened.query()
    found: dict[str, Result] = {}
    for path in paths:
        for file in _result_files(path) if path.is_dir() else [path]:
            found |= {result.id: result for result in read_results(file)}
    if store is not None:
        with Store(store, write=False) as opened:
            found |= {result.id: result for result in opened.query()}
    return list(found.values())


def _result_files(folder: Path) -> list[Path]:
    """Files of a folder that say that they hold results."""
    from rdcodec.store.files import read_record

    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            if "schema" in read_record(path):
                found.append(path)
        except RdcError:
            continue
    return found


def _shots(picture: Path, size: int, box: str, models: list[str]) -> "Shots":
    from rdcodec.codec.image import read_image
    from rdcodec.report.crops import parse_box
    from rdcodec.site.pictures import take_shots

    height, width = read_image(picture).shape[:2]
    return take_shots(picture, size, models, parse_box(box, width, height) if box else None)


def _own_documents() -> Path | None:
    """The documents of the checkout that this file lies in."""
    folder = Path(__file__).parents[3] / "docs"
    return folder if folder.is_dir() and (folder.parent / "pyproject.toml").is_file() else None


def _stamp() -> str:
    from datetime import UTC, datetime

    from rdcodec import __version__

    return f"Made by rdcodec {__version__} on {datetime.now(UTC):%Y-%m-%d}"
