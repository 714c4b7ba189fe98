"""bench: how fast codecs encode and decode, and in how much memory."""

import itertools
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdcodec.cli import io
from rdcodec.cli.zoo import parse_size
from rdcodec.errors import UsageError
from rdcodec.system import core_count

if TYPE_CHECKING:
    from rdcodec.measure.speed import Setting
    from rdcodec.store.records import Result, Value

FEWEST_RANKED = 3


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CODEC]...", help="Models, run folders (./I), TOML files; jpeg; FILE.py:OBJECT."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", metavar=io.FLAG, help="The paper's models A to G, and H, I and J.")
    ] = False,
    size: Annotated[
        str | None, typer.Option("--size", metavar="WxH", help="Size of the picture, made of a bundled photo; 768x512.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder of pictures to use instead.")
    ] = None,
    quality: Annotated[
        float | None,
        typer.Option("-q", "--quality", metavar="Q", help="Quality of the files; of other codecs nearest to 0.46 bpp."),
    ] = None,
    networks: Annotated[
        bool, typer.Option("--networks", metavar=io.FLAG, help="Only the networks, without entropy coding.")
    ] = False,
    threads: Annotated[
        str, typer.Option("--threads", metavar="N,N", help="Numbers of CPU threads; 0: every core.")
    ] = "0",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="T,T", help="Formats of the transforms: auto, fp32, bf16.")
    ] = "auto",
    isa: Annotated[
        str | None,
        typer.Option("--isa", metavar="I,I", help="No later x86 instructions than sse41, avx2, avx512; all: no limit."),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="E,E", help="auto: the core where a codec uses it; torch.")
    ] = "auto",
    device: io.Device = "cpu",
    encoder: Annotated[
        str | None, typer.Option("--command", metavar="TEXT", help="Encoder to time, with {input} {output} {setting}.")
    ] = None,
    decoder: Annotated[
        str | None, typer.Option("--decode-command", metavar="TEXT", help="Its decoder, with {input} {output}.")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, metavar="N", help="Passes after warm-up.")] = 5,
    parts: Annotated[bool, typer.Option("--parts", metavar=io.FLAG, help="Also print a line for each part.")] = False,
    cold: Annotated[bool, typer.Option("--cold", metavar=io.FLAG, help="Also time from process start.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Result file (JSON).")] = None,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DB", help="Add each result to this store once measured.")
    ] = None,
    force: io.Force = False,
    as_json: io.Json = False,
    no_progress: io.NoProgress = False,
    verbose: io.Verbose = 0,
) -> None:
    """Measure the speed and memory of codecs, each in its own process.

    Models with weights code whole files. Those without run only their networks, with random numbers. For three or more
    models, the order by FLOPs is compared with the order by time. Codecs of others code whole files; a Python object
    with decode_parts shows its networks too.

    Example: [bold]rdc bench I --threads 1 --parts[/bold]
    """
    if size is not None and data is not None:
        raise UsageError("--size and --data: give one of them")
    from rdcodec.models.config import config_names

    if (every and (models or encoder)) or not (every or models or encoder):
        raise UsageError("name codecs, or give --all for the paper's models and ours")
    models, foreign = _sorted_out(models or [], encoder, decoder, quality)
    models = [name for name in config_names() if len(name) == 1] if every else models
    _refuse_options(models, foreign, quality, networks, cold, dtype, engine)
    if output is not None:
        io.refuse_existing(output, force)
    from rdcodec.measure import speed
    from rdcodec.measure.rd import ImageFolder
    from rdcodec.models.precision import pick_device
    from rdcodec.models.weights import find_model

    width, height = parse_size(size or "768x512")
    settings = _settings(threads, dtype, isa, engine, pick_device(device).type)
    for model in models:
        find_model(model)
    task = speed.Task(width, height, str(data) if data else None, quality, repeats, networks, cold)
    pictures = len(ImageFolder(data)) if data else 1
    total = speed.count_ticks(len(models), len(settings), pictures, repeats, len(foreign))
    command = shlex.join(["rdc", *sys.argv[1:]])
    names = [*models, *(str(codec["codec"] or encoder) for codec in foreign)]
    with io.progress(f"measuring {', '.join(names)}", total, not no_progress) as advance:
        results = speed.measure(models, settings, task, command, advance, _keeper(store), foreign)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        speed.save(results, output)
    if as_json:
        for result in results:
            io.json_line("speed", result.to_dict())
        return
    _show_speeds(results)
    if parts:
        _show_parts(results)
    for line in _notes(results, cold):
        io.write_text(line + "\n")


