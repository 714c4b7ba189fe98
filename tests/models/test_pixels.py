"""Pixels on integers: every decoder draws the same, and weights with which they could not are refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import second_decoder
from rdcodec import _native
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import NeedsModel
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.export.pixels import with_pixels
from rdcodec.export.weights import export
from rdcodec.models.base import ImageModel
from rdcodec.models.config import ModelConfig
from rdcodec.models.transforms.kinds import LightTransform, Trunk
from rdcodec.models.weights import FILE_NAME, Weights, newest_tag, read_weights, released

Picture = NDArray[np.uint8]
ENGINES = ("native", "torch")
LAST_OF_A_STEP, DEPTHWISE = "shifts.trunk.0.mix.4", "shifts.trunk.0.mix.2"
# As many channels as a depthwise layer has taps, one channel, other numbers than vectors have, and no second step.
UNEVEN = LightTransform(
    kind="light",
    stride8=Trunk(width=16, blocks=3, mixed=(9, 1, 40), hidden=(33, 0, 7)),
    stride16=Trunk(width=9, blocks=2, mixed=(9, 17), hidden=(0, 9)),
)


@pytest.fixture(scope="module", params=["tiny", "uneven"])
def path(
    request: pytest.FixtureRequest,
    tiny_config: ModelConfig,
    busy_model: Callable[[ModelConfig], ImageModel],
    photo: Picture,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Of random weights whose pictures are within 0..255 for the most part."""
    changes = {"analysis": UNEVEN, "synthesis": UNEVEN} if request.param == "uneven" else {}
    model = busy_model(tiny_config.model_copy(update=changes))
    model.synthesis.trunk[-2].weight.mul_(0.02)
    model.synthesis.tint.values.uniform_(-0.5, 0.5)
    model.log_gain.values.sub_(model.log_gain.values.mean()).add_(model.log_gain.values.clone().uniform_(-0.3, 0.3))
    path = tmp_path_factory.mktemp("pixels") / FILE_NAME
    export(model, path, [photo])
    return path


def drawn(weights: Weights, y_hat: NDArray[np.float32], tenths: int, height: int, width: int) -> list[Picture]:
    """By torch, and by the core with each set of its kernels."""
    before, found = _native.kernels(), []
    for engine, kernels in (("torch", before), *(("native", name) for name in _native.all_kernels())):
        _native.use_kernels(kernels)
        found.append(Codec(weights, engine=engine).synthesise(y_hat, tenths / 10, height, width))
    _native.use_kernels(before)
    return found


def check(path: Path, image: Picture, qualities: tuple[float, ...]) -> Picture:
    """All decoders draw the same of it; its picture at the last quality."""
    codec, second = Codec(read_weights(path)), second_decoder.read_weights(path.read_bytes())
    for quality in qualities:
        coded = codec.encode(image, quality)
        found = second_decoder.decode(coded.data, second)
        assert found.pixels is not None
        for picture in drawn(read_weights(path), coded.y_hat, round(10 * quality), *image.shape[:2]):
            np.testing.assert_array_equal(picture, found.pixels)
    return found.pixels


def test_every_decoder_draws_the_same(path: Path, photo: Picture) -> None:
    check(path, photo[60:61, 80:81], (50,))
    picture = check(path, photo[60:97, 80:130], (0, 37.3, 100))
    assert np.mean((picture > 0) & (picture < 255)) > 0.5


def test_every_decoder_draws_the_same_of_latents_beyond_all_pictures(path: Path) -> None:
    """Clamps at work in every layer."""
    weights, second = read_weights(path), second_decoder.read_weights(path.read_bytes())
    whole = np.random.default_rng(5).integers(-(2**21), 2**21, (3, 4, weights.config.latent_channels))
    whole[0] //= 2**12
    file = second_decoder.File(weights.tag, 60, 41, 777, b"", 0, b"", {}, [])
    expected = second_decoder.draw(whole.transpose(2, 0, 1), file, second)
    for picture in drawn(weights, (whole / MEAN_ONE).astype(np.float32), 777, 41, 60):
        np.testing.assert_array_equal(picture, expected)


@pytest.mark.parametrize("letter", ["H", "I", "J"])
def test_every_decoder_draws_the_same_with_the_newest_weights(letter: str, photo: Picture) -> None:
    tag = newest_tag(letter, released())
    if tag is None or not read_weights(released()[tag]).pixels:
        pytest.skip(f"{tag} runs on floats")
    check(released()[tag], photo[60:97, 80:150], (50,))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
