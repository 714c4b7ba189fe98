"""Discretised Gaussian: the rate of an integer residual, as a differentiable float."""

import math

import torch
from torch import Tensor

from rdcodec.exact.tables import SCALE_MIN
from rdcodec.models.blocks import lower_bound

MIN_LIKELIHOOD = 1e-9
LOG_SCALE_MIN = math.log(SCALE_MIN)


def gaussian_bits(residual: Tensor, log_scale: Tensor) -> Tensor:
    """Bits of `residual` (rounded, or with uniform noise) under a zero-mean Gaussian of exp(log_scale).

    Any shape, float32, finite. The likelihood is the Gaussian's mass in [residual - 1/2, residual + 1/2]
    (Balle et al. 2018, arXiv:1802.01436, section 3); the scale is bounded below by SCALE_MIN.
    """
    bounded = lower_bound(log_scale, LOG_SCALE_MIN)
    distance = residual.abs()
    # Both limits lie on the lower tail, where erfc keeps its precision.
    factor = math.sqrt(0.5) * torch.exp(-bounded)
    upper = torch.erfc((distance - 0.5) * factor)
    lower = torch.erfc((distance + 0.5) * factor)
    return -torch.log2(((upper - lower) / 2).clamp(min=MIN_LIKELIHOOD))


def straight_round(value: Tensor, log_scale: Tensor | None = None) -> Tensor:
    """round(value) with the gradient of `value` (straight through), whatever its scale."""
    return value + (value.round() - value).detach()
