"""The models that the paper compares with: published counts, and what may depend on what in their entropy models."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_conv import built, parameters, picture
from test_family import HYPER, M, combination, noise_of
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rdcodec.errors import UsageError
from rdcodec.export.tables import build_gaussian_tables
from rdcodec.export.weights import QUANTISERS
from rdcodec.measure.cost import total
from rdcodec.measure.flops import count_parts
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, load_config
from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.space_channel import SpaceChannelModel, passes
from rdcodec.models.records import parse_record
from rdcodec.models.weights import Weights

QUALITY = torch.zeros(1)
GROUPS = (2, 4, 10)
ENDS = (2, 6, 16)
SPACE_CHANNEL = {"groups": GROUPS, "widths": (8, 6), "kernels": (5, 5, 3), "context_kernel": 5, "aggregation": (12, 8)}
NO_CHARM = dict.fromkeys(("slices", "reduction", "merge_kernel", "own_channels", "lrp"))
_, CONV_SYNTHESIS = HYPER["conv"]
FORMS = {
    "elic": {"kind": "space_channel", **NO_CHARM, **SPACE_CHANNEL},
    "charm2020": {"reduction": None, "merge_kernel": None, "max_support": 1, "scale_synthesis": CONV_SYNTHESIS},
    "swint-charm": {
        "reduction": None,
        "merge_kernel": None,
        "lrp": False,
        "own_channels": True,
        "widths": ((4, 6, 8), (3, 4, 5)),
    },
    "no residual": {"merge_kernel": None, "lrp": False},
}


def form(name: str) -> ModelConfig:
    """The structure of a baseline in widths that cost nothing."""
    changes = dict(FORMS[name])
    kind = changes.pop("kind", "charm")
    data = combination("conv", "charm", "conv").model_dump(exclude_none=True)
    changed = {**data["entropy"], **changes, "kind": kind}
    data["entropy"] = {key: value for key, value in changed.items() if value is not None}
    return parse_record(ModelConfig, data, name)


def packaged(name: str) -> ImageModel:
    return blueprint(load_config(CONFIGS / f"{name}.toml"))


def per_pixel(network: nn.Module, *shape: int) -> float:
    """FLOPs per pixel of a 768x512 picture."""
    x = torch.zeros(1, *shape, device="meta")
    return 1000 * total(count_parts({"network": lambda: network(x)}, 512 * 768)).kflops_per_px


def synthesis_per_pixel(model: ImageModel) -> float:
    y = torch.zeros(1, 320, 32, 48, device="meta")
    return 1000 * total(count_parts({"synthesis": lambda: model.synthesis(y, QUALITY)}, 512 * 768)).kflops_per_px


# Published counts are those of shallow-ntc (Yang and Mandt 2023, mandt-lab/shallow-ntc, notebooks/get_flops.ipynb and
# results/all_*.csv), by TensorFlow's profiler, where nothing else is said.
def test_published_counts_of_elics_transforms() -> None:
    model = packaged("elic")
    assert (parameters(model.analysis), parameters(model.synthesis)) == (7_337_792, 7_337_475)
    assert per_pixel(model.analysis, 3, 512, 768) == pytest.approx(510_563.75)
    assert synthesis_per_pixel(model) == pytest.approx(510_565.5)


@pytest.mark.parametrize("name", ["mbt2018-mean", "charm2020"])
def test_published_counts_of_convolutional_transforms(name: str) -> None:
    """The published 187,583.10 and 187,584.85 have 0.84 for GDN's weights, made from their roots once a picture; the
    published 3,431,552 parameters with GDN have one layer of it for three."""
    model = packaged(name)
    gdn = 192 * 192 + 192
    assert parameters(model.analysis) == 3_394_496 + 3 * gdn and 3_394_496 + gdn == 3_431_552
    assert parameters(model.synthesis) == 3_394_179 + 3 * gdn
    assert per_pixel(model.analysis, 3, 512, 768) == pytest.approx(187_582.25)
    assert synthesis_per_pixel(model) == pytest.approx(187_584.0)
    layers = [layer for layer in model.analysis.modules() if isinstance(layer, nn.Conv2d)]
    x, costs = torch.zeros(1, 3, 512, 768, device="meta"), 0.0
    for layer in layers:
        costs += per_pixel(layer, *x.shape[1:])
        x = layer(x)
    assert costs == pytest.approx(163_264.25)


def test_published_counts_of_the_mean_and_scale_hyperprior() -> None:
    entropy = packaged("mbt2018-mean").entropy
    assert [parameters(net) for net in (entropy.hyper_analysis, entropy.hyper_synthesis)] == [6_042_560, 9_166_240]
    assert per_pixel(entropy.hyper_analysis, 320, 32, 48) == pytest.approx(13_451.6406, abs=1e-4)
    assert per_pixel(entropy.hyper_synthesis, 320, 8, 12) == pytest.approx(30_354.6875)


def test_published_counts_of_channel_conditional_networks() -> None:
    """Of ELIC's groups with CHARM's widths."""
    data = load_config(CONFIGS / "mbt2018-mean.toml").model_dump()
    changes = {"kind": "charm", "slices": (16, 16, 32, 64, 192), "widths": (224, 128), "kernels": (5, 5, 3)}
    model = blueprint(parse_record(ModelConfig, data | {"entropy": data["entropy"] | changes}, "groups"))
    assert isinstance(model.entropy, CharmModel)
    slices = [per_pixel(networks.mean, networks.seen, 32, 48) for networks in model.entropy.networks]
    assert slices == pytest.approx([19_745.4375, 20_445.4375, 21_289.5, 22_977.625, 26_930.125])


def test_published_parameters_of_swint_charm() -> None:
    """Zhu et al. 2022 print 32.6 M; the other digit is of its layers, counted apart from torch."""
    assert f"{parameters(packaged('swint-charm')) / 1e6:.2f}" == "32.56"


def test_published_parameters_of_elic() -> None:
    """Against CompressAI 1.2.8, whose Elic2022Chandelier sees the first and the latest group where we see all, and has
    11,712 parameters in the density of z with its quantiles."""
    entropy = packaged("elic").entropy
    assert isinstance(entropy, SpaceChannelModel)
    channel = [network.channel for network in entropy.networks if network.channel is not None]
    unseen = 16 + 48  # channels that the fourth and the fifth group do not see there
    assert sum(map(parameters, channel)) - 25 * 224 * unseen == 5_800_416
    assert sum(parameters(network.spatial) for network in entropy.networks) == 2_125_440
    assert sum(parameters(network.aggregate) for network in entropy.networks) == 4_819_200
    assert (parameters(entropy.hyper_analysis), parameters(entropy.hyper_synthesis)) == (2_396_736, 3_964_000)
    rest = parameters(packaged("elic")) - parameters(entropy.factorized_prior)
    assert rest - 25 * 224 * unseen == 33_792_771 - 11_712


def test_counts_of_charm2020() -> None:
    """Layer by layer from tensorflow/compression, models/ms2020.py."""

    def convolution(kernel: int, inputs: int, outputs: int) -> int:
        return kernel**2 * inputs * outputs + outputs

    hyper_analysis = convolution(3, 320, 320) + convolution(5, 320, 256) + convolution(5, 256, 192)
    hyper_synthesis = convolution(5, 192, 192) + convolution(5, 192, 256) + convolution(3, 256, 320)
    seen = [320 + 32 * min(index, 5) for index in range(10)]
    after = convolution(5, 224, 128) + convolution(3, 128, 32)
    slices = sum(2 * convolution(5, n, 224) + convolution(5, n + 32, 224) + 3 * after for n in seen)
    entropy = packaged("charm2020").entropy
    assert parameters(entropy) == hyper_analysis + 2 * hyper_synthesis + slices + 192 * 28


@pytest.mark.parametrize("name", ["elic", "charm2020", "swint-charm", "mbt2018-mean"])
def test_baselines_cost_the_same_per_pixel_at_any_size(name: str) -> None:
    costs = [
        total(count_parts(packaged(name).decode_parts(*size), size[0] * size[1])).kflops_per_px
        for size in ((256, 512), (1024, 768))
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_counts_as_torch_counts(name: str) -> None:
    """Of products alone, of every part; ours are counted on the meta device, torch's as the model runs."""
    counted = count_parts(blueprint(form(name)).decode_parts(128, 192), 128 * 192)
    for part, (key, run) in zip(counted, built(form(name)).decode_parts(128, 192).items(), strict=True):
        with FlopCounterMode(display=False) as reference:
            run()
        assert part.name == key and reference.get_total_flops() == 2 * part.macs


