"""Rate and distortion of real files: a codec times images times settings.

A result file (`Evaluation.save`) is JSON:

    schema        "rdcodec.evaluation/1"
    codec, tag    name for figures, and what exactly ran: the weights tag, or the anchor's version
    dataset       {"name", "images" (count), "sha256" (of names, shapes and pixels)}
    jobs          pictures coded at a time
    created_utc   ISO 8601
    machine       see `machine.machine`
    command       as it can be typed again, or null
    weights_sha256  of the codec's weights, null where it has none
    curve         per setting, means over the images: setting, bpp, every metric of `METRICS` (those that have to be
                  asked for where they were); ms_ssim_db is -10 log10(1 - mean MS-SSIM); enc_s and dec_s are medians,
                  measured after a warm-up
    rows          per image and setting: {"columns": [...], "values": [[...], ...]}

bpp counts every byte of the file. PSNR is null where decoded and original are equal, MS-SSIM where the image is too
small for it, a metric that is newer than the file, times where several pictures were coded at once; a mean or median
over any null is null.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np

from rdcodec.codec.image import READ_SUFFIXES, Pixels, read_image
from rdcodec.errors import BadInput, CheckFailed, RdcError, is_out_of_memory
from rdcodec.measure.bdrate import Curve
from rdcodec.measure.machine import machine, provenance
from rdcodec.measure.uncertainty import picture_curves
from rdcodec.metrics import CURVES, MEASURED, METRICS, Metric, measure
from rdcodec.store.files import read_record
from rdcodec.store.records import Provenance, Result, Value
from rdcodec.system import write_whole

SCHEMA = "rdcodec.evaluation/1"
TIMES = ("enc_s", "dec_s")

Setting = TypeVar("Setting", contravariant=True)


class Coder(Protocol[Setting]):
    """Anything with whole files: the anchors, and our codec behind two one-line methods."""

    def encode(self, image: Pixels, setting: Setting, /) -> bytes:
        """File bytes of a uint8 RGB image (height, width, 3)."""

    def decode(self, data: bytes, /) -> Pixels:
        """The uint8 RGB image of these bytes, of the shape that was encoded."""


@dataclass(frozen=True)
class Row:
    """One image at one setting, None for a single-rate codec. quality: the metrics that were measured, by name."""

    image: str
    width: int
    height: int
    setting: float | None
    file_bytes: int
    quality: Mapping[str, float | None]
    enc_s: float | None
    dec_s: float | None

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.file_bytes / (self.width * self.height)

    def record(self) -> dict[str, Any]:
        """Names of `COLUMNS` and values, in JSON types, unrounded; infinity is null. `from_record` reads it."""
        values = {**asdict(self), **self.quality}
        return {key: _finite(values[key]) for key in COLUMNS if key in values}

    def rounded(self) -> Row:
        """With six decimals, so that what is computed from it is the same before it is written and after."""
        return Row.from_record({key: _rounded(value) for key, value in self.record().items()})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Row:
        """The row of a record or of a line of a result file. Raises TypeError or ValueError for other keys."""
        if unknown := [key for key in record if key not in COLUMNS]:
            raise ValueError(f"this version knows no {', '.join(unknown)}")
        rest = dict(record)
        quality = {metric.name: rest.pop(metric.name) for metric in MEASURED if metric.name in record}
        lossless = {m.name: m.equal for m in MEASURED if m.name in record and quality[m.name] is None}
        return cls(quality={**quality, **lossless}, **rest)


COLUMNS = ("image", "width", "height", "setting", "file_bytes", *(metric.name for metric in MEASURED), *TIMES)
"""That rows in a result file can have."""


class ImageFolder(Mapping[str, Pixels]):
    """Pictures of a folder by file name, sorted, each read when it is asked for.

    Raises RdcError if the folder cannot be listed, BadInput if it holds no image.
    """

    def __init__(self, folder: Path) -> None:
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix.lower() in READ_SUFFIXES)
        except OSError as error:
            raise RdcError(f"{folder}: {error.strerror}; give a folder of images") from error
        if not files:
            raise BadInput(f"{folder}: no image in it; give a folder of PNG, JPEG, WebP, TIFF, PPM or AVIF")
        self._files = {file.name: file for file in files}

    def __getitem__(self, name: str) -> Pixels:
        return read_image(self._files[name], name=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


Pictures = Mapping[str, Pixels] | Sequence[Pixels]


def evaluate(
    coder: Coder[Setting],
    images: Pictures,
    points: Sequence[Setting],
    *,
    progress: Callable[[Row], None] | None = None,
    jobs: int = 1,
    done: Iterable[Row] = (),
    more: Sequence[Metric] = (),
    run: Callable[..., Row] | None = None,
) -> list[Row]:
    """Every image coded, decoded and measured at every point; rows in the order of images, then points.

    done: rows of an earlier run, which are taken as they are and not measured again. more: metrics that have to be
    asked for. run: what calls a function with its arguments elsewhere, for more than one job.

    images: uint8 RGB arrays, by name or in a list (then named 0000, 0001, ...). progress gets each row as it
    is done, one call at a time. With one job, the first picture is coded once beforehand, so that no time holds what
    a codec does only once. With more, threads share the cores, so that times mean nothing and are left out. Raises
    CheckFailed where a decoded image has another shape or type, RdcError for whatever the codec raises.
    """
    named = _named(images)
    lock = Lock()
    finished = {(row.image, row.setting): row for row in done}

    def row_of(task: tuple[str, Setting]) -> Row:
        if (task[0], _number(task[1])) in finished:
            return finished[task[0], _number(task[1])]
        options: dict[str, Any] = {"image": named[task[0]], "timed": jobs == 1, "more": more}
        row = run(_measure, coder, *task, **options) if run else _measure(coder, *task, **options)
        if progress:
            with lock:
                progress(row)
        return row

    tasks = [(name, point) for name in named for point in points]
    if jobs == 1:
        for name, point in [task for task in tasks if (task[0], _number(task[1])) not in finished][:1]:
            _measure(coder, name, point, image=named[name], timed=False)  # warm up
        return [row_of(task) for task in tasks]
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(row_of, tasks))


def means(rows: Sequence[Row]) -> list[dict[str, float | None]]:
    """Means over the images, one dict per setting, ordered as the rows: setting, bpp, metrics, medians of times.

    A metric that has to be asked for is there if any row has it. One that is another's on another scale, as MS-SSIM in
    dB, is that of the mean: nothing else can be had of a published curve. Raises ValueError unless every setting has
    the same images.
    """
    groups: dict[float | None, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    if len({tuple(sorted(row.image for row in group)) for group in groups.values()}) != 1:
        raise ValueError("means need rows, and the same images at every setting")
    return [{"setting": setting, **_summary(group)} for setting, group in groups.items()]


def _summary(rows: Sequence[Row]) -> dict[str, float | None]:
    """Figures of one setting."""

    def over(kind: Callable[[list[float]], float], key: str) -> float | None:
        values = [getattr(row, key) if hasattr(row, key) else row.quality.get(key) for row in rows]
        known = [value for value in values if value is not None and math.isfinite(value)]
        return kind(known) if len(known) == len(values) else None

    known = [m for m in METRICS if not m.asked or any(m.name in row.quality for row in rows)]
    found = {key: over(fmean, key) for key in ("bpp", *(metric.name for metric in known if metric.of))}
    figures = {metric.name: metric.read(found) for metric in known}
    return {"bpp": found["bpp"], **figures, **{key: over(median, key) for key in TIMES}}


def mean_curve(rows: Sequence[Row], name: str) -> Curve:
    """Curve of mean bpp and mean per-image PSNR, the habit of the field (not PSNR of the mean MSE).

    Settings that cost more and gain nothing are left out; so is a setting with a lossless image, whose PSNR
    is infinite. Raises ValueError unless every setting has the same images, or where no setting is left.
    """
    table = means(rows)
    curve, *others = (_curve(name, table, metric) for metric in CURVES.values())
    if curve is None:
        raise ValueError(f"{name}: no setting with a PSNR")
    pictures = picture_curves(name, ((row.image, row.bpp, row.quality["psnr_db"]) for row in rows))
    return replace(curve, by_picture=pictures, others={other.metric: other for other in others if other})


def _curve(name: str, table: Sequence[Mapping[str, float | None]], metric: Metric) -> Curve | None:
    """The curve of means over one metric; None where no setting has it."""
    points = [(mean["bpp"], mean.get(metric.name)) for mean in table]
    known = [(rate, quality) for rate, quality in points if rate and quality is not None]
    return Curve.from_points(name, known, metric.short) if known else None


@dataclass(frozen=True)
class Evaluation:
    """Rows of one codec on one data set, with all that is needed to say where they come from."""

    codec: str
    tag: str
    dataset: dict[str, Any]
    jobs: int
    created_utc: str
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    command: str | None = None
    weights_sha256: str | None = None

    @classmethod
    def stamp(
        cls,
        rows: Sequence[Row],
        *,
        codec: str,
        tag: str,
        dataset: str,
        images: Pictures,
        jobs: int = 1,
        command: str | None = None,
        weights_sha256: str | None = None,
    ) -> Evaluation:
        """Rows just measured, as a file keeps them, with data set, time and machine added."""
        named = _named(images)
        data = {"name": dataset, "images": len(named), "sha256": fingerprint(named)}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        kept = tuple(row.rounded() for row in rows)
        return cls(codec, tag, data, jobs, now, machine(), kept, command, weights_sha256)

    def curve(self) -> Curve:
        """Mean curve under the codec's name."""
        return mean_curve(self.rows, self.codec)

    def provenance(self, **hashes: str | None) -> Provenance:
        """Where its figures come from. hashes: *_sha256."""
        return provenance(self.machine, self.created_utc, self.command, **hashes)

    def results(self) -> list[Result]:
        """What the store keeps: a result of kind "quality" per setting, with a row per picture."""
        origin = self.provenance(dataset_sha256=self.dataset["sha256"], weights_sha256=self.weights_sha256)
        return [
            Result(
                kind="quality",
                codec=self.codec,
                tag=self.tag,
                values={**{key: _rounded(mean[key]) for key in mean if key != "setting"}, "jobs": self.jobs},
                provenance=origin,
                dataset=str(self.dataset["name"]),
                setting=mean["setting"],
                rows=tuple(_picture_values(row) for row in self.rows if row.setting == mean["setting"]),
            )
            for mean in means(self.rows)
        ]

    def save(self, path: Path) -> None:
        """Write the result file, whole or not at all."""
        table = means(self.rows)
        record = {
            "schema": SCHEMA,
            "codec": self.codec,
            "tag": self.tag,
            "dataset": self.dataset,
            "jobs": self.jobs,
            "created_utc": self.created_utc,
            "machine": self.machine,
            "command": self.command,
            "weights_sha256": self.weights_sha256,
            "curve": {key: [_rounded(mean[key]) for mean in table] for key in table[0]},
            "rows": {
                "columns": list(self.rows[0].record()),
                "values": [[_rounded(value) for value in row.record().values()] for row in self.rows],
            },
        }
        write_whole(path, _dump(record))

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read a result file. Raises RdcError if it cannot be read, BadInput if it is not one."""
        return cls.from_record(read_record(path), str(path))

    @classmethod
    def from_record(cls, record: Mapping[str, Any], where: str) -> Evaluation:
        """The evaluation of a parsed result file. Raises BadInput if it is not one."""
        try:
            if record["schema"] != SCHEMA:
                raise ValueError(f"schema {record['schema']!r}")
            columns, values = record["rows"]["columns"], record["rows"]["values"]
            rows = tuple(Row.from_record(dict(zip(columns, value, strict=True))) for value in values)
            later: dict[str, Any] = {
                key: record.get(key) for key in ("command", "weights_sha256")
            }  # files of 0.1.0 lack them
            head: dict[str, Any] = {
                field.name: record[field.name] for field in fields(cls) if field.name not in ("rows", *later)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{where}: not a result file of this version ({error}); run `rdc eval`") from error
        return cls(rows=rows, **head, **later)


def fingerprint(images: Pictures) -> str:
    """SHA-256 over names, shapes and pixels, independent of the file format; hexadecimal."""
    digest = hashlib.sha256()
    for name, image in _named(images).items():
        digest.update(f"{name} {image.shape}\n".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def _named(images: Pictures) -> Mapping[str, Pixels]:
    if isinstance(images, Mapping):
        return images
    return {f"{index:04d}": image for index, image in enumerate(images)}


def _measure(
    coder: Coder[Setting], name: str, setting: Setting, image: Pixels, timed: bool, more: Sequence[Metric] = ()
) -> Row:
    try:
        started = time.perf_counter()
        data = coder.encode(image, setting)
        encoded = time.perf_counter()
        if not isinstance(data, bytes | bytearray):
            raise CheckFailed(f"{name} at {setting}: encode gave {type(data).__name__}, not bytes; the codec is wrong")
        decoded = coder.decode(data)
        ended = time.perf_counter()
    except Exception as error:
        if isinstance(error, RdcError) or is_out_of_memory(error):
            raise
        what = f"{type(error).__name__}: {error}"
        raise RdcError(f"{name} at {setting}: the codec failed with {what}; -v shows where") from error
    if not isinstance(decoded, np.ndarray) or decoded.shape != image.shape or decoded.dtype != np.uint8:
        came_back = f"{getattr(decoded, 'dtype', type(decoded).__name__)} {getattr(decoded, 'shape', '')}".strip()
        raise CheckFailed(f"{name} at {setting}: {image.shape} came back as {came_back}; the codec is wrong")
    return Row(
        image=name,
        width=image.shape[1],
        height=image.shape[0],
        setting=_number(setting),
        file_bytes=len(data),
        quality=measure(image, decoded, more),
        enc_s=encoded - started if timed else None,
        dec_s=ended - encoded if timed else None,
    )


def _number(setting: Any) -> float | None:
    return None if setting is None else float(setting)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _picture_values(row: Row) -> dict[str, Value]:
    """A row as the store keeps it: the setting stands in the result, rates and derived metrics are added."""
    record = row.record()
    values = {**record, "bpp": row.bpp, **{metric.name: metric.read(record) for metric in METRICS if metric.source}}
    return {key: _rounded(value) for key, value in values.items() if key != "setting"}


def _rounded(value: Any) -> Any:
    """Six decimals are a thousandth of what any of these figures can mean; infinity is null in JSON."""
    return _finite(round(value, 6)) if isinstance(value, float) else value


def _dump(record: dict[str, Any]) -> str:
    """JSON with one key of the record, and one row, a line."""
    rows = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in record["rows"]["values"])
    lines = [f'  "{key}": {json.dumps(value, allow_nan=False)}' for key, value in record.items() if key != "rows"]
    columns = json.dumps(record["rows"]["columns"])
    lines.append(f'  "rows": {{"columns": {columns}, "values": [\n{rows}\n  ]}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
