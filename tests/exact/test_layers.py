"""Integer convolutions: equal to their definition on any input, refused where a sum could round."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rdcodec.errors import NeedsModel, UsageError
from rdcodec.exact.fixed import CARRIER_LIMIT, QUALITIES, interpolate
from rdcodec.exact.layers import (
    ACTIVATION,
    WEIGHT_MAX,
    IntegerChain,
    IntegerConv,
    Range,
    calibrate,
    exact_arithmetic,
    reference,
)

SIGNED = Range(-4095, 4095)
OUTPUT = Range(-32767, 32767)


def random_arrays(rng: np.random.Generator, outputs: int, inputs: int, side: int, reach: int = WEIGHT_MAX) -> dict:
    return {
        "weight": rng.integers(-reach, reach + 1, (outputs, inputs, side, side)).astype(np.int16),
        "bias": rng.integers(-100_000, 100_000, outputs).astype(np.int32),
        "shift": rng.integers(-3, 12, outputs).astype(np.int8),
    }


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([1, 3]),
    groups=st.sampled_from([1, 4]),
    channels=st.integers(1, 6),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    negative=st.booleans(),
)
def test_conv_is_its_definition(seed, side, groups, channels, height, width, negative):
    rng = np.random.default_rng(seed)
    inputs, outputs = channels * groups, 2 * channels * groups
    arrays = random_arrays(rng, outputs, channels, side, reach=60)
    domain = SIGNED if negative else ACTIVATION
    x = rng.integers(domain.low, domain.high + 1, (inputs, height, width))
    conv = IntegerConv(arrays, groups, domain, OUTPUT)
    got = conv(torch.from_numpy(x).float()[None])[0]
    assert np.array_equal(got.numpy(), reference(arrays, groups, OUTPUT, x))


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


def test_sums_that_could_round_are_refused():
    inputs = CARRIER_LIMIT // (WEIGHT_MAX * ACTIVATION.high) + 1
    arrays = {
        "weight": np.full((1, inputs, 1, 1), WEIGHT_MAX, np.int16),
        "bias": np.zeros(1, np.int32),
        "shift": np.zeros(1, np.int8),
    }
    with pytest.raises(NeedsModel, match="overflow"):
        IntegerConv(arrays, 1, ACTIVATION, OUTPUT)


def test_a_bias_counts_towards_the_bound():
    arrays = {
        "weight": np.ones((1, 1, 1, 1), np.int16),
        "bias": np.full(1, CARRIER_LIMIT, np.int32),
        "shift": np.zeros(1, np.int8),
    }
    with pytest.raises(NeedsModel, match="overflow"):
        IntegerConv(arrays, 1, ACTIVATION, OUTPUT)


def test_shift_rounds_down_for_negatives_too():
    arrays = {"weight": np.ones((1, 1, 1, 1), np.int16), "bias": np.zeros(1, np.int32), "shift": np.ones(1, np.int8)}
    x = torch.tensor([-3.0, -2.0, -1.0, 0.0, 1.0, 3.0])[None, None, None]
    assert IntegerConv(arrays, 1, SIGNED, OUTPUT)(x).flatten().tolist() == [-2, -1, -1, 0, 0, 1]


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
    integers = IntegerChain(chain, done.arrays, SIGNED, OUTPUT)
    for x in samples:
        wanted = chain(x)
        assert (integers(x) / 64 - wanted).abs().mean() < 0.02 * wanted.abs().mean()


@torch.no_grad()
def test_chain_is_the_same_for_every_thread_count_and_layout():
    chain = small_chain()
    samples = [torch.randint(-20, 21, (1, 6, 33, 17)).float()]
    done = calibrate(chain, samples, torch.ones(6), SIGNED, torch.full((5,), 1 / 64, dtype=torch.float64))
    integers = IntegerChain(chain, done.arrays, SIGNED, OUTPUT)
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
        IntegerChain(chain, arrays, SIGNED, OUTPUT)


@given(st.integers(0, QUALITIES), st.integers(0, 2**32 - 1))
def test_interpolation_is_linear_and_floored(tenths, seed):
    anchors = np.random.default_rng(seed).integers(-5000, 5000, (8, 3)).astype(np.int32)
    low, part = divmod(tenths * 7, QUALITIES)
    row, after = anchors[low].tolist(), anchors[min(low + 1, 7)].tolist()
    wanted = [(a * (QUALITIES - part) + b * part) // QUALITIES for a, b in zip(row, after, strict=True)]
    assert interpolate(anchors, tenths).tolist() == wanted


@torch.no_grad()
def test_a_callers_autocast_changes_nothing():
    chain = small_chain()
    x = torch.randint(-20, 21, (1, 6, 12, 12)).float()
    done = calibrate(chain, [x], torch.ones(6), SIGNED, torch.full((5,), 1 / 64, dtype=torch.float64))
    integers = IntegerChain(chain, done.arrays, SIGNED, OUTPUT)
    wanted = integers(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(integers(x).float(), wanted), "the test needs a case that autocast does change"
        with exact_arithmetic(torch.device("cpu")):
            assert torch.equal(integers(x), wanted)


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"])
def test_an_environment_that_rounds_is_refused(monkeypatch, name):
    """oneDNN then may compute float32 in bfloat16, on machines that can; some guides advise it."""
    monkeypatch.setenv(name, "strict")
    with exact_arithmetic(torch.device("cpu")):
        pass
    monkeypatch.setenv(name, "BF16")
    with pytest.raises(UsageError, match=f"{name}=BF16.*unset"), exact_arithmetic(torch.device("cpu")):
        pass


def test_a_callers_precision_is_set_aside_and_given_back():
    for operation in (torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul):
        before = operation.fp32_precision
        try:
            operation.fp32_precision = "bf16"
            with exact_arithmetic(torch.device("cpu")):
                assert operation.fp32_precision == "ieee"
            assert operation.fp32_precision == "bf16"
        finally:
            operation.fp32_precision = before
