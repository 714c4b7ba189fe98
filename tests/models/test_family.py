"""The paper's models: counted as Table 1 counts them, and every combination of their parts can be trained."""

from itertools import product
from statistics import fmean

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_conv import built, parameters, picture
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode

from rdcodec.measure.cost import total
from rdcodec.measure.flops import count_parts
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.blocks import pad_to_multiple
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.entropy.checkerboard import Noise
from rdcodec.models.records import parse_record
from rdcodec.training.data import Batch
from rdcodec.training.stepper import rate_distortion

M = 16
SWIN = {"kind": "swin", "window": 2, "head_channels": 4}
SWIN_HYPER = SWIN | {"widths": (8, 8), "depths": (2, 1)}
CONV_HYPER = {"kind": "conv", "kernels": (3, 5, 5), "strides": (1, 2, 2), "activation": "relu"}
TRANSFORMS = {
    "conv": ({"kind": "conv", "channels": (8, 8, 12), "norm": "gdn"},) * 2,
    "elic": ({"kind": "elic", "channels": (8, 8, 12), "residual_blocks": 1},) * 2,
    "swin": (
        SWIN | {"widths": (8, 8, 12, M), "depths": (1, 2, 1, 1)},
        SWIN | {"widths": (M, 12, 8, 8), "depths": (1, 1, 2, 1)},
    ),
}
HYPER = {
    "conv": (
        CONV_HYPER | {"channels": (12, 8, 8)},
        CONV_HYPER | {"channels": (8, 12, 2 * M), "kernels": (5, 5, 3), "strides": (2, 2, 1)},
    ),
    "swin": (SWIN_HYPER, SWIN_HYPER | {"outputs": 2 * M}),
}
ENTROPIES = {
    "hyperprior": {"kind": "hyperprior"},
    "charm": {
        "kind": "charm",
        "slices": (2, 6, 8),
        "reduction": {"kernel": 3, "channels": 4},
        "widths": (8, 6),
        "kernels": (3, 3, 3),
        "merge_kernel": 1,
    },
}
COMBINATIONS = list(product(TRANSFORMS, ENTROPIES, HYPER))


def combination(transform: str, entropy: str, hyper: str, **changes: object) -> ModelConfig:
    """One of the twelve in widths that cost nothing; changes are of the entropy model, None takes a key away."""
    analysis, synthesis = TRANSFORMS[transform]
    hyper_analysis, hyper_synthesis = HYPER[hyper]
    model = ENTROPIES[entropy] | {"hyper_analysis": hyper_analysis, "hyper_synthesis": hyper_synthesis}
    data = {"name": "small", "summary": "for tests", "latent_channels": M, "lmbda": 0.01}
    data |= {"analysis": analysis, "synthesis": synthesis}
    return parse_record(ModelConfig, data | {"entropy": model | {"filters": (3, 3)} | changes}, "small")


# Table 1, which of the parameters it counts, and more digits: parameters with and without the analysis transform,
# kFLOPs/px, the same of multiply-accumulates alone; counted apart from torch, layer by layer.
@pytest.mark.parametrize(
    ("name", "printed", "whole", "digits"),
    [
        ("A", "38.0 1076.4", False, "48.706 37.989 1076.382 1075.490"),
        ("A-whole", "38.0 1076.4", True, "37.993 25.683 1076.420 1075.512"),
        ("B", "31.6 631.1", False, "40.539 31.611 631.073 630.516"),
        ("C", "32.2 392.5", True, "32.236 27.460 392.467 391.988"),
        ("D", "22.4 342.1", True, "22.391 16.062 342.138 341.724"),
        ("E", "17.3 252.1", True, "17.267 13.966 252.070 251.619"),
        ("F", "19.8 200.1", True, "19.781 15.326 200.116 199.853"),
        ("G", "12.8 117.4", False, "14.677 12.774 117.411 117.277"),
        ("G-whole", "12.8 117.4", True, "12.796 10.893 117.426 117.292"),
    ],
)
def test_counts_of_table_1(name: str, printed: str, whole: bool, digits: str) -> None:
    model = blueprint(load_config(CONFIGS / f"{name}.toml"))
    cost = total(count_parts(model.decode_parts(512, 768), 512 * 768))
    millions = parameters(model) / 1e6, (parameters(model) - parameters(model.analysis)) / 1e6
    assert f"{millions[0 if whole else 1]:.1f} {cost.kflops_per_px:.1f}" == printed
    found = [*millions, cost.kflops_per_px, 2 * cost.kmacs_per_px]
    assert " ".join(f"{value:.3f}" for value in found) == digits


