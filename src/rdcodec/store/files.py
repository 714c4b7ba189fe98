"""Results as files: this program's JSON, CSV, and CompressAI's JSON both ways. Every field is checked on the way in.

    {"schema": "rdcodec.results/1", "results": [...]}

`results.schema.json` beside this file says the same as a JSON Schema.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rdcodec.errors import BadInput, RdcError
from rdcodec.metrics import METRICS
from rdcodec.store.records import KINDS, Provenance, Result

SCHEMA = "rdcodec.results/1"
REQUIRED = ("kind", "codec", "tag", "values", "provenance")
NUMBERS = {
    "quality": ("bpp", *(metric.name for metric in METRICS), "enc_s", "dec_s"),
    "speed": ("threads", "encode_s", "decode_s", "encode_mpx_per_s", "decode_mpx_per_s", "decode_networks_mpx_per_s"),
    "count": (
        *("parameters", "parameters_without_analysis", "training_flops_per_px"),
        *("kflops_per_px", "kmacs_per_px", "elementwise_per_px"),
    ),
    "training": ("eflop", "own_eflop", "steps", "images", "seconds", "loss"),
}
"""Values that are numbers, or null, wherever they stand; other names are free."""
COMPRESSAI = {theirs: metric.name for metric in METRICS for theirs in metric.compressai}
COMPRESSAI |= {"encoding_time": "enc_s", "decoding_time": "dec_s"}
"""CompressAI's names of figures, and ours. "psnr" and "ms-ssim" are RGB too in its results for images."""

CODEC_COMPARE = {
    "image": ("original_name", "Original image file name"),
    "width": ("width", "Pixels in a row"),
    "height": ("height", "Rows of pixels"),
    "quality": ("quality", "Setting of the codec; 0 where it has a single rate"),
    "file_bytes": ("encoded_size", "Size of the encoded image file in bytes"),
    "bpp": ("bpp", "Encoded bits per pixel"),
    **{metric.name: metric.compare for metric in METRICS if metric.compare},
    "enc_s": ("encoding_time", "Encoding duration in seconds"),
    "dec_s": ("decoding_time", "Decoding duration in seconds"),
}
"""Fields of github.com/webmproject/codec-compare and what they are, by our names."""


def read_record(path: Path) -> dict[str, Any]:
    """The JSON object of a file. Raises RdcError if it cannot be read, BadInput if it is none."""
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


def dump_results(results: Iterable[Result]) -> str:
    """JSON of results, one a line. Raises ValueError for a figure that is not finite."""
    lines = ",\n".join(json.dumps(result.to_dict(), allow_nan=False) for result in results)
    return f'{{\n"schema": "{SCHEMA}",\n"results": [\n{lines}\n]\n}}\n'


def results_from_record(record: Mapping[str, Any], where: str) -> list[Result]:
    """The results of a parsed file of `SCHEMA`. Raises BadInput naming the field that is wrong."""
    _check_keys(record, ("schema", "results"), ("schema", "results"), where, "")
    if record["schema"] != SCHEMA:
        raise BadInput(f"{where}: schema: {record['schema']!r} is not {SCHEMA}; export it again with this version")
    entries = _typed(record["results"], list, where, "results")
    return [result_from_dict(entry, where, f"results[{index}]") for index, entry in enumerate(entries)]


def result_from_dict(record: Any, where: str, path: str = "") -> Result:
    """A result from its JSON form (`Result.to_dict`). Raises BadInput naming file and field."""
    names = [field.name for field in fields(Result)]
    _check_keys(record, names, REQUIRED, where, path)
    kind = _typed(record["kind"], str, where, _join(path, "kind"))
    if kind not in KINDS:
        raise BadInput(f"{where}: {_join(path, 'kind')}: {kind!r} is none of {', '.join(KINDS)}")
    for key in ("codec", "tag"):
        _typed(record[key], str, where, _join(path, key))
    _typed(record.get("dataset", ""), str, where, _join(path, "dataset"))
    setting = record.get("setting")
    if setting is not None and not _is_number(setting):
        raise BadInput(f"{where}: {_join(path, 'setting')}: has to be a number or null")
    rows = _typed(record.get("rows", []), list, where, _join(path, "rows"))
    return Result(
        kind=kind,
        codec=record["codec"],
        tag=record["tag"],
        values=_values(record["values"], where, _join(path, "values"), NUMBERS[kind]),
        provenance=_provenance(record["provenance"], where, _join(path, "provenance")),
        dataset=record.get("dataset", ""),
        setting=setting,
        rows=tuple(_values(row, where, _join(path, "rows") + f"[{index}]") for index, row in enumerate(rows)),
    )


def results_csv(results: Sequence[Result]) -> str:
    """One line a result: what it is of, every value that any of them has, and where it comes from."""
    values = list(dict.fromkeys(name for result in results for name in result.values))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["kind", "codec", "tag", "dataset", "setting", *values, "source", "created_utc", "id"])
    for r in results:
        head = [r.kind, r.codec, r.tag, r.dataset, r.setting]
        cells = [*head, *map(r.values.get, values), r.provenance.source, r.provenance.created_utc, r.id]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def compressai_record(results: Sequence[Result]) -> dict[str, Any]:
    """CompressAI's JSON of quality results of one codec on one set of pictures, in the order of their rates.

    A figure that one of them lacks is left out of all. Raises ValueError unless they are of one codec and set.
    """
    if len({(r.kind, r.codec, r.tag, r.dataset) for r in results}) != 1 or results[0].kind != "quality":
        raise ValueError("CompressAI's form holds the quality of one codec on one set of pictures")
    ordered = sorted(results, key=lambda r: float(r.values["bpp"] or 0))
    names = {ours: theirs for theirs, ours in reversed(COMPRESSAI.items())}
    lists = {"bpp": [r.values["bpp"] for r in ordered]}
    for ours, theirs in names.items():
        column = [r.values.get(ours) for r in ordered]
        if all(value is not None for value in column):
            lists[theirs] = column
    return {"name": results[0].codec, "description": f"{results[0].tag} on {results[0].dataset}", "results": lists}


