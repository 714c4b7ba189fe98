"""Rows, means and result files, on a codec whose rate and distortion are known in advance."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from made_up import metrics
from rdcodec.errors import BadInput, CheckFailed, RdcError
from rdcodec.measure.anchors import ANCHORS
from rdcodec.measure.bdrate import bd_rate
from rdcodec.measure.machine import machine
from rdcodec.measure.rd import Evaluation, ImageFolder, Row, evaluate, fingerprint, mean_curve, means
from rdcodec.measure.reading import builtin_curves, load_curve, read_results
from rdcodec.metrics import psnr_db

Picture = NDArray[np.uint8]


class Offset:
    """Raw pixels `setting` levels too high, padded to cost more the closer they are; 0 is lossless."""

    def encode(self, image: Picture, setting: int, /) -> bytes:
        shape = np.array(image.shape[:2], np.uint16).tobytes()
        return shape + (image + np.uint8(setting)).tobytes() + bytes(10 * (100 - setting))

    def decode(self, data: bytes, /) -> Picture:
        height, width = np.frombuffer(data[:4], np.uint16)
        pixels = np.frombuffer(data[4:], np.uint8, int(height) * int(width) * 3)
        return pixels.reshape(height, width, 3)


class SingleRate:
    """Lossless, without settings."""

    def encode(self, image: Picture, setting: None, /) -> bytes:
        return Offset().encode(image, 0)

    def decode(self, data: bytes, /) -> Picture:
        return Offset().decode(data)


IMAGES = {
    "a.png": np.random.default_rng(0).integers(0, 200, (20, 30, 3), np.uint8),
    "b.png": np.random.default_rng(1).integers(0, 200, (16, 16, 3), np.uint8),
}
POINTS = (20, 10, 5, 2, 1)


def _stamped(rows: list[Row]) -> Evaluation:
    return Evaluation.stamp(rows, codec="Offset", tag="offset 1", dataset="two", images=IMAGES)


def test_rows_are_what_the_codec_did() -> None:
    rows = evaluate(Offset(), IMAGES, POINTS)
    assert [(row.image, row.setting) for row in rows] == [(name, q) for name in IMAGES for q in POINTS]
    first = rows[0]
    assert (first.width, first.height) == (30, 20)
    assert first.file_bytes == 4 + 20 * 30 * 3 + 800
    assert first.bpp == 8 * first.file_bytes / 600
    assert first.quality["psnr_db"] == pytest.approx(20 * math.log10(255 / 20)) == first.quality["psnr_y_db"]
    assert first.quality["ms_ssim"] is None
    assert first.enc_s is not None and first.enc_s > 0 and first.dec_s is not None and first.dec_s > 0


def test_jobs_change_nothing_but_the_times() -> None:
    alone, together = evaluate(Offset(), IMAGES, POINTS), evaluate(Offset(), IMAGES, POINTS, jobs=3)
    assert together == [replace(row, enc_s=None, dec_s=None) for row in alone]


@pytest.mark.parametrize("jobs", [1, 2])
def test_progress_sees_every_row(jobs: int) -> None:
    seen: list[Row] = []
    rows = evaluate(Offset(), IMAGES, POINTS, progress=seen.append, jobs=jobs)
    assert sorted(map(repr, seen)) == sorted(map(repr, rows))


def test_images_in_a_list_are_numbered() -> None:
    rows = evaluate(SingleRate(), list(IMAGES.values()), [None])
    assert [(row.image, row.setting, row.quality["psnr_db"]) for row in rows] == [
        ("0000", None, math.inf),
        ("0001", None, math.inf),
    ]


@pytest.mark.parametrize("bad", [np.zeros((20, 29, 3), np.uint8), np.zeros((20, 30, 3), np.float32)])
def test_a_codec_that_returns_another_image_is_caught(bad: Picture) -> None:
    class Broken(Offset):
        def decode(self, data: bytes, /) -> Picture:
            return bad

    with pytest.raises(CheckFailed, match=r"a\.png at 5"):
        evaluate(Broken(), IMAGES, [5])


def test_means_are_over_images_and_psnr_is_averaged_in_db() -> None:
    class Uneven(Offset):
        """Twice as far off on the smaller image."""

        def encode(self, image: Picture, setting: int, /) -> bytes:
            return super().encode(image, setting * (2 if image.shape[0] == 16 else 1))

    rows = evaluate(Uneven(), IMAGES, [10])
    (mean,) = means(rows)
    assert mean["psnr_db"] == pytest.approx(10 * math.log10(255**2 / (10 * 20)))
    assert mean["bpp"] == pytest.approx((rows[0].bpp + rows[1].bpp) / 2)
    assert mean["setting"] == 10 and mean["ms_ssim"] is None


def test_ms_ssim_in_db_is_that_of_the_mean_wherever_it_is_read(tmp_path: Path) -> None:
    """Of a published curve nothing but the mean is known; one convention makes curves comparable."""
    rows = [
        Row(name, 8, 8, q, 100 + q, metrics(30.0 + q, 30.0, s), 1.0, 1.0)
        for q in (1, 2)
        for name, s in (("a", 0.99), ("b", 0.9))
    ]
    mean, _ = means(rows)
    assert mean["ms_ssim_db"] == pytest.approx(-10 * math.log10(1 - 0.945))
    evaluation = _stamped(rows)
    evaluation.save(tmp_path / "a.json")
    assert load_curve(tmp_path / "a.json", "ms_ssim").psnr_db[0] == pytest.approx(mean["ms_ssim_db"])
    assert evaluation.results()[0].values["ms_ssim_db"] == pytest.approx(mean["ms_ssim_db"], abs=1e-6)


def test_times_are_medians_of_a_codec_that_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that starts up with its first picture, on a clock of its own."""
    now = [0.0]
    monkeypatch.setattr("rdcodec.measure.rd.time.perf_counter", lambda: now[0])

    class Cold(Offset):
        started = False

        def encode(self, image: Picture, setting: int, /) -> bytes:
            now[0] += 2.0 if self.started else 600.0
            return super().encode(image, setting)

        def decode(self, data: bytes, /) -> Picture:
            now[0] += 1.0 if self.started else 300.0
            self.started = True
            return super().decode(data)

    seen: list[Row] = []
    rows = evaluate(Cold(), IMAGES, POINTS, progress=seen.append)
    assert {(row.enc_s, row.dec_s) for row in rows} == {(2.0, 1.0)} and len(seen) == len(rows)
    (again,) = evaluate(Cold(), {"a.png": IMAGES["a.png"]}, POINTS[:1], done=rows[:1])
    assert again == rows[0] and now[0] == 900 + 3 * len(rows)  # nothing left to measure: no warm-up
    slow = [replace(rows[0], image=str(n), dec_s=seconds) for n, seconds in enumerate((1.0, 1.0, 70.0))]
    assert means(slow)[0]["dec_s"] == 1.0


