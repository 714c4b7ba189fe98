"""submit: results for the leaderboard, checked and kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdcodec.cli import io
from rdcodec.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from rdcodec.measure.codecs import Subject
    from rdcodec.store.records import Result


def submit(
    files: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Files of rdc eval, bench or export.")],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Folder of the leaderboard.")] = Path(
        "leaderboard"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="The pictures, to code a few again.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option("--codec", metavar="CODEC", help="What codes them: a model, or FILE.py:OBJECT.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", metavar=io.FLAG, help="Check only, and write nothing.")] = False,
    verbose: io.Verbose = 0,
) -> None:
    """Check results and add them to the leaderboard.

    The pictures have to be known, every figure has to follow from the files' bytes and the pictures' rows, and machine
    and versions have to be named. With --data and --codec, three pictures are coded and decoded again. Each codec,
    version, set of pictures and machine gets a file; another measurement of the same stands beside the first.

    Example: [bold]rdc submit I.json[/bold]
    """
    from rdcodec.measure.submission import conflicts, files_of, read_submission, rerun

    if (data is None) != (codec is None):
        raise UsageError("--data and --codec go together: give both")
    checked = {file: read_submission(file) for file in files}
    if data is not None and codec is not None:
        for file, results in checked.items():
            io.say(f"{file}: {rerun(results, _subject(codec, results), data, str(file))}")
    targets: dict[Path, list[Result]] = {}
    for file, results in checked.items():
        named = files_of(results)
        if file.parent.resolve() == into.resolve() and list(named) != [file.name]:
            raise CheckFailed(f"{file}: its content belongs into {', '.join(named)}; rdc submit writes it")
        for note in conflicts(results, into, [into / file.name] if file.parent.resolve() == into.resolve() else []):
            io.say(f"{file}: {note}")
        targets |= {into / name: group for name, group in named.items()}
        if check:
            io.say(f"{file}: {len(results)} result{'' if len(results) == 1 else 's'}, all checks hold")
    if not check:
        from rdcodec.store.files import dump_results

        for path, group in targets.items():
            io.write_output(path, dump_results(group).encode(), force=False)
            io.say(str(path))


def _subject(codec: str, results: "list[Result]") -> "Subject":
    """What is to be run again; a search of the encoder is part of a result's tag."""
    from rdcodec.cli.measure import subject_of
    from rdcodec.measure.codecs import search_of

    search = search_of(results[0].tag).split()
    return subject_of(codec, None, int(search[1]) if search else 1, "cpu", None, None)