@pytest.mark.parametrize("name", FORMS)
def test_the_parts_are_all_that_a_decoder_runs(name: str) -> None:
    """The forward pass without analysis and hyper-analysis multiplies as much as the parts together."""
    model = blueprint(form(name))
    y, z = (torch.zeros(1, *shape, device="meta") for shape in model.latent_shapes(128, 192))
    (forward,) = count_parts({"forward": lambda: model.entropy(y, QUALITY.to("meta"))}, 1)
    (encoder,) = count_parts({"h_a": lambda: model.entropy.analyse(y, QUALITY)}, 1)
    (prior,) = count_parts({"p(z)": lambda: model.entropy.factorized_prior(z)}, 1)
    parts = total(count_parts(model.entropy.decode_parts(y, z), 1))
    assert parts.macs == forward.macs - encoder.macs - prior.macs


@pytest.mark.parametrize("name", FORMS)
def test_every_parameter_learns(name: str) -> None:
    model, x = built(form(name)), picture(128, 192, batch=2)
    out = model(x, torch.zeros(2), noise_of(*model.latent_shapes(128, 192), batch=2))
    ((out.bits_y + out.bits_z).sum() + (out.x_hat - x).square().sum()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), key


@pytest.mark.parametrize("name", FORMS)
def test_pictures_of_any_size_are_rated(name: str) -> None:
    entropy = built(form(name)).entropy
    for height, width in ((1, 1), (5, 3), (4, 8)):
        with torch.no_grad():
            rated = entropy(latents(height, width), QUALITY)
        assert rated.y_hat.shape == rated.bits_y.shape == (1, M, height, width)
        assert torch.isfinite(rated.bits_y).all() and (rated.bits_y >= 0).all()