def test_mean_curve_rises_and_leaves_the_lossless_setting_out() -> None:
    curve = mean_curve(evaluate(Offset(), IMAGES, (0, *POINTS)), "offset")
    assert curve.psnr_db == pytest.approx([20 * math.log10(255 / q) for q in POINTS])
    assert curve.bpp == tuple(sorted(curve.bpp))


def test_no_mean_of_different_images() -> None:
    rows = evaluate(Offset(), IMAGES, POINTS)
    for some in (rows[:-1], []):
        with pytest.raises(ValueError, match="same images at every setting"):
            means(some)


def test_result_file_comes_back(tmp_path: Path) -> None:
    result = _stamped(evaluate(Offset(), IMAGES, (0, *POINTS)))
    result.save(tmp_path / "result.json")
    back = Evaluation.load(tmp_path / "result.json")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert replace(back, rows=()) == replace(result, rows=())
    for old, new in zip(result.rows, back.rows, strict=True):
        assert new == replace(
            old,
            quality={name: value and round(value, 6) for name, value in old.quality.items()},
            enc_s=round(old.enc_s or 0, 6),
            dec_s=round(old.dec_s or 0, 6),
        )


def test_result_file_is_a_curve(tmp_path: Path) -> None:
    result = _stamped(evaluate(Offset(), IMAGES, (0, *POINTS)))
    result.save(tmp_path / "result.json")
    curve = load_curve(tmp_path / "result.json")
    assert curve.name == "Offset"
    assert bd_rate(curve, result.curve()).value == pytest.approx(0, abs=1e-3)


