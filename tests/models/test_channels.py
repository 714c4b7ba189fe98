"""Channels that are always zero can go, and others change places: symbols stay, and pixels but for rounding."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rdcodec.codec.container import unpack
from rdcodec.codec.pipeline import Codec
from rdcodec.export.calibration import CALIBRATION_QUALITIES, hard_pictures
from rdcodec.export.channels import BETWEEN, busy_shares, with_busy_channels
from rdcodec.export.weights import export
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import LightBlock
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.transforms.kinds import LightTransform
from rdcodec.models.weights import Weights
from rdcodec.training.grow import contains, grow

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def sleepy(
    three_passes: ModelConfig,
    busy_model: Callable[[ModelConfig], ImageModel],
    photo: Picture,
    tmp_path_factory: pytest.TempPathFactory,
) -> Weights:
    """Of three passes, with the channels 3 and 4 of each first step dead, and the second step but for channel 7 at 1/8
    and wholly at 1/16."""
    model = busy_model(three_passes)
    model.synthesis.trunk[-2].weight.mul_(0.02)  # of pictures that stay within 0..255
    model.synthesis.trunk[-2].bias.zero_()
    for name, block in model.named_modules():
        if isinstance(block, LightBlock):
            assert block.feed_forward is not None
            _put_to_sleep(block.mix[2], torch.tensor([3, 4]))
            deep = name in ("analysis.trunk.5", "synthesis.trunk.0")
            _put_to_sleep(block.feed_forward[0], torch.tensor([k for k in range(32) if deep or k != 7]))
            block.feed_forward[0].bias[7] = -1 if deep else 1
    _put_to_sleep(model.entropy.first[0], torch.arange(5))
    for name in ("middle", "second"):
        _put_to_sleep(model.entropy.part(name)[2], torch.arange(2, 16, 2))
    path = tmp_path_factory.mktemp("sleepy") / "weights.safetensors"
    return export(model, path, [photo])


def _put_to_sleep(layer: torch.nn.Module, channels: torch.Tensor) -> None:
    assert isinstance(layer, torch.nn.Conv2d) and layer.bias is not None
    layer.weight[channels] = 0
    layer.bias[channels] = -1


@pytest.fixture(scope="module")
def narrow(sleepy: Weights, photo: Picture) -> Weights:
    return with_busy_channels(sleepy, [photo])


def test_what_is_always_zero_goes(sleepy: Weights, narrow: Weights) -> None:
    for side in ("analysis", "synthesis"):
        transform = getattr(narrow.config, side)
        assert isinstance(transform, LightTransform)
        assert transform.stride16.hidden == (0,) and transform.stride8.hidden == (1,)
        assert all(
            trunk.mixed is not None and trunk.mixed[0] <= 14 for trunk in (transform.stride8, transform.stride16)
        )
    entropy = narrow.config.entropy
    assert isinstance(entropy, CheckerboardEntropy) and entropy.hidden_each is not None
    first, _, middle, _, last = entropy.hidden_each
    assert first <= 11 and middle <= 9 and last <= 9 and entropy.hidden == 16
    assert narrow.parameters < sleepy.parameters - 4 * 2 * 16 * 30
    assert narrow.build().config == narrow.config


def test_latents_and_pictures_stay(sleepy: Weights, narrow: Weights, photo: Picture) -> None:
    x, quality = torch.from_numpy(photo).permute(2, 0, 1)[None].float(), torch.tensor([60.0])
    before, after = sleepy.build(), narrow.build()
    with torch.inference_mode():
        y = before.analysis(x)
        torch.testing.assert_close(after.analysis(x), y, rtol=1e-4, atol=1e-3)
        picture = before.synthesis(y, quality)
        torch.testing.assert_close(after.synthesis(y, quality), picture, rtol=1e-4, atol=1e-2)
        bits = before.entropy(y, quality).bits_y
        torch.testing.assert_close(after.entropy(y, quality).bits_y, bits, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_files_decode_to_the_same_symbols(sleepy: Weights, narrow: Weights, photo: Picture, engine: str) -> None:
    """The integer networks compute the same, in another order."""
    before, after = Codec(sleepy, engine=engine), Codec(narrow, engine=engine)
    for quality in CALIBRATION_QUALITIES:
        coded = before.encode(photo, quality)
        header, stream = unpack(coded.data)
        found, crc = after.engine.decode(stream, *coded.y_hat.shape[:2], header.quality)
        np.testing.assert_array_equal(found, coded.y_hat)
        assert crc == header.symbols_crc


def test_the_busiest_come_last(narrow: Weights, photo: Picture) -> None:
    shares = busy_shares(narrow.build(), [photo, *hard_pictures()])
    for relu in BETWEEN:
        assert (shares[f"entropy.{relu}"].diff() > -0.01).all()  # weights are rounded: a share may move a little
    assert shares["entropy.second.1"][0] < shares["entropy.second.1"][-1] - 0.1


def test_again_it_changes_nothing(narrow: Weights, photo: Picture) -> None:
    again = with_busy_channels(narrow, [photo])
    assert again.config == narrow.config
    assert {name: array.shape for name, array in again.raw.items()} == {
        name: array.shape for name, array in narrow.raw.items()
    }


def test_what_went_can_grow_again(sleepy: Weights, narrow: Weights, photo: Picture) -> None:
    assert contains(sleepy.config, narrow.config) and not contains(narrow.config, sleepy.config)
    torch.manual_seed(0)
    model, small = ImageModel(sleepy.config), narrow.build()
    grow(model, small)
    x, quality = torch.from_numpy(photo).permute(2, 0, 1)[None].float(), torch.tensor([50.0])
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(x, quality).x_hat, small(x, quality).x_hat, rtol=0, atol=0.05)


def test_models_of_other_kinds_stay_as_they_are(golden_charm: Weights, photo: Picture) -> None:
    assert with_busy_channels(golden_charm, [photo]) is golden_charm


@pytest.fixture
def golden_charm() -> Weights:
    from rdcodec.models.weights import read_weights

    return read_weights(Path(__file__).parents[1] / "golden" / "Golden-charm.1.safetensors")