@pytest.mark.parametrize("name", FORMS)
def test_extreme_latents_leave_loss_and_gradient_finite(name: str) -> None:
    entropy = built(form(name)).entropy
    y = torch.tensor([0.0, 1e2, -1e4, 1e6]).repeat(1, M, 4, 1).requires_grad_()
    rated = entropy(y, QUALITY)
    (rated.bits_y.sum() + rated.bits_z.sum()).backward()
    assert y.grad is not None and torch.isfinite(y.grad).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in entropy.parameters())


@pytest.mark.parametrize("name", ["elic", "charm2020", "swint-charm"])
def test_no_files_without_an_integer_form(name: str) -> None:
    with pytest.raises(UsageError, match="integer form") as raised:
        Weights("X.0", form(name), {}, {}, build_gaussian_tables()).build_entropy()
    assert "\n" not in str(raised.value)


def test_what_has_an_integer_form_can_be_exported() -> None:
    entropies = [load_config(CONFIGS / f"{name}.toml").entropy for name in config_names()]
    assert set(QUANTISERS) == {entropy.kind for entropy in entropies if entropy.integer_form()}


def latents(height: int = 6, width: int = 5) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(1, M, height, width) * 4


def lively(name: str) -> nn.Module:
    """An entropy model whose last layers are not near zero, as after training, with side information that is fixed."""
    entropy = built(form(name)).entropy
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in entropy.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return entropy


def fix_side_information(model: nn.Module, monkeypatch: pytest.MonkeyPatch, channels: int) -> Tensor:
    torch.manual_seed(4)
    features = torch.randn(1, channels, 6, 5)
    monkeypatch.setattr(model, "side_information", lambda *_: (features, torch.zeros(1)))
    return features


def order_of_coding(entropy: SpaceChannelModel, y: Tensor) -> Tensor:
    """When each element of y is coded: twice its group, one more in the second pass."""
    order = torch.zeros(y.shape[2] * y.shape[3])
    order[passes(y)[1]] = 1
    groups = torch.cat([torch.full((count,), 2.0 * index) for index, count in enumerate(entropy.config.groups)])
    return groups[None, :, None, None] + order.view(1, 1, *y.shape[2:])


