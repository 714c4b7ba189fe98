"""A light model that starts from a smaller one computes what that computed, and all of it can learn."""

import pytest
import torch

from rdcodec.models.base import ImageModel
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.transforms.kinds import LightTransform, Trunk
from rdcodec.training.grow import contains, grow

X = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1)) * 255
QUALITY = torch.tensor([20.0, 75.0])


def config_of(tiny: ModelConfig, width: int, blocks: int, hyper: int, features: int, hidden: int) -> ModelConfig:
    transform = LightTransform(
        kind="light",
        stride8=Trunk(width=width, blocks=blocks),
        stride16=Trunk(width=2 * width, blocks=max(blocks - 1, 0)),
    )
    entropy = CheckerboardEntropy(kind="checkerboard", hyper_channels=hyper, features=features, hidden=hidden)
    return tiny.model_copy(update={"analysis": transform, "synthesis": transform, "entropy": entropy})


@pytest.fixture
def larger(tiny_config: ModelConfig) -> ModelConfig:
    return config_of(tiny_config, width=24, blocks=3, hyper=12, features=20, hidden=28)


@pytest.fixture(params=[None, 3], ids=["two passes", "three passes"])
def grown(request: pytest.FixtureRequest, larger: ModelConfig, tiny_model: ImageModel) -> ImageModel:
    torch.manual_seed(2)
    entropy = larger.entropy.model_copy(update={"passes": request.param})
    model = ImageModel(larger.model_copy(update={"entropy": entropy}))
    grow(model, tiny_model)
    return model


def test_the_pictures_and_the_bits_of_y_stay(grown: ImageModel, tiny_model: ImageModel) -> None:
    with torch.no_grad():
        old, new = tiny_model(X, QUALITY), grown(X, QUALITY)
    torch.testing.assert_close(new.x_hat, old.x_hat, rtol=0, atol=1e-2)
    torch.testing.assert_close(new.bits_y, old.bits_y, rtol=1e-4, atol=1)


def test_new_hyper_latents_cost_little(grown: ImageModel, tiny_model: ImageModel) -> None:
    with torch.no_grad():
        old, new = tiny_model(X, QUALITY), grown(X, QUALITY)
    more = (new.bits_z - old.bits_z) / (4 * 2)  # of four new channels at two positions
    assert (more > 0).all() and (more < 1).all()


def test_what_is_new_learns(grown: ImageModel, tiny_model: ImageModel) -> None:
    """In every array that grew, and every new one, gradients reach the new part within three steps."""
    optimizer = torch.optim.SGD(grown.parameters(), lr=1e-6)
    before = {name: tuple(value.shape) for name, value in tiny_model.state_dict().items()}
    seen = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in grown.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        output = grown(X, QUALITY)
        ((output.x_hat - X).square().mean() + output.bits_y.sum() + output.bits_z.sum()).backward()
        for name, parameter in grown.named_parameters():
            assert parameter.grad is not None, name
            seen[name] |= parameter.grad != 0
        optimizer.step()
    for name, reached in seen.items():
        old = before.get(name, (0,))
        if old != reached.shape:
            reached[tuple(slice(length) for length in old)] = False
        assert reached.any(), name


def test_the_same_size_is_a_copy(tiny_config: ModelConfig, tiny_model: ImageModel) -> None:
    model = ImageModel(tiny_config)
    grow(model, tiny_model)
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_what_contains_what(tiny_config: ModelConfig, larger: ModelConfig) -> None:
    h, i, j, b = (load_config(CONFIGS / f"{name}.toml") for name in "HIJB")
    assert contains(h, i) and contains(larger, tiny_config) and contains(i, i)
    assert not contains(i, h) and not contains(tiny_config, larger)
    assert not contains(h, j)  # fewer latents
    assert not contains(b, b)  # of one rate: nothing to grow
    thin = config_of(tiny_config, width=24, blocks=3, hyper=4, features=20, hidden=28)
    assert not contains(thin, tiny_config)


def test_a_pass_more_has_room_for_what_pass_0_is(tiny_config: ModelConfig) -> None:
    def passes(hidden_each: tuple[int, ...] | None) -> ModelConfig:
        entropy = tiny_config.entropy.model_copy(update={"passes": 3, "hidden_each": hidden_each})
        return tiny_config.model_copy(update={"entropy": entropy})

    assert contains(passes(None), tiny_config) and contains(passes(None), passes((16, 9, 16, 16, 16)))
    assert not contains(tiny_config, passes(None))
    assert not contains(passes((16, 16, 15, 16, 16)), tiny_config)
    assert not contains(passes((16, 15, 16, 16, 16)), tiny_config)