def codec_compare_record(results: Sequence[Result]) -> dict[str, Any]:
    """A batch for the viewer Codec-Compare of one codec's quality on one set of pictures: a line for each picture.

    Raises ValueError unless the results are of one codec and set and hold rows of pictures.
    """
    if len({(r.kind, r.codec, r.tag, r.dataset) for r in results}) != 1 or results[0].kind != "quality":
        raise ValueError("Codec-Compare's form holds the quality of one codec on one set of pictures")
    first = results[0]
    rows = [{"quality": 0 if r.setting is None else r.setting, **row} for r in results for row in r.rows]
    if not rows or not all("image" in row for row in rows):
        raise ValueError("Codec-Compare's form needs results of single pictures")
    known = {ours: names for ours, names in CODEC_COMPARE.items() if all(row.get(ours) is not None for row in rows)}
    constants = {
        "name": (f"{first.codec} on {first.dataset}", "Name of this experiment"),
        "codec": (first.codec, "Name of the codec used to generate this data"),
        "version": (first.tag, "Version of the codec used to generate this data"),
        "time": (first.provenance.created_utc or "", "Timestamp of when this data was generated"),
    }
    return {
        "constant_descriptions": [{name: text} for name, (_, text) in constants.items()],
        "constant_values": [value for value, _ in constants.values()],
        "field_descriptions": [{name: text} for name, text in known.values()],
        "field_values": [[row[ours] for ours in known] for row in rows],
    }


def results_from_compressai(record: Mapping[str, Any], where: str, dataset: str) -> list[Result]:
    """Quality results from CompressAI's JSON, which does not name its pictures. Raises BadInput naming the field."""
    name = _typed(record.get("name"), str, where, "name")
    tag = _typed(record.get("description", name), str, where, "description")
    lists = _typed(record.get("results"), dict, where, "results")
    rates = _typed(lists.get("bpp"), list, where, "results.bpp")
    columns: dict[str, list[Any]] = {"bpp": rates}
    for theirs, ours in COMPRESSAI.items():
        if ours not in columns and theirs in lists:
            columns[ours] = _typed(lists[theirs], list, where, f"results.{theirs}")
            if len(columns[ours]) != len(rates):
                raise BadInput(f"{where}: results.{theirs}: {len(columns[ours])} numbers for {len(rates)} rates")
    if "psnr_db" not in columns:
        raise BadInput(f"{where}: results.psnr-rgb: is missing; a result needs bpp and PSNR")
    points = [dict(zip(columns, point, strict=True)) for point in zip(*columns.values(), strict=True)]
    provenance = Provenance(source=f"CompressAI's JSON: {name}")
    return [
        Result("quality", name, tag, _values(p, where, f"results, point {n}", NUMBERS["quality"]), provenance, dataset)
        for n, p in enumerate(points)
    ]


def _provenance(record: Any, where: str, path: str) -> Provenance:
    names = [field.name for field in fields(Provenance)]
    _check_keys(record, names, ("source",), where, path)
    for key, value in record.items():
        kind = {"dirty": bool, "machine": dict}.get(key, str)
        if value is not None or key in ("source", "machine"):
            _typed(value, kind, where, _join(path, key))
    return Provenance(**record)


def _values(record: Any, where: str, path: str, numbers: Sequence[str] = ()) -> dict[str, Any]:
    _typed(record, dict, where, path)
    for key, value in record.items():
        if value is None or (type(value) is float and math.isfinite(value)) or _is_number(value):  # most are floats
            continue
        if isinstance(value, float):
            raise BadInput(f"{where}: {_join(path, key)}: is not finite; write null")
        if key in numbers or not isinstance(value, str | bool):
            raise BadInput(
                f"{where}: {_join(path, key)}: has to be {'a number' if key in numbers else 'plain'} or null"
            )
    if "bpp" in numbers and not (_is_number(record.get("bpp")) and record["bpp"] > 0):
        raise BadInput(f"{where}: {_join(path, 'bpp')}: a rate above zero is needed")
    return dict(record)


def _check_keys(record: Any, known: Sequence[str], required: Sequence[str], where: str, path: str) -> None:
    _typed(record, dict, where, path or "the record")
    for key in record:
        if key not in known:
            raise BadInput(f"{where}: {_join(path, key)}: no such field; known are {', '.join(known)}")
    for key in required:
        if key not in record:
            raise BadInput(f"{where}: {_join(path, key)}: is missing")


def _typed(value: Any, kind: type, where: str, path: str) -> Any:
    if not isinstance(value, kind):
        names = {str: "text", list: "a list", dict: "an object", bool: "true or false"}
        raise BadInput(f"{where}: {path}: has to be {names[kind]}, not {json.dumps(value)[:40]}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
