"""Files of measurements as results for the store, whatever program wrote them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.measure.rd import SCHEMA as EVALUATION
from rdcodec.measure.rd import Evaluation
from rdcodec.measure.speed import SCHEMA as BENCH
from rdcodec.models.weights import released, weights_sha256
from rdcodec.store.files import SCHEMA, results_from_compressai, results_from_record
from rdcodec.store.records import Provenance, Result


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
    weights = evaluation.weights_sha256 or _weights_sha256(evaluation.tag)  # files of 0.1.0 do not name it
    try:
        found = replace(evaluation, weights_sha256=weights).results()
    except ValueError as error:
        raise BadInput(f"{where}: rows: {error}") from error
    return [replace(result, values={**result.values, "jobs": evaluation.jobs}) for result in found]


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


@cache
def _weights_sha256(tag: str) -> str | None:
    """Hash of weights that are here; those of a released tag never change."""
    path = released().get(tag)
    return weights_sha256(path) if path else None