@pytest.mark.parametrize("layer", ["enter", "shortcut"])
def test_a_network_that_diverged_stays_on_floats(tiny_run: Path, photo: Picture, layer: str, value: float) -> None:
    weights = read_weights(tiny_run / FILE_NAME)
    name = f"synthesis.{layer}.weight"
    broken = np.full_like(weights.floats("synthesis.")[f"{layer}.weight"], value)
    assert not with_pixels(replace(weights, raw=weights.raw | {name: broken}), [photo]).pixels


def test_integers_cost_next_to_nothing(photo: Picture) -> None:
    tag = newest_tag("J", released())
    assert tag is not None
    on_floats = replace(read_weights(released()[tag]), pixels={})
    on_integers = with_pixels(on_floats, [photo])
    for quality in (0, 50, 100):
        psnr = []
        for weights in (on_floats, on_integers):
            picture = Codec(weights).encode(photo, quality).reconstruction
            psnr.append(-10 * np.log10(np.mean((picture.astype(float) - photo) ** 2)))
        assert psnr[0] - psnr[1] < 0.02


def test_steps_and_shifts_are_hashed(path: Path) -> None:
    weights = read_weights(path)
    for name, array in weights.pixels.items():
        altered = replace(weights, pixels={**weights.pixels, name: array + np.int8(1)})
        assert altered.synthesis_hash != weights.synthesis_hash


def with_integers(
    name: str, change: Callable[[NDArray[np.int8]], NDArray[np.generic] | None]
) -> Callable[[Weights], Weights]:
    def altered(weights: Weights) -> Weights:
        found = change(weights.pixels[name].copy())
        rest = {key: array for key, array in weights.pixels.items() if key != name}
        return replace(weights, pixels=rest if found is None else {**rest, name: found})

    return altered


def with_floats(name: str, value: float) -> Callable[[Weights], Weights]:
    """One of them set."""

    def altered(weights: Weights) -> Weights:
        array = weights.raw[name].astype(np.float32)
        array.flat[5] = value
        return replace(weights, raw={**weights.raw, name: array})

    return altered


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: replace(weights, raw={key: array for key, array in weights.raw.items() if key != name})


DAMAGE: dict[str, Callable[[Weights], Weights]] = {
    **{f"no {name}": with_integers(name, lambda _: None) for name in ("steps.entered", "steps.deep", "steps.wide")},
    **{f"no {name}": with_integers(name, lambda _: None) for name in ("steps.trunk.0.mix.0", "shifts.shortcut")},
    "of another type": with_integers(DEPTHWISE, lambda array: array.astype(np.int16)),
    "of another shape": with_integers(DEPTHWISE, lambda array: array[:-1]),
    "of two axes": with_integers("steps.deep", lambda array: array[None]),
    "shift beyond 30": with_integers("shifts.enter", lambda array: np.full_like(array, 31)),
    "shift below 0": with_integers("shifts.enter", lambda array: np.full_like(array, -1)),
    "no shift where sums are added": with_integers(LAST_OF_A_STEP, lambda array: np.zeros_like(array)),
    "steps finer than weights allow": with_integers("steps.wide", lambda array: array - np.int8(12)),
    "shifts larger than sums allow": with_integers("shifts.shortcut", lambda array: array + np.int8(2)),
    "a depthwise sum beyond 24 bits": with_integers(DEPTHWISE, lambda array: array + np.int8(2)),
    "a bias beyond 30 bits": with_floats("synthesis.enter.bias", 1e9),
    "a weight that is no number": with_floats("synthesis.enter.weight", np.nan),
    "a tint that is no number": with_floats("synthesis.tint.values", np.nan),
    "a tint beyond all integers": with_floats("synthesis.tint.values", 3000),
    "a gain beyond all integers": with_floats("log_gain.values", -30000),
    "no bias": without("synthesis.enter.bias"),
    "no bias of a step": without("synthesis.trunk.0.mix.4.bias"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_are_refused(damage: str, engine: str, tiny_run: Path) -> None:
    altered = DAMAGE[damage](read_weights(tiny_run / FILE_NAME))
    y_hat = np.zeros((1, 1, 32), np.float32)
    with pytest.raises(NeedsModel):
        Codec(altered, engine=engine).synthesise(y_hat, 0, 16, 16)
