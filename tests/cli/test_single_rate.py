"""A model of one rate on the command line: from a configuration to a file and back, and no quality to ask for."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Rdc, photo
from rdcodec.cli.main import main

CONFIG = """
name = "Single"
summary = "for tests"
latent_channels = 16
lmbda = 0.02
[analysis]
kind = "conv"
channels = [8, 8, 12]
norm = "gdn"
[synthesis]
kind = "conv"
channels = [8, 8, 12]
norm = "gdn"
[entropy]
kind = "charm"
slices = [6, 10]
widths = [8]
kernels = [3, 3]
filters = [3, 3]
[entropy.hyper_analysis]
kind = "swin"
window = 2
head_channels = 4
widths = [8, 8]
depths = [1, 1]
[entropy.hyper_synthesis]
kind = "conv"
channels = [8, 12, 16]
kernels = [5, 5, 3]
strides = [2, 2, 1]
activation = "leaky_relu"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with random weights."""
    folder = tmp_path_factory.mktemp("single")
    (folder / "single.toml").write_text(CONFIG)
    assert main(["train", str(folder / "single.toml"), "--steps", "0", "-o", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def pictures(work: Path) -> Path:
    (work / "set").mkdir()
    photo(130, 70).save(work / "set" / "photo.png")
    return work / "set"


@pytest.mark.usefixtures("pictures")
def test_to_a_file_and_back(rdc: Rdc, run: Path) -> None:
    done = rdc("compress", "set/photo.png", "-m", run, "-o", "photo.rdc", "--verify", "--json")
    assert done.code == 0, done.err
    assert "quality" not in json.loads(done.out) and "Single " in done.err and " q" not in done.err
    assert rdc("decompress", "photo.rdc", "-m", run, "-o", "back.png").code == 0
    with Image.open("back.png") as back:
        assert np.array(back).shape == (70, 130, 3)
    shown = rdc("info", "photo.rdc", "--check")
    assert shown.code == 0 and "Single.0, single rate" in shown.out


@pytest.mark.usefixtures("pictures")
def test_nothing_can_be_asked_of_its_rate(rdc: Rdc, run: Path) -> None:
    for option in ("-q", "50"), ("--target-bpp", "0.5"), ("--target-size", "9kB"), ("--target-psnr", "30"):
        done = rdc("compress", "set/photo.png", "-m", run, "-o", "photo.rdc", *option)
        assert done.code == 2
        assert done.message == "rdc: Single.0 has a single rate (lmbda 0.02): leave out the quality or target\n"
    assert not Path("photo.rdc").exists()


@pytest.mark.usefixtures("pictures")
def test_eval_has_one_row(rdc: Rdc, run: Path) -> None:
    done = rdc("eval", run, "--data", "set", "-o", "single.json", "--anchors", "jpeg")
    assert done.code == 0, done.err
    result = json.loads(Path("single.json").read_text())
    assert [row[result["rows"]["columns"].index("setting")] for row in result["rows"]["values"]] == [None]
    assert rdc("eval", run, "--data", "set", "-q", "50").message.startswith("rdc: Single.0 has a single rate")
