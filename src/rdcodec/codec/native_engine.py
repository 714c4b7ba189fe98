"""The light models in the core (`native/`): no torch."""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from rdcodec import _native
from rdcodec.codec import rans
from rdcodec.codec.engine import Image, Latents, Symbols, at_quality, threads
from rdcodec.exact.chain import proved
from rdcodec.exact.fixed import LEVEL_ONE, interpolate
from rdcodec.exact.tables import LEVELS
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.entropy.structure import CHECKERBOARD_INPUTS, PARAMETER, checkerboard_chains, levels, nested
from rdcodec.models.sizes import ANCHORS
from rdcodec.models.transforms.kinds import LightTransform
from rdcodec.models.weights import Weights

Network = TypeVar("Network", _native.LightAnalysis, _native.LightSynthesis)
FIRST_OF_BLOCK = re.compile(r"trunk\.([0-9]+)\.mix\.0\.bias")
WIDEST = 1 << 16  # channels of a layer; far beyond any that the core is meant for


def runs(config: ModelConfig) -> bool:
    """Whether the core knows the kinds of such a model."""
    light = isinstance(config.synthesis, LightTransform) and isinstance(config.analysis, LightTransform)
    return light and isinstance(config.entropy, CheckerboardEntropy)


def inner_widths(arrays: Mapping[str, NDArray[np.float32]]) -> list[tuple[int, int]]:
    """Mixed and hidden channels of each block of a light transform, as `Trunk.inner` gives them."""
    found = []
    for place in sorted(int(match[1]) for name in arrays if (match := FIRST_OF_BLOCK.fullmatch(name))):
        hidden = arrays.get(f"trunk.{place}.feed_forward.0.bias")
        found.append((arrays[f"trunk.{place}.mix.0.bias"].size, 0 if hidden is None else hidden.size))
    return found


class NativeEngine:
    """An `Engine` for models whose kinds the core `runs`."""

    name = "native"

    def __init__(self, weights: Weights) -> None:
        """NeedsModel for weights that do not fit their configuration, or integers that could overflow."""
        config = weights.config
        self._weights, self._latents = weights, config.latent_channels
        self._entropy = cast(CheckerboardEntropy, config.entropy)
        self._lattices = self._entropy.lattices()
        weights.check_tables()
        hidden = self._entropy.hyper_channels, self._entropy.features, self._entropy.hidden
        self._check_widths(*hidden)
        chains = checkerboard_chains(self._entropy, self._latents)
        for name, chain in chains.items():
            for _ in proved(chain, nested(weights.entropy, name), CHECKERBOARD_INPUTS[name], PARAMETER):
                pass  # each layer is proved on its way
        self._prior_level = levels(weights.entropy, "prior_level", self._entropy.hyper_channels)
        self._level = levels(weights.entropy, "level", self._latents)
        arrays = {name: array for name, array in weights.entropy.items() if name.partition(".")[0] in chains}
        tables = rans.native_tables(weights.tables)
        try:
            self._checkerboard = _native.Checkerboard(self._latents, *hidden, len(self._lattices), arrays, tables)
        except _native.Misfit:
            raise weights.misfit() from None
        floats = weights.floats("synthesis.")
        self._tint = self._anchors(floats, "tint.values", cast(LightTransform, config.synthesis).stride16.width)
        floats |= {f"log_gain.{name}": array for name, array in weights.floats("log_gain.").items()}
        self._synthesis = self._network(_native.LightSynthesis, config.synthesis, floats, dict(weights.pixels))

    def _check_widths(self, *widths: int) -> None:
        if max(widths) > WIDEST:
            raise self._weights.misfit()

    def _network(
        self, kind: Callable[..., Network], transform: object, arrays: dict[str, NDArray[np.float32]], *more: object
    ) -> Network:
        light = cast(LightTransform, transform)
        wide, deep = light.stride8, light.stride16
        trunks = (wide, deep) if kind is _native.LightAnalysis else (deep, wide)
        inner = [widths for trunk in trunks for widths in trunk.inner()]
        self._check_widths(wide.width, deep.width, *(width for widths in inner for width in widths))
        if inner_widths(arrays) != inner:
            raise self._weights.misfit()  # the core takes these widths as the arrays have them
        try:
            return kind(self._latents, wide.width, wide.blocks, deep.width, deep.blocks, arrays, *more)
        except _native.Misfit:
            raise self._weights.misfit() from None

    def _anchors(self, arrays: dict[str, NDArray[np.float32]], name: str, channels: int) -> NDArray[np.float32]:
        found = arrays.get(name)
        if found is None or found.shape != (ANCHORS, channels):
            raise self._weights.misfit()
        return found

    @cached_property
    def _analysis(self) -> _native.LightAnalysis:
        return self._network(_native.LightAnalysis, self._weights.config.analysis, self._weights.floats("analysis."))

    @cached_property
    def _hyper_analysis(self) -> tuple[_native.HyperAnalysis, NDArray[np.float32]]:
        """The network, and what is taken off z at the anchors of quality."""
        arrays, channels = self._weights.floats("entropy."), self._entropy.hyper_channels
        shift = self._anchors(arrays, "hyper_shift.values", channels)
        own = self._weights.floats("entropy.hyper_analysis.")
        try:
            return _native.HyperAnalysis(self._latents, self._entropy.features, channels, own), shift
        except _native.Misfit:
            raise self._weights.misfit() from None

    def analyse(self, image: Image, rows: int, columns: int) -> Latents:
        return self._analysis.run(np.ascontiguousarray(image), rows, columns, threads())

    def hyper_analyse(self, y: Latents, gain: Latents, tenths: int) -> Latents:
        network, shift = self._hyper_analysis
        return network.run(y, gain, at_quality(shift, tenths), threads())

    def encode(self, y: Latents, gain: Latents, z: Latents, tenths: int, worth: Latents | None = None) -> Symbols:
        savings = None if worth is None else self._weights.tables.savings
        stream, crc, symbols, rows = self._checkerboard.encode(
            y, gain, z, *self._rows(tenths), threads(), worth, savings
        )
        ends = np.cumsum([z.size, *(y.size // lattice.of for lattice in self._lattices)])[:-1]
        return Symbols(stream, crc, np.split(symbols, ends), np.split(rows, ends))

    def decode(self, stream: bytes, rows: int, columns: int, tenths: int) -> tuple[Latents, int]:
        with rans.damage_told():
            return self._checkerboard.decode(stream, rows, columns, *self._rows(tenths), threads())

    def synthesise(self, y_hat: Latents, gain: Latents, tenths: int, height: int, width: int) -> Image:
        unit, tint = np.reciprocal(gain), at_quality(self._tint, tenths) + np.float32(1)
        return self._synthesis.run(y_hat, unit, tint, tenths, height, width, threads())

    def _rows(self, tenths: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Table rows of the channels of z, and offsets of the levels of y, both with half a level to round by."""
        prior = interpolate(self._prior_level, tenths) + LEVEL_ONE // 2 >> 4
        offset = interpolate(self._level, tenths) + np.int32(LEVEL_ONE // 2)
        return np.clip(prior, 0, LEVELS - 1).astype(np.uint8), offset
