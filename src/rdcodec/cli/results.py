"""results: what the store holds, and the ways into it and out of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rdcodec.cli import io
from rdcodec.errors import RdcError, UsageError

if TYPE_CHECKING:
    from rdcodec.store.records import Kind, Result

results = typer.Typer(
    name="results",
    help="Keep measurements in a store: import, list and export them.",
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StorePath = Annotated[
    Path, typer.Option("--store", metavar="DB", envvar="RDC_STORE", show_envvar=False, help="Store; or set RDC_STORE.")
]
STORE = Path("rdc.sqlite")
KindOption = Annotated[
    Literal["quality", "speed", "count", "training"] | None, typer.Option("--kind", help="Only results of this kind.")
]
Codec = Annotated[str | None, typer.Option("--codec", metavar="NAME", help="Only results of this codec.")]
Dataset = Annotated[str | None, typer.Option("--dataset", metavar="NAME", help="Only results on these pictures.")]


@results.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files of results, stores, or training runs.")],
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="Pictures of CompressAI's files.")
    ] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", metavar="TAG", help="Weights that were released from a training run.")
    ] = None,
    store: StorePath = STORE,
    verbose: io.Verbose = 0,
) -> None:
    """Add the results of files to the store; what it has already is not added twice.

    Takes other stores, files of rdc eval, rdc bench and rdc results export, published curves, CompressAI's JSON, and
    the folders of training runs.

    Example: [bold]rdc results import I.json[/bold]
    """
    if tag is not None and (len(files) != 1 or not files[0].is_dir()):
        raise UsageError("--tag: belongs to the folder of one training run")
    found = [(file, _read(file, dataset, tag)) for file in files]  # all are read before any is added
    from rdcodec.store.db import Store

    with Store(store) as opened:
        for file, entries in found:
            io.say(f"{file}: {_count(len(entries))}, {opened.add(entries)} new")


@results.command("export")
def export(
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="File to write; '-' is standard output.")
    ] = io.STREAM,
    form: Annotated[
        Literal["json", "csv", "latex", "compressai", "codec-compare"],
        typer.Option("--format", help="Form of the file."),
    ] = "json",
    kind: KindOption = None,
    codec: Codec = None,
    dataset: Dataset = None,
    store: StorePath = STORE,
    force: io.Force = False,
    verbose: io.Verbose = 0,
) -> None:
    """Write results as JSON (which import reads) or CSV, or quality as a LaTeX table.

    One codec's quality can be written as CompressAI's JSON, or for the viewer Codec-Compare.

    Example: [bold]rdc results export -o results.json[/bold]
    """
    target = None if output == io.STREAM else Path(output)
    if target is not None:
        io.refuse_existing(target, force)
    found = _query(store, kind if form in ("json", "csv") else "quality", codec, dataset)
    if not found:
        raise RdcError(f"{store}: holds no such result; see rdc results list")
    text = _exported(found, form)
    if target is None:
        io.write_text(text)
    else:
        io.write_output(target, text.encode(), force)


def _exported(found: "list[Result]", form: str) -> str:
    """Results in one of the forms; UsageError for a form that does not hold them."""
    from rdcodec.report.tables import quality_table
    from rdcodec.store.files import codec_compare_record, compressai_record, dump_results, results_csv

    writers: dict[str, Callable[[list[Result]], str]] = {
        "json": dump_results,
        "csv": results_csv,
        "latex": lambda results: quality_table(results).latex(),
        "compressai": lambda results: json.dumps(compressai_record(results), indent=2) + "\n",
        "codec-compare": lambda results: json.dumps(codec_compare_record(results), indent=1) + "\n",
    }
    try:
        return writers[form](found)
    except ValueError as error:
        raise UsageError(f"--format {form}: {error}: choose with --codec and --dataset") from error


@results.command("list")
def list_(
    kind: KindOption = None,
    codec: Codec = None,
    dataset: Dataset = None,
    store: StorePath = STORE,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """List what the store holds, a line for each series of results.

    Example: [bold]rdc results list --kind quality[/bold]
    """
    found = _query(store, kind, codec, dataset)
    if as_json:
        for result in found:
            io.json_line("result", {"id": result.id, **result.to_dict()})
        return
    series: dict[tuple[str, ...], list[Result]] = {}
    for r in found:
        when = (r.provenance.created_utc or "-")[:10]
        source = r.provenance.source.split()[0]  # the repository, without path and commit
        series.setdefault((r.kind, r.codec, r.tag, r.dataset or "-", source, when), []).append(r)
    table = io.table("kind", "codec", "tag", "pictures", "from", ">date", ">results", ">rows")
    for key, group in series.items():
        cells = [_short(cell) for cell in key]
        table.add_row(*cells, str(len(group)), str(sum(len(result.rows) for result in group)))
    io.show(table, title=f"{_count(len(found))} in {store}")


@results.command("count")
def count(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Names, TOML files or run folders.")],
    store: StorePath = STORE,
    verbose: io.Verbose = 0,
) -> None:
    """Count parameters and operations of models, as rdc flops does, and keep them in the store.

    Example: [bold]rdc results count I G[/bold]
    """
    found = [_counted(model) for model in models]
    from rdcodec.store.db import Store

    with Store(store) as opened:
        io.say(f"{_count(len(found))}, {opened.add(found)} new")


def _read(file: Path, dataset: str | None, tag: str | None) -> "list[Result]":
    if file.is_dir():
        from rdcodec.training.record import training_result

        return [training_result(file, tag)]
    if _is_database(file):
        return _query(file, None, None, None)
    from rdcodec.measure.reading import read_results

    return read_results(file, dataset)


def _is_database(file: Path) -> bool:
    """Whether a file is one of SQLite, as stores are; not if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def _query(store: Path, kind: "Kind | None", codec: str | None, dataset: str | None) -> "list[Result]":
    from rdcodec.store.db import Store

    with Store(store, write=False) as opened:
        return opened.query(kind=kind, codec=codec, dataset=dataset)


def _counted(model: str) -> "Result":
    """Parameters and operations of a model. No time and machine: the same configuration is the same result."""
    from rdcodec.measure.cost import count_model, total
    from rdcodec.models.base import blueprint
    from rdcodec.models.config import config_sha256
    from rdcodec.models.weights import TAG, find_model
    from rdcodec.store.records import Provenance, Result
    from rdcodec.training.sweep import training_flops_per_px

    config, path = find_model(model)
    counted = count_model(config)

    def costs(cost: Any) -> dict[str, Any]:
        names = ("kflops_per_px", "kmacs_per_px", "elementwise_per_px")
        return {name: round(getattr(cost, name), 6) for name in names}

    return Result(
        kind="count",
        codec=config.name,
        tag=path.stem if path and TAG.fullmatch(path.stem) else config.name,
        values={
            "parameters": counted.parameters,
            "parameters_without_analysis": counted.parameters - counted.analysis_parameters,
            "training_flops_per_px": round(training_flops_per_px(blueprint(config))),
            **costs(total(counted.parts)),
        },
        provenance=Provenance(source="rdcodec", config_sha256=config_sha256(config)),
        rows=tuple({"part": part.name, **costs(part)} for part in counted.parts),
    )


def _count(number: int) -> str:
    return f"{number} result{'' if number == 1 else 's'}"


def _short(text: str, most: int = 26) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
