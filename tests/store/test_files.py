"""Files of results: what is written is read again, and what is wrong is named by its field."""

import csv
import io
import json
from dataclasses import fields, replace
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdcodec.errors import BadInput
from rdcodec.metrics import METRICS
from rdcodec.store.files import (
    SCHEMA,
    codec_compare_record,
    compressai_record,
    dump_results,
    result_from_dict,
    results_csv,
    results_from_compressai,
    results_from_record,
)
from rdcodec.store.records import KINDS, Provenance, Result

PUBLISHED = resources.files("rdcodec.store") / "results.schema.json"
RECORD: dict[str, Any] = {
    "kind": "quality",
    "codec": "I",
    "tag": "I.1",
    "dataset": "kodak",
    "setting": 10,
    "values": {"bpp": 0.5, "psnr_db": None},
    "rows": [{"image": "1.png", "bpp": 0.5}],
    "provenance": {"source": "rdcodec", "machine": {"isa": ["avx2"]}, "dirty": False},
}

values = st.dictionaries(
    st.text(min_size=1, max_size=8), st.none() | st.booleans() | st.text(max_size=8) | st.floats(-1e9, 1e9), max_size=4
)
results = st.builds(
    Result,
    kind=st.just("count"),
    codec=st.text(min_size=1),
    tag=st.text(),
    values=values.filter(lambda v: "parameters" not in v),
    provenance=st.builds(Provenance, source=st.text(), commit=st.none() | st.text(), dirty=st.none() | st.booleans()),
    dataset=st.text(),
    setting=st.none() | st.floats(0, 100),
    rows=st.lists(values, max_size=3).map(tuple),
)


@given(st.lists(results, max_size=3))
def test_json_round_trip(found: list[Result]) -> None:
    again = results_from_record(json.loads(dump_results(found)), "a.json")
    assert again == found and [r.id for r in again] == [r.id for r in found]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("kind",), "speeed", "results[0].kind: 'speeed' is none of"),
        (("codec",), 3, "results[0].codec: has to be text"),
        (("codec",), None, "results[0].codec: has to be text"),
        (("setting",), "q10", "results[0].setting: has to be a number"),
        (("colour",), 1, "results[0].colour: no such field"),
        (("values",), [1], "results[0].values: has to be an object"),
        (("values", "bpp"), "0.5", "results[0].values.bpp: has to be a number"),
        (("values", "bpp"), 0, "results[0].values.bpp: a rate above zero"),
        (("values", "bpp"), True, "results[0].values.bpp: has to be a number"),
        (("values", "psnr_db"), float("inf"), "results[0].values.psnr_db: is not finite"),
        (("values", "more"), {"a": 1}, "results[0].values.more: has to be plain"),
        (("rows",), {"a": 1}, "results[0].rows: has to be a list"),
        (("rows", 0), 3, "results[0].rows[0]: has to be an object"),
        (("rows", 0, "bpp"), [1], "results[0].rows[0].bpp: has to be plain"),
        (("provenance", "source"), None, "results[0].provenance.source: has to be text"),
        (("provenance", "machine"), "x", "results[0].provenance.machine: has to be an object"),
        (("provenance", "dirty"), "no", "results[0].provenance.dirty: has to be true or false"),
        (("provenance", "who"), "me", "results[0].provenance.who: no such field"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[Any, ...], value: Any, words: str) -> None:
    record = json.loads(json.dumps(RECORD))
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(BadInput) as caught:
        results_from_record({"schema": SCHEMA, "results": [record]}, "a.json")
    assert str(caught.value).startswith(f"a.json: {words}")


@pytest.mark.parametrize("key", ["kind", "codec", "tag", "values", "provenance"])
def test_a_missing_field_is_named(key: str) -> None:
    record = {name: value for name, value in RECORD.items() if name != key}
    with pytest.raises(BadInput, match=f"a.json: {key}: is missing"):
        result_from_dict(record, "a.json")
    with pytest.raises(BadInput, match=r"schema: 'rdcodec.results/2' is not"):
        results_from_record({"schema": "rdcodec.results/2", "results": []}, "a.json")


def test_csv_has_a_column_for_every_value() -> None:
    one = result_from_dict(RECORD, "")
    other = Result("speed", "J", "J.1", {"decode_s": 0.5}, Provenance("rdcodec"))
    rows = list(csv.DictReader(io.StringIO(results_csv([one, other]))))
    assert [row["bpp"] for row in rows] == ["0.5", ""] and [row["decode_s"] for row in rows] == ["", "0.5"]
    assert [row["id"] for row in rows] == [one.id, other.id]


