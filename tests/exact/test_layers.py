"""Integer convolutions: equal to their definition on any input, refused where a sum could round."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdcodec.errors import NeedsModel
from rdcodec.exact.chain import ACTIVATION, Conv, Range, Reach, Shuffle, reference
from rdcodec.exact.fixed import CARRIER_LIMIT, QUALITIES, SUM_LIMIT, interpolate
from rdcodec.exact.layers import IntegerChain, IntegerConv
from rdcodec.export.layers import FINE_WEIGHT_MAX, WEIGHT_MAX, calibrate

SIGNED = Range(-4095, 4095)
OUTPUT = Range(-32767, 32767)


def random_arrays(rng: np.random.Generator, shape: tuple[int, ...], outputs: int, reach: int) -> dict:
    return {
        "weight": rng.integers(-reach, reach + 1, shape).astype(np.int16),
        "bias": rng.integers(-100_000, 100_000, outputs).astype(np.int32),
        "shift": rng.integers(-3, 12, outputs).astype(np.int8),
    }


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([1, 3, 5]),
    groups=st.sampled_from([1, 4]),
    up=st.sampled_from([1, 2]),
    activation=st.sampled_from([None, "relu", "leaky_relu"]),
    channels=st.integers(1, 12),
    reach=st.sampled_from([60, WEIGHT_MAX]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    negative=st.booleans(),
)
def test_conv_is_its_definition(seed, side, groups, up, activation, channels, reach, height, width, negative):
    """Split or not, transposed or not."""
    rng = np.random.default_rng(seed)
    groups = 1 if up > 1 else groups
    if groups > 1:
        reach, side = 60, min(side, 3)  # sums within groups are not split
    inputs, outputs = channels * groups, 2 * groups
    shape = (inputs, outputs, side, side) if up > 1 else (outputs, channels, side, side)
    arrays = random_arrays(rng, shape, outputs, reach)
    domain = Range(-1023, 1023) if negative else ACTIVATION
    x = rng.integers(domain.low, domain.high + 1, (inputs, height, width))
    conv = IntegerConv(arrays, groups, domain, OUTPUT, up, activation)
    got = conv(torch.from_numpy(x).float()[None])[0]
    assert np.array_equal(got.numpy(), reference(arrays, groups, OUTPUT, x, up, activation))


@pytest.mark.parametrize("side", [3, 5])
def test_transposed_definition_is_that_of_torch(side):
    """In float64, where torch's own is exact too."""
    rng = np.random.default_rng(side)
    arrays = random_arrays(rng, (3, 4, side, side), 4, WEIGHT_MAX) | {"shift": np.zeros(4, np.int8)}
    x = rng.integers(-500, 501, (3, 5, 7))
    weight, bias = (torch.from_numpy(arrays[name]).double() for name in ("weight", "bias"))
    wanted = nn.functional.conv_transpose2d(torch.from_numpy(x).double()[None], weight, bias, 2, side // 2, 1)[0]
    found = reference(arrays, 1, Range(-(2**40), 2**40), x, up=2)
    assert np.array_equal(found, wanted.numpy())


def test_a_transposed_sum_is_bounded_place_by_place():
    """Of 25 taps no more than 9 meet in one output."""
    channels = (CARRIER_LIMIT - 1) // (9 * WEIGHT_MAX * ACTIVATION.high)
    arrays = one_channel(np.full((1, channels, 5, 5), WEIGHT_MAX))
    arrays["weight"] = arrays["weight"].transpose(1, 0, 2, 3)
    conv = IntegerConv(arrays, 1, ACTIVATION, OUTPUT, up=2)
    assert not conv.wide
    x = np.full((channels, 4, 4), ACTIVATION.high)
    assert np.array_equal(conv(torch.from_numpy(x).float()[None])[0].numpy(), reference(arrays, 1, OUTPUT, x, 2))


def test_leaky_slope_is_a_hundredth():
    arrays = one_channel(np.ones((1, 1, 1, 1)))
    x = torch.tensor([-4000.0, -150.0, -149.0, -50.0, -49.0, -1.0, 0.0, 7.0])[None, None, None]
    conv = IntegerConv(arrays, 1, SIGNED, OUTPUT, activation="leaky_relu")
    assert conv(x).flatten().tolist() == [-40, -2, -1, -1, 0, 0, 0, 7]


def test_extreme_inputs_are_exact_at_the_bound():
    """The largest sums that the proof allows still come out exact."""
    inputs = (CARRIER_LIMIT - 1) // (WEIGHT_MAX * ACTIVATION.high)
    weight = np.full((2, inputs, 1, 1), WEIGHT_MAX, np.int16)
    weight[1] *= -1
    arrays = {"weight": weight, "bias": np.zeros(2, np.int32), "shift": np.full(2, 9, np.int8)}
    x = np.full((inputs, 8, 8), ACTIVATION.high)
    x[::3, ::2] -= 1
    got = IntegerConv(arrays, 1, ACTIVATION, OUTPUT)(torch.from_numpy(x).float()[None])[0]
    assert np.array_equal(got.numpy(), reference(arrays, 1, OUTPUT, x))


def one_channel(weight: np.ndarray, bias: int = 0, shift: int = 0) -> dict:
    return {
        "weight": weight.astype(np.int16),
        "bias": np.full(len(weight), bias, np.int32),
        "shift": np.full(len(weight), shift, np.int8),
    }


@pytest.mark.parametrize(
    ("weight", "groups", "bias", "shift"),
    [
        (np.full((1, 1, 9, 9), WEIGHT_MAX), 1, 0, 0),  # a single channel beyond 2^24
        (np.full((1, SUM_LIMIT // (WEIGHT_MAX * 4095) + 1, 1, 1), WEIGHT_MAX), 1, 0, 0),  # all together beyond 2^31
        (np.full((2, 9, 1, 1), WEIGHT_MAX), 2, 0, 0),  # groups are not split
        (np.ones((1, 1, 1, 1)), 1, -(2**31), 0),
        (np.ones((1, 1, 1, 1)), 1, 0, 24),
    ],
    ids=["channel", "sum", "groups", "bias", "shift"],
)
def test_sums_that_could_round_are_refused(weight, groups, bias, shift):
    with pytest.raises(NeedsModel, match="overflow"):
        IntegerConv(one_channel(weight, bias, shift), groups, SIGNED, OUTPUT)


@pytest.mark.parametrize("bias", [0, CARRIER_LIMIT, -CARRIER_LIMIT + 1, 3 * CARRIER_LIMIT + 1])
def test_sums_beyond_the_carrier_are_split(bias):
    """At their largest: every product with the same sign, and a bias that float32 cannot hold."""
    rng = np.random.default_rng(0)
    weight = np.full((3, 40, 1, 1), WEIGHT_MAX)
    weight[1] *= -1
    weight[2] = rng.integers(-WEIGHT_MAX, WEIGHT_MAX + 1, (40, 1, 1))
    arrays = one_channel(weight, bias, 3)
    conv = IntegerConv(arrays, 1, SIGNED, Range(-(2**30), 2**30))
    assert conv.wide and len(conv.weights) == 5
    x = np.where(rng.random((40, 4, 5)) < 0.9, SIGNED.high, SIGNED.high - 1)
    got = conv(torch.from_numpy(x).float()[None])[0]
    wanted = reference(arrays, 1, Range(-(2**30), 2**30), x)
    assert np.array_equal(got.numpy(), wanted.astype(np.float32))
    small = IntegerConv(arrays, 1, SIGNED, OUTPUT)(torch.from_numpy(x).float()[None])[0]
    assert np.array_equal(small.numpy(), reference(arrays, 1, OUTPUT, x))


def test_channels_that_reach_less_need_no_split():
    """The proof takes each channel's own reach."""
    arrays = one_channel(np.full((1, 40, 1, 1), WEIGHT_MAX))
    reach = Reach(np.array([4095] * 4 + [200] * 36))
    assert not IntegerConv(arrays, 1, reach, OUTPUT).wide
    assert IntegerConv(arrays, 1, SIGNED, OUTPUT).wide


def test_shift_rounds_down_for_negatives_too():
    arrays = {"weight": np.ones((1, 1, 1, 1), np.int16), "bias": np.zeros(1, np.int32), "shift": np.ones(1, np.int8)}
    x = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 3.0])[None, None, None]
    assert IntegerConv(arrays, 1, SIGNED, OUTPUT)(x).flatten().tolist() == [-2, -1, -1, 0, 0, 1]


SMALL_CHAIN = (
    Conv(6, 6, 3, "relu"),
    Conv(6, 16, 1, "relu"),
    Shuffle(),
    Conv(4, 8, 3, "relu", groups=4),
    Conv(8, 5, 1),
)


def small_chain() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 16, 1),
        nn.ReLU(),
        nn.PixelShuffle(2),
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(8, 5, 1),
    )


