"""What many tests share: seeds, a photograph, a tiny model in two states, pictures to train on, torch's threads."""

import itertools
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image

import rdcodec

if TYPE_CHECKING:  # torch takes seconds to import, and many tests do without
    from rdcodec.models.base import ImageModel
    from rdcodec.models.config import ModelConfig

# Tiny networks run fastest on one thread, and runs repeat bit for bit. Before torch is imported; commands that
# tests start inherit it. The fixture `threads` sets another number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Every run tries the same examples, however long one takes.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

Picture = NDArray[np.uint8]
ASTRONAUT = Path(rdcodec.__file__).parent / "data" / "astronaut.png"


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    _seed()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """A test that leaves torch with other threads is an error: all that follow would be slow, or not repeat."""
    yield
    torch, usual = sys.modules.get("torch"), int(os.environ["OMP_NUM_THREADS"])
    if torch and (left := torch.get_num_threads()) != usual:
        torch.set_num_threads(usual)
        raise AssertionError(f"torch has {left} threads behind this test instead of {usual}")


def _seed() -> None:
    """What draws without a seed of its own draws the same in every run, whichever tests came before."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # else whatever imports it finds its default seed, the same in every process
        sys.modules["torch"].manual_seed(0)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Functions by name: their addresses differ from one process of a parallel run to the next."""
    return val.__name__.strip("<>") if isinstance(val, FunctionType) else None


@pytest.fixture(scope="session")
def photo() -> Picture:
    """A face and a flag, uint8 (192, 256, 3): cut from the bundled picture."""
    with Image.open(ASTRONAUT) as picture:
        return np.array(picture.convert("RGB"))[32:224, 96:352].copy()


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Call it to set the number of threads; after the test it is again what it was."""
    from rdcodec.codec import engine

    yield engine.set_threads
    engine.set_threads(0)


@pytest.fixture(scope="session")
def tiny_config() -> "ModelConfig":
    """Every part of a light model, in widths that cost nothing."""
    from rdcodec.models.config import ModelConfig
    from rdcodec.models.entropy.kinds import CheckerboardEntropy
    from rdcodec.models.transforms.kinds import LightTransform, Trunk

    trunk = Trunk(width=16, blocks=1)
    transform = LightTransform(kind="light", stride8=trunk, stride16=trunk)
    return ModelConfig(
        name="Tiny",
        summary="for tests",
        latent_channels=32,
        analysis=transform,
        synthesis=transform,
        entropy=CheckerboardEntropy(kind="checkerboard", hyper_channels=8, features=16, hidden=16),
    )


@pytest.fixture(scope="session")
def three_passes(tiny_config: "ModelConfig") -> "ModelConfig":
    """The same with the first half of y in two quarters."""
    entropy = tiny_config.entropy.model_copy(update={"passes": 3})
    return tiny_config.model_copy(update={"entropy": entropy})


@pytest.fixture(scope="session")
def busy_model() -> "Callable[[ModelConfig], ImageModel]":
    """What makes models as `tiny_model` of a configuration."""
    return _busy_model


@pytest.fixture(scope="session")
def tiny_model(tiny_config: "ModelConfig") -> "ImageModel":
    """Random weights, so large that all of the coder has work: scales from the smallest to the largest, means
    far from the grid, symbols beyond their tables. Shared by the session: copy it to change it."""
    return _busy_model(tiny_config)


def _busy_model(config: "ModelConfig") -> "ImageModel":
    import torch

    from rdcodec.models.base import ImageModel

    torch.manual_seed(0)
    model = ImageModel(config)
    entropy, m = model.entropy, config.latent_channels
    with torch.no_grad():
        model.log_gain.values.copy_(torch.linspace(-4, -1, len(model.log_gain.values))[:, None].expand(-1, m))
        entropy.log_scale.values.uniform_(math.log(0.1), math.log(30))
        entropy.factorized_prior.log_scale.values.uniform_(-1, 2)
        entropy.hyper_shift.values.normal_()
        for layer in (entropy.part(name)[-1] for name in ("first", *(name for _, name in entropy.later))):
            assert isinstance(layer, torch.nn.Conv2d) and layer.bias is not None
            layer.weight.mul_(40)  # they start a tenth of their usual size
            layer.bias.normal_()
        for part in (model.analysis, model.synthesis):
            part.trunk.apply(_wake)
    return model.eval().requires_grad_(False)


def _wake(layer: object) -> None:
    """Undo the small start of a block's last layers."""
    import torch

    if isinstance(layer, torch.nn.Conv2d):
        layer.reset_parameters()


@pytest.fixture(scope="session")
def tiny_run(tiny_model: "ImageModel", photo: Picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the weights of `tiny_model`."""
    return _run_folder(tiny_model, photo, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def uneven_run(tiny_config: "ModelConfig", photo: Picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise of three passes, with blocks of many widths inside, which lack their second step in places."""
    from rdcodec.models.transforms.kinds import LightTransform, Trunk

    wide = Trunk(width=16, blocks=3, mixed=(5, 40, 16), hidden=(33, 0, 7))
    deep = Trunk(width=24, blocks=2, mixed=(1, 24), hidden=(0, 60))
    transform = LightTransform(kind="light", stride8=wide, stride16=deep)
    entropy = tiny_config.entropy.model_copy(update={"hidden": 40, "hidden_each": (3, 21, 9, 40, 17), "passes": 3})
    config = tiny_config.model_copy(update={"analysis": transform, "synthesis": transform, "entropy": entropy})
    return _run_folder(_busy_model(config), photo, tmp_path_factory.mktemp("uneven"))


@pytest.fixture(scope="session")
def fair_run(tiny_config: "ModelConfig", photo: Picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model as training starts it: a fair transform codec, on `photo` at least."""
    import torch

    from rdcodec.models.base import ImageModel
    from rdcodec.training.data import Photo
    from rdcodec.training.start import start_model

    torch.manual_seed(0)
    model = ImageModel(tiny_config)
    start_model(model, [Photo("photo", photo)], seed=0, patches=3000)
    return _run_folder(model, photo, tmp_path_factory.mktemp("fair"))


def _run_folder(model: "ImageModel", photo: Picture, folder: Path) -> Path:
    from rdcodec.export.weights import export
    from rdcodec.models.weights import FILE_NAME

    export(model, folder / FILE_NAME, [photo])
    return folder


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight PNGs of 256 to 320 pixels a side, smooth with a fine texture; one of them is held out."""
    from rdcodec.training.data import is_held_out

    folder = tmp_path_factory.mktemp("pictures")
    names = [f"{n}.png" for n in range(200)]
    train = itertools.islice(itertools.filterfalse(is_held_out, names), 7)
    for seed, name in enumerate([*train, next(filter(is_held_out, names))]):
        height, width = 256 + 64 * (seed % 2), 256 + 32 * (seed % 3)
        Image.fromarray(waves(seed, height, width)).save(folder / name)
    return folder


def waves(seed: int, height: int, width: int) -> Picture:
    """A sum of twelve coloured waves, the faster the fainter."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width]
    pixels = np.full((height, width, 3), 118.0)
    for frequency in np.geomspace(0.005, 1, 12):
        direction, phase = rng.uniform(0, 2 * math.pi, 2)
        wave = np.sin(frequency * (math.cos(direction) * row + math.sin(direction) * column) + phase)
        pixels += wave[:, :, None] * rng.normal(0, 4 * frequency**-0.4, 3)
    return pixels.clip(0, 255).astype(np.uint8)