def test_parts_of_b() -> None:
    """Parameters and kFLOPs/px of each part, counted apart from torch."""
    model = blueprint(load_config(CONFIGS / "B.toml"))
    entropy = model.entropy
    assert parameters(model.analysis) == 8_927_360 and parameters(model.synthesis) == 8_927_043
    assert parameters(entropy.hyper_analysis) == 1_818_272 and parameters(entropy.hyper_synthesis) == 1_753_376
    assert parameters(entropy.factorized_prior) == 3_584 and parameters(entropy.reduce) == 829_920
    assert sum(parameters(networks.mean) + parameters(networks.scale) for networks in entropy.networks) == 11_803_520
    assert sum(parameters(networks.lrp) for networks in entropy.networks) == 6_454_720
    assert sum(parameters(networks.merge) for networks in entropy.networks) == 20_800
    costs = {part.name: part.kflops_per_px for part in count_parts(model.decode_parts(512, 768), 512 * 768)}
    wanted = {"hyper_synthesis": 2.780, "reduction": 6.482, "mean and scale": 92.188}
    wanted |= {"residual prediction": 50.414, "merge": 0.161, "synthesis": 479.049}
    assert costs == pytest.approx(wanted, abs=6e-4)


def test_a_bigger_picture_costs_the_same_per_pixel() -> None:
    """Where windows fit."""
    model = blueprint(load_config(CONFIGS / "C.toml"))
    small, large = (
        total(count_parts(model.decode_parts(*size), size[0] * size[1])) for size in ((256, 512), (1024, 768))
    )
    assert small.kflops_per_px == large.kflops_per_px


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_combination_rates_pictures_of_any_size(parts: tuple[str, str, str]) -> None:
    """Padded to 64, where some windows are incomplete, and multiples of 16."""
    model = built(combination(*parts))
    for height, width in ((130, 61), (80, 48)):
        x = pad_to_multiple(picture(height, width), 64 if height % 16 else 16)
        y, z = model.latent_shapes(*x.shape[2:])
        with torch.no_grad():
            for out in (model(x, torch.zeros(1)), model(x, torch.zeros(1), noise_of(y, z))):
                assert out.x_hat.shape == x.shape
                assert all(torch.isfinite(part).all() for part in out)
                assert out.bits_y > 0 and out.bits_z > 0


def noise_of(y: tuple[int, int, int], z: tuple[int, int, int], batch: int = 1) -> Noise:
    return Noise(torch.rand(batch, *y) - 0.5, torch.rand(batch, *z) - 0.5)


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_parameter_of_every_combination_learns(parts: tuple[str, str, str]) -> None:
    model, x = built(combination(*parts)), picture(128, 192, batch=2)
    out = model(x, torch.zeros(2), noise_of(*model.latent_shapes(128, 192), batch=2))
    ((out.bits_y + out.bits_z).sum() + (out.x_hat - x).square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", list("ABCDEFG"))
def test_every_model_learns(name: str, photo: NDArray[np.uint8]) -> None:
    """In its own widths: 60 steps on two crops bring bpp + lmbda * MSE under a quarter of what it was."""
    torch.manual_seed(0)
    model = ImageModel(load_config(CONFIGS / f"{name}.toml"))
    x = torch.from_numpy(np.stack([photo[:64, :64], photo[96:160, 128:192]])).permute(0, 3, 1, 2).float()
    optimizer = torch.optim.Adam(model.parameters())
    losses = []
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 5e-4 * min(1, (step + 1) / 20)
        batch = Batch(x, torch.zeros(2), noise_of(*model.latent_shapes(64, 64), batch=2))
        loss = rate_distortion(model, batch, torch.full((2,), 0.05), 0.0).loss
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert fmean(losses[-10:]) < losses[0] / 4


@pytest.mark.parametrize("parts", COMBINATIONS, ids="-".join)
def test_every_combination_counts_as_torch_counts(parts: tuple[str, str, str]) -> None:
    """Of products alone; ours are counted on the meta device, torch's as the model runs with gradients."""
    config = combination(*parts)
    counted = count_parts(blueprint(config).decode_parts(128, 192), 128 * 192)
    for name, run in built(config).decode_parts(128, 192).items():
        with FlopCounterMode(display=False) as reference:
            run()
        ours = next(part for part in counted if part.name == name)
        assert reference.get_total_flops() == pytest.approx(2 * ours.macs, rel=0.005)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_bfloat16_keeps_latents_and_pictures_in_float32(transform: str) -> None:
    model, x = built(combination(transform, "charm", "swin")), picture(64, 128)
    with torch.no_grad():
        wanted = model.analysis(x)
        for network in model.inexact():
            network.to(torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            y = model.analysis(x)
            rated = model.entropy(y, torch.zeros(1))
            x_hat = model.synthesis(y, torch.zeros(1))
    assert {t.dtype for t in (y, x_hat, *rated)} == {torch.float32}
    assert (y - wanted).abs().mean() < 0.05 * wanted.abs().mean()
    kept = [name for name, p in model.analysis.named_parameters() if p.dtype == torch.float32]
    assert any(name.startswith("last.") for name in kept)


@pytest.mark.parametrize("transform", ["elic", "swin"])
def test_latents_start_in_range(transform: str) -> None:
    """Some steps wide, and a picture that is close to its mean."""
    name = {"elic": "F", "swin": "E"}[transform]
    model = built(load_config(CONFIGS / f"{name}.toml"))
    x: Tensor = torch.nn.functional.interpolate(picture(8, 8), (128, 128), mode="bilinear")
    with torch.no_grad():
        y = model.analysis(x)
        x_hat = model.synthesis(y, torch.zeros(1))
    assert 1 < y.std() < 16
    assert (x_hat - x).square().mean() < 2 * (x - x.mean()).square().mean()
