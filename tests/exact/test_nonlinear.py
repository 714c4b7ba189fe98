"""Division, square root, layer norm and softmax on integers: laws, and the floats that they follow."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rdcodec.errors import NeedsModel
from rdcodec.exact.chain import Range
from rdcodec.exact.nonlinear import (
    NORMAL,
    IntegerLinear,
    check_exponent,
    check_normal,
    floor_divide,
    integer_sqrt,
    inverse,
    normal_length,
    normalise,
    soft_shares,
)
from rdcodec.export.layers import exponent_table

OUT = Range(-(1 << 22), 1 << 22)


def wide(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(st.integers(-(2**52), 2**52), st.integers(1, 2**52))
def test_division_is_pythons(a, b):
    assert floor_divide(wide(a), wide(b)).item() == a // b


@given(st.integers(1, 2**26), st.integers(1, 2**25), st.sampled_from([-1, 0, 1]))
def test_division_next_to_a_multiple(b, quotient, off):
    assert floor_divide(wide(b * quotient + off), wide(b)).item() == (b * quotient + off) // b


@given(st.integers(0, 2**52 - 1))
def test_square_root_is_pythons(a):
    assert integer_sqrt(wide(a)).item() == math.isqrt(a)


@given(st.integers(1, 2**26 - 1), st.sampled_from([-1, 0, 1]))
def test_square_root_next_to_a_square(root, off):
    assert integer_sqrt(wide(root * root + off)).item() == math.isqrt(root * root + off)


@given(st.integers(1, 2**45))
def test_inverse_is_rounded_down(a):
    assert inverse(wide(a)).item() == 2**40 // a


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 12, 128]), st.integers(0, 16), st.integers(1, 10**6))
def test_normalised_integers_follow_layer_norm_and_stay_within_their_length(seed, channels, bits, epsilon):
    x = torch.from_numpy(np.random.default_rng(seed).integers(-(2**bits) + 1, 2**bits, (5, channels))).float()
    found = normalise(x, epsilon)
    assert found.double().norm(dim=-1).max() <= normal_length(channels, epsilon)
    deviation = (x.double().var(-1, correction=0, keepdim=True) + epsilon / channels**2).sqrt()
    wanted = 256 * (x.double() - x.double().mean(-1, keepdim=True)) / deviation
    if epsilon > 10**4:  # the root is at least 100, and rounded down by less than 1
        assert ((found - wanted).abs() <= 0.6 + 0.011 * wanted.abs()).all()


def test_constant_and_lonely_channels():
    x = torch.zeros(2, 512)
    x[0], x[1, 7] = 65535, -65535
    found = normalise(x, 1)
    assert found[0].abs().max() == 0
    assert found[1, 7] == NORMAL.low and found[1].max() == 11  # 256 / sqrt(511)


@given(st.integers(0, 2**32 - 1), st.integers(1, 64), st.floats(0.1, 2000))
def test_shares_follow_softmax(seed, keys, spread):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(np.rint(rng.normal(0, spread, (3, 2, keys)))).float()
    seen = torch.from_numpy(rng.random((3, 2, keys)) < 0.7)
    seen[..., 0] = True
    shares = soft_shares(scores.masked_fill(~seen, -torch.inf), check_exponent(exponent_table()))
    wanted = (scores.double() / 128).masked_fill(~seen, -torch.inf).softmax(-1) * 4096
    assert (shares - wanted).abs().max() < 1
    assert (shares[~seen] == 0).all()
    assert shares.sum(-1).max() <= 4096 + keys // 2


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 64, 500]), st.sampled_from([255, 4095, 65535]))
def test_linear_is_its_definition_in_every_carrier(seed, inputs, largest):
    rng = np.random.default_rng(seed)
    arrays = {
        "weight": rng.integers(-511, 512, (5, inputs)).astype(np.int16),
        "bias": rng.integers(-100_000, 100_000, 5).astype(np.int32),
        "shift": rng.integers(-2, 12, 5).astype(np.int8),
    }
    x = rng.integers(-largest, largest + 1, (2, 3, inputs))
    total = x @ arrays["weight"].astype(np.int64).T + arrays["bias"]
    wanted = np.floor(total * 0.5 ** arrays["shift"].astype(float)).clip(OUT.low, OUT.high)
    layer = IntegerLinear(arrays, Range(-largest, largest), OUT)
    assert np.array_equal(layer(torch.from_numpy(x).float()).numpy(), wanted)


def test_wide_sums_take_parts_or_float64():
    def layer(inputs: int, largest: int, length: float = math.inf) -> IntegerLinear:
        arrays = {"weight": np.full((1, inputs), 511, np.int16), "bias": np.zeros(1, np.int32)}
        return IntegerLinear(arrays | {"shift": np.zeros(1, np.int8)}, Range(-largest, largest), OUT, length)

    assert [len(layer(inputs, 511).weights) for inputs in (64, 65, 256)] == [1, 2, 4]
    assert layer(64, 65535).bias.dtype == torch.float64
    assert len(layer(256, 4095, 2000.0).weights) == 1


@pytest.mark.parametrize("shift", [24, -24])
def test_far_shifts_are_refused(shift):
    arrays = {"weight": np.ones((1, 1), np.int16), "bias": np.zeros(1, np.int32), "shift": np.full(1, shift, np.int8)}
    with pytest.raises(NeedsModel, match="overflow"):
        IntegerLinear(arrays, Range(-1, 1), OUT)


@pytest.mark.parametrize("epsilon", [0, -1, 1 << 52])
def test_norms_that_could_overflow_are_refused(epsilon):
    with pytest.raises(NeedsModel, match="overflow"):
        check_normal(128, np.array([epsilon]), Range(-65535, 65535))
    with pytest.raises(NeedsModel, match="overflow"):
        check_normal(1025, np.array([1]), Range(-65535, 65535))


@pytest.mark.parametrize(("place", "value"), [(0, 0), (-1, 1), (3, -1), (3, 65536)])
def test_tables_of_exponents_that_are_none_are_refused(place, value):
    table = exponent_table()
    table[place] = value
    with pytest.raises(NeedsModel, match="overflow"):
        check_exponent(table)
