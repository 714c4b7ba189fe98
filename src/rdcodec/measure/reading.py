"""Every way from a file to results and curves, whatever program wrote it."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.bdrate import Curve
from rdcodec.measure.rd import SCHEMA as EVALUATION
from rdcodec.measure.rd import Evaluation
from rdcodec.measure.speed import SCHEMA as BENCH
from rdcodec.measure.uncertainty import picture_curves
from rdcodec.metrics import CURVES as METRICS
from rdcodec.models.weights import released, weights_sha256
from rdcodec.store.files import SCHEMA, read_record, results_from_compressai, results_from_record
from rdcodec.store.records import Provenance, Result

CURVES = Path(__file__).parent / "curves"
PLAIN_FOLDERS = ("kodak", "local")


def read_results(path: Path, dataset: str | None = None) -> list[Result]:
    """The results of a file: exported results, `rdc eval`, `rdc bench`, a published curve, or CompressAI's JSON.

    dataset: the pictures of a CompressAI file, which does not name them. Raises RdcError for a file that cannot be
    read, BadInput naming the field for one that is none of these, UsageError where the pictures are not known.
    """
    record, where = read_record(path), str(path)
    schema = record.get("schema")
    if schema == EVALUATION:
        return _evaluation_results(Evaluation.from_record(record, where), where)
    if schema in (SCHEMA, BENCH):
        return results_from_record({**record, "schema": SCHEMA}, where)
    if schema is not None:
        raise BadInput(f"{path}: schema: {schema!r} is not known; update rdcodec, or export the file again")
    if isinstance(record.get("results"), dict):
        if dataset is None:
            raise UsageError(f"{path}: does not name its pictures; add --dataset, as in --dataset kodak")
        return results_from_compressai(record, where, dataset)
    for key in ("codec", "dataset", "source"):
        if not isinstance(record.get(key), str):
            raise BadInput(f"{where}: {key}: is missing, or no text; this is no file of results")
    return _published_results(record, where)


def read_curve(source: str | Path) -> list[Result]:
    """Quality results of one codec on one set of pictures, from a built-in name ("bpg_444") or a file.

    Files as for `read_results`; they need not name their pictures, nor a published curve its codec and source.
    Raises UsageError for a name that is neither a file nor built in, and otherwise as `read_results`.
    """
    builtin, path = builtin_curves(), Path(source)
    name = str(source).removeprefix("kodak/")
    if isinstance(source, str) and name in builtin:  # a file of that name is ./NAME
        path = builtin[name]
    elif isinstance(source, str) and not source.endswith(".json") and not path.exists():
        raise UsageError(_unknown(source, builtin))
    record = read_record(path)
    if "schema" in record or "results" in record:
        found = read_results(path, dataset="")
    else:
        found = _published_results({"codec": path.stem, "dataset": "", "source": "", **record}, str(source))
    found = [result for result in found if result.kind == "quality"]
    series = {(result.codec, result.tag, result.dataset) for result in found}
    if len(series) != 1:
        raise BadInput(f"{source}: holds {len(series)} curves; a file of one codec on one set of pictures is needed")
    return found


def load_curve(source: str | Path, metric: str = "psnr") -> Curve:
    """Curve from a built-in name or a file, as `read_curve` takes them.

    Raises UsageError for a curve without the metric, and what `read_curve` does.
    """
    return as_curve(read_curve(source), metric, str(source))


def as_curve(points: Iterable[Result], metric: str = "psnr", where: str = "") -> Curve:
    """Curve of the quality results of one codec; what is null (lossless, or too small a picture) is left out.

    Raises UsageError where no result has the metric, BadInput for figures that make no curve.
    """
    points = list(points)
    figures = [(result.values["bpp"], METRICS[metric].read(result.values)) for result in points]
    known = [(float(bpp or 0), quality) for bpp, quality in figures if quality is not None]
    if not known:
        has = [name for name, other in METRICS.items() if any(other.read(p.values) is not None for p in points)]
        raise UsageError(f"{where or points[0].codec}: has no {metric}; compare by {' or '.join(has) or 'another'}")
    name, pictures = points[0].codec, points[0].dataset.partition(" (")[0]
    try:
        curve = Curve.from_points(name, known, metric, pictures)
        others = other_curves(points) if metric == "psnr" else {}
        return replace(curve, by_picture=curves_of_pictures(points, metric), others=others)
    except ValueError as error:
        raise BadInput(f"{where}: no curve in it ({error})") from error


def other_curves(points: Sequence[Result]) -> dict[str, Curve]:
    """Curves of quality results of one codec over the metrics other than PSNR, by their short names."""
    found = {}
    for name, metric in METRICS.items():
        if name != "psnr" and any(metric.read(point.values) is not None for point in points):
            with suppress(BadInput):
                found[name] = as_curve(points, name)
    return found


def curves_of_pictures(points: Iterable[Result], metric: str = "psnr") -> dict[str, Curve]:
    """The curve of each picture by name, from the rows of quality results of one codec; {} where there are none."""
    points, read = list(points), METRICS[metric].read
    rows = [row for result in points for row in result.rows if row.get("image")]
    named = [(str(row["image"]), _float(row.get("bpp")), _float(read(row))) for row in rows]
    return picture_curves(points[0].codec, named, metric) if named else {}


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, float | int) else None


@dataclass(frozen=True)
class About:
    """What is known of a built-in curve. points: how many; bpp: lowest and highest; licence: of the source."""

    name: str
    codec: str
    pictures: str
    points: int
    bpp: tuple[float, float]
    has_ms_ssim: bool
    source: str
    licence: str


@cache
def builtin_curves() -> dict[str, Path]:
    """Files of the curves that come with the package, by name; `load_curve` reads one.

    Curves on Kodak, published or measured here ("kodak_jpeg_pillow"), have plain names; the others are
    named folder/curve, as "tecnick/elic".
    """
    found: dict[str, Path] = {}
    for path in CURVES.glob("*/*.json"):
        prefix = "" if path.parent.name in PLAIN_FOLDERS else f"{path.parent.name}/"
        found[prefix + path.stem] = path
    return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0])))


def about_curve(name: str) -> About:
    """What is known of a built-in curve, by its name. Raises KeyError for another name."""
    record = read_record(builtin_curves()[name])
    points = read_curve(name)
    rates = [float(point.values["bpp"] or 0) for point in points]
    return About(
        name=name,
        codec=points[0].codec,
        pictures=points[0].dataset.partition(" (")[0],
        points=len(points),
        bpp=(min(rates), max(rates)),
        has_ms_ssim=all(point.values.get("ms_ssim") is not None for point in points),
        source=record.get("source", "measured with rdcodec"),
        licence=record.get("licence", "Apache-2.0"),
    )


def _evaluation_results(evaluation: Evaluation, where: str) -> list[Result]:
    """Quality results of an evaluation, one for each setting, with a row for each picture."""
    weights = evaluation.weights_sha256 or _weights_sha256(evaluation.tag)  # files of 0.1.0 do not name it
    try:
        return replace(evaluation, weights_sha256=weights).results()
    except ValueError as error:
        raise BadInput(f"{where}: rows: {error}") from error


def _published_results(record: Mapping[str, Any], where: str) -> list[Result]:
    """Quality results of a published curve (the form of `measure/curves`). Raises BadInput naming the field."""
    lists = {key: record.get(key) for key in ("bpp", "psnr_rgb", "ms_ssim")}
    for key, values in lists.items():
        if values is None and key == "ms_ssim":
            continue
        if not isinstance(values, list) or len(values) != len(lists["bpp"] or ()):
            raise BadInput(f"{where}: {key}: has to be a list of as many numbers as there are rates")
    similarity = lists["ms_ssim"] or [None] * len(lists["bpp"] or ())
    entries = [
        {
            "kind": "quality",
            "codec": record["codec"],
            "tag": str(record.get("paper") or record["codec"]),
            "values": {"bpp": bpp, "psnr_db": psnr_db, "ms_ssim": ms_ssim},
            "provenance": asdict(Provenance(source=record["source"])),
            "dataset": record["dataset"],
        }
        for bpp, psnr_db, ms_ssim in zip(lists["bpp"] or (), lists["psnr_rgb"] or (), similarity, strict=True)
    ]
    return results_from_record({"schema": SCHEMA, "results": entries}, where)


def _unknown(source: str, builtin: Iterable[str]) -> str:
    near = difflib.get_close_matches(source, builtin, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`rdc bdrate --list` shows what is built in"
    return f"{source}: neither a file nor a built-in curve; {hint}"


@cache
def _weights_sha256(tag: str) -> str | None:
    """Hash of weights that are here; those of a released tag never change."""
    path = released().get(tag)
    return weights_sha256(path) if path else None
