"""Anybody's codec: Python objects, commands, and the programs of classical codecs, here in imitation."""

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rdcodec.errors import CheckFailed, NeedsModel, RdcError, UsageError
from rdcodec.measure.anchors import ANCHORS
from rdcodec.measure.codecs import (
    anchor_subject,
    command_subject,
    model_of,
    overhead_bytes,
    python_subject,
    search_of,
    searched_name,
    tag_of,
)
from rdcodec.measure.external import VTM_CFG, picture_of_yuv, yuv_bytes
from rdcodec.measure.rd import evaluate
from rdcodec.measure.tools import CommandCodec, words_of
from rdcodec.metrics import psnr_db

Picture = NDArray[np.uint8]

RAW = """
import numpy as np

class Raw:
    name, version, settings = "raw", "7", (1, 2.5)
    def encode(self, image, setting):
        return np.array(image.shape[:2], np.uint16).tobytes() + image.tobytes()
    def decode(self, data):
        return np.frombuffer(data[4:], np.uint8).reshape(*np.frombuffer(data[:4], np.uint16), 3)

class Single(Raw):
    settings = None

class Mute(Raw):
    settings = "loud"

class Deaf:
    settings = (1,)
    def encode(self, image, setting): return b""

class Wrong(Raw):
    def encode(self, image, setting): return 1 / 0

class Text(Raw):
    def encode(self, image, setting): return "bytes"

class Lists(Raw):
    def decode(self, data): return [[0]]

raw = Raw()
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(RAW)
    return path


def test_object_of_a_file(module: Path, photo: Picture) -> None:
    for name in ("raw", "Raw"):
        subject = python_subject(f"{module}:{name}", None)
        assert subject.name == "raw" and subject.tag.startswith("7; code mine.py ")
        rows = evaluate(subject.coder, [photo], subject.settings)
        assert [row.setting for row in rows] == [1, 2.5]
        assert all(row.file_bytes == photo.size + 4 and row.quality["psnr_db"] == float("inf") for row in rows)
    assert python_subject(f"{module}:raw", [9]).settings == [9]
    assert python_subject(f"{module}:Single", None).settings == [None]


def test_the_tag_changes_with_the_code(module: Path) -> None:
    before = python_subject(f"{module}:raw", None).tag
    module.write_text(RAW + "# changed\n")
    assert python_subject(f"{module}:raw", None).tag != before


def test_object_of_a_module(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(module.parent)
    assert python_subject("mine:raw", None).name == "raw"
    del sys.modules["mine"]


def test_what_is_no_codec_is_named(module: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import rdcodec_is_not_there")
    (tmp_path / "syntax.py").write_text("def (")
    for spec, error, words in (
        (f"{module}:rav", UsageError, "did you mean raw"),
        (f"{module}:Deaf", UsageError, "no method decode"),
        (f"{module}:Mute", UsageError, "settings"),
        (f"{tmp_path}/none.py:raw", UsageError, "no such file"),
        (f"{tmp_path}/broken.py:raw", NeedsModel, "rdcodec_is_not_there"),
        (f"{tmp_path}/syntax.py:raw", RdcError, "SyntaxError"),
        ("rdcodec_is_not_there:raw", NeedsModel, "rdcodec_is_not_there"),
        ("nothing", UsageError, "file.py:object"),
    ):
        with pytest.raises(error, match=words):
            python_subject(spec, None)


def test_what_a_codec_does_wrong_is_one_line(module: Path, photo: Picture) -> None:
    for name, error, words in (
        ("Wrong", RdcError, "0000 at 1: the codec failed with ZeroDivisionError"),
        ("Text", CheckFailed, "encode gave str"),
        ("Lists", CheckFailed, "came back as list"),
    ):
        with pytest.raises(error, match=words):
            evaluate(python_subject(f"{module}:{name}", None).coder, [photo], [1])


PYTHON = shlex.quote(sys.executable)
TO_WEBP = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2], quality=int(sys.argv[3]))"
BACK = "import sys; from PIL import Image; Image.open(sys.argv[1]).save(sys.argv[2])"
ENCODE = f"{PYTHON} -c {shlex.quote(TO_WEBP)} {{input}} {{output}}.webp {{setting}}"
DECODE = f"{PYTHON} -c {shlex.quote(BACK)} {{input}}.webp {{output}}"


def test_a_codec_of_two_commands_is_that_of_its_library(photo: Picture) -> None:
    subject = command_subject(ENCODE, DECODE, "mine", [30, 80])
    (low, high) = evaluate(subject.coder, [photo], subject.settings, jobs=2)
    assert (low.setting, high.setting) == (30, 80) and subject.name == "mine"
    for row in (low, high):
        data = ANCHORS["webp_m4"].encode(photo, int(row.setting or 0))
        assert row.file_bytes == len(data)
        assert row.quality["psnr_db"] == psnr_db(photo, ANCHORS["webp_m4"].decode(data))


def test_commands_that_cannot_be_meant() -> None:
    for encoder, decoder, settings, words in (
        ("cp {input} out", "cp {input} {output}", None, "--command"),
        ("cp {input} {output}", "cp {input} out", None, "--decode-command"),
        ("cp {input} {output} {setting}", "cp {input} {output}", None, "-q"),
        ("cp {input} {output}", "cp {input} {output}", [1], "no {setting}"),
        ("cp {input}.jpg {output}", "cp {input} {output}", None, "png"),
        ("cp '{input} {output}", "cp {input} {output}", None, "quotes"),
    ):
        with pytest.raises(UsageError, match=words):
            command_subject(encoder, decoder, None, settings)
    with pytest.raises(NeedsModel, match="no-such-program"):
        command_subject("no-such-program {input} {output}", "cp {input} {output}", None, None)


@pytest.mark.parametrize(
    ("program", "words"),
    [("import sys; sys.exit('no {input} {output}')", "exit code 1"), ("'{input} {output}'", "wrote no file")],
)
def test_a_command_that_fails(program: str, words: str, photo: Picture) -> None:
    codec = CommandCodec(f'{PYTHON} -c "{program}"', "cp {input} {output}")
    with pytest.raises(RdcError, match=words):
        codec.encode(photo, None)


def test_an_identity_of_files(photo: Picture) -> None:
    codec = CommandCodec("cp {input} {output}", "cp {input} {output}")
    assert np.array_equal(codec.decode(codec.encode(photo, None)), photo)


FAKE = """#!{python}
import json, pathlib, re, sys
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
with open(pathlib.Path(sys.argv[0]).with_name("log"), "a") as log:
    log.write(json.dumps([name, *words]) + "\\n")
