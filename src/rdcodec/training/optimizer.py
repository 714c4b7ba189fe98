"""What turns gradients into steps: Adam for everything, or Muon for the matrices and Adam for the rest."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rdcodec.models.precision import fast_dtype
from rdcodec.models.transforms.conv import ConvAnalysis
from rdcodec.models.transforms.light import PatchTransform
from rdcodec.training.recipe import Recipe

# With 0.999 a parameter whose gradients are rare meets a stale small denominator: one run at 2e-3 blew up so.
BETAS = (0.9, 0.99)
MOMENTUM = 0.95
# The quintic of K. Jordan's Muon (2024): five rounds bring every singular value into about 0.7 .. 1.2.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def make_optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe, of what is not frozen. What starts as the KLT learns slower.

    Each group has a `scale`: its learning rate is the recipe's times this.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    slow = [name for name in slow_names(model, recipe) if name in named]
    matrices = matrix_names(model) if recipe.optimizer == "muon" else []
    matrices = [name for name in matrices if name in named and name not in slow]
    others = [name for name in named if name not in slow and name not in matrices]
    groups = [
        {"params": [named[name] for name in others], "scale": 1.0},
        {"params": [named[name] for name in slow], "scale": recipe.shortcut_rate},
    ]
    groups = [group for group in groups if group["params"]]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=rate, betas=BETAS, weight_decay=decay, fused=True),
    ]
    if matrices:
        found.append(Muon([named[name] for name in matrices], rate, recipe.matrix_rate, decay))
    return found


def slow_names(model: nn.Module, recipe: Recipe) -> list[str]:
    """Of the linear shortcuts, and of an analysis of convolutions and GDN that starts as the KLT.

    The mean of every block passes through them, and is to come out right to a part in a hundred.
    """
    kinds = (PatchTransform, ConvAnalysis) if recipe.start == "klt" else (PatchTransform,)
    parts = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    return [f"{name}.{parameter}" for name, part in parts for parameter, _ in part.named_parameters()]


def matrix_names(model: nn.Module) -> list[str]:
    """Weights that multiply channel vectors: convolutions without groups, and linear layers."""
    found = []
    for name, module in model.named_modules():
        convolution = isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.groups == 1
        if convolution or isinstance(module, nn.Linear):
            found.append(f"{name}.weight")
    return found


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every singular direction of a matrix moves by the same amount.

    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). A step changes the entries
    of a matrix by the learning rate in the root mean square, whatever its shape, so that rates compare with Adam's.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, scale: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "scale": scale, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for same in _by_shape(group["params"]):
                self._step(same, group)

    def _step(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        rows, columns = _flat(matrices[0]).shape
        momenta = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in matrices]
        gradients = [p.grad for p in matrices if p.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's look ahead
        steps = orthogonalise(torch.stack([_flat(part) for part in ahead]))
        rate: float | Tensor = group["lr"]  # a tensor in a CUDA graph, which may change it between its replays
        torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
        # The rate comes last: a number and a tensor of it then round alike.
        changes = (steps.float() * math.sqrt(max(rows, columns)) * -rate).unbind()
        torch._foreach_add_(matrices, [change.view_as(p) for p, change in zip(matrices, changes, strict=True)])

    @property
    def flops(self) -> float:
        """Of the matrix products of one step."""
        total = 0.0
        for p in (p for group in self.param_groups for p in group["params"]):
            few, many = sorted(_flat(p).shape)
            total += ROUNDS * 2 * (2 * few * few * many + few**3)
        return total


def orthogonalise(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrix to each of (n, rows, columns), roughly, in the device's fast_dtype."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(fast_dtype(matrices.device))
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _flat(weight: Tensor) -> Tensor:
    return weight.reshape(weight.shape[0], -1)


def _by_shape(matrices: Iterable[Tensor]) -> list[list[Tensor]]:
    found: dict[torch.Size, list[Tensor]] = {}
    for matrix in matrices:
        if matrix.grad is not None:
            found.setdefault(matrix.shape, []).append(matrix)
    return list(found.values())
