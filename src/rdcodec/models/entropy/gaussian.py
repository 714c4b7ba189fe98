"""Discretised Gaussian: the rate of an integer residual, as a differentiable float."""

import math
from typing import Any

import torch
from torch import Tensor

from rdcodec.exact.tables import SCALE_MIN

MIN_LIKELIHOOD = 1e-9
LOG_SCALE_MIN = math.log(SCALE_MIN)


class LowerBound(torch.autograd.Function):
    """max(x, bound), but a gradient that would raise x passes even below the bound.

    A plain clamp never lets a scale come back once it has fallen below (Balle et al., TFC `lower_bound`).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * ((x >= ctx.bound) | (gradient < 0)), None


def gaussian_bits(residual: Tensor, log_scale: Tensor) -> Tensor:
    """Bits of `residual` (rounded, or with uniform noise) under a zero-mean Gaussian of exp(log_scale).

    Any shape, float32, finite. The likelihood is the Gaussian's mass in [residual - 1/2, residual + 1/2]
    (Balle et al. 2018, arXiv:1802.01436, section 3); the scale is bounded below by SCALE_MIN.
    """
    bounded: Tensor = LowerBound.apply(log_scale, LOG_SCALE_MIN)  # type: ignore[no-untyped-call]
    distance = residual.abs()
    # Both limits lie on the lower tail, where erfc keeps its precision.
    factor = math.sqrt(0.5) * torch.exp(-bounded)
    upper = torch.erfc((distance - 0.5) * factor)
    lower = torch.erfc((distance + 0.5) * factor)
    return -torch.log2(((upper - lower) / 2).clamp(min=MIN_LIKELIHOOD))


def straight_round(value: Tensor) -> Tensor:
    """round(value) with the gradient of `value` (straight through)."""
    return value + (value.round() - value).detach()
