"""Hyperprior and CHARM on integers: every combination of the paper's parts codes files, and the same everywhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from test_family import COMBINATIONS, ENTROPIES, HYPER, combination
from test_integer import Lookup, Replay, table_bits
from torch import Tensor

import rdcodec
from rdcodec.codec.container import SINGLE_RATE, pack, unpack
from rdcodec.codec.pipeline import Codec, Encoded
from rdcodec.errors import BadInput, NeedsModel, UsageError
from rdcodec.exact.chain import Arrays, Range, reference
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.exact.tables import LEVELS
from rdcodec.export.tables import build_gaussian_tables, scale_table
from rdcodec.export.weights import export
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import layers_of
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import Search
from rdcodec.models.entropy.gaussian import straight_round
from rdcodec.models.entropy.integer import Part
from rdcodec.models.weights import FILE_NAME, Weights

pytestmark = pytest.mark.xdist_group("integer hyper")  # each codec is built once
PUBLISHED = {"reduction": None, "max_support": 1, "merge_kernel": None}  # CHARM before the paper changed it
LEAKY = {
    "kind": "conv",
    "channels": (8, 12, 32),
    "kernels": (5, 5, 3),
    "strides": (2, 2, 1),
    "activation": "leaky_relu",
}
# One of each kind of entropy model, where the transforms do not matter.
VARIANTS = {
    "hyperprior": ("hyperprior", {}),
    "hyperprior-leaky": ("hyperprior", {"hyper_synthesis": LEAKY}),
    "hyperprior-swin": ("hyperprior", {"hyper_synthesis": HYPER["swin"][1]}),
    "charm": ("charm", {}),
    "charm-swin": ("charm", {"hyper_synthesis": HYPER["swin"][1]}),
    "charm-published": ("charm", PUBLISHED | {"hyper_synthesis": LEAKY}),
    "charm-merge3": ("charm", {"merge_kernel": 3}),
}


def lively(config: ModelConfig) -> ImageModel:
    """Random weights that keep the coder busy: means far from the grid, scales from the least to the largest."""
    torch.manual_seed(0)
    model = ImageModel(config)
    entropy, m = model.entropy, config.latent_channels
    every_level = torch.linspace(-4.5, 4.5, m)
    with torch.no_grad():
        layers_of(model.analysis)[-1].weight *= 3
        if config.entropy.kind == "hyperprior":
            last = layers_of(entropy.hyper_synthesis)[-1]
            last.weight *= 4
            if config.entropy.hyper_synthesis.kind == "swin":
                last.bias[4 * m :] = every_level.repeat_interleave(4)
            else:
                last.bias[m:] = every_level
        else:
            for networks, levels in zip(entropy.networks, every_level.split(config.entropy.slices), strict=True):
                for network, size in ((networks.mean, 5), (networks.scale, 5), (networks.lrp, 10)):
                    network[-1].weight *= size
                networks.scale[-1].bias += levels
                if networks.merge is not None:
                    networks.merge.weight += 0.05 * torch.randn_like(networks.merge.weight)
                    networks.merge.bias += 0.1 * torch.randn_like(networks.merge.bias)
    return model.eval().requires_grad_(False)


@cache
def picture() -> NDArray[np.uint8]:
    with Image.open(Path(rdcodec.__file__).parent / "data" / "astronaut.png") as opened:
        return np.array(opened.convert("RGB"))


def of_size(height: int, width: int) -> NDArray[np.uint8]:
    """The bundled picture, mirrored until it has that size."""
    image = picture()
    return np.pad(image, ((0, max(0, height - 256)), (0, max(0, width - 384)), (0, 0)), "symmetric")[:height, :width]


def exported(model: ImageModel) -> Weights:
    with TemporaryDirectory() as folder:
        return export(model, Path(folder) / FILE_NAME, [of_size(192, 256)])


@cache
def codec_of(transform: str, entropy: str, hyper: str) -> Codec:
    return Codec(exported(lively(combination(transform, entropy, hyper))), torch.device("cpu"))


@cache
def variant(name: str) -> Weights:
    entropy, changes = VARIANTS[name]
    return exported(lively(combination("conv", entropy, "conv", **changes)))


# Files


def check_file(codec: Codec, height: int, width: int) -> Encoded:
    """What was promised comes back, in the bits that the model estimates."""
    encoded = codec.encode(of_size(height, width))
    header, stream = unpack(encoded.data)
    assert (header.width, header.height, header.quality) == (width, height, SINGLE_RATE)
    np.testing.assert_array_equal(codec.decode_latents(header, stream), encoded.y_hat)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
    assert encoded.reconstruction.shape == (height, width, 3) and encoded.quality is None
    assert 8 * len(encoded.data) <= 1.01 * encoded.estimate_bits + 600
    return encoded


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_combination_can_be_searched(parts: tuple[str, str, str]) -> None:
    """A search that begins with the analysis's own hyper-latents and rounding has its rate and latents."""
    model = codec_of(*parts).model
    y, at = 3 * torch.randn(1, model.config.latent_channels, 8, 8), torch.zeros(1)
    plain = model.entropy(y, at)
    searched = model.entropy(y, at, None, Search(model.entropy.analyse(y, at), straight_round))
    for one, other in zip(plain, searched, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("parts", COMBINATIONS[::5], ids="-".join)
def test_files_of_a_search_decode(parts: tuple[str, str, str]) -> None:
    codec = codec_of(*parts)
    encoded = codec.encode(of_size(70, 130), effort=2)
    np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_combination_codes_files(parts: tuple[str, str, str]) -> None:
    codec = codec_of(*parts)
    check_file(codec, 1, 1)
    encoded = check_file(codec, 63, 65)
    symbols, indexes = np.concatenate(encoded.symbols), np.concatenate(encoded.indexes)
    assert np.mean(symbols != 0) > 0.25
    assert np.sum(np.abs(symbols) > codec.tables.radius[indexes]) > 10
    assert codec.compress(of_size(63, 65)) == encoded.data


@pytest.mark.parametrize("entropy", ENTROPIES)
def test_every_scale_is_used(entropy: str) -> None:
    encoded = check_file(codec_of("conv", entropy, "conv"), 512, 768)
    levels = set(np.concatenate(encoded.indexes[1:]).tolist())
    assert levels == set(range(LEVELS))
    assert set(encoded.indexes[0].tolist()) == set(range(LEVELS, LEVELS + 8))


@pytest.mark.slow
@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_combination_codes_large_files(parts: tuple[str, str, str]) -> None:
    check_file(codec_of(*parts), 512, 768)


def test_quality_and_targets_are_refused() -> None:
    codec, image = codec_of("conv", "charm", "conv"), of_size(40, 40)
    for attempt in (
        lambda: codec.compress(image, 50),
        lambda: codec.encode_target(image, bpp=0.5),
        lambda: codec.encode_target(image, psnr_db=30),
    ):
        with pytest.raises(UsageError, match=r"small\.0 has a single rate \(lmbda 0\.01\): leave out"):
            attempt()


@pytest.mark.parametrize("quality", [0, 500, 1000])
def test_a_forged_quality_is_refused(quality: int) -> None:
    codec = codec_of("conv", "hyperprior", "conv")
    header, stream = unpack(codec.compress(of_size(40, 40)))
    with pytest.raises(BadInput, match="single rate"):
        codec.decompress(pack(replace(header, quality=quality), stream))


def test_gains_make_a_model_of_all_rates_of_any_kind() -> None:
    """Without lmbda the latents have gains that follow quality, whatever the entropy model."""
    config = combination("conv", "charm", "conv").model_copy(update={"lmbda": None})
    model = lively(config)
    model.log_gain.values.copy_(torch.linspace(-2, 0, len(model.log_gain.values))[:, None].expand(-1, 16))
    codec = Codec(exported(model), torch.device("cpu"))
    sizes = []
    for quality in (0, 50, 100):
        encoded = codec.encode(of_size(70, 90), quality)
        np.testing.assert_array_equal(codec.decompress(encoded.data), encoded.reconstruction)
        sizes.append(len(encoded.data))
    assert sizes == sorted(set(sizes))


# The networks


def latents(weights: Weights, height: int, width: int) -> tuple[Tensor, Tensor]:
    """y and z, as lively as those of a picture."""
    torch.manual_seed(1)
    y = torch.randn(1, weights.config.latent_channels, height, width) * 5
    z = torch.randn(1, weights.config.entropy.hyper_channels, -(-height // 4), -(-width // 4))
    return y, z * 3


class Kept(Lookup):
    """Keeps means and indexes of each pass as they come."""

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        self.told.append(torch.stack([mean, indexes.float()]))
        return self._keep((part(self.latents) - mean / MEAN_ONE).round(), indexes)

    def _keep(self, symbols: Tensor, indexes: Tensor) -> Tensor:
        self.symbols.append(symbols.reshape(-1))
        self.indexes.append(indexes.reshape(-1))
        return symbols


def run(weights: Weights, coder: Kept | Replay, height: int, width: int) -> Tensor:
    return weights.build_entropy().code(height, width, 0, coder)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (3, 1), (8, 12)], ids=str)
def test_a_decoder_builds_what_the_encoder_built(name: str, size: tuple[int, int]) -> None:
    weights = variant(name)
    encoder = Kept(*latents(weights, *size))
    y_hat = run(weights, encoder, *size)
    decoder = Replay(encoder.symbols)
    assert torch.equal(run(weights, decoder, *size), y_hat)
    assert all(torch.equal(a, b) for a, b in zip(encoder.indexes, decoder.indexes, strict=True))
    assert torch.equal(y_hat * MEAN_ONE, (y_hat * MEAN_ONE).round())


def by_the_page(weights: Weights, coder: Kept, height: int, width: int) -> tuple[list[NDArray[np.int64]], ...]:
    """Means and indexes of each pass, and y_hat, in NumPy and as docs/format.md has it; coder gives the symbols."""
    arrays, config = weights.entropy, weights.config.entropy
    hyper = config.hyper_synthesis
    symbols = [part.numpy().astype(np.int64) for part in coder.symbols]

    def layers(chain: str, x: NDArray[np.int64], last: int, ups: Sequence[int], activation: type) -> NDArray[np.int64]:
        for place, up in enumerate(ups):
            names = ("weight", "bias", "shift")
            layer = {name: arrays[f"{chain}.{2 * place}.{name}"] for name in names}
            end = place == len(ups) - 1
            low, high = (-last, last) if end else (-511 if activation == "leaky_relu" else 0, 511)
            x = reference(layer, 1, Range(low, high), x, up, None if end else activation)
        return x

    def coded(mean: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.int64]:
        means.append(mean)
        indexes.append(np.clip((level + 8) // 16, 0, 127))
        channels = len(mean)
        return mean + 64 * symbols.pop(0).reshape(height, width, channels).transpose(2, 0, 1)

    means: list[NDArray[np.int64]] = []
    indexes: list[NDArray[np.int64]] = []
    z = symbols.pop(0).reshape(-(-height // 4), -(-width // 4), -1).transpose(2, 0, 1)
    activation = hyper.activation
    last = 32767 if config.kind == "hyperprior" else 511
    features = layers("hyper_synthesis", np.clip(z, -511, 511), last, hyper.strides, activation)[:, :height, :width]
    if config.kind == "hyperprior":
        return means, indexes, [coded(*np.split(features, 2))]
    count = len(config.slices)
    owned = [tuple(np.split(features, 2))] * count
    if config.reduction:
        owned = [(part, part) for part in np.split(layers("reduce", features, 511, [1], "relu"), count)]
    elements: list[NDArray[np.int64]] = []
    inputs: list[NDArray[np.int64]] = []
    for s, (for_mean, for_scale) in enumerate(owned):
        before = inputs[: config.max_support]
        seen, seen_by_scale = (np.concatenate([own, *before]) for own in (for_mean, for_scale))
        same = [1] * len(config.kernels)
        mean = layers(f"slices.{s}.mean", seen, 32767, same, "relu")
        e = coded(mean, layers(f"slices.{s}.scale", seen_by_scale, 32767, same, "relu"))
        reach = arrays[f"slices.{s}.reach"].astype(np.int64)[:, None, None]
        lrp = layers(f"slices.{s}.lrp", np.append(seen, np.clip((e + 2) // 4, -reach, reach), 0), 255, same, "relu")
        r = arrays["tanh"].astype(np.int64)[255 + lrp]
        if config.merge_kernel is None:
            elements.append(e + r)
        else:
            both = np.append(np.clip(e, -32767, 32767), r, 0)
            elements.append(layers(f"slices.{s}.merge", both, 32767, [1], "relu"))
        inputs.append(np.clip((elements[-1] + 2) // 4, -reach, reach))
    return means, indexes, elements


@pytest.mark.parametrize("name", [name for name in VARIANTS if "swin" not in name])
@pytest.mark.parametrize("far", [1, 40], ids=["usual", "clipped"])
def test_networks_do_what_the_page_says(name: str, far: int) -> None:
    """In NumPy, on int64; also where latents are beyond the reach of networks and tables."""
    weights = variant(name)
    y, z = latents(weights, 5, 6)
    coder = Kept(y * far, z * far)
    y_hat = run(weights, coder, 5, 6)
    means, indexes, elements = by_the_page(weights, coder, 5, 6)
    for (mean, index), wanted_mean, wanted_index in zip(coder.told, means, indexes, strict=True):
        np.testing.assert_array_equal(mean.permute(2, 0, 1).numpy(), wanted_mean)
        np.testing.assert_array_equal(index.permute(2, 0, 1).numpy(), wanted_index)
    np.testing.assert_array_equal((y_hat[0] * 64).numpy(), np.concatenate(elements))


@pytest.mark.parametrize("name", ["charm", "charm-published", "charm-merge3"])
def test_a_slice_sees_only_those_that_it_should(name: str) -> None:
    """The one before, and with a bound on their number the first ones alone."""
    weights = variant(name)
    y, z = latents(weights, 8, 8)
    before = Kept(y, z)
    run(weights, before, 8, 8)
    for changed, later in ((0, [1, 2]), (2, [2] if name != "charm-published" else []), (8, [])):
        other = y.clone()
        other[:, changed] += 7
        after = Kept(other, z)
        run(weights, after, 8, 8)
        moved = [i for i in range(3) if not torch.equal(before.told[i], after.told[i])]
        assert moved == later


@pytest.mark.parametrize("name", VARIANTS)
def test_threads_and_layout_do_not_matter(name: str, threads: Callable[[int], None]) -> None:
    weights = variant(name)
    y, z = latents(weights, 8, 12)
    found = []
    for count in (1, 2):
        for layout in (torch.contiguous_format, torch.channels_last):
            threads(count)
            coder = Kept(y.contiguous(memory_format=layout), z.contiguous(memory_format=layout))
            run(weights, coder, 8, 12)
            found.append(torch.cat([part.flatten() for part in coder.told]))
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("name", VARIANTS)
def test_symbols_beyond_any_picture_are_carried_exactly(name: str) -> None:
    """The largest that a file can hold, where nothing is merged that they could leave the range of."""
    weights = variant(name)
    y, z = latents(weights, 4, 4)
    encoder = Kept(torch.where(y > 0, 32700.0, -32700.0), z)
    y_hat = run(weights, encoder, 4, 4)
    assert torch.equal(run(weights, Replay(encoder.symbols), 4, 4), y_hat)
    if "merge" not in name and name not in ("charm", "charm-swin"):
        assert (y_hat.abs() - 32700).abs().max() <= 1


class Draw(Kept):
    """Draws symbols as the tables expect them, so that the price of integers is what is left."""

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        self.told.append(mean)
        drawn = torch.randn(mean.shape) * torch.from_numpy(scale_table()).float()[indexes.long()]
        return self._keep((drawn * (indexes >= 3)).round(), indexes)


@pytest.mark.parametrize("name", VARIANTS)
def test_integers_cost_little_more_than_floats(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = variant(name)
    model = weights.build()
    _, z = latents(weights, 32, 48)
    torch.manual_seed(2)
    coder = Draw(torch.zeros(0), z)
    run(weights, coder, 32, 48)
    parts = zip(coder.told, coder.symbols[1:], strict=True)
    y = torch.cat([mean / MEAN_ONE + symbols.reshape(mean.shape) for mean, symbols in parts], -1).permute(2, 0, 1)[None]
    monkeypatch.setattr(model.entropy, "analyse", lambda y, quality: z.round())
    with torch.no_grad():
        rated = model.entropy(y, torch.zeros(1))
    estimate = (rated.bits_y.sum() + rated.bits_z.sum()).item()
    assert table_bits(coder, weights.tables) == pytest.approx(estimate, rel=0.01)


def altered(weights: Weights, name: str, change: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> Arrays:
    array = weights.entropy[name]
    return weights.entropy | {name: change(array.astype(np.int64)).astype(array.dtype)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("slices.1.mean.2.weight", None),
        ("slices.2.merge.0.bias", lambda a: a[:-1]),
        ("slices.0.lrp.0.shift", lambda a: a + 40),
        ("reduce.0.weight", None),
        ("hyper_synthesis.0.bias", lambda a: a * 0 - 2**31),
        ("hyper_synthesis.2.weight", lambda a: a.transpose(1, 0, 2, 3)),
        ("slices.1.reach", lambda a: a * 0 + 4096),
        ("slices.1.reach", lambda a: -a),
        ("slices.1.reach", lambda a: a * 0 - 2**31),
        ("slices.1.reach", None),
        ("tanh", lambda a: a[:-1]),
        ("tanh", lambda a: a * 3),
    ],
)
def test_missing_and_altered_arrays_are_refused(name: str, change: Callable[..., NDArray[np.int64]] | None) -> None:
    weights = variant("charm")
    arrays = dict(weights.entropy)
    if change is None:
        del arrays[name]
    else:
        arrays = altered(weights, name, change)
    with pytest.raises(NeedsModel) as raised:
        replace(weights, entropy=arrays).build_entropy()
    assert "\n" not in str(raised.value)


def test_the_proof_takes_the_reach_of_the_residual_from_its_table() -> None:
    weights = variant("charm-merge3")
    residual = np.arange(4)[:, None, None] > 1
    arrays = altered(weights, "slices.0.merge.0.weight", lambda a: np.where(residual, 32767, a))
    replace(weights, entropy=arrays).build_entropy()
    with pytest.raises(NeedsModel, match="overflow"):
        replace(weights, entropy=arrays | {"tanh": 2 * arrays["tanh"]}).build_entropy()


def test_tables_without_rows_for_hyper_latents_are_refused() -> None:
    weights = replace(variant("charm"), tables=build_gaussian_tables())
    with pytest.raises(NeedsModel, match="136 rows"):
        weights.build_entropy()


def test_weights_that_reach_too_far_are_refused() -> None:
    weights = variant("hyperprior")
    arrays = altered(weights, "hyper_synthesis.4.weight", lambda a: a * 0 + 32767)
    with pytest.raises(NeedsModel, match="overflow"):
        replace(weights, entropy=arrays).build_entropy()
