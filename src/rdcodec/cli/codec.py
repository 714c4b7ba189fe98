"""compress, decompress, info: pictures to files and back."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, TypeVar

import typer

from rdcodec.cli import batch, io, pool
from rdcodec.cli.tasks import (
    CompressTask,
    DecompressTask,
    Rate,
    Reading,
    compress_one,
    decompress_one,
    describe,
)
from rdcodec.errors import UsageError

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
    ray: io.Ray = None,
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
    ray: io.Ray = None,
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
