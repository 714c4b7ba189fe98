"""The entropy model on integers: the same for encoder and decoder, blind to what comes later, close to its floats."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rdcodec.exact.fixed import HYPER_MAX, MEAN_ONE
from rdcodec.exact.tables import LEVELS, Tables
from rdcodec.models.entropy.checkerboard import mask, spread
from rdcodec.models.entropy.integer import IntegerCheckerboard, Part
from rdcodec.models.entropy.lattice import HALVES, Lattice
from rdcodec.models.weights import FILE_NAME, Weights, read_weights

TENTHS = 600


class Lookup:
    """A coder that looks symbols up in y and z, and keeps what it was told of each element of y."""

    def __init__(self, y: Tensor, z: Tensor, lattices: Sequence[Lattice] = HALVES) -> None:
        self.lattices = lattices
        self.latents, self.hyper_latents = y, z
        self.told: list[Tensor] = []  # mean and index per pass, (2, M, h, w)
        self.symbols: list[Tensor] = []
        self.indexes: list[Tensor] = []

    def z(self, indexes: Tensor) -> Tensor:
        return self._keep(self.hyper_latents[0].permute(1, 2, 0).round(), indexes)

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        lattice = self.lattices[len(self.told)]
        self.told.append(torch.cat([spread(told, lattice) for told in (mean, indexes.float())]))
        return self._keep((part(self.latents) - mean / MEAN_ONE).round(), indexes)

    def _keep(self, symbols: Tensor, indexes: Tensor) -> Tensor:
        assert indexes.dtype == torch.uint8
        self.symbols.append(symbols.reshape(-1))
        self.indexes.append(indexes.reshape(-1))
        return symbols


class Replay:
    """A coder that gives back the symbols that another one found."""

    def __init__(self, symbols: list[Tensor]) -> None:
        self.symbols = list(symbols)
        self.indexes: list[Tensor] = []

    def z(self, indexes: Tensor) -> Tensor:
        self.indexes.append(indexes.reshape(-1))
        return self.symbols.pop(0).reshape(indexes.shape)

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        return self.z(indexes)


@pytest.fixture(scope="module")
def weights(tiny_run: Path) -> Weights:
    return read_weights(tiny_run / FILE_NAME)


@pytest.fixture(scope="module")
def entropy(weights: Weights) -> IntegerCheckerboard:
    return weights.build_entropy()


@pytest.fixture(scope="module", params=[2, 3], ids=["two passes", "three passes"])
def passes(request: pytest.FixtureRequest, tiny_run: Path, uneven_run: Path) -> IntegerCheckerboard:
    """A model of each number of passes."""
    return read_weights((tiny_run if request.param == 2 else uneven_run) / FILE_NAME).build_entropy()


def latents(height: int, width: int, hyper_channels: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    """y and z of a size, as lively as those of a picture."""
    torch.manual_seed(seed)
    y = torch.randn(1, 32, height, width) * 3
    return y, torch.randn(1, hyper_channels, -(-height // 4), -(-width // 4)) * 2


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (4, 4), (5, 9)], ids=str)
@pytest.mark.parametrize("tenths", [0, 333, 1000])
def test_a_decoder_builds_what_the_encoder_built(
    passes: IntegerCheckerboard, size: tuple[int, int], tenths: int
) -> None:
    y, z = latents(*size)
    lattices = passes.config.lattices()
    encoder = Lookup(y, z, lattices)
    y_hat = passes.code(*size, tenths, encoder)
    decoder = Replay(encoder.symbols)
    assert torch.equal(passes.code(*size, tenths, decoder), y_hat)
    assert all(torch.equal(a, b) for a, b in zip(encoder.indexes, decoder.indexes, strict=True))
    assert [len(part) for part in encoder.symbols] == [z.numel(), *(y.numel() // lattice.of for lattice in lattices)]
    assert (y_hat - y).abs().max() <= 0.5
    assert torch.equal(y_hat * MEAN_ONE, (y_hat * MEAN_ONE).round())


@pytest.mark.parametrize("at", [(0, 0, 0), (5, 3, 4), (2, 7, 7), (31, 4, 4), (6, 3, 5)])
def test_nothing_depends_on_what_is_coded_later(passes: IntegerCheckerboard, at: tuple[int, int, int]) -> None:
    """An element reaches the passes behind its own alone; in the next one, its 3 x 3 positions."""
    y, z = latents(8, 8)
    changed = y.clone()
    changed[0][at] += 5
    lattices = passes.config.lattices()
    before, after = Lookup(y, z, lattices), Lookup(changed, z, lattices)
    for coder in (before, after):
        passes.code(8, 8, TENTHS, coder)
    (own,) = (step for step, lattice in enumerate(lattices) if mask(y, lattice)[0][at])
    assert all(torch.equal(before.told[step], after.told[step]) for step in range(own + 1))
    if own + 1 < len(lattices):
        moved = (before.told[own + 1] != after.told[own + 1]).any(1).any(0)
        _, row, column = at
        near = moved[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert near.any() and moved.sum() == near.sum()


def test_hyper_latents_reach_all_passes_as_far_as_they_go(passes: IntegerCheckerboard) -> None:
    y, z = latents(8, 8)
    lattices = passes.config.lattices()
    told = []
    for value in (z, z + 3, z + HYPER_MAX + 10, z + 30000):
        coder = Lookup(y, value, lattices)
        passes.code(8, 8, TENTHS, coder)
        told.append(coder.told)
    for step in range(len(lattices)):
        assert not torch.equal(told[0][step], told[1][step])
        assert torch.equal(told[2][step], told[3][step])


def test_indexes_use_the_whole_table(entropy: IntegerCheckerboard) -> None:
    coder = Lookup(*latents(12, 12))
    entropy.code(12, 12, TENTHS, coder)
    assert len(np.unique(torch.cat(coder.indexes))) > LEVELS // 2


def test_symbols_beyond_any_picture_are_carried_exactly(entropy: IntegerCheckerboard) -> None:
    """The largest symbol that a file can hold, at every place."""
    y, z = latents(4, 4)
    y = torch.where(y > 0, 32700.0, -32700.0)
    y_hat = entropy.code(4, 4, TENTHS, Lookup(y, z))
    assert (y_hat - y).abs().max() <= 0.5


def test_thread_count_does_not_matter(entropy: IntegerCheckerboard, threads: Callable[[int], None]) -> None:
    y, z = latents(20, 30)
    found = []
    for count in (1, 2):
        threads(count)
        coder = Lookup(y, z)
        entropy.code(20, 30, TENTHS, coder)
        found.append(torch.cat(coder.told))
    assert torch.equal(*found)


@pytest.mark.parametrize("quality", [10.0, 50.0, 100.0])
def test_integers_cost_little_more_than_floats(fair_run: Path, quality: float) -> None:
    """Rate of the integers' symbols in their tables, against that of the floats; both without noise.

    Latents are drawn as the model expects them: what is under the least scale is not coded in a file.
    """
    weights = read_weights(fair_run / FILE_NAME)
    model = weights.build()
    at = torch.tensor([quality])
    torch.manual_seed(0)
    y = torch.randn(1, 32, 16, 24) * model.entropy.log_scale(at).exp()
    coder = Lookup(y, model.entropy.analyse(y, at))
    weights.build_entropy().code(16, 24, round(10 * quality), coder)
    rated = model.entropy(y, at)
    estimate = (rated.bits_y.sum() + rated.bits_z.sum()).item()
    assert table_bits(coder, weights.tables) == pytest.approx(estimate, rel=0.02)


def table_bits(coder: Lookup, tables: Tables) -> float:
    """Ideal bits of the coded symbols in integer tables, but for what follows an escape."""
    symbols = torch.cat(coder.symbols).numpy().astype(int)
    indexes = torch.cat(coder.indexes).numpy()
    radius = tables.radius[indexes]
    at = tables.edge_start[indexes] + np.where(np.abs(symbols) <= radius, symbols + radius, 2 * radius + 1)
    bits = -np.log2((tables.edges[at + 1] - tables.edges[at]) / 2**16)
    return float(bits[indexes >= tables.skip_below].sum())
