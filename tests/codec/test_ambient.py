"""What the caller has set in torch changes no file and no picture, and a codec takes nothing of it along."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rdcodec.codec import pipeline
from rdcodec.codec.pipeline import load

State = Callable[[], contextlib.AbstractContextManager[object]]


def default_type(dtype: torch.dtype) -> State:
    @contextlib.contextmanager
    def state() -> Iterator[None]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)

    return state


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES: dict[str, State] = {
    "float64": default_type(torch.float64),
    "bfloat16": default_type(torch.bfloat16),
    "float16": default_type(torch.float16),
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": deterministic,
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
}
MODELS = ("Golden", "Golden-charm", "Golden-hyperprior")


def everything(model: str, photo: np.ndarray) -> tuple:
    """A codec that is loaded anew, and all that it says of a picture: with a search, so that gradients are taken."""
    pipeline._load.cache_clear()
    codec = load(model)
    encoded = codec.encode(photo, effort=2)
    assert np.array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    return encoded.data, encoded.reconstruction.tobytes(), encoded.estimate_bits


@pytest.fixture(autouse=True)
def golden_weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(Path(__file__).parents[1] / "golden"))
    monkeypatch.setattr(pipeline, "search_steps", lambda effort: 2 if effort > 1 else 0)
    yield
    pipeline._load.cache_clear()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    row, column = np.mgrid[:24, :40]
    waves = 120 + 90 * np.sin(row / 7 + column / 11)[..., None] * np.array([1.0, 0.8, -0.6])
    return waves.round().astype(np.uint8)


@pytest.mark.parametrize("model", MODELS)
def test_a_callers_state_changes_nothing(model: str, picture: np.ndarray) -> None:
    wanted = everything(model, picture)
    for name, state in STATES.items():
        with state():
            found = everything(model, picture)
        assert found == wanted, name


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_codec_takes_nothing_along_from_where_it_was_loaded(state: State, picture: np.ndarray) -> None:
    wanted = everything("Golden", picture)
    pipeline._load.cache_clear()
    with state():
        codec = load("Golden")
    assert codec.encode(picture, effort=2).data == wanted[0]


def test_a_codec_leaves_the_callers_state(picture: np.ndarray) -> None:
    def state() -> tuple:
        backends = torch.backends.mkldnn.conv.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        return backends, modes, torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state().tolist()

    before = state()
    everything("Golden", picture)
    assert state() == before