if not any(re.search("/(input|output)[.]", word) for word in words):
    print("{version}")
    sys.exit(1 if name in ("bpgenc", "EncoderApp") else 0)
source = next(word for word in words if "/input." in word)
target = next(word for word in words if "/output." in word)
pathlib.Path(target).write_bytes(pathlib.Path(source).read_bytes())
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs of every external anchor; each copies its input and notes its arguments."""
    versions = {"cjpeg": "mozjpeg version 4.1.5", "cjxl": "cjxl v0.11", "bpgenc": "BPG Image Encoder version 0.9.8"}
    for name in ("cjpeg", "cjxl", "djxl", "bpgenc", "bpgdec", "vvencapp", "vvdecapp", "EncoderApp", "DecoderApp"):
        text = FAKE.replace("{python}", sys.executable).replace("{version}", versions.get(name, f"{name} version 1.0"))
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(VTM_CFG, "intra.cfg")
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="imitates programs with a shebang")
@pytest.mark.parametrize(
    ("name", "expected", "loss_db"),
    [
        ("mozjpeg", "cjpeg -quality 30 -sample 2x2 -tune-psnr -outfile output.jpg input.ppm", 99),
        ("cjxl", "cjxl input.ppm output.jxl -q 30 -e 7 --num_threads=1", 99),
        ("bpg", "bpgenc -m 9 -f 444 -b 8 -c ycbcr -q 21 -o output.bpg input.png", 99),
        ("vvenc", "vvencapp --input input.yuv --size 94x68 --format yuv420_10", 25),
        ("vtm", "EncoderApp -c intra.cfg -i input.yuv -b output.bin -o /dev/null -wdt 93 -hgt 67 -fr 1 -f 1 -q 33", 50),
    ],
)
def test_programs_are_called_as_they_want(name: str, expected: str, loss_db: float, programs: Path) -> None:
    import json
    import re

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (5, 6, 3)).repeat(16, 0).repeat(16, 1)
    image = coarse[:67, :93].astype(np.uint8)
    anchor = ANCHORS[name]
    assert "1.0" in anchor.version() or "version" in anchor.version() or "v0.11" in anchor.version()
    decoded = anchor.decode(anchor.encode(image, 30))
    assert decoded.shape == image.shape and psnr_db(image, decoded) >= loss_db
    calls = [json.loads(line) for line in (programs / "log").read_text().splitlines()]
    calls = [" ".join(re.sub(r".*/(input|output)", r"\1", word) for word in call) for call in calls]
    assert any(call.startswith(expected) for call in calls), calls


@pytest.mark.skipif(sys.platform == "win32", reason="imitates programs with a shebang")
def test_another_cjpeg_is_not_mozjpeg(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (programs / "cjpeg").read_text()
    (programs / "cjpeg").write_text(text.replace("mozjpeg version 4.1.5", "libjpeg-turbo version 3.0"))
    with pytest.raises(NeedsModel, match="another one"):
        ANCHORS["mozjpeg"].version()
    monkeypatch.delenv(VTM_CFG)
    with pytest.raises(NeedsModel, match=VTM_CFG):
        ANCHORS["vtm"].version()
    monkeypatch.setenv("PATH", "")
    for name in ("cjxl", "bpg", "vvenc", "vtm", "mozjpeg"):
        with pytest.raises(NeedsModel, match="it comes with"):
            ANCHORS[name].version()


def test_ten_bits_of_ycbcr_cost_little(photo: Picture) -> None:
    height, width = photo.shape[:2]
    whole = picture_of_yuv(yuv_bytes(photo, halved=False), height, width, halved=False)
    assert np.abs(whole.astype(int) - photo).max() <= 1
    flat = np.full((5, 7, 3), (200, 30, 90), np.uint8)
    assert np.abs(picture_of_yuv(yuv_bytes(flat, halved=True), 5, 7, halved=True).astype(int) - flat).max() <= 1
    with pytest.raises(RdcError, match="no picture of 7x6"):
        picture_of_yuv(yuv_bytes(flat, halved=True)[:-2], 6, 7, halved=True)


def test_overhead_is_in_the_tag_of_an_anchor() -> None:
    subject = anchor_subject("jpeg")
    assert f"{overhead_bytes(ANCHORS['jpeg'])} bytes for plain grey" in subject.tag
    assert ANCHORS["jpeg"].tag() in subject.tag
    with pytest.raises(UsageError, match="choose from"):
        anchor_subject("jpg")


def test_a_search_is_named_after_its_weights() -> None:
    name = searched_name("G-whole.3", 4)
    assert (model_of(name), tag_of(name), search_of(name)) == ("G-whole", "G-whole.3", "effort 4")
    for other in ("H", "H.2", "jpeg", "mine.py:Codec", "effort 4"):
        assert (model_of(other), tag_of(other), search_of(other)) == (other, other, "")


def test_words_of_a_command_on_windows() -> None:
    """A backslash parts folders there, and quotes are taken off."""
    command = r'C:\tools\enc.exe "C:\my folder\{input}.png" -q {setting} {output}'
    words = [r"C:\tools\enc.exe", r"C:\my folder\{input}.png", "-q", "{setting}", "{output}"]
    assert words_of(command, windows=True) == words
    with pytest.raises(ValueError, match="quotation"):
        words_of('enc "x', windows=True)


@pytest.mark.parametrize("command", ["enc a b", r"my\ enc 'a b' \"c # d\"", "enc 'a''b' \"\" x=y;z", "enc\na"])
def test_words_of_a_command_elsewhere(command: str) -> None:
    assert words_of(command, windows=False) == shlex.split(command)
