"""The counter against formulas by hand, torch's own counter, and published counts of two networks."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from rdcodec.errors import UsageError
from rdcodec.measure.cost import PartCost, count_model, packaged_counts, total
from rdcodec.measure.flops import (
    ELEMENTWISE,
    FREE,
    MACS,
    PRODUCTS,
    LayerCost,
    UncountedOpError,
    cost_formula,
    count_config,
    count_layers,
    count_parts,
)
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, config_sha256, family_of, load_config

KODAK_PIXELS = 768 * 512


def cost(run: Callable[[], Any], pixels: int = 1) -> PartCost:
    (part,) = count_parts({"part": run}, pixels)
    return part


class Attention(nn.Module):
    """One head: bmm of scores, softmax, bmm of values, written out."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(-2, -1) * 0.5).softmax(dim=-1) @ x


class Fused(nn.Module):
    """The same by torch's fused operation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


class ChannelsLast(nn.Module):
    """A linear layer on a view that is not contiguous, where torch splits product and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.permute(0, 2, 3, 1))
        return out


# (name, module, input shape, multiply-accumulates, biases)
LAYERS: list[tuple[str, nn.Module, tuple[int, ...], int, int]] = [
    ("conv", nn.Conv2d(3, 8, 5, stride=2, padding=2), (2, 3, 16, 12), 25 * 3 * 8 * 2 * 48, 8 * 2 * 48),
    ("no bias", nn.Conv2d(3, 8, 1, bias=False), (1, 3, 4, 4), 3 * 8 * 16, 0),
    ("grouped", nn.Conv2d(6, 12, 3, groups=3, padding=1), (1, 6, 5, 5), 9 * 2 * 12 * 25, 12 * 25),
    ("depthwise", nn.Conv2d(6, 6, 3, groups=6), (1, 6, 7, 9), 9 * 6 * 35, 6 * 35),
    ("dilated", nn.Conv2d(2, 4, 3, dilation=2), (1, 2, 9, 9), 9 * 2 * 4 * 25, 4 * 25),
    (
        "transposed",
        nn.ConvTranspose2d(6, 4, 5, stride=2, padding=2, output_padding=1),
        (2, 6, 8, 7),
        25 * 6 * 4 * 2 * 56,
        4 * 2 * 4 * 56,
    ),
    (
        "transposed grouped",
        nn.ConvTranspose2d(6, 4, 4, stride=4, groups=2, bias=False),
        (1, 6, 3, 5),
        16 * 6 * 2 * 15,
        0,
    ),
    ("linear", nn.Linear(7, 5), (3, 11, 7), 3 * 11 * 7 * 5, 3 * 11 * 5),
    ("linear, not contiguous", ChannelsLast(), (2, 6, 3, 4), 24 * 6 * 10, 24 * 10),
    ("attention", Attention(), (2, 9, 4), 2 * (9 * 9 * 4 * 2), 0),
    ("conv 1-D", nn.Conv1d(3, 4, 3), (1, 3, 10), 3 * 3 * 4 * 8, 4 * 8),
]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("module", "shape", "macs", "biases"), [layer[1:] for layer in LAYERS], ids=[layer[0] for layer in LAYERS]
)
def test_layer(module: nn.Module, shape: tuple[int, ...], macs: int, biases: int, device: str) -> None:
    module = copy.deepcopy(module).to(device)
    x = torch.zeros(shape, device=device)
    found = cost(lambda: module(x))
    assert (found.macs, found.biases, found.products) == (macs, biases, 0)
    with FlopCounterMode(display=False) as reference, torch.inference_mode():
        module(x)
    assert reference.get_total_flops() == 2 * found.macs


@pytest.mark.parametrize(
    ("run", "macs", "biases"),
    [
        (lambda: nn.Linear(7, 5)(torch.zeros(7)), 7 * 5, 5),
        (lambda: torch.zeros(4, 3) @ torch.zeros(3), 12, 0),
        (lambda: torch.zeros(3) @ torch.zeros(3), 3, 0),
        (lambda: Fused()(torch.zeros(2, 3, 9, 4)), 2 * 3 * (9 * 9 * 4 * 2), 0),
        (
            lambda: torch._int_mm(torch.zeros(32, 8, dtype=torch.int8), torch.zeros(8, 16, dtype=torch.int8)),
            4096,
            0,
        ),
    ],
    ids=["linear of a vector", "matrix by vector", "dot", "fused attention", "integers"],
)
def test_product_that_torchs_counter_does_not_see(run: Callable[[], Any], macs: int, biases: int) -> None:
    found = cost(run)
    assert (found.macs, found.biases) == (macs, biases)


