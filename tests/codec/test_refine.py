"""The encoder's search: better files for the same decoder, and never worse ones."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rdcodec.codec import refine as module
from rdcodec.codec.pipeline import Analysed, Codec, Encoded, load, search_steps
from rdcodec.codec.refine import MARGIN, WINDOW, refine, windows
from rdcodec.errors import UsageError
from rdcodec.models.scale import LMBDA_0, LMBDA_100
from rdcodec.models.sizes import HYPER_STRIDE

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def released() -> Codec:
    return load("J")


@pytest.fixture(scope="module")
def fair(fair_run: Path) -> Codec:
    return load(fair_run)


def cost(coded: Encoded) -> float:
    """Bits per pixel and weighted distortion of the file itself."""
    assert coded.quality is not None
    lmbda = LMBDA_0 * (LMBDA_100 / LMBDA_0) ** (coded.quality / 100)
    error = (coded.image.astype(float) - coded.codec.decompress(coded.data)) ** 2
    return 8 * len(coded.data) * 3 / coded.image.size + lmbda * float(error.mean())


# What it is worth


@pytest.mark.parametrize("quality", [50, 90])  # at low ones a picture so small has too few symbols to search
def test_more_effort_makes_better_files(released: Codec, photo: Picture, quality: float) -> None:
    plain, some, more = (cost(released.encode(photo[32:128, 64:192], quality, effort)) for effort in (1, 2, 4))
    assert more < some <= plain
    assert more < 0.995 * plain


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (65, 63)], ids=str)
def test_any_size(released: Codec, photo: Picture, size: tuple[int, int]) -> None:
    image = photo[: size[0], : size[1]]
    plain, found = released.encode(image, 50), released.encode(image, 50, 2)
    assert cost(found) <= cost(plain)
    np.testing.assert_array_equal(released.decompress(found.data), found.reconstruction)


def test_what_is_worse_is_not_kept(fair: Codec, photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RATE", 50.0)  # a search that only destroys
    assert fair.encode(photo, 50, 2).data == fair.encode(photo, 50).data


def test_the_same_file_again(released: Codec, photo: Picture) -> None:
    image = photo[:64, :96]
    assert released.compress(image, 30, 2) == released.compress(image, 30, 2)


@pytest.mark.slow
def test_targets_are_met_with_a_search(released: Codec, photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better picture of the size; few qualities are searched, since one pass knows about where."""
    plain = released.encode_target(photo, file_bytes=1500)
    searched: list[float] = []
    code = Codec.code

    def counted(codec: Codec, analysed: Analysed, quality: float, effort: int) -> Encoded:
        searched.extend([quality] if effort > 1 else [])
        return code(codec, analysed, quality, effort)

    monkeypatch.setattr(Codec, "code", counted)
    found = released.encode_target(photo, file_bytes=1500, effort=3)
    assert 1485 <= len(found.data) <= 1500 and found.psnr_db > plain.psnr_db
    assert 1 <= len(searched) <= 4


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(
    released: Codec, photo: Picture, context: Callable[[], AbstractContextManager[object]]
) -> None:
    image = photo[:64, :64]
    expected = released.compress(image, 50, 2)
    with context():
        assert released.compress(image, 50, 2) == expected


# Efforts


def test_every_effort_takes_twice_the_steps() -> None:
    steps = [search_steps(effort) for effort in range(1, 10)]
    assert steps[:4] == [0, 12, 25, 50]
    assert all(after == 2 * before for before, after in pairwise(steps[2:]))


@pytest.mark.parametrize("effort", [0, 10, -1])
def test_unknown_efforts(released: Codec, photo: Picture, effort: int) -> None:
    with pytest.raises(UsageError, match="from 1 to 9"):
        released.compress(photo, 50, effort)


# Windows


@given(st.integers(1, 300), st.integers(1, 300))
def test_windows_share_out_the_latents(rows: int, columns: int) -> None:
    """Each latent is searched once, all within the margin is seen, and windows begin where a hyper-latent does."""
    times = np.zeros((rows, columns), int)
    for own, seen in windows(rows, columns):
        times[own] += 1
        for part, around, length in zip(own, seen, (rows, columns), strict=True):
            assert part.stop - part.start <= WINDOW
            assert around.start == max(part.start - MARGIN, 0) and around.stop == min(part.stop + MARGIN, length)
            assert part.start % HYPER_STRIDE == 0 and around.start % HYPER_STRIDE == 0
    assert (times == 1).all()


def test_a_window_leaves_the_others_alone(released: Codec, photo: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 4)
    monkeypatch.setattr(module, "MARGIN", 4)
    coded = released.encode(photo[:100, :150], 50)
    y, z = (torch.tensor(part).permute(2, 0, 1)[None] for part in (coded.latents, coded.hyper_latents))
    rows, columns = y.shape[2:]
    monkeypatch.setattr(module, "windows", lambda *size: list(windows(*size))[:1])
    x = torch.tensor(coded.image).permute(2, 0, 1)[None].float()
    found_y, found_z = refine(released.model, x, y, z, torch.tensor([50.0]), 3)
    assert (rows, columns) == (7, 10)
    for before, after, side in ((y, found_y, 4), (z, found_z, 1)):
        changed = (before != after)[0].any(0)
        assert changed[:side, :side].all()
        changed[:side, :side] = False
        assert not changed.any()


@pytest.mark.slow
def test_many_windows_are_worth_as_much_as_one(
    released: Codec, photo: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, whole = (cost(released.encode(photo, 50, effort)) for effort in (1, 3))
    monkeypatch.setattr(module, "WINDOW", 8)
    parted = cost(released.encode(photo, 50, 3))
    assert plain - parted > 0.7 * (plain - whole)


# Rounding


@pytest.mark.parametrize("temperature", [0.15, 0.5])
def test_annealed_rounding_goes_to_a_neighbour(temperature: float) -> None:
    """The nearer one more often, and never away from a whole number."""
    generator = torch.Generator().manual_seed(0)
    value = torch.tensor([-1.2, 0.0, 0.3, 0.5, 2.0]).repeat(4000, 1)
    rounded = module._annealed(temperature, generator)(value, None)
    assert ((rounded >= value.floor()) & (rounded <= value.floor() + 1)).all()
    up = (rounded - value.floor()).mean(0)
    assert up[1] < 0.02 and up[4] < 0.02 and up[2] < 0.4 and up[3] == pytest.approx(0.5, abs=0.03) and up[0] > 0.6


def test_annealed_rounding_has_finite_gradients() -> None:
    value = torch.tensor([0.0, 1e-7, 0.5, 1 - 1e-7, -3.0], requires_grad=True)
    module._annealed(0.15, torch.Generator().manual_seed(0))(value, None).sum().backward()
    assert value.grad is not None and all(map(math.isfinite, value.grad.tolist()))
