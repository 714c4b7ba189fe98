"""The channel-wise model: what a slice may see, reduction, prediction of the residual and its two forms."""

from collections.abc import Callable

import pytest
import torch
from test_conv import built
from test_family import M, combination
from torch import Tensor, nn

from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.slices import see

QUALITY = torch.zeros(1)
SLICES = (2, 6, 8)
ENDS = (2, 8, 16)
ORIGINAL = {"reduction": None, "merge_kernel": None}


def entropy(**changes: object) -> CharmModel:
    """With last layers that are not near zero, as after training."""
    found = built(combination("conv", "charm", "conv", **changes)).entropy
    assert isinstance(found, CharmModel)
    with torch.no_grad():
        for networks in found.networks:
            for network in (networks.mean, networks.scale, networks.lrp):
                assert isinstance(network[-1], nn.Conv2d)
                network[-1].weight.mul_(10)
    return found


def latents(height: int = 8, width: int = 4) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(1, M, height, width) * 4


def watch(model: CharmModel, monkeypatch: pytest.MonkeyPatch) -> Callable[[Tensor], list[Tensor]]:
    """Means and scales of each slice for y, with side information that does not change with y."""
    found: list[Tensor] = []
    features = torch.randn(1, 2 * M, 8, 4)
    monkeypatch.setattr(model, "side_information", lambda *_: (features, torch.zeros(1)))
    for networks in model.networks:
        for network in (networks.mean, networks.scale):
            network.register_forward_hook(lambda _, __, output: found.append(output))

    def run(y: Tensor) -> list[Tensor]:
        found.clear()
        with torch.no_grad():
            model(y, QUALITY)
        pairs = zip(found[::2], found[1::2], strict=True)
        return [torch.cat(pair, 1) for pair in pairs]

    return run


@pytest.mark.parametrize("changes", [{}, ORIGINAL], ids=["paper", "original"])
@pytest.mark.parametrize("first", range(3))
def test_a_slice_depends_on_those_before_it_alone(
    first: int, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters, y = watch(entropy(**changes), monkeypatch), latents()
    moved = y.clone()
    moved[:, ENDS[first] - SLICES[first] :] += 5
    same = [torch.equal(a, b) for a, b in zip(parameters(y), parameters(moved), strict=True)]
    assert same == [index <= first for index in range(3)]


def test_support_can_be_limited_to_the_first_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, y = watch(entropy(max_support=1), monkeypatch), latents()
    for slice_, same in ((0, [True, False, False]), (1, [True, True, True])):
        moved = y.clone()
        moved[:, ENDS[slice_] - SLICES[slice_] : ENDS[slice_]] += 5
        assert [torch.equal(a, b) for a, b in zip(parameters(y), parameters(moved), strict=True)] == same


def test_one_reduction_is_a_convolution_for_each_slice() -> None:
    model = entropy()
    features = torch.randn(1, 2 * M, 6, 5)
    assert isinstance(model.reduce, nn.Conv2d) and model.reduce.bias is not None
    weights, biases = model.reduce.weight.chunk(3), model.reduce.bias.chunk(3)
    with torch.no_grad():
        for own, weight, bias in zip(model.own_features(features), weights, biases, strict=True):
            alone = torch.nn.functional.conv2d(features, weight, bias, padding=1)
            torch.testing.assert_close(own.mean, alone)
            assert own.scale is own.mean


def test_without_reduction_means_and_scales_have_their_halves() -> None:
    model, features, before = entropy(**ORIGINAL), torch.randn(1, 2 * M, 6, 5), torch.randn(1, 2, 6, 5)
    for own in model.own_features(features):
        seen = see(model.config, 1, own, [before])
        assert torch.equal(seen.mean, torch.cat([features[:, :M], before], 1))
        assert torch.equal(seen.scale, torch.cat([features[:, M:], before], 1))


def test_merging_starts_as_the_sum() -> None:
    merging, adding = entropy(), entropy(merge_kernel=None)
    adding.load_state_dict({name: value for name, value in merging.state_dict().items() if ".merge." not in name})
    with torch.no_grad():
        merged, added = merging(latents(), QUALITY), adding(latents(), QUALITY)
    torch.testing.assert_close(merged.y_hat, added.y_hat, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(merged.bits_y, added.bits_y, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("changes", [{}, ORIGINAL], ids=["paper", "original"])
def test_decoded_latents_are_within_a_step(changes: dict[str, object]) -> None:
    """Rounded about their mean, then moved by no more than half a step."""
    y = latents()
    with torch.no_grad():
        rated = entropy(**changes)(y, QUALITY)
    assert (rated.y_hat - y).abs().max() <= 1.0001
    assert (rated.y_hat - y).abs().max() > 0.5001
    assert rated.bits_y.shape == y.shape


def test_sides_that_are_no_multiple_of_4_are_rated() -> None:
    with torch.no_grad():
        rated = entropy()(latents(5, 6), QUALITY)
    assert rated.y_hat.shape == rated.bits_y.shape == (1, M, 5, 6) and rated.bits_z.shape == (1, 8, 2, 2)


@pytest.mark.parametrize("changes", [{}, ORIGINAL, {"max_support": 0}], ids=["paper", "original", "no support"])
def test_every_parameter_of_every_form_learns(changes: dict[str, object]) -> None:
    model = entropy(**changes)
    rated = model(latents(), QUALITY)
    (rated.bits_y.sum() + rated.bits_z.sum() + rated.y_hat.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_extreme_latents_leave_loss_and_gradient_finite() -> None:
    model = entropy()
    y = torch.tensor([0.0, 1e2, -1e4, 1e6]).repeat(1, M, 4, 1).requires_grad_()
    rated = model(y, QUALITY)
    (rated.bits_y.sum() + rated.bits_z.sum()).backward()
    assert y.grad is not None and torch.isfinite(y.grad).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