def _sorted_out(
    codecs: list[str], encoder: str | None, decoder: str | None, quality: float | None
) -> "tuple[list[str], list[dict[str, Any]]]":
    """Models, and the others as `speed.measure` takes them, looked for here already: errors come before any timing."""
    from rdcodec.cli.measure import commands_of
    from rdcodec.measure.anchors import ANCHORS
    from rdcodec.measure.codecs import foreign_subject, is_foreign

    commands = commands_of(encoder, decoder)
    if commands and len(codecs) > 1:
        raise UsageError("--command: is one codec; give one name for it, or none")
    settings = None if quality is None else [int(quality) if quality.is_integer() else quality]
    others: list[str | None] = [name for name in codecs if is_foreign(name)]
    if commands:
        others = [codecs[0] if codecs else None]
    foreign = [{"codec": name, "settings": settings, "commands": commands} for name in others]
    for codec in foreign:
        if commands or codec["codec"] in ANCHORS:  # what a Python object loads, it loads in its own process
            foreign_subject(**codec)  # type: ignore[arg-type]
    return [name for name in codecs if name not in others], foreign


def _refuse_options(
    models: list[str],
    foreign: list[dict[str, Any]],
    quality: float | None,
    networks: bool,
    cold: bool,
    dtype: str,
    engine: str,
) -> None:
    """UsageError for what codecs of others do not have, and for a quality off the scale of the models."""
    own = {"--networks": networks, "--cold": cold, "--dtype": dtype != "auto", "--engine": engine != "auto"}
    given = [name for name, value in own.items() if value]
    if foreign and given:
        raise UsageError(f"{given[0]} is for models of rdcodec: measure them in another run")
    if foreign and models and quality is not None:
        raise UsageError("-q: codecs have scales of their own; measure models and others in two runs")
    if models and quality is not None and not 0 <= quality <= 100:
        raise UsageError(f"--quality {quality:g}: write a number from 0 to 100")


def _keeper(path: Path | None) -> "Callable[[Result], None]":
    """What adds a result to the store, if there is one; a file that is no store is refused at once."""
    from rdcodec.store.db import Store

    if path is not None and path.exists():
        with Store(path):
            pass

    def keep(result: "Result") -> None:
        if path is not None:
            with Store(path) as store:
                store.add([result])

    return keep


def _settings(threads: str, dtype: str, isa: str | None, engine: str, device: str) -> "list[Setting]":
    from rdcodec.measure.speed import DTYPES, ENGINES, LIMITS, Setting

    counts = [int(number) or core_count() for number in _choices("--threads", threads, None)]
    dtypes = _choices("--dtype", dtype, DTYPES)
    limits = ["" if name == "all" else name for name in _choices("--isa", isa or "all", ("all", *LIMITS))]
    engines = _choices("--engine", engine, ENGINES)
    return [Setting(*choice[:3], device, choice[3]) for choice in itertools.product(counts, dtypes, limits, engines)]


def _choices(option: str, text: str, known: Sequence[str] | None) -> list[str]:
    """The parts of a list with commas, each once; numbers where nothing is known."""
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for part in found:
        if known is None and not (part.isascii() and part.isdigit() and int(part) <= 1024):
            raise UsageError(f"{option} {text}: write whole numbers up to 1024, as in 1,2")
        if known is not None and part not in known:
            raise UsageError(f"{option} {text}: choose from {', '.join(known)}")
    return found


def _show_speeds(results: "Sequence[Result]") -> None:
    table = io.table(
        "model", "", ">thr.", "runs in", ">enc MP/s", ">dec MP/s", ">dec ms (quartiles)", ">roof", ">kFLOPs/px", ">MiB"
    )
    table.padding = (0, 1, 0, 0)  # ten columns within a hundred characters
    for result in results:
        values: Any = result.values
        head = [_name(result), str(values["threads"]), _format(values)]
        memory = io.number(values["peak_memory_mib"], 0)
        if values["coded"]:
            table.add_row(head[0], "files", *head[1:], *_speeds(result, ""), "", "", memory)
            head, memory = ["", "", ""], ""
        if values["decode_networks_s"] is not None:
            tail = [_share(values.get("roofline_share")), f"{values['kflops_per_px']:.1f}", memory]
            table.add_row(head[0], "nets", *head[1:], *_speeds(result, "networks"), *tail)
    first = results[0]
    count = first.values["pictures"]
    what = first.dataset if count == 1 else f"{count} pictures of {first.dataset}"
    io.show(table, title=f"{what}, {first.values['device']}")


def _speeds(result: "Result", what: str) -> list[str]:
    """Megapixels per second both ways and the time of decoding, of files or of networks alone."""
    values: Any = result.values
    found = [values["_".join(filter(None, (way, what, "mpx_per_s")))] for way in ("encode", "decode")]
    (row,) = (row for row in result.rows if row["part"] == f"decode {what}".strip())
    return [*("-" if speed is None else _figure(speed) for speed in found), _milliseconds(row)]


