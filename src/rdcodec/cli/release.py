"""release: weights with a tag, and their card, from a finished run."""

from pathlib import Path
from typing import Annotated

import typer

from rdcodec.cli import io
from rdcodec.errors import RdcError


def release(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Folder of a finished run, or a released tag that gets new tables only."),
    ],
    tag: Annotated[str, typer.Argument(metavar="TAG", help="Model name, dot, number: I.4.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where weights and card go.")],
    notes: Annotated[
        Path | None,
        typer.Option("--notes", metavar="FILE", help="Markdown for the card: data, licences, limits."),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", metavar="FILE", help="Result file of `rdc eval` for the card; may be repeated."),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PHOTOS",
            help="Folder, zip or tar file to fit the entropy tables to; may be repeated. Without it: what RUN was "
            "trained on.",
        ),
    ] = None,
    retire: Annotated[
        list[str] | None,
        typer.Option("--retire", metavar="TAG", help="Leave of this older tag in FOLDER what decodes; repeatable."),
    ] = None,
    verbose: io.Verbose = 0,
) -> None:
    """Fit the entropy tables of a finished run to photographs, give its weights a tag, and write their model card.

    Example: [bold]rdc release runs/first I.8 -o weights --notes data.md[/bold]
    """
    from rdcodec.models.weights import TAG, find_weights
    from rdcodec.training.release import release as write
    from rdcodec.training.release import retire as keep_decoder

    try:
        text = notes.read_text(encoding="utf-8") if notes else ""
    except OSError as error:
        raise RdcError(f"{notes}: {error.strerror}; check the path") from error
    source = find_weights(run) if TAG.fullmatch(run) else Path(run)
    io.say(str(write(source, tag, output, text, results or [], data or [], io.say)))
    for older in retire or []:
        io.say(keep_decoder(older, output))