class IGDN(nn.Module):
    """x * sqrt(conv(x^2)), as in Balle et al. 2016 but with alpha = epsilon = 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.norm(x.abs())
        return out


def up(cin: int, cout: int) -> nn.Module:
    return nn.ConvTranspose2d(cin, cout, 5, stride=2, padding=2, output_padding=1)


class Residual(nn.Module):
    """Bottleneck residual block of ELIC (He et al. 2022)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        half = c // 2
        self.body = nn.Sequential(
            *(nn.Conv2d(c, half, 1), nn.ReLU()),
            *(nn.Conv2d(half, half, 3, padding=1), nn.ReLU()),
            nn.Conv2d(half, c, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Gate(nn.Module):
    """Simplified attention of Cheng et al. 2020, as ELIC uses it."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*(Residual(c) for _ in range(3)))
        self.mask = nn.Sequential(*(Residual(c) for _ in range(3)), nn.Conv2d(c, c, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.trunk(x) * torch.sigmoid(self.mask(x))
        return out


def _three_residuals(c: int) -> nn.Module:
    return nn.Sequential(*(Residual(c) for _ in range(3)))


def test_published_count_of_elic_synthesis() -> None:
    with torch.device("meta"):
        net = nn.Sequential(
            *(Gate(320), up(320, 192), _three_residuals(192)),
            *(up(192, 192), Gate(192), _three_residuals(192)),
            *(up(192, 192), _three_residuals(192), up(192, 3)),
        )
        y = torch.zeros(1, 320, 32, 48)
    found = cost(lambda: net(y), KODAK_PIXELS)
    assert found.kflops_per_px == 510.5655  # shallow-ntc (Yang and Mandt 2023), by TensorFlow's profiler
    assert sum(p.numel() for p in net.parameters()) == 7_337_475


def test_published_count_of_conv_synthesis_with_gdn() -> None:
    with torch.device("meta"):
        net = nn.Sequential(up(320, 192), IGDN(192), up(192, 192), IGDN(192), up(192, 192), IGDN(192), up(192, 3))
        y = torch.zeros(1, 320, 32, 48)
    found = cost(lambda: net(y), KODAK_PIXELS)
    # the profiler's 187,584.85 less 0.85 for the reparameterisation of GDN's weights, which is not here
    assert found.kflops_per_px == pytest.approx(187.584, abs=1e-9)
    assert found.products == 192 * KODAK_PIXELS * (1 / 64 + 1 / 16 + 1 / 4)


X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("run", "products", "elementwise"),
    [
        (lambda: X * X.clone(), 96, 0),
        (lambda: X.clone().mul_(X), 96, 0),
        (lambda: X / X.clone(), 96, 0),
        (lambda: torch.addcmul(X, X, X.clone()), 96, 0),
        (lambda: X * X, 0, 96),
        (lambda: X**2, 0, 96),
        (lambda: X * 0.5, 0, 96),
        (lambda: X * torch.ones(3, 1, 1), 0, 96),
        (lambda: X + X.clone(), 0, 96),
        (lambda: F.relu(X), 0, 96),
        (lambda: X.clone().clamp_(0, 1).round_(), 0, 192),
        (lambda: X.sum(), 0, 96),
        (lambda: X.softmax(-1), 0, 96),
        (lambda: F.layer_norm(X, (4,)), 0, 96),
        (lambda: X[:, :1] > X, 0, 96),
    ],
)
def test_products_and_elementwise(run: Callable[[], Any], products: int, elementwise: int) -> None:
    found = cost(run)
    assert (found.macs, found.biases) == (0, 0)
    assert (found.products, found.elementwise) == (products, elementwise)


def test_moving_data_is_free() -> None:
    def move() -> None:
        y = torch.cat([X, X], dim=1).permute(0, 2, 3, 1).reshape(2, 16, 6)[:, ::2].contiguous()
        F.pixel_shuffle(torch.zeros(1, 8, 3, 3), 2)
        F.pad(X, (1, 2, 3, 0), mode="replicate")
        F.pad(X, (1, 2, 3, 0))
        y.chunk(2, dim=1)[0].to(torch.float64).roll(1, dims=1)
        X[:, [0, 2]].unsqueeze(0).expand(5, -1, -1, -1, -1).flatten(1)

    assert cost(move) == PartCost("part", 1, 0, 0, 0, 0)


@pytest.mark.parametrize("run", [lambda: torch.fft.rfft2(X), lambda: torch.linalg.inv(torch.eye(3))])
def test_unknown_operation_is_refused_by_name(run: Callable[[], Any]) -> None:
    with pytest.raises(UncountedOpError, match=r"aten\.(_fft_r2c|linalg_inv_ex)"):
        cost(run)


def test_every_rule_names_an_operation_that_exists() -> None:
    names = {*MACS, *ELEMENTWISE, *FREE}
    assert len(names) == len(MACS) + len(ELEMENTWISE) + len(FREE), "an operation has two rules"
    existing = set(dir(torch.ops.aten)) | {name for name in names if hasattr(torch.ops.aten, name)}
    assert names <= existing, names - existing
    assert PRODUCTS <= ELEMENTWISE


def test_figures_of_a_part() -> None:
    part = PartCost("part", pixels=100, macs=5000, biases=300, products=20, elementwise=50)
    assert part.flops == 10_320
    assert part.kflops_per_px == pytest.approx(0.1032)
    assert part.kmacs_per_px == pytest.approx(0.05)
    assert part.elementwise_per_px == pytest.approx(0.5)


class TwoParts:
    """A model whose second part runs twice the positions, padded up to multiples of 64."""

    def decode_parts(self, height: int, width: int) -> dict[str, Callable[[], Any]]:
        conv = nn.Conv2d(4, 4, 1)
        side = [-(-v // 64) * 64 for v in (height, width)]
        return {
            "first": lambda: conv(torch.zeros(1, 4, *side)),
            "second": lambda: conv(torch.zeros(2, 4, *side)),
        }


def test_a_model_is_the_sum_of_its_parts_and_pays_for_padding() -> None:
    whole = count_parts(TwoParts().decode_parts(64, 128), 64 * 128)
    assert total(whole).kflops_per_px == pytest.approx(3 * (2 * 16 + 4) / 1000)
    padded = count_parts(TwoParts().decode_parts(33, 64), 33 * 64)
    assert [part.name for part in padded] == ["first", "second"]
    assert total(padded).kflops_per_px == pytest.approx(3 * (2 * 16 + 4) / 1000 * 64 / 33)


def test_no_total_of_nothing_or_of_different_images() -> None:
    part = PartCost("part", 100, 1, 1, 1, 1)
    other = PartCost("part", 200, 1, 1, 1, 1)
    for parts in ([], [part, other]):
        with pytest.raises(ValueError, match="one and the same image"):
            total(parts)


@cache
def model(name: str) -> ImageModel:
    return blueprint(load_config(CONFIGS / f"{name}.toml"))


def layer(rows: list[LayerCost], name: str) -> LayerCost:
    (found,) = (row for row in rows if row.cost.name == name and row.shape)
    return found


# One model of each family is enough where all of a family are made of the same parts; the others are slow.
FIRST = set({family_of(load_config(CONFIGS / f"{name}.toml")): name for name in reversed(config_names())}.values())
OF_EACH_FAMILY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FIRST)) for name in config_names()]


@pytest.mark.parametrize("name", OF_EACH_FAMILY)
def test_layers_add_up_to_their_components(name: str) -> None:
    """On a size where everything is padded; parameters are those of the networks that ran, each once."""
    height, width = 333, 517
    network = model(name)
    rows = count_layers(network, width, height)
    for part in count_parts(network.decode_parts(height, width), width * height):
        of_part = total((row.cost for row in rows if row.component == part.name), part.name)
        assert of_part == part
    entropy = network.entropy
    unused = [network.analysis, entropy.hyper_analysis, entropy.factorized_prior, *network.modules()]
    left_out = {id(p) for module in unused[:3] for p in module.parameters()}
    left_out |= {id(p) for key, p in network.named_parameters() if key.endswith("log_scale.values")}
    left_out |= {id(p) for key, p in network.named_parameters() if key in ("log_gain.values",)}
    left_out |= {id(p) for key, p in network.named_parameters() if "hyper_shift" in key}
    wanted = sum(p.numel() for p in network.parameters() if id(p) not in left_out)
    assert sum(row.parameters for row in rows) == wanted


def test_layers_of_g_and_j() -> None:
    rows = count_layers(model("G"), 768, 512)
    first = layer(rows, "synthesis.trunk.0")
    assert (first.kind, first.shape, first.parameters) == ("deconv 5x5 s2", (1, 128, 64, 96), 25 * 320 * 128 + 128)
    assert (first.cost.macs, first.cost.biases) == (25 * 320 * 128 * 32 * 48, 128 * 64 * 96)
    gdn = layer(rows, "synthesis.trunk.1")
    assert (gdn.kind, gdn.parameters, gdn.cost.products) == ("GDN", 128 * 128 + 128, 128 * 64 * 96)
    assert layer(rows, "entropy.hyper_synthesis.4").kind == "conv 3x3"
    rows = count_layers(model("J"), 768, 512)
    shortcut = layer(rows, "synthesis.shortcut")
    assert (shortcut.kind, shortcut.parameters) == ("PatchTransform", 768 * 256), "though its forward does not run"
    assert layer(rows, "entropy.context.0").kind == "depthwise 3x3"
    (rest,) = (row for row in rows if row.component == "synthesis" and row.kind == "elementwise")
    assert rest.cost.flops == 0 and rest.cost.elementwise > 0 and rest.parameters == 8 * 128, "the tint"


def test_counting_layers_leaves_the_model_as_it_was() -> None:
    network = model("J")
    count_layers(network, 64, 64)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize("name", OF_EACH_FAMILY)
def test_formula_is_the_count_at_every_size(name: str) -> None:
    """But for a single latent of a light model, whose gains then have the shape of activations, and count as such."""
    network = model(name)
    terms = cost_formula(network)
    for width, height in ((257, 129), (1, 17), *(() if name in "HIJ" else ((1, 1),))):
        counted = count_parts(network.decode_parts(height, width), width * height)
        for part in counted:
            found = sum(term.flops(width, height) for term in terms if term.component == part.name)
            assert found == part.flops, (width, height, part.name)


def test_formula_names_what_windows_pad_to() -> None:
    """E's windows of 8 at 1/16, 1/8, 1/4 and 1/2; the layers outside windows and the latents pad to 16."""
    multiples = {term.multiple for term in cost_formula(model("E")) if term.component == "synthesis"}
    assert multiples == {128, 64, 32, 16}
    assert {term.multiple for term in cost_formula(model("F")) if term.component == "hyper_synthesis"} == {64}


def test_no_formula_for_windows_that_are_no_power_of_two() -> None:
    config = load_config(CONFIGS / "E.toml").model_dump()
    config["synthesis"]["window"] = 7
    with pytest.raises(UsageError, match="windows are no powers of two"):
        cost_formula(blueprint(ModelConfig.model_validate(config)))


@pytest.mark.slow
@pytest.mark.parametrize("name", config_names())
def test_every_packaged_decoder_counts_as_torch_counts(name: str) -> None:
    """Multiply-adds, to the last one."""
    parts = model(name).decode_parts(512, 768)
    with FlopCounterMode(display=False) as reference:
        for run in parts.values():
            run()
    assert reference.get_total_flops() == 2 * sum(part.macs for part in count_parts(parts, KODAK_PIXELS))


@pytest.mark.parametrize("name", config_names())
def test_packaged_counts_are_what_is_counted(name: str) -> None:
    """`python scripts/counts.py` writes them anew."""
    config = load_config(CONFIGS / f"{name}.toml")
    assert packaged_counts()[config_sha256(config)] == count_config(config)


def test_other_configurations_are_counted() -> None:
    config = load_config(CONFIGS / "J.toml").model_copy(update={"summary": "another"})
    assert config_sha256(config) not in packaged_counts()
    assert count_model(config) == count_model(load_config(CONFIGS / "J.toml"))
