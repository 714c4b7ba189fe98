"""report: a store or result files made into a page, figures and their data, and the table of a README."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rdcodec.cli import io
from rdcodec.errors import BadInput, UsageError

if TYPE_CHECKING:
    from rdcodec.report.study import Laboratory

SHEET = "crops.png"


def report(
    results: Annotated[
        list[Path] | None, typer.Argument(metavar="[RESULT]...", help="Result files, in place of a store.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for page, figures and data.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DB", envvar="RDC_STORE", show_envvar=False, help="Store; or set RDC_STORE."),
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="CURVE", help="Curve by name (bpg_444) or result file; may be repeated."),
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option("--readme", metavar="FILE", help="Renew the table between this file's result markers."),
    ] = None,
    crop_from: Annotated[
        Path | None, typer.Option("--crop-from", metavar="PICTURE", help="Picture to show crops of, at one file size.")
    ] = None,
    box: Annotated[str, typer.Option("--box", metavar="X,Y,W,H", help="Part of the picture, in pixels.")] = "",
    size: Annotated[
        int | None, typer.Option("--bytes", metavar="SIZE", parser=io.parse_bytes, help="File size for crops: 20kB.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("-m", "--model", metavar="MODEL", help="Model for crops, I; may be repeated.")
    ] = None,
    force: io.Force = False,
    verbose: io.Verbose = 0,
) -> None:
    """Make a page of tables and figures from a store, or from result files.

    Writes results.md, and every figure as SVG, PNG and CSV. Anchors are compared with results on the same pictures;
    without --anchor, results on Kodak are compared with BPG, VTM, JPEG, WebP, AVIF, JPEG 2000 and JPEG XL. With
    --crop-from, crops.png shows a part of a picture from every codec at one file size.

    Example: [bold]rdc report I.json -o report[/bold]
    """
    if output is None and readme is None:
        raise UsageError("nothing to write: give a folder with -o, a file with --readme, or both")
    if crop_from is not None and (output is None or not box or not size):
        raise UsageError("--crop-from: needs a part of the picture, a file size and a folder: --box, --bytes and -o")
    laboratory = _laboratory(results or [], store, anchor)
    files: dict[Path, bytes] = {}
    if output is not None:
        from rdcodec.report.files import report_files

        files = {output / name: content for name, content in report_files(laboratory).items()}
        if crop_from is not None and size is not None:
            files[output / SHEET] = _crops(crop_from, box, size, model or ["I"])
        for path in files:
            io.refuse_existing(path, force)
    if readme is not None:
        files[readme] = renewed_readme(readme, laboratory)
    for path, content in files.items():
        io.write_output(path, content, force or path == readme)
        io.say(str(path))


def _laboratory(files: list[Path], path: Path | None, anchors: list[str] | None) -> "Laboratory":
    """What is reported on. Files go into a store in memory, so that there is one way from results to figures."""
    from rdcodec.measure.reading import read_results
    from rdcodec.report.study import read_laboratory
    from rdcodec.store.db import Store

    if not files and path is None:
        raise UsageError("nothing to report on: give result files, or a store with --store")
    with Store(None) if files else Store(path, write=False) as store:
        for file in files:
            store.add(read_results(file))
        laboratory = read_laboratory(store, anchors)
    if not laboratory.studies and not laboratory.speeds:
        raise BadInput(f"{path or files[0]}: holds no result that a report shows; add some with `rdc results import`")
    return laboratory


def _crops(picture: Path, box: str, size: int, models: list[str]) -> bytes:
    """PNG of the contact sheet."""
    import rdcodec
    from rdcodec.codec.image import encode_image, read_image
    from rdcodec.report.crops import contact_sheet, parse_box, versions

    image = read_image(picture)
    part = parse_box(box, image.shape[1], image.shape[0])
    sheet = contact_sheet(image, part, versions(image, size, [rdcodec.load(name) for name in models]))
    return encode_image(sheet, "png")


def renewed_readme(readme: Path, laboratory: "Laboratory") -> bytes:
    """A README with the table of the results on Kodak between its markers."""
    from rdcodec.report.study import KODAK, read_anchor
    from rdcodec.report.tables import README_ANCHORS, readme_section, replace_results

    study = next((study for study in laboratory.studies if study.identity == KODAK), None)
    if study is None:
        raise UsageError("--readme: the table is of results on the Kodak pictures, and there are none")
    anchors = {heading: read_anchor(name)[1] for heading, name in README_ANCHORS.items()}
    try:
        text = readme.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{readme}: not a text file in UTF-8") from error
    return replace_results(text, readme_section(study, anchors), str(readme)).encode()
