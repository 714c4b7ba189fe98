"""Every kind of model that codes files: both decoders find the same integers with random weights of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make import CHARM, HYPERPRIOR, LEAKY, SWIN, extremes, make_lively, single_rate
from numpy.typing import NDArray

import second_decoder
from rdcodec.codec.container import unpack
from rdcodec.codec.pipeline import Codec
from rdcodec.export.weights import export
from rdcodec.models.base import ImageModel

RELU = {"activation": "relu"}
CONV = LEAKY | {"channels": (8, 12, 32)}
CONV_IN = HYPERPRIOR["hyper_analysis"]
SWIN_OUT = SWIN | {"widths": (8, 12), "depths": (2, 3), "outputs": 32}
# What differs from the golden models: the kind and its keys; None takes a key away.
VARIANTS: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {
    "hyperprior-relu": (HYPERPRIOR, {"hyper_synthesis": CONV | RELU}),
    "hyperprior-ends-active": (HYPERPRIOR, {"hyper_synthesis": CONV | {"ends_active": True}}),
    "hyperprior-other-strides": (
        HYPERPRIOR,
        {"hyper_synthesis": CONV | {"strides": (1, 2, 2), "kernels": (1, 7, 3)}},
    ),
    "hyperprior-swin": (HYPERPRIOR, {"hyper_analysis": CHARM["hyper_analysis"], "hyper_synthesis": SWIN_OUT}),
    "charm-conv": (CHARM, {"hyper_analysis": CONV_IN, "hyper_synthesis": CONV | RELU}),
    "charm-ends-active": (
        CHARM,
        {"hyper_analysis": CONV_IN, "hyper_synthesis": CONV | RELU | {"ends_active": True}, "reduction": None},
    ),
    "charm-added-residual": (CHARM, {"merge_kernel": None}),
    "charm-wide-merge": (CHARM, {"merge_kernel": 3}),
    "charm-all-features": (CHARM, {"reduction": None}),
    "charm-own-channels": (CHARM, {"reduction": None, "own_channels": True, "hyper_synthesis": SWIN_OUT}),
    "charm-little-support": (CHARM, {"max_support": 1}),
    "charm-no-support": (CHARM, {"max_support": 0}),
    "charm-published": (CHARM, {"reduction": None, "max_support": 1, "merge_kernel": None, "kernels": (5, 5, 3)}),
    "charm-widths-of-slices": (CHARM, {"widths": ((4, 6, 8), (3, 4, 5)), "kernels": (5, 1, 3)}),
    "charm-wide-heads": (
        CHARM,
        {
            "hyper_analysis": SWIN | {"widths": (12, 40), "depths": (1, 1)},
            "hyper_synthesis": SWIN | {"widths": (40, 40), "depths": (1, 1), "head_channels": 40, "outputs": 6},
        },
    ),
    "charm-other-windows": (
        CHARM,
        {"hyper_synthesis": SWIN | {"widths": (8, 4), "depths": (1, 2), "window": 4, "head_channels": 2, "outputs": 6}},
    ),
}


def check(codec: Codec, weights: second_decoder.Weights, data: bytes) -> NDArray[np.int32]:
    """Both decoders find the same latents, whose steps of 1/64 are returned."""
    found = second_decoder.decode(data, weights).y_hat
    y_hat = codec.decode_latents(*unpack(data))
    np.testing.assert_array_equal(found / 64, y_hat)
    return found


def both(model: ImageModel, path: Path) -> tuple[Codec, second_decoder.Weights]:
    codec = Codec(export(model, path), torch.device("cpu"))
    return codec, second_decoder.read_weights(path.read_bytes())


@pytest.mark.parametrize("name", VARIANTS)
def test_both_decoders_find_the_same_latents(name: str, photo: NDArray[np.uint8], tmp_path: Path) -> None:
    """Of a picture, and of latents larger than any picture has."""
    model, changes = VARIANTS[name]
    entropy = {key: value for key, value in {**model, **changes}.items() if value is not None}
    codec, weights = both(make_lively(single_rate("random", entropy)), tmp_path / "weights.safetensors")
    data = codec.compress(photo[:48, :64])
    assert len(np.unique(check(codec, weights, data))) > 100
    check(codec, weights, extremes(codec, unpack(data)[0])[0])


def test_both_decoders_know_a_hyperprior_of_all_rates(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    config = single_rate("random", HYPERPRIOR).model_copy(update={"lmbda": None})
    codec, weights = both(make_lively(config), tmp_path / "weights.safetensors")
    for quality in (0, 33.3):
        check(codec, weights, codec.compress(photo[:48, :64], quality))


def test_the_second_decoder_refuses_a_quality_where_there_is_one_rate(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    _, one = both(make_lively(single_rate("random", HYPERPRIOR)), tmp_path / "one.safetensors")
    config = single_rate("random", HYPERPRIOR).model_copy(update={"lmbda": None})
    codec, _ = both(make_lively(config), tmp_path / "all.safetensors")
    data = codec.compress(photo[:48, :64])
    one.hashes = second_decoder.read_file(data).hashes
    with pytest.raises(second_decoder.Refused, match="one rate"):
        second_decoder.decode(data, one)