def quality(setting: float, **figures: float | None) -> Result:
    return Result("quality", "I", "I.1", figures, Provenance("rdcodec"), "kodak", setting)


def test_compressai_round_trip() -> None:
    high = quality(2, bpp=0.5, psnr_db=32.0, ms_ssim=0.9, enc_s=1.0, dec_s=None)
    low = quality(1, bpp=0.2, psnr_db=30.0, ms_ssim=0.8, enc_s=2.0, dec_s=0.1)
    record = compressai_record([high, low])
    assert record["name"] == "I" and record["results"] == {
        "bpp": [0.2, 0.5],
        "psnr-rgb": [30.0, 32.0],
        "ms-ssim-rgb": [0.8, 0.9],
        "encoding_time": [2.0, 1.0],
    }
    again = results_from_compressai(record, "a.json", "kodak")
    assert compressai_record(again)["results"] == record["results"]
    assert [r.values["ms_ssim"] for r in again] == [0.8, 0.9] and again[0].dataset == "kodak"
    older = {"name": "x", "description": "", "results": {"bpp": [1.0], "psnr": [33.0], "ms-ssim": [0.99]}}
    (found,) = results_from_compressai(older, "a.json", "kodak")
    assert found.values == {"bpp": 1.0, "psnr_db": 33.0, "ms_ssim": 0.99}
    with pytest.raises(ValueError, match="one codec"):
        compressai_record([high, Result("quality", "J", "J.1", {"bpp": 1.0}, Provenance("x"), "kodak")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, "name: has to be text"),
        ({"results": {"psnr": [1.0]}}, "results.bpp: has to be a list"),
        ({"results": {"bpp": [1.0]}}, "results.psnr-rgb: is missing"),
        ({"results": {"bpp": [1.0], "psnr": [1.0, 2.0]}}, "results.psnr: 2 numbers for 1 rates"),
        ({"results": {"bpp": [1.0], "psnr": ["x"]}}, "results, point 0.psnr_db: has to be a number"),
    ],
)
def test_a_wrong_compressai_file(change: dict[str, Any], words: str) -> None:
    record = {"name": "x", "description": "y", "results": {"bpp": [1.0], "psnr": [30.0]}}
    with pytest.raises(BadInput) as caught:
        results_from_compressai(record | change, "a.json", "kodak")
    assert str(caught.value).startswith(f"a.json: {words}")


def test_the_published_schema_says_the_same() -> None:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    of_result, of_provenance = (schema["$defs"][name]["properties"] for name in ("result", "provenance"))
    assert set(of_result) == {field.name for field in fields(Result)}
    assert set(of_provenance) == {field.name for field in fields(Provenance)}
    assert tuple(of_result["kind"]["enum"]) == KINDS and schema["properties"]["schema"]["const"] == SCHEMA
    of_quality = schema["$defs"]["result"]["allOf"][0]["then"]["properties"]["values"]["properties"]
    assert {metric.name for metric in METRICS} <= set(of_quality)


def test_the_published_schema_takes_what_is_written_and_refuses_what_is_not_read() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.validate(json.loads(dump_results([result_from_dict(RECORD, "")])), schema)
    for wrong in ({"kind": "x"}, {"values": {"bpp": "0.5"}}, {"more": 1}, {"provenance": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema": SCHEMA, "results": [RECORD | wrong]}, schema)


def test_codec_compare_has_a_line_for_each_picture() -> None:
    rows = [{"image": f"{n}.png", "width": 8, "height": 4, "file_bytes": 9 + n, "psnr_db": 30.0 + n} for n in range(2)]
    values = {"bpp": 1.0, "psnr_db": 30.5}
    found = [
        Result("quality", "x", "x 1", values, Provenance("rdcodec"), "photos", setting, tuple(rows))
        for setting in (1, 2)
    ]
    record = codec_compare_record(found)
    assert set(record) == {"constant_descriptions", "constant_values", "field_descriptions", "field_values"}
    assert len(record["constant_descriptions"]) == len(record["constant_values"])
    names = [name for field in record["field_descriptions"] for name in field]
    assert names == ["original_name", "width", "height", "quality", "encoded_size", "psnr"]
    assert [dict(zip(names, line, strict=True))["quality"] for line in record["field_values"]] == [1, 1, 2, 2]
    assert record["field_values"][1] == ["1.png", 8, 4, 1, 10, 31.0]
    for wrong in ([replace(found[0], codec="y"), found[1]], [replace(found[0], rows=())]):
        with pytest.raises(ValueError, match="Codec-Compare"):
            codec_compare_record(wrong)
