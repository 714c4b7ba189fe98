"""compress, decompress, info: files to files, pipes, folders, jobs, targets."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from torch import Tensor

import rdcodec
from conftest import Pipe, Rdc, command, listing, photo, shell
from rdcodec.codec import refine
from rdcodec.codec.container import read_header
from rdcodec.codec.image import read_image


def test_there_and_back(rdc: Rdc, picture: Path) -> None:
    done = rdc("compress", picture, "-q", "37.5")
    assert done.code == 0 and done.out == ""
    coded = picture.with_suffix(".rdc")
    size = coded.stat().st_size
    bpp = size * 8 / (70 * 50)
    assert done.err.startswith(f"{coded}  {size} B  {bpp:.3f} bpp  70x50  I q37.5  enc ")
    assert read_header(coded.read_bytes()).header.quality == 375

    done = rdc("decompress", coded, "-o", "back.png")
    assert done.code == 0 and "70x50  I q37.5  dec " in done.err
    assert np.array_equal(read_image(Path("back.png")), rdcodec.decompress(coded.read_bytes()))


def test_the_quality_is_50_unless_given(rdc: Rdc, coded: Path) -> None:
    assert read_header(coded.read_bytes()).header.quality == 500


@pytest.mark.parametrize("suffix", ["jpg", "webp", "ppm", "npy", "png"])
def test_suffix_or_format_choose_the_picture_format(rdc: Rdc, coded: Path, suffix: str) -> None:
    assert rdc("decompress", coded, "-o", f"by_suffix.{suffix}").code == 0
    name = "jpeg" if suffix == "jpg" else suffix
    assert rdc("decompress", coded, "-o", "folder/", "--format", name).code == 0
    by_suffix, by_format = Path(f"by_suffix.{suffix}"), Path(f"folder/photo.{suffix}")
    assert by_suffix.read_bytes() == by_format.read_bytes()
    assert read_image(by_suffix).shape == (50, 70, 3)


def test_quality_of_a_lossy_output(rdc: Rdc, coded: Path) -> None:
    for quality in (10, 90):
        assert rdc("decompress", coded, "-o", f"{quality}.jpg", "--quality", quality).code == 0
    assert Path("10.jpg").stat().st_size < Path("90.jpg").stat().st_size
    assert rdc("decompress", coded, "--format", "png", "--quality", "90").code == 2


def test_pipes_in_this_process(rdc: Rdc, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rdc("compress", picture)
    monkeypatch.setattr(sys, "stdin", Pipe(picture.read_bytes()))
    done = rdc("compress", "-")
    assert done.out.encode("utf-8", "surrogateescape") == picture.with_suffix(".rdc").read_bytes()
    monkeypatch.setattr(sys, "stdin", Pipe(picture.with_suffix(".rdc").read_bytes()))
    done = rdc("decompress", "-", "--format", "ppm")
    assert done.code == 0 and done.out.startswith("P6\n70 50\n255\n")
    assert done.err.startswith("standard output  ")


def test_pipes_between_processes(work: Path, picture: Path) -> None:
    coded = shell("compress", "-", input=picture.read_bytes())
    assert coded.returncode == 0
    decoded = shell("decompress", "-", "-o", "-", "--format", "png", input=coded.stdout)
    assert decoded.returncode == 0
    assert np.array_equal(read_image(decoded.stdout), rdcodec.decompress(coded.stdout))


def test_dash_as_one_of_the_ends(rdc: Rdc, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(picture.read_bytes()))
    assert rdc("compress", "-", "-o", "in.rdc").code == 0
    done = rdc("compress", picture, "-o", "-")
    assert done.out.encode("utf-8", "surrogateescape") == Path("in.rdc").read_bytes()


def test_a_folder_and_an_output_folder(rdc: Rdc, work: Path) -> None:
    (work / "in").mkdir()
    for seed, name in enumerate(("b.png", "a.jpg", "c.PPM")):
        photo(seed=seed).save(work / "in" / name)
    (work / "in" / "notes.txt").write_text("no picture")
    done = rdc("compress", "in", "-o", "out/deep")
    assert done.code == 0
    assert listing(work / "out" / "deep") == ["a.rdc", "b.rdc", "c.rdc"]
    lines = done.err.splitlines()
    assert [line.split()[0] for line in lines[:3]] == [f"out/deep/{name}.rdc" for name in "abc"]
    total = sum(Path(f"out/deep/{name}.rdc").stat().st_size for name in "abc")
    assert lines[3].startswith(f"3 files  {total} B  ")

    assert rdc("decompress", "out/deep", "-o", "back").code == 0
    assert listing(work / "back") == ["a.png", "b.png", "c.png"]


def test_jobs_write_the_same_files(rdc: Rdc, work: Path) -> None:
    names = ["a.png", "b.png", "c.png"]
    for seed, name in enumerate(names):
        photo(seed=seed).save(name)
    Path("d.png").write_bytes(b"no picture")
    assert rdc("compress", *names, "d.png", "-o", "one", "--threads", "1").code == 3
    done = rdc("compress", *names, "d.png", "-o", "two", "--jobs", "2", "--threads", "2")
    assert done.code == 3 and "1 failed" in done.err
    assert listing(work / "one") == listing(work / "two") == ["a.rdc", "b.rdc", "c.rdc"]
    for name in listing(work / "one"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_several_files_go_on_after_a_failure(rdc: Rdc, work: Path) -> None:
    photo().save("a.png")
    photo().save("d.png")
    Path("b.png").write_bytes(b"no picture")
    done = rdc("compress", "a.png", "b.png", "missing.png", "d.png")
    assert done.code == 3, "the first failure decides"
    assert Path("a.rdc").is_file() and Path("d.rdc").is_file() and not Path("b.rdc").exists()
    errors = [line for line in done.err.splitlines() if line.startswith("rdc: ")]
    assert [error.split(": ")[1] for error in errors] == ["b.png", "missing.png"]
    assert done.err.splitlines()[-1].endswith("2 failed")


def test_json_lines(rdc: Rdc, work: Path) -> None:
    photo().save("a.png")
    Path("b.png").write_bytes(b"")
    done = rdc("compress", "a.png", "b.png", "--json", "--verify", "-q", "60")
    first, second = map(json.loads, done.out.splitlines())
    assert first["schema"] == "rdcodec.compress/1"
    assert first["file_bytes"] == Path("a.rdc").stat().st_size
    assert (first["width"], first["height"], first["model"], first["quality"]) == (70, 50, "I.999", 60)
    assert first["verified"] is True and first["psnr_db"] > 0 and first["enc_s"] > 0
    assert second == {
        "schema": "rdcodec.error/1",
        "input": "b.png",
        "message": "b.png: is empty",
        "exit_code": 3,
    }
    record = json.loads(rdc("decompress", "a.rdc", "-o", "back.png", "--json").out)
    assert record["schema"] == "rdcodec.decompress/1" and record["format"] == "png" and record["dec_s"] > 0


def test_targets(rdc: Rdc, work: Path) -> None:
    from rdcodec.metrics import psnr_db

    photo(256, 192).save("a.png")
    image = read_image(Path("a.png"))
    ends = {}
    for quality in (0, 100):
        assert rdc("compress", "a.png", "-o", f"{quality}.rdc", "-q", quality).code == 0
        data = Path(f"{quality}.rdc").read_bytes()
        ends[quality] = (len(data), psnr_db(image, rdcodec.decompress(data)))
    middle = (ends[0][0] + ends[100][0]) // 2
    assert rdc("compress", "a.png", "-o", "size.rdc", "--target-size", middle).code == 0
    assert Path("size.rdc").stat().st_size <= middle
    bpp = middle * 8 / (256 * 192)
    assert rdc("compress", "a.png", "-o", "bpp.rdc", "--target-bpp", bpp).code == 0
    assert Path("bpp.rdc").read_bytes() == Path("size.rdc").read_bytes()
    target = ends[0][1] * 0.5 + ends[100][1] * 0.5
    done = rdc("compress", "a.png", "-o", "psnr.rdc", "--target-psnr", target)
    assert done.code == 0 and " dB  " in done.err
    assert psnr_db(image, rdcodec.decompress(Path("psnr.rdc").read_bytes())) >= target

    done = rdc("compress", "a.png", "-o", "none.rdc", "--target-size", "45")
    assert done.code == 1 and "out of reach" in done.message and not Path("none.rdc").exists()


def test_info_reads_the_header(rdc: Rdc, coded: Path) -> None:
    done = rdc("info", coded)
    assert done.code == 0 and done.err == ""
    header = read_header(coded.read_bytes()).header
    for text in (
        coded,
        "70x50",
        "I.999, quality 50",
        f"{coded.stat().st_size} B",
        header.synthesis_hash.hex(),
    ):
        assert str(text) in done.out
    record = json.loads(rdc("info", coded, "--json").out)
    assert record["header_bytes"] + record["stream_bytes"] == record["file_bytes"] == coded.stat().st_size
    assert record["missing_bytes"] == 0 and record["sections"] == []
    assert "every checksum holds" in rdc("info", coded, "--check").out


def test_info_tells_header_from_stream(rdc: Rdc, coded: Path) -> None:
    data = bytearray(coded.read_bytes())
    Path("short.rdc").write_bytes(data[:-3])
    data[-1] ^= 1
    Path("hurt.rdc").write_bytes(data)
    data[8] ^= 1
    Path("head.rdc").write_bytes(data)
    assert rdc("info", "hurt.rdc").code == 0
    assert "3 missing" in rdc("info", "short.rdc").out
    for name in ("hurt.rdc", "short.rdc"):
        done = rdc("info", name, "--check")
        assert done.code == 5 and done.message.startswith(f"rdc: {name}: ")
    for option in ([], ["--check"]):
        assert rdc("info", "head.rdc", *option).code == 3


def test_grey_and_turned_pictures_arrive(rdc: Rdc, work: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(64, 32).convert("L").save("grey.jpg", exif=exif)
    assert rdc("compress", "grey.jpg").code == 0
    header = read_header(Path("grey.rdc").read_bytes()).header
    assert (header.width, header.height) == (32, 64)


def test_a_run_folder_is_a_model(rdc: Rdc, weights: Path, picture: Path) -> None:
    assert rdc("train", weights / "tiny.toml", "--steps", "0", "-o", "run").code == 0
    assert rdc("compress", picture, "-m", "./run", "--verify").code == 0
    done = rdc("decompress", "photo.rdc", "-o", "back.png")
    assert done.code == 4 and "-m" in done.message and not Path("back.png").exists()
    assert rdc("decompress", "photo.rdc", "-o", "back.png", "-m", "./run").code == 0


def test_effort_searches_for_a_better_file(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it finds one depends on the model: what is coded after a search is kept where it is better."""
    searched: list[int] = []

    def search(*arguments: object) -> tuple[Tensor, Tensor]:
        searched.append(int(str(arguments[-1])))
        return refine.refine(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("rdcodec.codec.torch_engine.refine", search)
    photo(128, 128).save("a.png")
    for effort in (1, 3):
        done = rdc("compress", "a.png", "-o", f"{effort}.rdc", "-e", effort, "--verify", "--json")
        assert done.code == 0 and json.loads(done.out)["effort"] == effort, done.err
    assert searched == [25]
    assert rdcodec.load("I").encode(read_image(Path("a.png")), effort=3).data == Path("3.rdc").read_bytes()
    for effort in ("0", "10", "much"):
        assert rdc("compress", "a.png", "-o", "no.rdc", "-e", effort).code == 2 and not Path("no.rdc").exists()


@pytest.mark.parametrize("command", [["compress", "photo.png"], ["flops", "I"], ["eval", "I", "--data", "set"]])
def test_a_folder_named_as_a_model_does_not_take_its_place(rdc: Rdc, picture: Path, command: list[str]) -> None:
    """As `rdc train J --steps 0 -o I` leaves one; this one's weights would be refused."""
    Path("set").mkdir()
    photo(64, 64).save("set/one.png")
    Path("I").mkdir()
    Path("I/weights.safetensors").touch()
    done = rdc(*command)
    assert done.code == 0, done.err


def test_a_bare_folder_is_named_in_the_error(rdc: Rdc, picture: Path) -> None:
    Path("runs").mkdir()
    assert "for the folder write ./runs" in rdc("compress", picture, "-m", "runs").message
    assert "no weights.safetensors in this folder" in rdc("compress", picture, "-m", "./runs").message


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@needs_pipes
def test_named_pipes_are_inputs_and_outputs(work: Path, picture: Path) -> None:
    os.mkfifo("in.fifo")
    os.mkfifo("out.fifo")
    with subprocess.Popen(**command("compress", "in.fifo", "-o", "out.fifo"), stderr=subprocess.PIPE) as process:
        Path("in.fifo").write_bytes(picture.read_bytes())
        coded = Path("out.fifo").read_bytes()
        assert process.wait() == 0 and process.stderr is not None, process.stderr
    assert coded == rdcodec.compress(picture)
    with subprocess.Popen(**command("decompress", "in.fifo", "-o", "x.ppm"), stderr=subprocess.PIPE) as process:
        Path("in.fifo").write_bytes(coded)
        assert process.wait() == 0
    assert np.array_equal(read_image(Path("x.ppm")), rdcodec.decompress(coded))
    assert listing(work) == ["in.fifo", "out.fifo", "photo.png", "x.ppm"]


@pytest.mark.skipif(shutil.which("bash") is None or not Path("/dev/fd").exists(), reason="needs bash and /dev/fd")
def test_process_substitution(work: Path, picture: Path) -> None:
    environment = command()["env"]
    rdc = f'rdc() {{ {shlex.quote(sys.executable)} -m rdcodec "$@"; }}; '
    line = "rdc compress <(cat photo.png) -o >(cat > a.rdc); wait; rdc info --check <(cat a.rdc)"
    done = subprocess.run(["bash", "-c", rdc + line + "; wait"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path("a.rdc").read_bytes() == rdcodec.compress(picture)
    done = subprocess.run(
        ["bash", "-c", rdc + "rdc compress <(cat photo.png)"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "name a file with -o" in done.stderr and done.stderr.count("\n") == 1


NASTY = "a\x1b[31m\nb\x07\u202e\udcff.png"


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not allow")
def test_control_characters_in_names_are_shown_escaped(rdc: Rdc, work: Path) -> None:
    escaped = r"a\x1b[31m\nb\x07\u202e\xff"
    photo().save("photo.png")
    Path("photo.png").rename(NASTY)
    Path(NASTY).with_suffix(".jpg").write_bytes(b"no picture")
    coded = Path(NASTY).with_suffix(".rdc")
    for arguments in (
        ["compress", NASTY],
        ["compress", NASTY, "--json"],  # exists already
        ["compress", Path(NASTY).with_suffix(".jpg"), "-o", "x.rdc"],
        ["compress", "missing" + NASTY],
        ["info", coded],
        ["decompress", coded, "-o", "back" + NASTY],
        ["decompress", coded, "-o", "back" + NASTY],
        ["decompress", coded, "-o", "no" + NASTY + "no"],
        ["compress", NASTY, NASTY, "-o", "out" + NASTY + "/"],
        ["compare", NASTY, coded],
        ["compare", NASTY, "missing" + NASTY],
    ):
        done = rdc(*arguments)
        text = done.out + done.err
        assert escaped in text, text
        assert "Traceback" not in done.err and "unexpected" not in done.err
        assert all(char.isprintable() or char == "\n" for char in text), text
    assert json.loads(shell("compress", NASTY, "-f", "--json").stdout)["input"] == NASTY


def test_a_drawing_gets_a_note(rdc: Rdc, work: Path) -> None:
    page = Image.new("RGB", (400, 300), "white")
    for y in range(0, 300, 14):
        ImageDraw.Draw(page).text((8, y), "Lorem ipsum dolor sit amet, consectetur adipiscing elit", fill="black")
    page.save("page.png")
    page.save("page.webp", lossless=True)
    done = rdc("compress", "page.png")
    assert done.code == 0
    (note,) = [line for line in done.err.splitlines() if "note: " in line]
    assert note.startswith("  note: page.png: ") and "lossless WebP has" in note
    record = json.loads(rdc("compress", "page.png", "-f", "--json").out)
    assert len(record["notes"]) == 1
