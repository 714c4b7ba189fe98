"""Swin hyper-synthesis on integers: equal to its definition, near the floats, refused where altered."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_swin import reference_swin
from torch import Tensor, nn

from rdcodec.errors import NeedsModel
from rdcodec.exact.arithmetic import exact_arithmetic
from rdcodec.exact.chain import Range
from rdcodec.export.swin import CalibratedSwin, calibrate_swin
from rdcodec.models.entropy.integer_swin import IntegerSwin
from rdcodec.models.entropy.kinds import SwinHyperSynthesis
from rdcodec.models.swin import SwinBlock, WindowAttention, up_stages

HYPER = Range(-127, 127)
OUT = Range(-511, 511)
WIDE = Range(-32767, 32767)


def form(widths=(8, 12), depths=(2, 2), window=4, head_channels=4, outputs=5) -> SwinHyperSynthesis:
    return SwinHyperSynthesis(
        kind="swin", widths=widths, depths=depths, window=window, head_channels=head_channels, outputs=outputs
    )


SMALL = form()
SHALLOW = form(depths=(1, 1))


def stages(config: SwinHyperSynthesis = SMALL) -> nn.Sequential:
    """Random stages in which every part matters: full residuals, biases, norms that are not the identity."""
    network = up_stages(config, config.outputs)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, WindowAttention):
                layer.bias.normal_()
                layer.qkv.bias.normal_(0, 0.2)
                layer.project.weight.mul_(10)
            elif isinstance(layer, SwinBlock):
                layer.feed_forward[-1].weight.mul_(10)
            elif isinstance(layer, nn.LayerNorm):
                layer.weight.normal_(1, 0.2)
                layer.bias.normal_(0, 0.2)
    return network


def symbols(height: int, width: int, channels: int = 8, batch: int = 1) -> Tensor:
    spread = torch.linspace(0.3, 6, channels)[:, None, None]
    return (torch.randn(batch, channels, height, width) * spread).round()


def calibrated(network: nn.Sequential, outputs: Range = OUT, channels: int = 8) -> CalibratedSwin:
    samples = [symbols(8, 12, channels) for _ in range(2)]
    return calibrate_swin(network, samples, torch.ones(channels), HYPER, outputs)


def run(integers: IntegerSwin, x: Tensor) -> Tensor:
    with torch.no_grad(), exact_arithmetic(torch.device("cpu")):
        return integers(x)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    depths=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    window=st.sampled_from([1, 2, 3, 4]),
    heads=st.sampled_from([(8, 8, 4), (8, 4, 2), (12, 6, 6)]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    loud=st.booleans(),
)
def test_integers_are_their_definition(seed, depths, window, heads, height, width, loud):
    torch.manual_seed(seed)
    config = form(heads[:2], depths, window, heads[2], 3)
    network = stages(config)
    done = calibrated(network, channels=heads[0])
    x = symbols(height, width, heads[0])
    if loud:  # far beyond what was calibrated on: everything saturates
        x = (x * 1000).clamp(HYPER.low, HYPER.high)
    got = run(IntegerSwin(config, done.arrays, HYPER, OUT), x)
    wanted = reference_swin(config, done.arrays, OUT, x[0].numpy().astype(np.int64))
    assert got.shape == (1, 3, 4 * height, 4 * width) and got.dtype == torch.float32
    assert np.array_equal(got[0].numpy(), wanted)


@pytest.mark.parametrize("depths", [(1, 1), (2, 6)])
def test_integers_follow_the_floats(depths):
    """Error within 1.5 % of the deviation, 3 % for any one output, moved and incomplete windows included."""
    torch.manual_seed(2)
    config = form((32, 32), depths, 4, 16, 12)
    network = stages(config)
    done = calibrated(network, WIDE, 32)
    integers = IntegerSwin(config, done.arrays, HYPER, WIDE)
    x = symbols(7, 9, 32)
    with torch.no_grad():
        wanted = network(x)
    got = run(integers, x) * done.step[:, None, None]
    assert done.step.shape == (12,)
    error = (got - wanted).std((0, 2, 3)) / wanted.std((0, 2, 3))
    assert error.square().mean().sqrt() < 0.015 and error.max() < 0.03


def test_samples_are_what_the_floats_give():
    torch.manual_seed(3)
    network, x = stages(), symbols(4, 5)
    done = calibrate_swin(network, [x], torch.ones(8), HYPER, OUT)
    with torch.no_grad():
        torch.testing.assert_close(done.samples[0], network(x))
    assert (done.samples[0].abs().amax((0, 2, 3)) / done.step).tolist() == pytest.approx([OUT.high] * 5)


def test_steps_of_the_input_count():
    torch.manual_seed(4)
    network, step = stages(), torch.linspace(0.1, 2, 8)
    x = symbols(8, 8)
    samples = [x * step[:, None, None]]
    done = calibrate_swin(network, samples, step, HYPER, WIDE)
    got = run(IntegerSwin(SMALL, done.arrays, HYPER, WIDE), x) * done.step[:, None, None]
    assert (got - done.samples[0]).std() < 0.03 * done.samples[0].std()


def test_threads_layouts_and_batches_change_nothing(threads):
    torch.manual_seed(5)
    config = form((32, 32), (1, 2), 4, 16, 16)
    network = stages(config)
    integers = IntegerSwin(config, calibrated(network, channels=32).arrays, HYPER, OUT)
    x = symbols(5, 10, 32, batch=2)
    found = []
    for number in (1, 2):
        threads(number)
        for layout in (torch.contiguous_format, torch.channels_last):
            found.append(run(integers, x.contiguous(memory_format=layout)))
        found.append(torch.cat([run(integers, single) for single in x.split(1)]))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_a_callers_autocast_changes_nothing():
    torch.manual_seed(6)
    network, x = stages(), symbols(5, 6)
    integers = IntegerSwin(SMALL, calibrated(network).arrays, HYPER, OUT)
    wanted = run(integers, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
        assert torch.equal(run(integers, x), wanted)


def test_every_array_is_needed_in_its_shape_and_type():
    torch.manual_seed(7)
    network = stages(SHALLOW)
    arrays = calibrated(network).arrays
    for name, array in arrays.items():
        for altered in (None, array[:-1], array.astype(np.float32)):
            damaged = arrays | {name: altered} if altered is not None else {n: arrays[n] for n in arrays if n != name}
            with pytest.raises(NeedsModel, match="missing or altered"):
                IntegerSwin(SHALLOW, damaged, HYPER, OUT)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("1.scores.bias", 1 << 24),
        ("1.scores.shift", 24),
        ("1.gelu", 1024),
        ("1.norm1", 0),
        ("1.norm2", 1 << 52),
        ("1.qkv.shift", -24),
        ("2.scale.shift", 24),
        ("enter.shift", -24),
        ("exponent", 65536),
    ],
)
def test_what_could_overflow_is_refused(name, value):
    torch.manual_seed(8)
    network = stages(SHALLOW)
    arrays = calibrated(network).arrays
    arrays[name].flat[0] = value
    with pytest.raises(NeedsModel, match="overflow"):
        IntegerSwin(SHALLOW, arrays, HYPER, OUT)


def test_empty_pictures_and_dead_layers():
    torch.manual_seed(9)
    network = stages()
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, WindowAttention):
                layer.qkv.weight.zero_()
                layer.qkv.bias.zero_()
    done = calibrate_swin(network, [torch.zeros(1, 8, 4, 4)], torch.ones(8), HYPER, OUT)
    x = torch.zeros(1, 8, 2, 3)
    got = run(IntegerSwin(SMALL, done.arrays, HYPER, OUT), x)
    assert np.array_equal(got[0].numpy(), reference_swin(SMALL, done.arrays, OUT, np.zeros((8, 2, 3), np.int64)))