@torch.no_grad()
def test_calibrated_chain_follows_the_floats():
    chain = small_chain()
    samples = [torch.randint(-20, 21, (1, 6, 12, 12)).float() for _ in range(4)]
    step = torch.full((5,), 1 / 64, dtype=torch.float64)
    done = calibrate(chain, samples, torch.ones(6), SIGNED, step)
    integers = IntegerChain(SMALL_CHAIN, done.arrays, SIGNED, OUTPUT)
    for x in samples:
        wanted = chain(x)
        assert (integers(x) / 64 - wanted).abs().mean() < 0.02 * wanted.abs().mean()


@torch.no_grad()
def test_weights_take_twelve_bits_where_their_sums_have_room_and_never_less_than_nine():
    """Few inputs: more than ten bits. Many equal inputs, with a limit that lets sums be split: nine or ten."""
    widths = {}
    for inputs in (8, 700):
        layer = nn.Conv2d(inputs, 3, 1)
        nn.init.constant_(layer.weight, 0.01)
        samples = [torch.randint(0, 512, (1, inputs, 4, 4)).float()]
        step = torch.full((3,), 1 / 64, dtype=torch.float64)
        done = calibrate(nn.Sequential(layer), samples, torch.ones(inputs), ACTIVATION, step, SUM_LIMIT)
        weight = done.arrays["0"]["weight"].astype(np.int64)
        sums = np.abs(weight).sum((1, 2, 3)) * ACTIVATION.high + np.abs(done.arrays["0"]["bias"].astype(np.int64))
        widths[inputs] = int(np.abs(weight).max())
        assert np.all((sums < CARRIER_LIMIT) | (np.abs(weight).max((1, 2, 3)) <= WEIGHT_MAX))
    assert WEIGHT_MAX < widths[8] <= FINE_WEIGHT_MAX and WEIGHT_MAX // 2 <= widths[700] <= WEIGHT_MAX


