"""One file's work: to compress, decompress or describe it. Tasks can be sent to other threads and machines."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdcodec.cli import batch, io
from rdcodec.errors import BadInput, CheckFailed, RdcError, UsageError

if TYPE_CHECKING:
    from rdcodec.codec.container import Header
    from rdcodec.codec.picture import Picture
    from rdcodec.codec.pipeline import Codec, Encoded


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
