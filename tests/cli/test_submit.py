"""rdc submit: what adds up comes in, what does not is refused with its field, and nothing is replaced."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Done, Rdc, listing, photo
from rdcodec.measure import submission
from rdcodec.measure.rd import ImageFolder, fingerprint
from rdcodec.measure.speed_worker import Task, pictures
from rdcodec.store.files import SCHEMA, dump_results
from rdcodec.store.records import Provenance, Result

RESULTS = Path(__file__).parents[2] / "docs" / "results"
CODEC = """
import zlib, numpy as np
class Flat:
    version, settings, step = "1", [8, 64], STEP
    def encode(self, image, setting):
        small = image[::self.step, ::self.step] // setting * setting
        return bytes([*divmod(image.shape[0], 256), *divmod(image.shape[1], 256)]) + zlib.compress(small.tobytes())
    def decode(self, data):
        height, width = data[0] * 256 + data[1], data[2] * 256 + data[3]
        small = np.frombuffer(zlib.decompress(data[4:]), np.uint8)
        small = small.reshape(-(-height // self.step), -(-width // self.step), 3)
        return small.repeat(self.step, 0).repeat(self.step, 1)[:height, :width]
"""


@pytest.fixture
def good(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The record of an evaluation of flat.py on two pictures that the leaderboard knows, also in good.json."""
    Path("set").mkdir()
    for seed in range(2):
        photo(192, 176, seed).save(f"set/{seed}.png")
    images = ImageFolder(Path("set"))
    sizes = {name: [image.shape[1], image.shape[0]] for name, image in images.items()}
    known = submission.PictureSet("set", "two pictures", fingerprint(images), sizes)
    monkeypatch.setattr(submission, "picture_sets", lambda: {known.sha256: known})
    Path("flat.py").write_text(CODEC.replace("STEP", "1"))
    assert rdc("eval", "flat.py:Flat", "--data", "set", "-o", "good.json").code == 0
    return dict(json.loads(Path("good.json").read_text()))


def submitted(rdc: Rdc, record: object, *options: str) -> Done:
    Path("r.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return rdc("submit", "r.json", *options)


def test_a_good_one_comes_in_and_is_checked_again_where_it_lies(rdc: Rdc, good: dict[str, Any]) -> None:
    assert submitted(rdc, good, "--check").code == 0 and not Path("leaderboard").exists()
    done = submitted(rdc, good, "--data", "set", "--codec", "flat.py:Flat")
    assert done.code == 0 and "2 pictures at 2 settings coded again" in done.err, done.err
    (name,) = listing(Path("leaderboard"))
    assert name.startswith("flat-1-code-flat.py-") and "--set--" in name and name.endswith(".json")
    assert rdc("submit", "--check", f"leaderboard/{name}").code == 0
    assert len(json.loads(Path("leaderboard", name).read_text())["results"]) == 2
    again = submitted(rdc, good)
    assert again.code == 5 and "already" in again.message and listing(Path("leaderboard")) == [name]


def test_another_measurement_of_the_same_stands_beside_the_first(rdc: Rdc, good: dict[str, Any]) -> None:
    assert submitted(rdc, good).code == 0
    (first,) = listing(Path("leaderboard"))
    kept = Path("leaderboard", first).read_bytes()
    Path("flat.py").write_text(CODEC.replace("STEP", "2"))
    assert rdc("eval", "flat.py:Flat", "--data", "set", "-o", "other.json").code == 0
    other = {**json.loads(Path("other.json").read_text()), "tag": good["tag"]}
    done = submitted(rdc, other)
    assert done.code == 0 and f"differs from leaderboard/{first} at setting 8.0" in done.err
    assert len(listing(Path("leaderboard"))) == 2 and Path("leaderboard", first).read_bytes() == kept


def test_what_was_withdrawn_does_not_come_back_and_what_was_edited_is_found(rdc: Rdc, good: dict[str, Any]) -> None:
    assert submitted(rdc, good).code == 0
    (name,) = listing(Path("leaderboard"))
    Path("leaderboard/withdrawn").mkdir()
    gone = Path("leaderboard", name).rename(f"leaderboard/withdrawn/{name}")
    assert submitted(rdc, good).code == 5
    edited = gone.read_text().replace('"codec": "Flat"', '"codec": "Best"')
    Path("leaderboard", name).write_text(edited)
    done = rdc("submit", "--check", f"leaderboard/{name}")
    assert done.code == 5 and "its content belongs into" in done.message


def test_a_codec_that_gives_other_files_is_found(rdc: Rdc, good: dict[str, Any]) -> None:
    def run(codec: str, folder: str = "set") -> Done:
        return submitted(rdc, good, "--data", folder, "--codec", codec)

    assert "tag: is" in run("jpeg").message
    Path("flat.py").write_text(CODEC.replace("STEP", "2"))
    assert run("flat.py:Flat").code == 5, "other code is another tag"
    again = {**good, "tag": run("flat.py:Flat").message.split("here is '")[1].removesuffix("'\n")}
    done = submitted(rdc, again, "--data", "set", "--codec", "flat.py:Flat")
    assert done.code == 5 and "0.png at 64: file_bytes: is " in done.message
    photo(192, 176, 7).save("set/0.png")
    assert "dataset_sha256: set holds other pictures" in run("flat.py:Flat").message
    assert rdc("submit", "r.json", "--data", "set").code == 2
    assert not Path("leaderboard").exists()


def cell(line: int, column: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    def forge(record: dict[str, Any]) -> None:
        rows = record["rows"]
        at = rows["columns"].index(column)
        rows["values"][line][at] = change(rows["values"][line][at])

    return forge


def put(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def forge(record: dict[str, Any]) -> None:
        for key in path[:-1]:
            record = record[key]
        record[path[-1]] = value

    return forge


@pytest.mark.parametrize(
    ("forge", "code", "field"),
    [
        (cell(0, "file_bytes", lambda value: value // 2), 5, "curve.bpp[0]: is "),
        (cell(0, "file_bytes", lambda value: 0), 3, "rows[0].file_bytes: 0"),
        (cell(0, "file_bytes", str), 3, "rows[0].file_bytes: "),
        (cell(1, "psnr_db", lambda value: value + 1), 5, "curve.psnr_db[1]: is "),
        (cell(1, "psnr_db", lambda value: 0.4), 3, "rows[0].psnr_db: 0.4 is not plausible"),
        (cell(0, "width", lambda value: 2 * value), 5, "rows[0].width: 0.png has 192x176"),
        (cell(0, "image", lambda value: "lena.png"), 3, "rows: means need"),
        (cell(0, "ms_ssim", lambda value: [value]), 3, "rows[0].ms_ssim: ["),
        (put([9.0, 9.0], "curve", "bpp"), 5, "curve.bpp[0]: is 9.0, but the rows say"),
        (put([1.0], "curve", "psnr_db"), 5, "curve.psnr_db: has to be a list of 2"),
        (put("ab" * 32, "dataset", "sha256"), 3, "provenance.dataset_sha256: unknown pictures"),
        (put({}, "machine"), 3, "provenance.machine.arch: is missing"),
        (put(None, "command"), 3, "provenance.command: is missing"),
        (put("", "tag"), 3, "tag: name the codec"),
        (put(3, "codec"), 3, "codec: is missing or of another type"),
        (put([[1, 2]], "rows", "values"), 3, "rows[0]: has to be a list of"),
    ],
)
def test_a_forged_evaluation_is_refused_with_its_field(
    rdc: Rdc, good: dict[str, Any], forge: Callable[[dict[str, Any]], None], code: int, field: str
) -> None:
    forge(good)
    done = submitted(rdc, good)
    assert done.code == code and field in done.message, done.err
    assert not Path("leaderboard").exists()


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", "no JSON"),
        ("[1]", "no object"),
        ('{"temperature": 3}', "codec: is missing"),
        ('{"schema": "other/1"}', "schema: 'other/1' is not known"),
        ('{"schema": "rdcodec.evaluation/1"}', "codec: is missing"),
        (f'{{"schema": "{SCHEMA}", "results": []}}', "results: there is none"),
        ('{"codec": "x", "dataset": "kodak", "source": "y", "bpp": [1.0], "psnr_rgb": [30.0]}', "dataset_sha256"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused(rdc: Rdc, work: Path, text: str, field: str) -> None:
    done = submitted(rdc, text)
    assert done.code == 3 and field in done.message and not Path("leaderboard").exists()


def exported(rdc: Rdc) -> list[dict[str, Any]]:
    assert rdc("results", "import", "good.json", "--store", "s.db").code == 0
    assert rdc("results", "export", "--store", "s.db", "-o", "all.json").code == 0
    return list(json.loads(Path("all.json").read_text())["results"])


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"values": {"bpp": 1.0}}, 5, "results[0]: values.bpp: is 1.0, but the rows say"),
        ({"values": {"psnr_db": 300.0}}, 3, "results[0]: values.psnr_db: 300 is not plausible"),
        ({"values": {"estimated": True}}, 3, "results[0]: values.estimated: "),
        ({"rows": []}, 5, "results[0]: rows: not each of the 2 pictures"),
    ],
)
def test_a_forged_export_is_refused(
    rdc: Rdc, good: dict[str, Any], change: dict[str, Any], code: int, field: str
) -> None:
    entries = exported(rdc)
    assert submitted(rdc, {"schema": SCHEMA, "results": entries}, "--check").code == 0
    first = entries[0]
    values = {**first["values"], **change.get("values", {})}
    forged = {**first, **change, "values": values}
    done = submitted(rdc, {"schema": SCHEMA, "results": [forged, *entries[1:]]})
    assert done.code == code and field in done.message, done.err
    row = {**first["rows"][0], "file_bytes": first["rows"][0]["file_bytes"] - 9}
    done = submitted(rdc, {"schema": SCHEMA, "results": [{**first, "rows": [row, *first["rows"][1:]]}]})
    assert done.code == 5 and "rows[0].bpp: is " in done.message
    twice = submitted(rdc, {"schema": SCHEMA, "results": [*entries, first]})
    assert twice.code == 5 and "results[2]: is results[0] once more" in twice.message
    assert not Path("leaderboard").exists()


def test_speeds_and_counts_have_to_add_up() -> None:
    (photograph,) = (known for known in submission.picture_sets().values() if known.name.startswith("astronaut"))
    machine = {"arch": "x86_64", "os": "Linux", "python": "3.11", "cpu": "a CPU"}
    origin = Provenance("rdcodec", "2026-01-02T03:04:05+00:00", "rdc bench", package="0.1.0", machine=machine)
    origin = replace(origin, dataset_sha256=photograph.sha256)
    values = {"mpx": 0.393216, "pictures": 1, "decode_s": 0.1, "decode_mpx_per_s": 3.9322}
    speed = Result("speed", "J", "J.6", values, origin, photograph.name)
    submission.check_result(speed, "here")
    for key, value in (("decode_mpx_per_s", 4.2), ("decode_s", 0.01)):
        with pytest.raises(submission.CheckFailed, match=r"values\.decode_mpx_per_s"):
            submission.check_result(replace(speed, values={**values, key: value}), "here")
    for wrong in ({"decode_mpx_per_s": -1.0}, {"decode_mpx_per_s": 1e9}, {"decode_mpx_per_s": 0}):
        with pytest.raises(submission.BadInput, match="plausible"):
            submission.check_result(replace(speed, values={**values, **wrong}), "here")
    parts = ({"part": "a", "kflops_per_px": 1.0}, {"part": "b", "kflops_per_px": 2.0})
    count = Result("count", "J", "J", {"kflops_per_px": 3.0}, Provenance("rdcodec"), rows=parts)
    submission.check_result(count, "here")
    with pytest.raises(submission.CheckFailed, match=r"kflops_per_px: is 2\.0, but its parts say 3"):
        submission.check_result(replace(count, values={"kflops_per_px": 2.0}), "here")
    names = list(submission.files_of([speed, count]))
    assert [name.rsplit("--", 1)[0] for name in names] == [f"j.6--{photograph.name}--a-cpu", "j"]
    assert json.loads(dump_results([speed]))["results"]


def test_the_known_photograph_is_what_bench_takes() -> None:
    images, name = pictures(Task())
    known = submission.picture_sets()[fingerprint(images)]
    assert known.name == name and list(known.pictures) == list(images)


@pytest.mark.skipif(not RESULTS.is_dir(), reason="no checkout")
@pytest.mark.parametrize("name", ["kodak-J.json", "clic-webp.json", "bench.json", "models.json"])
def test_published_results_pass(name: str) -> None:
    assert submission.read_submission(RESULTS / name)