@torch.no_grad()
def test_chain_is_the_same_for_every_thread_count_and_layout():
    chain = small_chain()
    samples = [torch.randint(-20, 21, (1, 6, 33, 17)).float()]
    done = calibrate(chain, samples, torch.ones(6), SIGNED, torch.full((5,), 1 / 64, dtype=torch.float64))
    integers = IntegerChain(SMALL_CHAIN, done.arrays, SIGNED, OUTPUT)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for layout in (torch.contiguous_format, torch.channels_last):
                found.append(integers(samples[0].contiguous(memory_format=layout)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("damage", ["missing", "shape", "dtype"])
@torch.no_grad()
def test_altered_arrays_are_refused(damage):
    chain = small_chain()
    samples = [torch.randint(-20, 21, (1, 6, 8, 8)).float()]
    arrays = calibrate(chain, samples, torch.ones(6), SIGNED, torch.full((5,), 1 / 64, dtype=torch.float64)).arrays
    layer = arrays["2"]
    if damage == "missing":
        del layer["bias"]
    elif damage == "shape":
        layer["weight"] = layer["weight"][:, :3]
    else:
        layer["shift"] = layer["shift"].astype(np.int32)
    with pytest.raises(NeedsModel, match="missing or altered"):
        IntegerChain(SMALL_CHAIN, arrays, SIGNED, OUTPUT)


@given(st.integers(0, QUALITIES), st.integers(0, 2**32 - 1))
def test_interpolation_is_linear_and_floored(tenths, seed):
    anchors = np.random.default_rng(seed).integers(-5000, 5000, (8, 3)).astype(np.int32)
    low, part = divmod(tenths * 7, QUALITIES)
    row, after = anchors[low].tolist(), anchors[min(low + 1, 7)].tolist()
    wanted = [(a * (QUALITIES - part) + b * part) // QUALITIES for a, b in zip(row, after, strict=True)]
    assert interpolate(anchors, tenths).tolist() == wanted
