"""A tiny model with random weights, pictures, and ways to run the command line."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import rdcodec
from rdcodec.cli.main import main

TINY = """
name = "I"
summary = "tiny, for tests"
latent_channels = 8
[analysis]
kind = "light"
stride8 = { width = 8, blocks = 1 }
stride16 = { width = 8, blocks = 1 }
[synthesis]
kind = "light"
stride8 = { width = 8, blocks = 1 }
stride16 = { width = 8, blocks = 1 }
[entropy]
kind = "checkerboard"
hyper_channels = 8
features = 8
hidden = 8
"""


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of an error."""
        assert self.err.startswith("rdc: ") and self.err.count("\n") == 1, self.err
        return self.err


Rdc = Callable[..., Done]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights that holds the tiny model as the newest of the name I."""
    from rdcodec.export.weights import export
    from rdcodec.models.base import ImageModel
    from rdcodec.models.config import load_config

    folder = tmp_path_factory.mktemp("weights")
    (folder / "tiny.toml").write_text(TINY)
    export(ImageModel(load_config(folder / "tiny.toml")), folder / "I.999.safetensors", tag="I.999")
    return folder


@pytest.fixture
def work(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and the tiny model for the name I."""
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(weights))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rdc(work: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> Rdc:
    """Run a command in this process."""

    def run(*arguments: object) -> Done:
        capsysbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return Done(code, out.decode("utf-8", "surrogateescape"), err.decode())

    return run


def command(*arguments: object) -> dict[str, Any]:
    """What subprocess needs to run a command from any folder, installed or not."""
    source = str(Path(rdcodec.__file__).parents[1])
    return {
        "args": [sys.executable, "-m", "rdcodec", *map(str, arguments)],
        "env": {**os.environ, "PYTHONPATH": source},
    }


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own, stderr captured, stdout unless given."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(**{**command(*arguments), **streams, **options}, check=False)


def photo(width: int = 70, height: int = 50, seed: int = 0) -> Image.Image:
    """Something smooth with noise on it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-4, 5, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.fixture
def picture(work: Path) -> Path:
    """A PNG in the current folder."""
    photo().save(work / "photo.png")
    return work / "photo.png"


@pytest.fixture
def coded(rdc: Rdc, picture: Path) -> Path:
    """That PNG as photo.rdc."""
    assert rdc("compress", picture).code == 0
    return picture.with_suffix(".rdc")


class Pipe(io.BytesIO):
    """Bytes in the place of stdin."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.buffer = self

    def isatty(self) -> bool:
        return False


def listing(folder: Path) -> list[str]:
    """Names of the files in a folder, temporary ones included."""
    return sorted(path.name for path in folder.iterdir())
