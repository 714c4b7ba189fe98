"""Files of measurements as results for the store, whatever program wrote them."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.measure.quality import ms_ssim_db
from rdcodec.measure.rd import SCHEMA as EVALUATION
from rdcodec.measure.rd import Evaluation, Row, means
from rdcodec.measure.speed import SCHEMA as BENCH
from rdcodec.store.files import SCHEMA, results_from_compressai, results_from_record
from rdcodec.store.records import Provenance, Result, Value

PACKAGED_WEIGHTS = Path(__file__).parents[1] / "weights"


def read_results(path: Path, dataset: str | None = None) -> list[Result]:
    """The results of a file: exported results, `rdc eval`, `rdc bench`, a published curve, or CompressAI's JSON.

    dataset: the pictures of a CompressAI file, which does not name them. Raises RdcError for a file that cannot be
    read, BadInput naming the field for one that is none of these, UsageError where the pictures are not known.
    """
    record = _parse(path)
    schema = record.get("schema")
    if schema == EVALUATION:
        return evaluation_results(Evaluation.load(path), str(path))
    if schema in (SCHEMA, BENCH):
        return results_from_record({**record, "schema": SCHEMA}, str(path))
    if schema is not None:
        raise BadInput(f"{path}: schema: {schema!r} is not known; update rdcodec, or export the file again")
    if isinstance(record.get("results"), dict):
        if not dataset:
            raise UsageError(f"{path}: does not name its pictures; add --dataset, as in --dataset kodak")
        return results_from_compressai(record, str(path), dataset)
    return curve_results(record, str(path))


def evaluation_results(evaluation: Evaluation, where: str) -> list[Result]:
    """Quality results of an evaluation, one for each setting, with a row for each picture."""
    machine = evaluation.machine
    provenance = Provenance(
        source="rdcodec",
        created_utc=evaluation.created_utc,
        commit=machine.get("commit"),
        dirty=machine.get("dirty"),
        package=machine.get("package"),
        machine=machine,
        dataset_sha256=evaluation.dataset["sha256"],
        weights_sha256=_weights_sha256(evaluation.tag),
    )
    try:
        table = means(evaluation.rows)
    except ValueError as error:
        raise BadInput(f"{where}: rows: {error}") from error
    return [
        Result(
            kind="quality",
            codec=evaluation.codec,
            tag=evaluation.tag,
            values=_with_decibels(mean) | {"jobs": evaluation.jobs},
            provenance=provenance,
            dataset=str(evaluation.dataset["name"]),
            setting=mean["setting"],
            rows=tuple(_picture(row) for row in evaluation.rows if row.setting == mean["setting"]),
        )
        for mean in table
    ]


def curve_results(record: Mapping[str, Any], where: str) -> list[Result]:
    """Quality results of a published curve (the form of `measure/curves`). Raises BadInput naming the field."""
    for key in ("codec", "dataset", "source"):
        if not isinstance(record.get(key), str):
            raise BadInput(f"{where}: {key}: is missing, or no text; this is no file of results")
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


def _parse(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RdcError(f"{path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not a result file (no text in UTF-8)") from error
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: not a result file (no JSON: line {error.lineno}, {error.msg.lower()})") from error
    if not isinstance(record, dict):
        raise BadInput(f"{path}: not a result file (JSON, but no object)")
    return record


def _with_decibels(mean: Mapping[str, Any]) -> dict[str, Value]:
    values = {key: value for key, value in mean.items() if key != "setting"}
    similarity = values["ms_ssim"]
    decibels = None if similarity is None else ms_ssim_db(similarity)
    return values | {"ms_ssim_db": decibels if decibels is not None and math.isfinite(decibels) else None}


def _picture(row: Row) -> dict[str, Value]:
    """A row as the store keeps it: null in the place of infinity."""
    figures = {key: value for key, value in asdict(row).items() if key != "setting"}
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in figures.items()}


@cache
def _weights_sha256(tag: str) -> str | None:
    """Hash of packaged weights; those of a released tag never change."""
    path = PACKAGED_WEIGHTS / f"{tag}.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
