"""compare, eval, anchors: rate and distortion of real files."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdcodec.cli import io, pool
from rdcodec.cli.bdrate import show_bd_rates
from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.metrics import ASKED, Metric
from rdcodec.system import core_count

if TYPE_CHECKING:
    from rdcodec.codec.image import Pixels
    from rdcodec.measure.codecs import Subject
    from rdcodec.measure.journal import Journal
    from rdcodec.measure.rd import Pictures, Row

CLAIM_QUALITIES = "10,25,40,55,70,85"
KODAK_ANCHOR = "bpg_444"
KODAK_SHAPES = ((512, 768, 3), (768, 512, 3))

Metrics = Annotated[str | None, typer.Option("--metrics", metavar="M,M", help=f"Measure also: {', '.join(ASKED)}.")]


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A picture or .rdc file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="A picture or .rdc file of the same size.")],
    metrics: Metrics = None,
    model: io.FileModel = None,
    max_pixels: io.MaxPixels = io.MAX_PIXELS,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """Compare two pictures, the original first: file sizes, PSNR, MS-SSIM. Either may be a .rdc file.

    Example: [bold]rdc compare photo.png photo.rdc[/bold]
    """
    from rdcodec.metrics import MEASURED, MS_SSIM_MIN_SIDE, measure

    more = metrics_of(metrics)

    names = (first, second)
    opened = [_open(name, model, max_pixels) for name in names]
    (a, a_bytes), (b, b_bytes) = opened
    if a.shape != b.shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (a, b))
        raise BadInput(f"{first}, {second}: differ in size ({sizes}): give two of one size")
    height, width = a.shape[:2]
    bpps = [file_bytes * 8 / (width * height) for file_bytes in (a_bytes, b_bytes)]
    record: dict[str, Any] = {
        "a": first,
        "b": second,
        "width": width,
        "height": height,
        "a_file_bytes": a_bytes,
        "b_file_bytes": b_bytes,
        "a_bpp": round(bpps[0], 5),
        "b_bpp": round(bpps[1], 5),
        "equal": bool((a == b).all()),
        **measure(a, b, more),
    }
    if as_json:
        io.json_line("compare", record)
        return
    table = io.table("", ">A", ">B")
    table.add_row("file", *map(io.shown, names))
    table.add_row("bytes", str(a_bytes), str(b_bytes))
    table.add_row("bpp", *(f"{bpp:.3f}" for bpp in bpps))
    io.show(table, title=f"{width}x{height}")
    if record["equal"]:
        io.write_text("the pictures are equal\n")
        return
    small = f"none (a side is under {MS_SSIM_MIN_SIDE} pixels)"
    found = [(metric, record[metric.name]) for metric in MEASURED if metric.name in record]
    parts = [f"{m.title} {small if value is None else io.number(value, m.digits, unit=m.unit)}" for m, value in found]
    io.write_text("   ".join(parts) + "\n")


def eval_(
    codec: Annotated[
        str | None,
        typer.Argument(metavar="CODEC", help="A model, run folder, classical codec, or FILE.py:OBJECT."),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of pictures.")] = None,
    qualities: Annotated[
        str | None, typer.Option("-q", "--qualities", metavar="Q,Q,...", help=f"Settings; {CLAIM_QUALITIES}.")
    ] = None,
    effort: io.Effort = 1,
    encoder: Annotated[
        str | None,
        typer.Option("--command", metavar="TEXT", help="Encoder to run, with {input} {output} {setting}."),
    ] = None,
    decoder: Annotated[
        str | None, typer.Option("--decode-command", metavar="TEXT", help="Its decoder, with {input} {output}.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Result file (JSON, a row per picture)."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DB", help="Add the results to this store as well.")
    ] = None,
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="CURVE", help="Published curve or result file; bpg_444 on Kodak."),
    ] = None,
    anchors: Annotated[
        str | None,
        typer.Option("--anchors", metavar="CODEC,...", help="Classical codecs to run on the same pictures."),
    ] = None,
    metrics: Metrics = None,
    force: io.Force = False,
    device: io.Device = "cpu",
    jobs: io.Jobs = 1,
    ray: io.Ray = None,
    threads: io.Threads = 0,
    no_progress: io.NoProgress = False,
    verbose: io.Verbose = 0,
) -> None:
    """Measure rate, distortion and time of real files over a folder of pictures.

    The codec can be your own: a Python object, or two commands. Figures are means over the pictures. With more
    than one job, and on a cluster, times are left out. With -o, an interrupted run continues where it stopped.

    Example: [bold]rdc eval I --data kodak -o I.json --anchors jpeg,webp[/bold]
    """
    if data is None:
        raise UsageError("--data is missing: name a folder of pictures")
    more = metrics_of(metrics)
    if ray is not None and jobs != 1:
        raise UsageError("--jobs is for this machine, not for a cluster: leave it out with --ray")
    if output is not None:
        io.refuse_existing(output, force)
    pool.set_threads(threads)
    subject = subject_of(codec, qualities, effort, device, encoder, decoder)
    from rdcodec.measure.codecs import anchor_subject
    from rdcodec.measure.rd import ImageFolder, mean_curve
    from rdcodec.measure.reading import load_curve

    runners = [anchor_subject(name) for name in _split(anchors)]
    images = ImageFolder(data)
    curves = [load_curve(name) for name in anchor or _default_anchors(images)]
    jobs, run = jobs or core_count(), None
    if ray is not None:
        from rdcodec.cli import remote

        run, room = remote.runner(ray, max(1, threads), device == "cuda")
        jobs = max(2, room)
    settings = ",".join(f"{setting:g}" for setting in subject.settings if setting is not None)
    commands = ["--command", encoder, "--decode-command", decoder] if encoder and decoder else []
    words = ["rdc", "eval", *([codec] if codec else []), "--data", data.resolve().name]
    words += [*(["-q", settings] if settings else []), *(["--effort", str(effort)] if effort > 1 else []), *commands]
    words += _words(more)
    rows = _evaluate(subject, images, data, output, store, jobs, not no_progress, words, more, run)
    _show_rows(rows, f"{subject.name} on {len(images)} pictures of {data}")
    for runner in runners:
        found = _measure(runner, images, jobs, not no_progress, more, run=run)
        curves.append(mean_curve(found, runner.name))
    try:
        own = mean_curve(rows, subject.name)
    except ValueError:  # lossless
        return
    show_bd_rates([(own, curve) for curve in curves], refuse=False)


def anchors(
    codecs: Annotated[list[str] | None, typer.Argument(metavar="CODEC", help="Codecs; all available ones.")] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of pictures.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the results.")] = Path(),
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DB", help="Add the results to this store as well.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", metavar=io.FLAG, help="List the codecs.")] = False,
    metrics: Metrics = None,
    force: io.Force = False,
    jobs: io.Jobs = 1,
    no_progress: io.NoProgress = False,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """Run classical codecs over a folder of pictures; a result file for each, CODEC.json.

    Example: [bold]rdc anchors jpeg webp --data kodak -o results --jobs 0[/bold]
    """
    from rdcodec.measure.anchors import ANCHORS

    if listing:
        _list_anchors(as_json)
        return
    if data is None:
        raise UsageError("--data is missing: name a folder of pictures, or ask for --list")
    more = metrics_of(metrics)
    from rdcodec.measure.codecs import anchor_subject
    from rdcodec.measure.rd import ImageFolder

    subjects = [anchor_subject(name) for name in codecs or [name for name, anchor in ANCHORS.items() if anchor.found()]]
    images = ImageFolder(data)
    targets = [output / f"{subject.name}.json" for subject in subjects]
    for subject, target in zip(subjects, targets, strict=True):
        if target.is_file() and not force:
            io.say(f"{target}: exists already and is kept: --force measures again")
            continue
        words = ["rdc", "anchors", subject.name, "--data", data.resolve().name, *_words(more)]
        rows = _evaluate(subject, images, data, target, store, jobs or core_count(), not no_progress, words, more)
        _show_rows(rows, f"{subject.name} on {len(images)} pictures of {data}")


def _list_anchors(as_json: bool) -> None:
    from rdcodec.errors import NeedsModel
    from rdcodec.measure.anchors import ANCHORS
    from rdcodec.measure.codecs import overhead_bytes

    table = io.table("codec", "what runs", "settings", ">grey, bytes", "version, or how to get it")
    for anchor in ANCHORS.values():
        try:
            version, overhead = anchor.version(), overhead_bytes(anchor)
        except NeedsModel as error:
            version, overhead = f"not here: {error}", None
        if as_json:
            record: dict[str, Any] = {
                "codec": anchor.name,
                "summary": anchor.summary,
                "settings": list(anchor.settings),
            }
            found = overhead is not None
            record |= {"found": found, "version": version if found else None, "overhead_bytes": overhead}
            io.json_line("anchor", record | {"missing": None if found else version})
            continue
        span = f"{anchor.settings[0]}-{anchor.settings[-1]}"
        table.add_row(anchor.name, anchor.summary, span, io.number(overhead, 0), version)
    if not as_json:
        io.show(table, title="Settings rise with rate. Grey: a plain 64x64 picture, about container and headers")


def subject_of(
    codec: str | None, qualities: str | None, effort: int, device: str, encoder: str | None, decoder: str | None
) -> "Subject":
    """What was asked for: two commands, an object in Python, a classical codec, or a model."""
    from rdcodec.measure.anchors import ANCHORS
    from rdcodec.measure.codecs import foreign_subject, is_foreign, model_subject

    commands = commands_of(encoder, decoder)
    foreign = commands is not None or codec is None or is_foreign(codec)
    if effort > 1 and foreign:
        raise UsageError("--effort is for models of rdcodec: leave it out")
    if foreign:
        parse = _numbers if codec not in ANCHORS or commands else partial(_within, kind=int)
        return foreign_subject(codec, None if qualities is None else parse(qualities), commands, device_of(device))
    settings = None if qualities is None else _within(qualities, float)
    return model_subject(str(codec), settings, effort, device)


def device_of(name: str) -> str:
    """What "auto" comes to; "cpu" without a look at torch."""
    if name == "cpu":
        return name
    from rdcodec.models.precision import pick_device

    return pick_device(name).type


def commands_of(encoder: str | None, decoder: str | None) -> tuple[str, str] | None:
    """The pair of commands, or nothing."""
    if (encoder is None) != (decoder is None):
        raise UsageError("--command and --decode-command go together: give both")
    return (encoder, decoder) if encoder is not None and decoder is not None else None


def metrics_of(text: str | None) -> list[Metric]:
    """The metrics of `--metrics`."""
    names = _split(text)
    if unknown := [name for name in names if name not in ASKED]:
        raise UsageError(
            f"--metrics {text}: {unknown[0]} is none of {', '.join(ASKED)}; the others are always measured"
        )
    return [ASKED[name] for name in names]


def _words(more: Sequence[Metric]) -> list[str]:
    return ["--metrics", ",".join(metric.short for metric in more)] if more else []


def _split(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _within(text: str, kind: type[int] | type[float]) -> list[float]:
    """Settings on the scale of the models and the classical codecs."""
    numbers = _numbers(text)
    if not all(0 <= number <= 100 and kind(number) == number for number in numbers):
        raise UsageError(f"--qualities {text}: write numbers from 0 to 100, as in {CLAIM_QUALITIES}")
    return [kind(number) for number in numbers]


def _numbers(text: str) -> list[float]:
    import math

    try:
        numbers = sorted({float(part) for part in _split(text)})
    except ValueError:
        numbers = []
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise UsageError(f"--qualities {text}: write numbers, as in {CLAIM_QUALITIES}")
    return [int(number) if number.is_integer() else number for number in numbers]


def _default_anchors(images: "Mapping[str, Pixels]") -> list[str]:
    """The published curve that belongs to the Kodak set, if these pictures look like it."""
    shapes = [image.shape for image in images.values()] if len(images) == 24 else []
    return [KODAK_ANCHOR] if shapes and all(shape in KODAK_SHAPES for shape in shapes) else []


def _evaluate(
    subject: "Subject",
    images: "Pictures",
    data: Path,
    output: Path | None,
    store: Path | None,
    jobs: int,
    show_progress: bool,
    command: Sequence[str],
    more: Sequence[Metric] = (),
    run: "Callable[..., Row] | None" = None,
) -> "Sequence[Row]":
    """Measure, and keep the result; rows that an interrupted run left beside `output` are not measured again."""
    journal = None if output is None else _journal(subject, images, output, jobs, more)
    try:
        rows = _measure(subject, images, jobs, show_progress, more, journal, run)
        if output is not None or store is not None:
            _keep(subject, rows, images, data, output, store, jobs, command)
        if journal:
            journal.remove()
    finally:
        if journal:
            journal.close()
    return rows


def _journal(subject: "Subject", images: "Pictures", output: Path, jobs: int, more: Sequence[Metric]) -> "Journal":
    from rdcodec.measure.journal import Journal
    from rdcodec.measure.machine import lasting
    from rdcodec.measure.rd import fingerprint

    output.parent.mkdir(parents=True, exist_ok=True)
    what: dict[str, Any] = {
        "codec": subject.name,
        "tag": subject.tag,
        "weights": subject.weights_sha256,
        "timed": jobs == 1,
    }
    what |= {"metrics": [metric.short for metric in more]}
    journal = Journal(output, {**what, "pictures": fingerprint(images), "machine": lasting()})
    if journal.rows:
        io.say(f"{journal.path}: going on after {len(journal.rows)} rows")
    return journal


def _keep(
    subject: "Subject",
    rows: "Sequence[Row]",
    images: "Pictures",
    data: Path,
    output: Path | None,
    store: Path | None,
    jobs: int,
    command: Sequence[str],
) -> None:
    """Write the result file, and put the same results into the store."""
    from rdcodec.measure.rd import Evaluation

    result = Evaluation.stamp(
        rows,
        codec=subject.name,
        tag=subject.tag,
        dataset=data.resolve().name,
        images=images,
        jobs=jobs,
        command=shlex.join(command),
        weights_sha256=subject.weights_sha256,
    )
    if output is not None:
        result.save(output)
    if store is not None:
        from rdcodec.measure.foreign import results_beside
        from rdcodec.store.db import Store

        foreign = subject.weights_sha256 is None  # `rdc bench` times ours
        first = images[next(iter(images))] if isinstance(images, Mapping) else images[0]
        beside = results_beside(result, subject.coder, [first]) if foreign else []
        with Store(store) as opened:
            opened.add([*result.results(), *beside])
        for count in (one for one in beside if one.kind == "count"):
            io.write_text(f"decoder: {count.values['kflops_per_px']:.1f} kFLOPs/px\n")


def _measure(
    subject: "Subject",
    images: "Pictures",
    jobs: int,
    show_progress: bool,
    more: Sequence[Metric] = (),
    journal: "Journal | None" = None,
    run: "Callable[..., Row] | None" = None,
) -> "list[Row]":
    from rdcodec.measure.rd import evaluate

    settings = {None if setting is None else float(setting) for setting in subject.settings}
    done = [row for row in journal.rows if row.setting in settings] if journal else []
    count = len(images) * len(subject.settings) - len(done)
    with io.progress(f"measuring {subject.name}", count, show_progress) as advance:

        def note(row: "Row") -> None:
            if journal:
                journal.add(row)
            advance()

        return evaluate(
            subject.coder, images, subject.settings, progress=note, jobs=jobs, done=done, more=more, run=run
        )


def _show_rows(rows: "Sequence[Row]", title: str) -> None:
    from rdcodec.measure.rd import means
    from rdcodec.metrics import METRICS

    found = means(rows)
    metrics = [metric for metric in METRICS if metric.name in found[0]]
    digits = {"bpp": 4, **{metric.name: metric.digits for metric in metrics}, "enc_s": 3, "dec_s": 3}
    headings = ["setting", "bpp", *(metric.heading for metric in metrics), "enc s", "dec s"]
    table = io.table(*(f">{heading}" for heading in headings))
    for mean in found:
        setting = mean["setting"]
        cells = [io.number(mean[key], places) for key, places in digits.items()]
        table.add_row("-" if setting is None else f"{setting:g}", *cells)
    io.show(table, title=title)


def _open(name: str, model: str | None, max_pixels: int) -> "tuple[Pixels, int]":
    """A picture and the size of its file, whether .rdc or any other format."""
    from rdcodec.codec.container import MAGIC, read_header
    from rdcodec.codec.image import read_image

    data = io.read_bytes(None if name == io.STREAM else Path(name))
    if not data.startswith(MAGIC):
        return read_image(data, max_pixels, name), len(data)
    from rdcodec.codec.pipeline import codec_for

    try:
        codec = codec_for(read_header(data, max_pixels).header, model)
        return codec.decompress(data, max_pixels), len(data)
    except RdcError as error:
        raise type(error)(f"{name}: {error}") from error