@pytest.mark.parametrize("step", range(2 * len(GROUPS)))
def test_a_rate_depends_on_what_was_coded_before_it_alone(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving all that a pass codes, and all after it, leaves the parameters of that pass and of earlier ones."""
    model = lively("elic")
    assert isinstance(model, SpaceChannelModel)
    fix_side_information(model, monkeypatch, 2 * M)
    y = latents()
    order = order_of_coding(model, y)
    moved = y + 7.0 * (order >= step)
    with torch.no_grad():
        assert torch.equal(model(y, QUALITY).bits_y[order < step], model(moved, QUALITY).bits_y[order < step])
    before, after = means_and_scales(model, y), means_and_scales(model, moved)
    same = order <= step
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one[same], other[same])
    # A later pass sees what moved; that the very next one does is what context is for.
    for later in range(step + 1, 2 * len(GROUPS)):
        assert not torch.equal(before[0][order == later], after[0][order == later])


def means_and_scales(model: SpaceChannelModel, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log-scales of every element of y."""
    with torch.no_grad():
        features, _ = model.side_information(y, QUALITY, None)
        coded: list[Tensor] = []
        found = []
        for part, networks in zip(model.split(y), model.networks, strict=True):
            group = networks.code(part, networks.own(features, coded))
            coded.append(group.y_hat)
            found.append((group.mean, group.log_scale))
    mean, log_scale = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    return mean, log_scale


def test_forward_is_what_a_decoder_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded from symbols, element after element of each pass, with masked convolutions over an array that holds
    nonsense where nothing is decoded yet, as CompressAI's checkerboard has it."""
    model, y = lively("elic"), latents()
    assert isinstance(model, SpaceChannelModel)
    features = fix_side_information(model, monkeypatch, 2 * M)
    with torch.no_grad():
        rated = model(y, QUALITY)
        mean, _ = means_and_scales(model, y)
        symbols = (y - mean).round()
        found = decode(model, features, symbols)
    torch.testing.assert_close(rated.y_hat, found, atol=1e-3, rtol=1e-4)


def decode(model: SpaceChannelModel, features: Tensor, symbols: Tensor) -> Tensor:
    height, width = symbols.shape[2:]
    odd = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 1
    y_hat = torch.full_like(symbols, 1e4)
    for group, networks in enumerate(model.networks):
        at = slice(ENDS[group] - GROUPS[group], ENDS[group])
        seen = [features]
        if networks.channel is not None:
            seen.append(networks.channel(y_hat[:, : at.start]))
        weight = networks.spatial.weight.clone()
        side = weight.shape[-1]
        weight[:, :, (torch.arange(side)[:, None] + torch.arange(side)) % 2 == 0] = 0
        for later in (False, True):
            context = F.conv2d(y_hat[:, at], weight, networks.spatial.bias, padding=side // 2)
            both = torch.cat([*seen, context if later else torch.zeros_like(context)], 1)
            mean = networks.aggregate(both.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).chunk(2, 1)[0]
            y_hat[:, at] = torch.where(odd == later, symbols[:, at] + mean, y_hat[:, at])
    return y_hat


def test_two_hyper_syntheses_give_means_and_scales() -> None:
    model = lively("charm2020")
    assert isinstance(model, CharmModel) and model.scale_synthesis is not None
    z, wanted = torch.randn(1, 8, 2, 1).round(), ("hyper_synthesis", "scale_synthesis")
    with torch.no_grad():
        own = model.own_features(model.synthesise(z))
        for index, (mean, scale) in enumerate(own):
            assert torch.equal(mean, getattr(model, wanted[0])(z)), index
            assert torch.equal(scale, getattr(model, wanted[1])(z)), index


def test_a_slice_has_the_channels_of_its_own_numbers() -> None:
    model, features = lively("swint-charm"), torch.randn(1, 2 * M, 6, 5)
    assert isinstance(model, CharmModel)
    starts = (0, 2, 8)
    for start, own, networks in zip(starts, model.own_features(features), model.networks, strict=True):
        end = start + networks.mean[-1].out_channels
        assert torch.equal(own.mean, features[:, start:end])
        assert torch.equal(own.scale, features[:, M + start : M + end])


def test_widths_of_each_slice() -> None:
    model = built(form("swint-charm")).entropy
    assert isinstance(model, CharmModel)
    widths = [[layer.out_channels for layer in net.mean if isinstance(layer, nn.Conv2d)] for net in model.networks]
    assert widths == [[4, 3, 2], [6, 4, 6], [8, 5, 8]]


def test_without_residual_prediction_latents_are_rounded_about_their_mean() -> None:
    with torch.no_grad():
        y, rated = latents(), lively("no residual")(latents(), QUALITY)
    assert 0.25 < (rated.y_hat - y).abs().max() <= 0.5001


@pytest.mark.parametrize("active", [True, False])
def test_a_chain_may_end_in_an_activation(active: bool) -> None:
    changes = {"hyper_synthesis": CONV_SYNTHESIS | {"ends_active": active}}
    model = built(combination("conv", "hyperprior", "conv", **changes))
    with torch.no_grad():
        found: Callable[[Tensor], Tensor] = model.entropy.hyper_synthesis
        assert bool((found(torch.randn(1, 8, 2, 2)) >= 0).all()) == active
