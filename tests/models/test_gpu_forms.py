"""The forms that layers take on a GPU, on a CPU: they are the ordinary convolutions, forward and backward."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from rdcodec.models import blocks
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import LightBlock, depthwise, pointwise
from rdcodec.models.config import ModelConfig
from rdcodec.models.transforms import light
from rdcodec.models.transforms.light import PATCH, PatchTransform

SIZES = [(8, 8), (7, 5), (1, 1), (1, 9)]
Form = Callable[[Tensor], Tensor]
Take = Callable[[bool], None]


@pytest.fixture
def as_on_gpu(monkeypatch: pytest.MonkeyPatch) -> Take:
    """Call it to take the forms of a GPU, or those of a CPU."""

    def take(gpu: bool) -> None:
        for module in (blocks, light):
            monkeypatch.setattr(module, "on_gpu", lambda x: gpu)
        monkeypatch.setattr(blocks, "compiled_for_gpu", lambda x: gpu)

    return take


def both(as_on_gpu: Take, network: nn.Module, form: Form, shape: tuple[int, ...]) -> list[list[Tensor]]:
    """Output, gradient of the input, and gradients of the parameters, in the CPU's form and in the GPU's."""
    torch.manual_seed(1)
    x, found = torch.randn(shape, dtype=next(network.parameters()).dtype), []
    for gpu in (False, True):
        as_on_gpu(gpu)
        leaf = x.clone().requires_grad_()
        y = form(leaf)
        torch.manual_seed(2)
        weights = torch.randn(y.shape, dtype=y.dtype)  # in the order of the axes, not in that of the memory
        found.append([y, *torch.autograd.grad(y, [leaf, *network.parameters()], weights)])
    return found


def agree(found: list[list[Tensor]], tolerance: float) -> None:
    for cpu, gpu in zip(*found, strict=True):
        assert cpu.shape == gpu.shape and cpu.dtype == gpu.dtype
        torch.testing.assert_close(gpu, cpu, rtol=tolerance, atol=tolerance * cpu.abs().max().item())


@pytest.mark.parametrize("size", SIZES)
def test_a_pointwise_layer(as_on_gpu: Take, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = pointwise(6, 10).double()
    agree(both(as_on_gpu, layer, layer, (3, 6, *size)), 1e-12)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_a_depthwise_layer(as_on_gpu: Take, size: tuple[int, int], multiplier: int) -> None:
    """Which sums in float32."""
    torch.manual_seed(0)
    layer = depthwise(6, multiplier)
    agree(both(as_on_gpu, layer, layer, (3, 6, *size)), 3e-6)


def test_shifted_pictures_are_for_the_compiler_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "on_gpu", lambda x: True)
    layer, x = depthwise(6), torch.randn(1, 6, 5, 7)
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=keep, fullgraph=True)(x)
    assert graphs and "conv" not in graphs[0].code and "pad" in graphs[0].code
    monkeypatch.setattr(blocks, "shifted_sum", None)  # whoever calls it now fails
    torch.testing.assert_close(compiled, layer(x))


def test_a_depthwise_layer_sums_bfloat16_more_exactly(as_on_gpu: Take) -> None:
    """Its inputs and its result are rounded, and nothing between."""
    torch.manual_seed(0)
    layer, x = depthwise(5).bfloat16(), torch.randn(2, 5, 6, 7).bfloat16()
    as_on_gpu(True)
    found = layer(x)
    exact = nn.functional.conv2d(x.double(), layer.weight.double(), layer.bias.double(), padding=1, groups=5)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (2, 5)])
def test_the_shortcuts(as_on_gpu: Take, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    transform = PatchTransform(24).double()
    pixels = tuple(PATCH * side for side in size)
    agree(both(as_on_gpu, transform, transform.analysis, (2, 3, *pixels)), 1e-12)
    agree(both(as_on_gpu, transform, transform.synthesis, (2, 24, *size)), 1e-12)


def test_a_block(as_on_gpu: Take) -> None:
    torch.manual_seed(0)
    block = LightBlock(12)
    agree(both(as_on_gpu, block, block, (2, 12, 9, 7)), 1e-5)


def test_a_whole_model(as_on_gpu: Take, tiny_model: ImageModel) -> None:
    torch.manual_seed(0)
    x, found = 255 * torch.rand(2, 3, 64, 128), []
    for gpu in (False, True):
        as_on_gpu(gpu)
        y = tiny_model.analysis(x)
        found.append([y, tiny_model.synthesis(y, torch.tensor([10.0, 90.0]))])
    agree(found, 1e-4)


def test_weights_keep_their_names(tiny_config: ModelConfig) -> None:
    """Both are convolutions to whatever looks at a network: weights files, optimisers, counts, growth."""
    for layer, plain in (
        (pointwise(4, 6), nn.Conv2d(4, 6, 1)),
        (depthwise(4, 2), nn.Conv2d(4, 8, 3, padding=1, groups=4)),
    ):
        assert isinstance(layer, nn.Conv2d)
        assert {n: t.shape for n, t in layer.state_dict().items()} == {
            n: t.shape for n, t in plain.state_dict().items()
        }
        plain.load_state_dict(layer.state_dict())
        x = torch.randn(1, 4, 5, 5)
        assert torch.equal(layer(x), plain(x))
    names = set(ImageModel(tiny_config).state_dict())
    assert {"analysis.trunk.1.weight", "analysis.trunk.2.mix.2.bias", "synthesis.enter.weight"} <= names