def test_a_result_has_one_id_from_the_run_and_from_its_file(tmp_path: Path) -> None:
    """`rdc eval --store` and a later import of its file keep one result, not two."""
    rows = evaluate(Offset(), IMAGES, POINTS)
    odd = [
        replace(row, quality={**row.quality, "psnr_db": (row.quality["psnr_db"] or 0) + 4e-7 * n})
        for n, row in enumerate(rows)
    ]
    evaluation = _stamped(odd)
    evaluation.save(tmp_path / "result.json")
    assert [r.id for r in read_results(tmp_path / "result.json")] == [r.id for r in evaluation.results()]


def test_result_file_is_strict_json_and_says_what_was_run(tmp_path: Path) -> None:
    _stamped(evaluate(SingleRate(), IMAGES, [None])).save(tmp_path / "result.json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)
    assert record["schema"] == "rdcodec.evaluation/1"
    assert (record["codec"], record["tag"], record["jobs"]) == ("Offset", "offset 1", 1)
    assert record["dataset"] == {"name": "two", "images": 2, "sha256": fingerprint(IMAGES)}
    assert record["curve"]["psnr_db"] == [None] and record["curve"]["setting"] == [None]
    assert record["machine"]["torch"] and record["created_utc"].endswith("+00:00")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": "other"}', '{"schema": "rdcodec.evaluation/1"}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"result\.json: not a result file"):
        Evaluation.load(path)


def test_result_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RdcError, match="check the path"):
        Evaluation.load(tmp_path / "result.json")


def test_fingerprint_sees_names_shapes_and_pixels() -> None:
    a = IMAGES["a.png"]
    changed = a.copy()
    changed[0, 0, 0] ^= 1
    others = [{"b": a}, {"a": a.reshape(30, 20, 3)}, {"a": changed}, {"a": a, "b": a}]
    prints = {fingerprint(images) for images in ({"a": a}, *others)}
    assert len(prints) == 5
    assert fingerprint({"a": a}) == fingerprint({"a": np.asfortranarray(a)})


def test_folder_of_images(tmp_path: Path) -> None:
    for name, image in IMAGES.items():
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "SHA256SUMS").write_text("")
    folder = ImageFolder(tmp_path)
    assert list(folder) == ["a.png", "b.png"]
    assert fingerprint(folder) == fingerprint(IMAGES)
    assert evaluate(Offset(), folder, [3])[1].quality["psnr_db"] == pytest.approx(20 * math.log10(255 / 3))


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no image in it"):
        ImageFolder(tmp_path)
    with pytest.raises(RdcError, match="give a folder"):
        ImageFolder(tmp_path / "nowhere")


def test_anchor_on_a_list_of_arrays() -> None:
    anchor = ANCHORS["jpeg"]
    smooth = [np.asarray(Image.fromarray(image).resize((64, 48))) for image in IMAGES.values()]
    rows = evaluate(anchor, smooth, anchor.settings)
    assert len(mean_curve(rows, anchor.name).bpp) == len(anchor.settings)
    assert rows[0].quality["psnr_db"] == psnr_db(smooth[0], anchor.decode(anchor.encode(smooth[0], anchor.settings[0])))


@pytest.mark.parametrize("name", [name for name in builtin_curves() if name.startswith("kodak_")])
def test_local_curve_is_the_mean_of_its_rows(name: str) -> None:
    result = Evaluation.load(Path(str(builtin_curves()[name])))
    assert result.dataset["images"] == 24 == len({row.image for row in result.rows})
    stored = load_curve(name)
    assert result.curve().bpp == pytest.approx(stored.bpp, abs=1e-6)
    assert result.curve().psnr_db == pytest.approx(stored.psnr_db, abs=1e-5)


def test_machine_record_is_json_without_paths_or_host() -> None:
    import platform

    text = json.dumps(machine())
    assert str(Path.home()) not in text and str(Path.cwd()) not in text
    assert not platform.node() or platform.node() not in text
    assert machine()["cores"] >= 1 and machine()["threads"] >= 1


def test_a_metric_of_another_version_is_named(tmp_path: Path) -> None:
    _stamped(evaluate(Offset(), IMAGES, POINTS)).save(tmp_path / "result.json")
    text = (tmp_path / "result.json").read_text("utf-8").replace('"ms_ssim", "enc_s"', '"nearness", "enc_s"')
    (tmp_path / "result.json").write_text(text, "utf-8")
    with pytest.raises(BadInput, match=r"this version knows no nearness"):
        Evaluation.load(tmp_path / "result.json")
