"""What the leaderboard asks of results: known pictures, figures that add up, a machine; and the names of its files.

A result that is not what it has to be is BadInput; one whose figures contradict each other, or a second measurement, is
CheckFailed. Both name the field. `docs/leaderboard.md` has the rules.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rdcodec.errors import BadInput, CheckFailed, RdcError
from rdcodec.measure.codecs import Subject
from rdcodec.measure.rd import SCHEMA as EVALUATION
from rdcodec.measure.rd import TIMES, ImageFolder, evaluate, fingerprint
from rdcodec.measure.reading import read_results
from rdcodec.metrics import MEASURED, METRICS
from rdcodec.store.files import read_record, result_from_dict
from rdcodec.store.records import Result

SETS = Path(__file__).with_name("picture_sets.json")
ROUNDED = 2e-6  # figures in files have six decimals
SPEED_ROUNDED = 1e-3  # speeds have five digits
PLAUSIBLE = {
    "bpp": (0.0, 48.0),
    **{metric.name: metric.limits for metric in METRICS},
    "enc_s": (0.0, 1e6),
    "dec_s": (0.0, 1e6),
    **dict.fromkeys(("encode_s", "decode_s", "encode_networks_s", "decode_networks_s"), (0.0, 1e6)),
    "mpx_per_s": (0.0, 1e5),
    "mpx": (1e-6, 1e6),
    "pictures": (1, 1e6),
    "parameters": (0.0, 1e12),
    "kflops_per_px": (0.0, 1e7),
}
"""Lowest and highest value of a figure by its name; times and speeds are more than zero."""
SAME_RATE, SAME_DB = 0.005, 0.05
"""Two measurements agree within this share of bytes and this much PSNR: processors may round a latent differently."""
RERUN_PICTURES = 3
MACHINE = ("arch", "os", "python")


@dataclass(frozen=True)
class PictureSet:
    """Pictures that the leaderboard knows. pictures: width and height by file name; sha256: as `rd.fingerprint`."""

    name: str
    what: str
    sha256: str
    pictures: Mapping[str, Sequence[int]]


@cache
def picture_sets() -> dict[str, PictureSet]:
    """The known sets by their hash."""
    found = [PictureSet(**record) for record in json.loads(SETS.read_text(encoding="utf-8"))]
    return {pictures.sha256: pictures for pictures in found}


def read_submission(path: Path) -> list[Result]:
    """The results of a file, each checked. Raises what `read_results` and `check_result` do."""
    record = read_record(path)
    is_evaluation = record.get("schema") == EVALUATION
    if is_evaluation:
        _check_evaluation(record, str(path))
    results = read_results(path)
    if is_evaluation:
        results = [result_from_dict(r.to_dict(), str(path), f"results[{n}]") for n, r in enumerate(results)]
    if not results:
        raise BadInput(f"{path}: results: there is none")
    seen: dict[str, int] = {}
    for index, result in enumerate(results):
        where = f"{path}: results[{index}]"
        check_result(result, where)
        first = seen.setdefault(_id_of(result, where), index)
        if first != index:
            raise CheckFailed(f"{where}: is results[{first}] once more; keep one")
    if is_evaluation:
        _check_curve(record["curve"], results, f"{path}: curve")
    return results


def _id_of(result: Result, where: str) -> str:
    try:
        return result.id
    except ValueError as error:
        raise BadInput(f"{where}: provenance.machine: a number is not finite") from error


def check_result(result: Result, where: str) -> None:
    """Raise BadInput or CheckFailed, with `where` and the field, for a result that the leaderboard does not take."""
    if not result.codec or not result.tag:
        raise BadInput(f"{where}: tag: name the codec and the version that ran")
    if result.values.get("estimated"):
        raise BadInput(f"{where}: values.estimated: the leaderboard takes real files only")
    for key, value in result.values.items():
        _check_plausible(key, value, f"{where}: values.{key}")
    if result.kind == "quality":
        _check_origin(result, where)
        _check_quality(result, where)
    elif result.kind == "speed":
        _check_origin(result, where)
        _check_speed(result, where)
    elif result.kind == "count":
        _check_sum(result, "kflops_per_px", where)


def _check_plausible(key: str, value: Any, where: str) -> None:
    """Of a figure that has limits; null is none."""
    limits = PLAUSIBLE["mpx_per_s"] if key.endswith("_mpx_per_s") else PLAUSIBLE.get(key)
    if limits is None or value is None:
        return
    if not _is_number(value):
        raise BadInput(f"{where}: has to be a number or null")
    low, high = limits
    if not low <= value <= high or (value == 0 and key.endswith("_s")):
        raise BadInput(f"{where}: {value:g} is not plausible: {low:g} to {high:g} are")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_origin(result: Result, where: str) -> None:
    """Known pictures, and a machine, a program and a time that are named."""
    origin = result.provenance
    if origin.dataset_sha256 not in picture_sets():
        known = ", ".join(pictures.name for pictures in picture_sets().values())
        raise BadInput(f"{where}: provenance.dataset_sha256: unknown pictures; known are {known}")
    for key in MACHINE:
        if not origin.machine.get(key):
            raise BadInput(f"{where}: provenance.machine.{key}: is missing; measure with rdc eval or rdc bench")
    for key in ("package", "created_utc", "command"):
        if not getattr(origin, key):
            raise BadInput(f"{where}: provenance.{key}: is missing; measure with rdc eval or rdc bench")


def _check_quality(result: Result, where: str) -> None:
    known = picture_sets()[result.provenance.dataset_sha256 or ""]
    for index, row in enumerate(result.rows):
        _check_row(row, known, f"{where}: rows[{index}]")
    names = [str(row["image"]) for row in result.rows]
    if sorted(names) != sorted(known.pictures):
        raise CheckFailed(f"{where}: rows: not each of the {len(known.pictures)} pictures of {known.name} once")
    for key, value in _means(result.rows).items():
        _check_equal(result.values.get(key), value, f"{where}: values.{key}", "the rows")


def _check_row(row: Mapping[str, Any], known: PictureSet, where: str) -> None:
    for key, value in row.items():
        _check_plausible(key, value, f"{where}.{key}")
    size = known.pictures.get(row.get("image", ""))
    if size is None:
        raise BadInput(f"{where}.image: {row.get('image')!r} is no picture of {known.name}")
    if [row.get("width"), row.get("height")] != list(size):
        raise CheckFailed(f"{where}.width: {row['image']} has {size[0]}x{size[1]} pixels")
    file_bytes = row.get("file_bytes")
    if not isinstance(file_bytes, int) or file_bytes < 1:
        raise BadInput(f"{where}.file_bytes: has to be the bytes of a real file")
    _check_equal(row.get("bpp"), 8 * file_bytes / (size[0] * size[1]), f"{where}.bpp", "file_bytes")


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """What the values of a quality result have to be; None where a row lacks the figure."""
    known: dict[str, float | None] = {}
    for key in ("bpp", *(metric.name for metric in MEASURED), *TIMES):
        column: list[Any] = [row.get(key) for row in rows]
        known[key] = None if None in column else median(column) if key in TIMES else fmean(column)
    return known | {metric.name: metric.read(known) for metric in METRICS if metric.source}


def _check_equal(found: Any, expected: float | None, where: str, source: str) -> None:
    """CheckFailed unless a figure is what follows from others, but for rounding."""
    if expected is None and found is None:
        return
    if _is_number(found) and expected is not None and math.isclose(found, expected, rel_tol=1e-5, abs_tol=ROUNDED):
        return
    text = "null" if expected is None else f"{expected:.6g}"
    raise CheckFailed(f"{where}: is {json.dumps(found)}, but {source} say {text}")


def _check_evaluation(record: Mapping[str, Any], where: str) -> None:
    """The types of what a file of `rdc eval` holds, before anything is computed from it."""
    kinds = {
        "codec": str,
        "tag": str,
        "dataset": dict,
        "machine": dict,
        "created_utc": str,
        "curve": dict,
        "rows": dict,
    }
    for key, kind in kinds.items():
        if not isinstance(record.get(key), kind):
            raise BadInput(f"{where}: {key}: is missing or of another type; write the file with rdc eval")
    for key in ("name", "sha256"):
        if not isinstance(record["dataset"].get(key), str):
            raise BadInput(f"{where}: dataset.{key}: is missing, or no text")
    columns, table = record["rows"].get("columns"), record["rows"].get("values")
    if not isinstance(columns, list) or not isinstance(table, list):
        raise BadInput(f"{where}: rows: need lists of columns and values")
    for index, line in enumerate(table):
        if not isinstance(line, list) or len(line) != len(columns):
            raise BadInput(f"{where}: rows[{index}]: has to be a list of {len(columns)}")
        for key, value in zip(columns, line, strict=True):
            if not _fits(key, value):
                raise BadInput(f"{where}: rows[{index}].{key}: {json.dumps(value)[:40]} is not what it has to be")


def _fits(column: str, value: Any) -> bool:
    """Whether a value can stand in this column of rows."""
    if column == "image":
        return isinstance(value, str)
    if column in ("width", "height", "file_bytes"):
        return _is_number(value) and value > 0 and value == int(value)
    return value is None or _is_number(value)


def _check_curve(curve: Mapping[str, Any], results: Sequence[Result], where: str) -> None:
    """The means that a file of `rdc eval` states, against those of its rows."""
    columns: dict[str, list[Any]] = {"setting": [result.setting for result in results]}
    columns |= {key: [result.values.get(key) for result in results] for key in results[0].values if key in curve}
    for key, column in columns.items():
        stated = curve.get(key)
        if not isinstance(stated, list) or len(stated) != len(column):
            raise CheckFailed(f"{where}.{key}: has to be a list of {len(column)}, one for each setting of the rows")
        for index, (found, value) in enumerate(zip(stated, column, strict=True)):
            _check_equal(found, value, f"{where}.{key}[{index}]", "the rows")


def _check_speed(result: Result, where: str) -> None:
    values: Mapping[str, Any] = result.values
    rates = [key for key in values if key.endswith("_mpx_per_s") and values[key] is not None]
    if not rates:
        raise BadInput(f"{where}: values.decode_mpx_per_s: is missing; a speed needs one")
    for key in rates:
        seconds = values.get(key.replace("_mpx_per_s", "_s"))
        if seconds is None or not values.get("mpx"):
            continue
        expected = values["mpx"] / (values.get("pictures") or 1) / seconds
        if not math.isclose(values[key], expected, rel_tol=SPEED_ROUNDED):
            raise CheckFailed(f"{where}: values.{key}: is {values[key]:g}, but its seconds say {expected:g}")


def _check_sum(result: Result, key: str, where: str) -> None:
    parts: list[Any] = [row.get(key) for row in result.rows]
    for index, part in enumerate(parts):
        _check_plausible(key, part, f"{where}: rows[{index}].{key}")
    if parts and None not in parts:
        _check_equal(result.values.get(key), sum(parts), f"{where}: values.{key}", "its parts")


def rerun(results: Sequence[Result], subject: Subject, folder: Path, where: str) -> str:
    """Code and decode a few pictures at the lowest and highest setting; what was done, in words.

    folder: the pictures. Raises CheckFailed where they, the codec's version, bytes or PSNR are others than stated.
    """
    quality = sorted((r for r in results if r.kind == "quality"), key=lambda r: float(r.values["bpp"] or 0))
    if not quality:
        raise BadInput(f"{where}: results: none of kind quality, so there is nothing to run again")
    images = ImageFolder(folder)
    if {result.provenance.dataset_sha256 for result in quality} != {fingerprint(images)}:
        raise CheckFailed(f"{where}: provenance.dataset_sha256: {folder} holds other pictures")
    names = sorted(images)[:: max(1, len(images) // RERUN_PICTURES)][:RERUN_PICTURES]
    points = [quality[0], *quality[-1:]] if len(quality) > 1 else quality
    for result in points:
        if result.tag != subject.tag:
            raise CheckFailed(f"{where}: tag: is {result.tag!r}, but what is here is {subject.tag!r}")
        stated = {str(row["image"]): row for row in result.rows}
        setting = int(result.setting) if result.setting is not None and result.setting.is_integer() else result.setting
        for row in evaluate(subject.coder, {name: images[name] for name in names}, [setting]):
            _check_rerun(row.record(), stated[row.image], f"{where}: {row.image} at {setting}")
    return f"{len(names)} pictures at {len(points)} settings coded again: bytes and PSNR agree"


def _check_rerun(found: Mapping[str, Any], stated: Mapping[str, Any], where: str) -> None:
    """Of one picture. PSNR is None where it is lossless."""
    if abs(found["file_bytes"] - stated["file_bytes"]) > max(4, SAME_RATE * stated["file_bytes"]):
        raise CheckFailed(f"{where}: file_bytes: is {stated['file_bytes']}, but it took {found['file_bytes']} here")
    decibels = [100.0 if row.get("psnr_db") is None else row["psnr_db"] for row in (found, stated)]
    if abs(decibels[0] - decibels[1]) > SAME_DB:
        raise CheckFailed(f"{where}: psnr_db: is {decibels[1]:.3f}, but here it was {decibels[0]:.3f}")


def files_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by the name of their file: codec and version, pictures, machine, and a hash of the content.

    Another measurement of the same thus gets another file, and the same measurement the same.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        known = picture_sets().get(result.provenance.dataset_sha256 or "")
        tag = result.tag if result.tag.startswith(result.codec) else f"{result.codec} {result.tag}"
        device, machine = result.values.get("device") or "cpu", result.provenance.machine
        processor = machine.get("cpu") or machine.get("arch") if device == "cpu" else device
        parts = (tag, known.name if known else result.dataset, processor if result.kind != "count" else "")
        groups.setdefault("--".join(_slug(str(part)) for part in parts if part), []).append(result)
    return {f"{name}--{_content(group)}.json": group for name, group in groups.items()}


def conflicts(results: Sequence[Result], folder: Path, own: Sequence[Path]) -> list[str]:
    """Measurements of the same in a leaderboard's folder that differ, in words. own: files that are not looked at.

    Raises CheckFailed for results that are there already, or were and were withdrawn.
    """
    kept = [(path, other) for path in sorted(folder.rglob("*.json")) if path not in own for other in _known(path)]
    notes: dict[str, None] = {}
    for result in results:
        for path, other in kept:
            if other.id == result.id:
                raise CheckFailed(f"{path}: holds this result already; nothing is to be added")
            if path.parent == folder and _differ(result, other):
                rates = f"{result.values['bpp']:g} here, {other.values['bpp']:g} there"
                notes[f"differs from {path} at setting {result.setting}: bpp {rates}; both are kept and shown"] = None
    return list(notes)


def _known(path: Path) -> list[Result]:
    try:
        return read_results(path)
    except RdcError as error:
        raise CheckFailed(f"{path}: is in the way ({error}); mend or remove it") from error


def _differ(one: Result, other: Result) -> bool:
    keys = [(r.kind, r.codec, r.tag, r.provenance.dataset_sha256, r.setting) for r in (one, other)]
    if keys[0] != keys[1] or one.kind != "quality":
        return False
    rates = [float(r.values["bpp"] or 0) for r in (one, other)]
    decibels = [float(r.values.get("psnr_db") or 0) for r in (one, other)]
    return max(rates) > (1 + SAME_RATE) * min(rates) or abs(decibels[0] - decibels[1]) > SAME_DB


def _content(results: Sequence[Result]) -> str:
    return hashlib.sha256("".join(sorted(result.id for result in results)).encode()).hexdigest()[:10]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60]
