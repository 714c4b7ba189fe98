"""compress, decompress, info: pictures to files and back."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rdcodec.cli import batch, io, pool
from rdcodec.errors import BadInput, CheckFailed, RdcError, UsageError

if TYPE_CHECKING:
    from rdcodec.codec.container import Header
    from rdcodec.codec.picture import Picture
    from rdcodec.codec.pipeline import Codec, Encoded

SUFFIX = ".rdc"
_SECTIONS = {1: "colour profile", 2: "EXIF", 3: "XMP", 4: "grey", 128: "transparency"}  # by number, for `info`
Task = TypeVar("Task")

Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="OUT", help="File, folder or '-'; without it, next to the input."),
]

Recursive = Annotated[bool, typer.Option("-r", "--recursive", metavar=io.FLAG, help="Folders of folders too.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", metavar=io.FLAG, help="Pass over inputs whose output is there already.")
]
KeepTimes = Annotated[
    bool, typer.Option("--keep-times", metavar=io.FLAG, help="Give outputs the file times of their inputs.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster: auto, ray://HOST:PORT, or local."),
]


@dataclass(frozen=True)
class Rate:
    """What was asked of the quality or the size; at most one of them."""

    quality: float | None = None
    bpp: float | None = None
    file_bytes: int | None = None
    psnr_db: float | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in asdict(self).values()) > 1:
            raise UsageError("give only one of --quality, --target-bpp, --target-size and --target-psnr")


@dataclass(frozen=True)
class Reading:
    """How pictures are read, and what is kept of them."""

    strip: bool
    to_srgb: bool
    background: str | None
    allow_damaged: bool


@dataclass(frozen=True)
class CompressTask:
    """One picture to compress."""

    item: batch.Item
    model: str
    device: str
    rate: Rate
    reading: Reading
    effort: int
    verify: bool
    force: bool
    keep_times: bool
    max_pixels: int


@dataclass(frozen=True)
class DecompressTask:
    """One file to decompress."""

    item: batch.Item
    model: str | None
    device: str
    format: str
    quality: int | None
    force: bool
    keep_times: bool
    max_pixels: int


def compress(
    inputs: Annotated[list[str], typer.Argument(metavar="IN", help="Pictures, folders of pictures, or '-'.")],
    output: Output = None,
    model: Annotated[
        str,
        typer.Option("-m", "--model", metavar="MODEL", help="Name (I), name with tag (I.3), or run folder (./I)."),
    ] = "I",
    quality: Annotated[
        float | None,
        typer.Option("-q", "--quality", min=0, max=100, metavar="Q", help="0 to 100, in tenths; default 50."),
    ] = None,
    target_bpp: Annotated[
        float | None,
        typer.Option("--target-bpp", min=0.001, metavar="B", help="Best quality within B bits per pixel."),
    ] = None,
    target_size: Annotated[
        int | None,
        typer.Option("--target-size", parser=io.parse_bytes, metavar="SIZE", help="Best quality within SIZE: 60kB."),
    ] = None,
    target_psnr: Annotated[
        float | None,
        typer.Option("--target-psnr", min=1, metavar="DB", help="Smallest file of at least DB decibels."),
    ] = None,
    effort: io.Effort = 1,
    strip: Annotated[bool, typer.Option("--strip", metavar=io.FLAG, help="Leave out EXIF and XMP.")] = False,
    to_srgb: Annotated[
        bool, typer.Option("--to-srgb", metavar=io.FLAG, help="Convert to sRGB instead of keeping the colour profile.")
    ] = False,
    background: Annotated[
        str | None,
        typer.Option("--background", metavar="COLOUR", help="Flatten transparency onto it: white, #ffffff."),
    ] = None,
    allow_damaged: Annotated[
        bool, typer.Option("--allow-damaged", metavar=io.FLAG, help="Take what can be read of damaged pictures.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", metavar=io.FLAG, help="Decode each file and compare before it is kept."),
    ] = False,
    recursive: Recursive = False,
    keep_suffix: Annotated[
        bool, typer.Option("--keep-suffix", metavar=io.FLAG, help="a.jpg becomes a.jpg.rdc.")
    ] = False,
    skip_existing: SkipExisting = False,
    keep_times: KeepTimes = False,
    force: io.Force = False,
    device: io.Device = "cpu",
    jobs: io.Jobs = 1,
    ray: Ray = None,
    threads: io.Threads = 0,
    max_pixels: io.MaxPixels = io.MAX_PIXELS,
    as_json: io.Json = False,
    no_progress: io.NoProgress = False,
    verbose: io.Verbose = 0,
) -> None:
    """Compress pictures to .rdc files.

    Reads PNG, JPEG, WebP, TIFF, PPM, AVIF, NPY, BMP, GIF, JP2, TGA, ICO and what else Pillow and its plug-ins read
    (HEIC, HEIF, JXL), of one frame.

    Example: [bold]rdc compress photo.jpg -q 40[/bold]
    """
    import rdcodec
    from rdcodec.codec.picture import check_colour
    from rdcodec.codec.picture_reader import READ_SUFFIXES

    rate = Rate(quality, target_bpp, target_size, target_psnr)
    reading = Reading(strip, to_srgb, background, allow_damaged)
    if background is not None:
        check_colour(background)
    _check_existing(skip_existing, force)
    found = batch.plan(
        *(inputs, output, READ_SUFFIXES, SUFFIX),
        recursive=recursive,
        keep_suffix=keep_suffix,
        skip_existing=skip_existing,
    )
    _check_stdout(found.items, as_json)
    found = found if ray is None else _for_cluster(found, jobs, force)
    codec = rdcodec.load(model, device)  # here, so that a wrong model is one error, not one for every picture
    if rate != Rate():
        codec.refuse_single_rate()
    tasks = [
        CompressTask(
            item, model, device, rate, reading, effort, verify, force or ray is not None, keep_times, max_pixels
        )
        for item in found.items
    ]
    outcomes = _outcomes(compress_one, tasks, jobs, threads, ray, device)
    _run("compress", outcomes, found, as_json, not no_progress)


def decompress(
    inputs: Annotated[list[str], typer.Argument(metavar="IN", help=".rdc files, folders of them, or '-'.")],
    output: Output = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="png, jpeg, webp, avif, tiff, heic, jxl, ppm or npy; default by OUT, or png.",
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality", min=1, max=100, metavar="Q", help="Of jpeg, avif, heic (95), webp or jxl (else lossless)."
        ),
    ] = None,
    model: io.FileModel = None,
    recursive: Recursive = False,
    skip_existing: SkipExisting = False,
    keep_times: KeepTimes = False,
    force: io.Force = False,
    device: io.Device = "cpu",
    jobs: io.Jobs = 1,
    ray: Ray = None,
    threads: io.Threads = 0,
    max_pixels: io.MaxPixels = io.MAX_PIXELS,
    as_json: io.Json = False,
    no_progress: io.NoProgress = False,
    verbose: io.Verbose = 0,
) -> None:
    """Decompress .rdc files to pictures.

    Example: [bold]rdc decompress photo.rdc -o photo.png[/bold]
    """
    from rdcodec.codec.picture_writer import check_format

    if format is not None:
        check_format(format, quality)
    suffix = {"jpeg": ".jpg", "tiff": ".tif"}.get(format or "", f".{format or 'png'}")
    _check_existing(skip_existing, force)
    found = batch.plan(inputs, output, frozenset({SUFFIX}), suffix, recursive=recursive, skip_existing=skip_existing)
    _check_stdout(found.items, as_json)
    found = found if ray is None else _for_cluster(found, jobs, force)
    tasks = [
        DecompressTask(
            item, model, device, format or _format_of(item), quality, force or ray is not None, keep_times, max_pixels
        )
        for item in found.items
    ]
    outcomes = _outcomes(decompress_one, tasks, jobs, threads, ray, device)
    _run("decompress", outcomes, found, as_json, not no_progress)


def info(
    inputs: Annotated[list[str], typer.Argument(metavar="FILE", help=".rdc files, folders of them, or '-'.")],
    check: Annotated[
        bool, typer.Option("--check", metavar=io.FLAG, help="Check every byte, not only the header.")
    ] = False,
    recursive: Recursive = False,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """Show what .rdc files say of themselves. Nothing is decoded, no model is needed.

    Example: [bold]rdc info photo.rdc --check[/bold]
    """
    found = batch.find(inputs, frozenset({SUFFIX}), recursive)
    items = [batch.Item(source, None) for source, _ in found.files]
    errors = [error for _, error in found.refused]
    outcomes = chain(errors, pool.run_tasks(lambda item: describe(item, check), items, jobs=1, threads=0))
    names = [name for name, _ in found.refused] + [item.source_name for item in items]

    def show(record: dict[str, Any]) -> None:
        if as_json:
            io.json_line("info", record)
        else:
            io.write_text(_info_text(record))

    pool.finish(outcomes, names, show, as_json)


def compress_one(task: CompressTask) -> dict[str, Any]:
    """Compress one picture, write the file and return its record."""
    import rdcodec
    from rdcodec.codec import content
    from rdcodec.codec.container import read_header

    item = task.item
    io.refuse_existing(item.target, task.force)
    times = io.times_of(item.source) if task.keep_times else None
    source = io.regular(item.source)
    picture = _read(source, task)
    codec = rdcodec.load(task.model, task.device)
    with _naming(item):
        start = time.perf_counter()
        encoded = _encode(codec, picture, task)
        enc_s = time.perf_counter() - start
        if task.verify:
            _verify(codec, encoded, picture, task.max_pixels)
        psnr_db = encoded.psnr_db if task.verify or task.rate.psnr_db else None
    io.write_output(item.target, encoded.data, task.force, times)
    header = read_header(encoded.data, task.max_pixels).header
    advice = content.advice(picture, len(encoded.data), io.size_of(source))
    return {
        **_record(item, header, len(encoded.data)),
        "psnr_db": psnr_db,
        "effort": task.effort,
        "verified": task.verify,
        "enc_s": round(enc_s, 4),
        "notes": [*picture.notes, *([advice] if advice else [])],
    }


def decompress_one(task: DecompressTask) -> dict[str, Any]:
    """Decompress one file, write the picture and return its record."""
    from rdcodec.codec.container import read_header
    from rdcodec.codec.picture_writer import encode_picture, losses
    from rdcodec.codec.pipeline import codec_for
    from rdcodec.codec.sections import picture_of

    item = task.item
    io.refuse_existing(item.target, task.force)
    times = io.times_of(item.source) if task.keep_times else None
    data = read_rdc(item.source)
    with _naming(item):
        header = read_header(data, task.max_pixels).header
        codec = codec_for(header, task.model, task.device)
        start = time.perf_counter()
        picture = picture_of(codec.decompress(data, task.max_pixels), header.sections)
        dec_s = time.perf_counter() - start
        encoded = encode_picture(picture, task.format, task.quality)
    io.write_output(item.target, encoded, task.force, times)
    return {
        **_record(item, header, len(data)),
        "format": task.format,
        "dec_s": round(dec_s, 4),
        "notes": [*picture.notes, *losses(picture, task.format)],
    }


def describe(item: batch.Item, check: bool) -> dict[str, Any]:
    """Everything the header of a file says, and with `check` whether all of the file holds."""
    from rdcodec.codec.container import read_header, unpack

    data = read_rdc(item.source)
    with _naming(item):
        no_limit = 1 << 60  # nothing is allocated here
        parsed = read_header(data, no_limit)
        if check:
            try:
                unpack(data, no_limit)
            except BadInput as error:
                raise CheckFailed(str(error)) from error
    header = parsed.header
    record = _record(item, header, len(data))
    del record["output"]
    return {
        **record,
        "header_bytes": parsed.stream_start,
        "stream_bytes": parsed.stream_bytes,
        "missing_bytes": parsed.stream_start + parsed.stream_bytes - len(data),
        "tables_hash": header.tables_hash.hex(),
        "entropy_hash": header.entropy_hash.hex(),
        "synthesis_hash": header.synthesis_hash.hex(),
        "sections": [section.id for section in header.sections],
        "checked": check,
    }


def read_rdc(source: Path | None) -> bytes:
    """All bytes of a .rdc file; of a foreign one only the beginning, however long it is."""
    from rdcodec.codec.container import MAGIC

    return io.read_bytes(source, MAGIC)


def _read(source: Path | bytes, task: CompressTask) -> "Picture":
    """The picture as it will be coded."""
    from rdcodec.codec.picture_reader import read_picture

    reading = task.reading
    picture = read_picture(source, task.max_pixels, task.item.source_name, reading.allow_damaged)
    if reading.strip:
        picture = picture.stripped()
    if reading.background is not None:
        picture = picture.on(reading.background)
    return picture.in_srgb() if reading.to_srgb else picture


def _encode(codec: "Codec", picture: "Picture", task: CompressTask) -> "Encoded":
    from rdcodec.codec.sections import sections_of

    rate, effort, most, sections = task.rate, task.effort, task.max_pixels, sections_of(picture)
    if rate.bpp is rate.file_bytes is rate.psnr_db is None:
        return codec.encode(picture.pixels, rate.quality, effort, most, sections)
    target = partial(codec.encode_target, bpp=rate.bpp, file_bytes=rate.file_bytes, psnr_db=rate.psnr_db)
    return target(picture.pixels, effort=effort, max_pixels=most, sections=sections)


def _verify(codec: "Codec", encoded: "Encoded", picture: "Picture", max_pixels: int) -> None:
    import numpy as np

    from rdcodec.codec.container import read_header
    from rdcodec.codec.sections import picture_of

    try:
        pixels = codec.decompress(encoded.data, max_pixels)
        decoded = picture_of(pixels, read_header(encoded.data, max_pixels).header.sections)
    except RdcError as error:
        raise CheckFailed(f"the file does not decode ({error}): nothing was written") from error
    kept = (decoded.grey, decoded.icc, decoded.exif, decoded.xmp) == (
        picture.grey,
        picture.icc,
        picture.exif,
        picture.xmp,
    )
    opaque = decoded.alpha is picture.alpha is None
    same_alpha = opaque or (
        decoded.alpha is not None and picture.alpha is not None and np.array_equal(decoded.alpha, picture.alpha)
    )
    if not (np.array_equal(pixels, encoded.reconstruction) and kept and same_alpha):
        raise CheckFailed("the file decodes to another picture than the encoder saw: nothing was written")


def _format_of(item: batch.Item) -> str:
    from rdcodec.codec.picture_writer import format_of

    if item.target is None:
        raise UsageError("standard output has no suffix: name the picture format with --format")
    return format_of(item.target)


def _check_existing(skip_existing: bool, force: bool) -> None:
    if skip_existing and force:
        raise UsageError("--force overwrites what --skip-existing passes over: give one of them")


def _check_stdout(items: Sequence[batch.Item], as_json: bool) -> None:
    """Before anything is loaded: a payload for standard output must be able to go there."""
    if any(item.target is None for item in items):
        io.refuse_existing(None, force=False)
        if as_json:
            raise UsageError("--json and the output would both go to standard output: name a file with -o")


@contextlib.contextmanager
def _naming(item: batch.Item) -> Iterator[None]:
    """Put the name of the input before errors that do not know it."""
    try:
        yield
    except RdcError as error:
        raise type(error)(f"{item.source_name}: {error}") from error


def _record(item: batch.Item, header: "Header", file_bytes: int) -> dict[str, Any]:
    """What summaries and JSON lines of the three commands share."""
    from rdcodec.codec.container import SINGLE_RATE

    return {
        "input": item.source_name,
        "output": item.target_name,
        "width": header.width,
        "height": header.height,
        "model": header.tag,
        "quality": None if header.quality == SINGLE_RATE else header.quality / 10,
        "file_bytes": file_bytes,
        "bpp": round(file_bytes * 8 / (header.width * header.height), 5),
    }


def _for_cluster(found: batch.Batch, jobs: int, force: bool) -> batch.Batch:
    """What there is left to do when files that exist are refused here: a task that is done twice finds its own."""
    if jobs != 1:
        raise UsageError("--jobs is for this machine, not for a cluster: leave it out with --ray")
    return batch.without_existing(found, force)


def _outcomes(
    work: Callable[[Task], dict[str, Any]], tasks: Sequence[Task], jobs: int, threads: int, ray: str | None, device: str
) -> Iterator[dict[str, Any] | Exception]:
    """Results of all tasks, in order; nothing begins before the first is asked for."""
    if ray is None:
        return pool.run_tasks(work, tasks, jobs, threads)
    from rdcodec.cli import remote

    return remote.run_tasks(work, tasks, ray, max(1, threads), device == "cuda")


def _run(
    verb: str,
    outcomes: Iterable[dict[str, Any] | Exception],
    found: batch.Batch,
    as_json: bool,
    show_progress: bool,
) -> None:
    """Do all tasks, a summary line each, then one for all of them."""
    records: list[dict[str, Any]] = []
    failed = 0
    start = time.perf_counter()

    def count_failures(outcomes: Iterable[dict[str, Any] | Exception]) -> Iterator[dict[str, Any] | Exception]:
        nonlocal failed
        for outcome in outcomes:
            failed += isinstance(outcome, Exception)
            yield outcome

    with io.progress(f"{verb}ing", len(found.items), show_progress) as advance:

        def show(record: dict[str, Any]) -> None:
            records.append(record)
            advance()
            io.say(_summary(record))
            for note in record["notes"]:
                io.say(f"  note: {record['input']}: {note}")
            if as_json:
                io.json_line(verb, {key: value for key, value in record.items() if value is not None})

        refusals = [error for _, error in found.refused]
        try:
            pool.finish(count_failures(chain(refusals, outcomes)), found.names, show, as_json)
        finally:
            if found.several or found.passed_over:
                not_done = len(found.names) - len(records) - failed
                io.say(_total(records, found.passed_over, failed, not_done, time.perf_counter() - start))


def _summary(record: dict[str, Any]) -> str:
    name = record["model"].partition(".")[0]
    quality = "" if record["quality"] is None else f" q{record['quality']:g}"
    parts = [
        str(record["output"]),
        f"{record['file_bytes']} B",
        f"{record['bpp']:.3f} bpp",
        f"{record['width']}x{record['height']}",
        name + quality,
    ]
    if record.get("psnr_db") is not None:
        parts.append(f"{record['psnr_db']:.2f} dB")
    parts.append(f"enc {record['enc_s']:.2f} s" if "enc_s" in record else f"dec {record['dec_s']:.2f} s")
    if record.get("verified"):
        parts.append("verified")
    return "  ".join(parts)


def _total(
    records: Sequence[dict[str, Any]], passed_over: Mapping[str, int], failed: int, not_done: int, elapsed_s: float
) -> str:
    file_bytes = sum(record["file_bytes"] for record in records)
    pixels = sum(record["width"] * record["height"] for record in records)
    parts = [f"{len(records)} file{'' if len(records) == 1 else 's'}"]
    if records:
        parts += [f"{file_bytes} B", f"{file_bytes * 8 / pixels:.3f} bpp", f"{pixels / 1e6:.1f} MP"]
    parts.append(f"{elapsed_s:.1f} s")
    if passed_over:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(passed_over.items()))
        parts.append(f"{sum(passed_over.values())} passed over ({kinds})")
    if failed:
        parts.append(f"{failed} failed")
    if not_done:
        parts.append(f"{not_done} not done")
    return "  ".join(parts)


def _info_text(record: dict[str, Any]) -> str:
    quality = "single rate" if record["quality"] is None else f"quality {record['quality']:g}"
    missing = record["missing_bytes"]
    stream = f"{record['stream_bytes']} B"
    if missing:
        stream += f", {missing} missing" if missing > 0 else f", {-missing} too many follow"
    lines = {
        "picture": f"{record['width']}x{record['height']}, {record['width'] * record['height'] / 1e6:.2f} MP",
        "model": f"{record['model']}, {quality}",
        "file": f"{record['file_bytes']} B, {record['bpp']:.3f} bpp",
        "header": f"{record['header_bytes']} B",
        "stream": stream,
        "sections": ", ".join(_SECTIONS.get(number, str(number)) for number in record["sections"]) or "none",
        "hashes": f"tables {record['tables_hash']}, entropy {record['entropy_hash']}, "
        f"synthesis {record['synthesis_hash']}",
    }
    if record["checked"]:
        lines["check"] = "every checksum holds"
    return "".join([f"{io.shown(record['input'])}\n", *(f"  {key:<9} {value}\n" for key, value in lines.items())])
