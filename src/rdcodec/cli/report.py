"""report: result files made into a page, figures and their data, and the table of a README."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdcodec.cli import io
from rdcodec.errors import BadInput, UsageError

if TYPE_CHECKING:
    from rdcodec.report.study import Study

PAGE = "results.md"


def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT", help="Result files of rdc eval.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for page, figures and data.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="CURVE", help="Curve by name (bpg_444) or result file; may be repeated."),
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option("--readme", metavar="FILE", help="Renew the table between this file's result markers."),
    ] = None,
    force: io.Force = False,
    verbose: io.Verbose = 0,
) -> None:
    """Make a page of tables and figures from result files.

    Writes results.md, and per set of pictures rd-NAME.svg, .png and .csv. Anchors are compared with results
    on the same pictures; without --anchor, results on Kodak are compared with BPG, VTM, JPEG and WebP.

    Example: [bold]rdc report I.json -o report[/bold]
    """
    if output is None and readme is None:
        raise UsageError("nothing to write: give a folder with -o, a file with --readme, or both")
    from rdcodec.report.study import read_studies

    studies = read_studies(results, anchor)
    files: dict[Path, bytes] = {}
    if output is not None:
        files = {output / name: content for name, content in report_files(studies).items()}
        for path in files:
            io.refuse_existing(path, force)
    if readme is not None:
        files[readme] = renewed_readme(readme, studies)
    for path, content in files.items():
        io.write_output(path, content, force or path == readme)
        io.say(str(path))


def report_files(studies: "list[Study]") -> dict[str, bytes]:
    """The files of a report by name."""
    from rdcodec.report.plots import draw
    from rdcodec.report.tables import curves_csv, results_page

    figures = {study.slug: draw(study) for study in studies}
    files = {name: content for drawn in figures.values() for name, content in drawn.items()}
    shown = {slug: [name for name in drawn if name.endswith(".svg")] for slug, drawn in figures.items()}
    files |= {f"rd-{study.slug}.csv": curves_csv(study).encode() for study in studies}
    return {PAGE: results_page(studies, shown).encode(), **files}


def renewed_readme(readme: Path, studies: "list[Study]") -> bytes:
    """A README with the table of the results on Kodak between its markers."""
    from rdcodec.report.study import KODAK, read_anchor
    from rdcodec.report.tables import README_ANCHORS, readme_section, replace_results

    study = next((study for study in studies if study.identity == KODAK), None)
    if study is None:
        raise UsageError("--readme: the table is of results on the Kodak pictures, and there are none")
    anchors = {heading: read_anchor(name)[1] for heading, name in README_ANCHORS.items()}
    try:
        text = readme.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{readme}: not a text file in UTF-8") from error
    return replace_results(text, readme_section(study, anchors), str(readme)).encode()
