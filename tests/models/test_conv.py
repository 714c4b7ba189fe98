"""The paper's convolutional transforms: GDN against its formula, shapes, what learns, published counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rdcodec.measure.cost import count_model, total
from rdcodec.measure.flops import count_parts
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.blocks import down, up
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.rate import lmbda_of_quality
from rdcodec.models.records import parse_record
from rdcodec.models.transforms.conv import GDN
from rdcodec.models.transforms.kinds import Norm

MBT2018_MEAN = Path(__file__).parents[2] / "benchmarks" / "configs" / "mbt2018-mean-128.toml"
LEAKY = {"kind": "conv", "activation": "leaky_relu"}


def small(**changes: object) -> ModelConfig:
    """The structure of G in widths that cost nothing."""
    transform = {"kind": "conv", "channels": (8, 12, 16), "norm": "gdn"}
    entropy = {
        "kind": "hyperprior",
        "hyper_analysis": LEAKY | {"channels": (16, 12, 8), "kernels": (3, 5, 5), "strides": (1, 2, 2)},
        "hyper_synthesis": LEAKY | {"channels": (12, 16, 40), "kernels": (5, 5, 3), "strides": (2, 2, 1)},
        "filters": (3, 3),
    }
    data = {"name": "small", "summary": "for tests", "latent_channels": 20, "lmbda": 0.01}
    data |= {"analysis": transform, "synthesis": transform, "entropy": entropy}
    return parse_record(ModelConfig, data | changes, "small")


def built(config: ModelConfig) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(config)


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, 3, height, width) * 255


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("form", ["gdn", "gdn-sqrt"])
def test_gdn_is_its_formula(form: Norm, inverse: bool) -> None:
    """Element by element, in float64, from the roots that it learns."""
    rng = np.random.default_rng(0)
    layer = GDN(5, form, inverse).double()
    with torch.no_grad():
        layer.root_beta.copy_(torch.from_numpy(rng.uniform(0.2, 1.5, 5)))
        layer.root_gamma.copy_(torch.from_numpy(rng.uniform(0, 0.8, (5, 5))))
        x = rng.normal(size=(2, 5, 3, 4)) * 3
        found = layer(torch.from_numpy(x)).numpy()
    beta, gamma = (root.detach().numpy() ** 2 for root in (layer.root_beta, layer.root_gamma))
    for b, i, row, column in np.ndindex(*x.shape):
        around = x[b, :, row, column]
        norm = beta[i] + gamma[i] @ abs(around) if form == "gdn" else (beta[i] + gamma[i] @ around**2) ** 0.5
        assert found[b, i, row, column] == pytest.approx(around[i] * norm if inverse else around[i] / norm, rel=1e-9)


@pytest.mark.parametrize("form", ["gdn", "gdn-sqrt"])
def test_gdn_parameters_stay_positive_and_come_back(form: Norm) -> None:
    layer = GDN(3, form)
    with torch.no_grad():
        layer.root_beta.fill_(-1.0)
        layer.root_gamma.fill_(-1.0)
    x = torch.rand(1, 3, 2, 2) + 0.5
    y = layer(x)
    assert torch.isfinite(y).all() and (y > 0).all()
    y.sum().backward()  # less y wants larger beta and gamma
    for root in (layer.root_beta, layer.root_gamma):
        assert root.grad is not None and (root.grad < 0).all()


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (3, 1), (3, 2)])
def test_layers_keep_the_size_of_what_passes(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 32, 32, 32)
    with torch.no_grad():
        smaller, larger = down(32, 24, kernel, stride)(x), up(32, 24, kernel, stride)(x)
    assert smaller.shape == (4, 24, 32 // stride, 32 // stride)
    assert larger.shape == (4, 24, 32 * stride, 32 * stride)
    for y in (smaller, larger):
        assert 0.8 < y.std() < 1.2


def test_activations_and_latents_start_in_range() -> None:
    """Features near one, latents some steps wide, a picture that is close to its mean."""
    model = built(load_config(CONFIGS / "G.toml"))
    x = torch.nn.functional.interpolate(picture(8, 8), (128, 128), mode="bilinear")
    with torch.no_grad():
        y = model.analysis(x)
        x_hat = model.synthesis(y, torch.zeros(1))
    assert 1 < y.std() < 8
    assert (x_hat - x).square().mean() < 2 * (x - x.mean()).square().mean()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (80, 112), (48, 16)])
def test_shapes(height: int, width: int) -> None:
    """Also of sides whose latents are no multiple of 4."""
    model = built(small())
    y, z = model.latent_shapes(height, width)
    assert y == (20, height // 16, width // 16) and z == (8, -(-height // 64), -(-width // 64))
    x = picture(height, width, batch=2)
    noise = Noise(torch.rand(2, *y) - 0.5, torch.rand(2, *z) - 0.5)
    with torch.no_grad():
        for out in (model(x, torch.zeros(2)), model(x, torch.zeros(2), noise)):
            assert out.x_hat.shape == x.shape and out.bits_y.shape == out.bits_z.shape == (2,)
            assert all(torch.isfinite(part).all() for part in out)
        shapes = {name: call().shape for name, call in model.decode_parts(height, width).items()}  # type: ignore[attr-defined]
    assert shapes == {"hyper_synthesis": (1, 40, 4 * z[1], 4 * z[2]), "synthesis": (1, 3, height, width)}


@pytest.mark.parametrize("lmbda", [0.01, None])
@pytest.mark.parametrize("norm", ["gdn", "gdn-sqrt"])
def test_every_parameter_learns(norm: str, lmbda: float | None) -> None:
    transform = {"kind": "conv", "channels": (8, 12, 16), "norm": norm}
    model, x = built(small(analysis=transform, synthesis=transform, lmbda=lmbda)), picture(128, 64, batch=2)
    y, z = model.latent_shapes(128, 64)
    quality = torch.tensor([10.0, 90.0])
    out = model(x, quality, Noise(torch.rand(2, *y) - 0.5, torch.rand(2, *z) - 0.5))
    ((out.bits_y + out.bits_z).sum() + (out.x_hat - x).square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_a_model_of_one_rate_takes_no_notice_of_quality() -> None:
    model, x = built(small()), picture(64, 64, batch=2)
    quality = torch.tensor([0.0, 100.0])
    assert model.log_gain is None and not any("log_gain" in name for name in model.state_dict())
    assert torch.equal(model.gain(quality), torch.ones(2, 1, 1, 1))
    assert torch.equal(model.lmbda(quality), torch.full((2,), 0.01))
    with torch.no_grad():
        for one, other in zip(model(x, quality), model(x, quality.flip(0)), strict=True):
            assert torch.equal(one, other)


def test_a_model_of_all_rates_weighs_by_quality() -> None:
    model = built(small(lmbda=None))
    quality = torch.tensor([0.0, 100.0])
    assert torch.equal(model.lmbda(quality), lmbda_of_quality(quality))
    assert model.gain(quality).shape == (2, 20, 1, 1)


def test_bfloat16_touches_neither_gdn_nor_the_last_layer_of_the_analysis() -> None:
    model = built(small())
    for network in model.inexact():
        network.to(torch.bfloat16)
    kept = {
        name for name, p in model.named_parameters() if p.dtype == torch.float32 and not name.startswith("entropy.")
    }
    assert kept == {name for name, _ in model.named_parameters() if "root_" in name or name.startswith("analysis.last")}
    x = picture(64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = model.analysis(x)
        assert y.dtype == torch.float32
        assert model.synthesis(y, torch.zeros(1)).dtype == torch.float32


def test_counts_of_g() -> None:
    """As counted apart from torch, layer by layer (shared/table1), to the last printed digit."""
    counted = count_model(load_config(CONFIGS / "G.toml"))
    assert f"{counted.kflops_per_px:.3f}" == "117.411"
    assert f"{(counted.parameters - counted.analysis_parameters) / 1e6:.3f}" == "12.774"
    assert f"{counted.parameters / 1e6:.3f}" == "14.677"
    assert parameters(blueprint(load_config(CONFIGS / "G.toml")).entropy.factorized_prior) == 28 * 160


def test_parameters_of_mbt2018_mean() -> None:
    """CompressAI 1.2.8 has 7,028,003, of which 384 are quantiles of an auxiliary loss that is not ours."""
    model = blueprint(load_config(MBT2018_MEAN))
    assert parameters(model) == 7_028_003 - 384
    assert (parameters(model.analysis), parameters(model.synthesis)) == (1_493_312, 1_493_123)


def test_a_training_pass_is_counted() -> None:
    model = built(small())
    cost = total(count_parts({"forward": lambda: model(picture(64, 64), torch.zeros(1))}, 64**2))
    assert cost.macs > total(count_parts(model.decode_parts(64, 64), 64**2)).macs
