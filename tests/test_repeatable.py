"""No test depends on luck: draws without a seed are the same in every run, and so are hypothesis's examples."""

import random

import numpy as np
import pytest
import torch
from hypothesis import settings

Draws = tuple[float, float, float]


def draws() -> Draws:
    return random.random(), np.random.random(), torch.rand(1).item()


@pytest.fixture(scope="module")
def in_a_fixture() -> Draws:
    return draws()


@pytest.mark.parametrize("time", range(2))
def test_draws_are_the_same_in_every_test(in_a_fixture: Draws, time: int) -> None:
    generator = torch.Generator().manual_seed(0)
    expected = random.Random(0).random(), np.random.RandomState(0).random(), torch.rand(1, generator=generator).item()
    assert draws() == in_a_fixture == expected


def test_examples_are_the_same_in_every_run_and_may_take_their_time() -> None:
    assert settings().derandomize and settings(max_examples=9).derandomize and settings().deadline is None
