"""Batches made ahead are those that would be made in time."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import RECIPE, assemble, make_quick, same

from rdcodec.models.config import ModelConfig
from rdcodec.training.data import Batch, BatchMaker, Crops, Photo
from rdcodec.training.feed import Feed
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Stage

CPU = torch.device("cpu")
SMALL, LARGE = RECIPE.stages
Wanted = Sequence[tuple[int, Stage]]


def ahead(feed: Feed, steps: int = 3) -> Feed:
    """The feed as it is on a GPU."""
    feed.ahead = steps
    feed.pool = ThreadPoolExecutor(steps)
    return feed


@pytest.fixture(scope="module")
def feed(tiny_config: ModelConfig, picture_folder: Path) -> Feed:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch.setattr)
        return assemble(Plan(tiny_config, RECIPE, (str(picture_folder),), 0), picture_folder.parent, 9).feed


def run_through(feed: Feed, wanted: Wanted) -> list[list[Batch]]:
    return [feed.take(step, stage) for step, stage in wanted]


@pytest.mark.parametrize(
    "wanted",
    [
        [(step, SMALL) for step in range(6)],
        [(step, SMALL if step < 3 else LARGE) for step in range(7)],
        [(step, LARGE) for step in range(1000, 1004)],
        [(0, SMALL), (1, SMALL), (700, SMALL), (701, LARGE)],
    ],
    ids=["steps", "change of stage", "resumed", "jump"],
)
def test_batches_made_ahead_are_the_same(feed: Feed, wanted: Wanted) -> None:
    plain = run_through(feed, wanted)
    assert same(run_through(ahead(Feed(feed.make, CPU)), wanted), plain)
    assert not same(plain[0], plain[1])
    assert all(batch.x.shape[3] == stage.crop for (_, stage), (batch,) in zip(wanted, plain, strict=True))


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 8), st.integers(0, 100))
@settings(max_examples=25)
def test_steps_come_in_order_however_long_each_takes(larger: list[bool], steps: int, seed: int) -> None:
    """Each is the one that was asked for, and little is made that nobody takes."""
    made: list[tuple[int, Stage]] = []

    def make(step: int, stage: Stage) -> list[tuple[int, Stage]]:
        time.sleep(Random(seed + step).uniform(0, 2e-3))
        made.append((step, stage))
        return [(step, stage)]

    wanted = [(step, LARGE if large else SMALL) for step, large in enumerate(larger)]
    found = run_through(feed := ahead(Feed(make, CPU), steps), wanted)
    assert found == [[key] for key in wanted]
    feed.pool.shutdown()
    changes = sum(a != b for a, b in pairwise(larger))
    assert set(wanted) <= set(made)
    assert len(made) <= len(wanted) + steps * (1 + changes) + changes


def test_an_error_comes_out_where_its_step_is_taken() -> None:
    def make(step: int, stage: Stage) -> list[Batch]:
        if step == 2:
            raise MemoryError
        return []

    feed = ahead(Feed(make, CPU))
    assert run_through(feed, [(0, SMALL), (1, SMALL)]) == [[], []]
    with pytest.raises(MemoryError):
        feed.take(2, SMALL)


def test_on_a_cpu_nothing_is_made_ahead(feed: Feed) -> None:
    made: list[int] = []
    plain = Feed(lambda step, stage: made.append(step) or [], CPU)
    for step in range(3):
        plain.take(step, SMALL)
        assert made == list(range(step + 1))


# Qualities


@given(st.integers(1, 40), st.integers(0, 10**6), st.integers(0, 5))
@settings(max_examples=25)
def test_stratified_qualities_lie_one_in_each_part(of: int, step: int, seed: int) -> None:
    """Of as many equal parts of the scale, whoever draws which sample and in what order."""
    maker = BatchMaker(Crops([photo()]), seed, latent_channels=2, hyper_channels=2, stratified=True)
    random = Random(step)
    order = random.sample(range(of), of)
    cut = random.randint(0, of)
    shares = [share for share in (order[:cut], order[cut:]) if share]
    quality = torch.cat([maker.batch(step, 64, share, of).quality for share in shares])
    assert sorted((quality * of / 100).floor().int().tolist()) == list(range(of))
    assert len({round(value, 3) for value in ((quality * of / 100) % 1).tolist()}) > of // 2  # not in the same place


@pytest.mark.parametrize("stratified", [False, True])
def test_a_sample_is_the_same_whoever_draws_it(stratified: bool) -> None:
    maker = BatchMaker(Crops([photo()]), 3, latent_channels=2, hyper_channels=2, stratified=stratified)
    whole = maker.batch(5, 64, range(6), 6)
    for share in ([4], [3, 0], [5, 1, 2]):
        part = maker.batch(5, 64, share, 6)
        for one, other in (
            (part.x, whole.x),
            (part.quality, whole.quality),
            *zip(part.noise, whole.noise, strict=True),
        ):
            assert torch.equal(one, other[share])


def test_qualities_that_are_not_stratified_are_not() -> None:
    maker = BatchMaker(Crops([photo()]), 0, latent_channels=2, hyper_channels=2)
    parts = [(maker.batch(step, 64, range(8), 8).quality * 8 / 100).floor().int().tolist() for step in range(10)]
    assert any(len(set(part)) < 8 for part in parts)


def photo() -> Photo:
    pixels = torch.randint(0, 256, (96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Photo("noise", pixels.numpy())