def _show_parts(results: "Sequence[Result]") -> None:
    table = io.table("model", ">thr.", "runs in", "part", ">ms (quartiles)", ">share", ">GFLOP/s", ">roof")
    table.padding = (0, 1, 0, 0)
    for result in results:
        head = [_name(result), str(result.values["threads"]), _format(result.values)]
        rows: Any = {str(row["part"]): row for row in result.rows}
        for name, row in rows.items():
            way, _, part = name.partition(": ")
            if part:
                whole = rows.get(way) or rows[f"{way} networks"]
                speed = [io.number(row.get("gflop_per_s"), 0), _share(row.get("roofline_share"))]
                table.add_row(*head, name, _milliseconds(row), _share(row["seconds"] / whole["seconds"]), *speed)
                head = ["", "", ""]
        table.add_section()
    io.show(table, title="Parts of each direction; rANS apart from the networks that it takes turns with")


def _notes(results: "Sequence[Result]", cold: bool) -> list[str]:
    """What the table does not say for itself."""
    here = results[0].provenance.machine
    lines = [
        f"{here['cpu']}, {here['cores']} cores, torch {here['torch']}, load at the start {here['load_average']}",
        "MP/s: true megapixels per second; files: array to bytes and back; nets: without entropy coding.",
        "roof: share of a matrix product's speed, decoder; MiB: most memory, encoder and decoder together.",
    ]
    if any(result.values["random_weights"] for result in results):
        lines.append("*: random weights: networks alone; their time holds, their pictures would be noise.")
    seen = {_setting(result.values): result.values for result in results}
    lines += [
        f"matrix product, {setting}: {values['matrix_product_gflop_per_s']:.0f} GFLOP/s"
        f" (side {values['matrix_product_side']})"
        for setting, values in seen.items()
        if _ours(values)
    ]
    at = [f"{r.codec} at {r.values['at_setting']:g}" for r in results if r.values.get("at_setting") is not None]
    lines += [f"settings of other codecs: {', '.join(dict.fromkeys(at))}"] if at else []
    lines += [
        f"{_name(result)}, {_setting(result.values)}: {result.values['cold_s']:.2f} s from process start to picture"
        for result in results
        if result.values.get("cold_s") is not None
    ]
    networks = list(dict.fromkeys(_name(result) for result in results if not result.values["coded"]))
    if cold and networks:
        lines.append(f"no cold start of {', '.join(networks)}: networks alone write no file to start from")
    return lines + _ranking(results)


def _ranking(results: "Sequence[Result]") -> list[str]:
    """Whether FLOPs give the order of the decoders' times, and whether settings agree on it."""
    from rdcodec.measure.ranking import inversions, kendall_tau

    lines: list[str] = []
    times: dict[str, list[float]] = {}
    ours = [result for result in results if _ours(result.values)]
    for setting, group in itertools.groupby(ours, lambda result: _setting(result.values)):
        chosen = list(group)
        flops: Any = [result.values["kflops_per_px"] for result in chosen]
        seconds: Any = [result.values["decode_networks_s"] for result in chosen]
        if len(chosen) < FEWEST_RANKED:
            return []
        times[setting] = seconds
        names = [result.codec for result in chosen]
        pairs = ", ".join(f"{more} before {less}" for more, less in inversions(names, flops, seconds))
        faster = f"; more FLOPs and yet faster: {pairs}" if pairs else ""
        lines.append(
            f"order by FLOPs and by decoding time, {setting}: Kendall tau {kendall_tau(flops, seconds):.2f}{faster}"
        )
    lines += [
        f"order by decoding time, {one} and {other}: Kendall tau {kendall_tau(times[one], times[other]):.2f}"
        for one, other in itertools.combinations(times, 2)
    ]
    return lines


def _name(result: "Result") -> str:
    if not _ours(result.values):
        return result.codec
    return f"{result.codec}*" if result.values["random_weights"] else result.tag


def _ours(values: "Mapping[str, Value]") -> bool:
    """Whether a model was measured; codecs of others have no number format that is known."""
    return "dtype" in values


def _format(values: "Mapping[str, Value]") -> str:
    """The core with its kernels, or torch with its number format."""
    if not _ours(values):
        return str(values["isa"] or "-")
    form = f"core {values['kernels']}" if values["kernels"] else f"torch {values['dtype']}"
    return f"{form} {values['isa'] or ''}".strip()


def _setting(values: "Mapping[str, Value]") -> str:
    threads = values["threads"]
    return f"{threads} thread{'s' * (threads != 1)} {_format(values)}"


def _milliseconds(row: "Mapping[str, Value]") -> str:
    """Median and quartiles."""
    middle, low, high = (_figure(1000 * float(row[key] or 0)) for key in ("seconds", "low_s", "high_s"))
    return f"{middle} ({low}-{high})"


def _figure(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.{1 if value >= 9.995 else 2}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
