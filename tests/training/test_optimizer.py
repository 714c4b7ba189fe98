"""Optimisers: what orthogonalising does, how far a step goes, and that no parameter is forgotten or meant twice."""

import copy
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import MUON, RECIPE, same
from torch import Tensor, nn

from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import CONFIGS, ModelConfig, load_config
from rdcodec.models.precision import fast_dtype
from rdcodec.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from rdcodec.training.optimizer import BETAS, Muon, make_optimizers, matrix_names, orthogonalise
from rdcodec.training.recipe import Budget, Recipe

SHAPES = [(24, 24), (16, 64), (64, 16), (8, 200), (96, 40)]


def random_matrix(seed: int, rows: int, columns: int, condition: float = 10.0, size: float = 1.0) -> Tensor:
    """With singular values from `size` down to size / condition."""
    torch.manual_seed(seed)
    few = min(rows, columns)
    left, right = (torch.linalg.qr(torch.randn(side, few))[0] for side in (rows, columns))
    return left * torch.logspace(0, -math.log10(condition), few) * size @ right.T


def muon(*weights: Tensor, lr: float = 0.01, weight_decay: float = 0.0) -> Muon:
    return Muon(weights, lr, 1.0, weight_decay)


# Orthogonalising


@pytest.mark.parametrize("shape", SHAPES)
@given(st.integers(0, 10**6), st.floats(1, 30), st.floats(-6, 6))
@settings(max_examples=15)
def test_every_singular_value_comes_near_one(
    shape: tuple[int, int], seed: int, condition: float, log_size: float
) -> None:
    """Whatever size the matrix was of."""
    matrix = random_matrix(seed, *shape, condition, 10**log_size)
    values = torch.linalg.svdvals(orthogonalise(matrix[None])[0].float())
    assert values.min() > 0.6 and values.max() < 1.25


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay(shape: tuple[int, int]) -> None:
    """The result is near the polar factor U V^T: their product with the matrix has nearly the same trace."""
    matrix = random_matrix(0, *shape)
    u, values, vt = torch.linalg.svd(matrix, full_matrices=False)
    assert (orthogonalise(matrix[None])[0].float() * (u @ vt)).sum() / len(values) == pytest.approx(1, abs=0.25)
    rotated = u.T @ orthogonalise(matrix[None])[0].float() @ vt.T
    assert (rotated - rotated.diag().diag()).abs().max() < 0.1


def test_a_stack_is_its_matrices() -> None:
    stack = torch.stack([random_matrix(seed, 16, 40) for seed in range(3)])
    for matrix, found in zip(stack, orthogonalise(stack), strict=True):
        torch.testing.assert_close(orthogonalise(matrix[None])[0], found, atol=0.03, rtol=0)


def test_nothing_stays_nothing() -> None:
    assert not orthogonalise(torch.zeros(1, 4, 9)).any()


# Muon


@pytest.mark.parametrize("shape", [*SHAPES, (32, 8, 3, 3), (8, 32, 3, 3)])
def test_a_step_changes_entries_by_the_learning_rate(shape: tuple[int, ...]) -> None:
    """In the root mean square, whatever the shape and the size of the gradient."""
    torch.manual_seed(1)
    for size in (1e-4, 1e4):
        weight = nn.Parameter(torch.randn(shape))
        before = weight.detach().clone()
        weight.grad = size * torch.randn(shape)
        muon(weight, lr=0.01).step()
        assert (weight - before).square().mean().sqrt().item() == pytest.approx(0.01, rel=0.3)
        assert ((weight - before) * weight.grad).sum() < 0


def test_steps_do_not_depend_on_what_else_is_trained() -> None:
    """Matrices of a shape go together; each still goes its own way."""
    matrices = [random_matrix(seed, 12, 12) for seed in range(3)]
    gradients = [random_matrix(10 + seed, 12, 12) for seed in range(3)]
    together, alone = ([nn.Parameter(matrix.clone()) for matrix in matrices] for _ in range(2))
    for group in (together, *([weight] for weight in alone)):
        for weight in group:
            weight.grad = gradients[next(n for n, m in enumerate(matrices) if torch.equal(m, weight))]
        muon(*group).step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_momentum_and_weight_decay_by_hand() -> None:
    """For an orthogonal gradient, whose steps have one direction: Nesterov's momentum changes their sign late."""
    up = torch.eye(6)
    weight = nn.Parameter(torch.zeros(6, 6))
    optimizer = muon(weight, lr=0.1)
    path = []
    for gradient in (up, up, -up, -up, -up):
        weight.grad = gradient.clone()
        optimizer.step()
        path.append(weight[0, 0].item())
    # Momentum m = 0.05 g + 0.95 m: .05, .0975, .0426, -.0095, -.059; ahead 0.05 g + 0.95 m: + + - - -
    assert [b < a for a, b in zip([0.0, *path], path, strict=False)] == [True, True, False, False, False]
    decayed = nn.Parameter(torch.ones(6, 6))
    decayed.grad = torch.zeros(6, 6)
    muon(decayed, lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(decayed.detach(), torch.full((6, 6), 0.95))


def test_momentum_comes_back_from_a_checkpoint(tiny_config: ModelConfig, tmp_path: Path) -> None:
    """Two steps, or one, a checkpoint and one, are bit for bit the same; without the momentum they are not."""
    paths = []
    for saved in (False, True, None):
        torch.manual_seed(0)
        model = ImageModel(tiny_config)
        optimizers = make_optimizers(model, MUON)
        _step(model, optimizers, 1)
        if saved is not False:
            progress = Progress(Budget("steps", 2, 1))
            save_checkpoint(tmp_path, progress, model, model, optimizers)
            model = ImageModel(tiny_config)
            optimizers = make_optimizers(model, MUON)
            assert load_checkpoint(tmp_path, model, copy.deepcopy(model), optimizers) == progress
        if saved is None:
            optimizers[1].state.clear()
        _step(model, optimizers, 2)
        paths.append(model.state_dict())
    assert same(paths[0], paths[1]) and not same(paths[0], paths[2])


def _step(model: ImageModel, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("shape", [(12, 12), (16, 40), (8, 4, 3, 3)])
def test_a_learning_rate_may_be_a_tensor(shape: tuple[int, ...]) -> None:
    """The same steps as with a number, also after the tensor was changed in place, as between replays of a graph."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(3, *shape)
    of_number, of_tensor = (nn.Parameter(start.clone()) for _ in range(2))
    number, tensor = muon(of_number, weight_decay=0.1), muon(of_tensor, weight_decay=0.1)
    rate = torch.zeros(())
    tensor.param_groups[0]["lr"] = rate
    for gradient, value in zip(gradients, (0.01, 0.03, 0.0), strict=True):
        number.param_groups[0]["lr"] = value
        rate.fill_(value)
        for weight, optimizer in ((of_number, number), (of_tensor, tensor)):
            weight.grad = gradient.clone()
            optimizer.step()
        torch.testing.assert_close(of_tensor, of_number, rtol=1e-6, atol=1e-7)
    assert not torch.equal(of_tensor, start)


def test_a_weight_without_a_gradient_stays() -> None:
    still, moved = (nn.Parameter(random_matrix(seed, 8, 8)) for seed in range(2))
    before = still.detach().clone()
    moved.grad = torch.ones(8, 8)
    muon(still, moved, weight_decay=0.5).step()
    assert torch.equal(still, before)


def test_flops_by_hand() -> None:
    """Five rounds of three products: X X^T, its square, and that sum times X; 2 a multiply-add."""
    products = 2 * (16 * 40 * 16 + 16 * 16 * 16 + 16 * 16 * 40)
    assert muon(torch.zeros(16, 40)).flops == 5 * products
    assert muon(torch.zeros(40, 16), torch.zeros(16, 40, 1, 1)).flops == 2 * 5 * products


# All parameters


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["adam", "muon"])
@pytest.mark.parametrize("name", [None, *sorted(path.stem for path in CONFIGS.glob("*.toml"))])
def test_every_parameter_is_in_one_group(name: str | None, recipe: object, tiny_config: ModelConfig) -> None:
    model = blueprint(load_config(CONFIGS / f"{name}.toml") if name else tiny_config)
    groups = [group for optimizer in make_optimizers(model, recipe) for group in optimizer.param_groups]
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    assert all(group["params"] for group in groups)


def test_which_parameter_is_in_which(tiny_config: ModelConfig) -> None:
    model = ImageModel(tiny_config)
    recipe = MUON.model_copy(update={"matrix_rate": 3.0})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    adam, matrices = make_optimizers(model, recipe)
    assert isinstance(matrices, Muon)
    scale = {names[id(p)]: g["scale"] for o in (adam, matrices) for g in o.param_groups for p in g["params"]}
    shortcuts = {f"{part}.shortcut.weight" for part in ("analysis", "synthesis")}
    assert {name for name, value in scale.items() if value == 0.1} == shortcuts
    by_muon = {name for name, value in scale.items() if value == 3.0}
    assert by_muon == set(matrix_names(model)) - shortcuts
    weights = dict(model.named_parameters())
    # What is left to Adam: biases, vectors of the rates, depthwise kernels, and the shortcuts.
    assert all(weights[name].dim() == 4 for name in by_muon)
    for name in set(weights) - by_muon - shortcuts:
        assert weights[name].dim() == 1 or name.endswith(".values") or name == "log_gain" or weights[name].shape[1] == 1
    assert {g["weight_decay"] for o in (adam, matrices) for g in o.param_groups} == {0.1}


@pytest.mark.parametrize("recipe", [RECIPE, MUON])
def test_an_analysis_that_starts_as_the_klt_learns_slower(recipe: Recipe) -> None:
    """All of it, by Adam; one that starts at random learns as the rest does."""
    model = blueprint(load_config(CONFIGS / "G.toml"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for start, expected in (
        ("klt", {name for name in names.values() if name.startswith("analysis.")}),
        ("random", set()),
    ):
        groups = [g for o in make_optimizers(model, recipe.model_copy(update={"start": start})) for g in o.param_groups]
        assert {names[id(p)] for g in groups if g["scale"] == 0.1 for p in g["params"]} == expected


def test_without_weight_decay_it_is_adam(tiny_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    reference = copy.deepcopy(model)
    (mine,) = make_optimizers(model, RECIPE)
    theirs = torch.optim.Adam(reference.parameters(), lr=RECIPE.learning_rate, betas=BETAS)
    x = torch.randn(5, 2, 3, 8, 8)
    for step in range(5):
        for network, optimizer in ((model, mine), (reference, theirs)):
            optimizer.zero_grad()
            network(x[step]).square().mean().backward()
            optimizer.step()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("capability", "dtype"), [((7, 0), "float32"), ((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_cards_without_bfloat16_compute_in_float32(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_dtype(torch.device("cuda", 1)) == getattr(torch, dtype)


def test_muon_computes_in_the_format_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr("rdcodec.training.optimizer.fast_dtype", lambda device, dtype=dtype: dtype)
        assert orthogonalise(matrices).dtype == dtype
