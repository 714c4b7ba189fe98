"""A trained `CheckerboardModel` as the arrays of `IntegerCheckerboard`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.exact.chain import ACTIVATION, Arrays
from rdcodec.exact.fixed import HYPER_MAX, LATENT_ONE, LEVEL_ONE, MEAN_ONE
from rdcodec.exact.tables import SCALE_MIN
from rdcodec.export.layers import calibrate, named, to_integers
from rdcodec.models.entropy.checkerboard import CheckerboardModel, parity_mask
from rdcodec.models.entropy.integer import LOG_LEVEL
from rdcodec.models.entropy.structure import HYPER, LATENT


@torch.no_grad()
def quantise_checkerboard(model: CheckerboardModel, latents: Sequence[tuple[Tensor, float]]) -> Arrays:
    """Integer arrays of a trained model; latents as `QUANTISERS` gives them."""
    m = model.latent_channels
    at = [(y, y.new_tensor([quality])) for y, quality in latents]
    z_hat = [model.analyse(y, quality).round().clamp(-HYPER_MAX, HYPER_MAX) for y, quality in at]
    steps = torch.cat([torch.full((m,), 1 / MEAN_ONE), torch.full((m,), LOG_LEVEL / LEVEL_ONE)]).double()
    hyper = calibrate(model.hyper_synthesis, z_hat, torch.ones(model.hyper_channels), HYPER)
    first = calibrate(model.first, hyper.samples, hyper.step, ACTIVATION, steps)
    y_0 = [_first_pass(y, raw) for (y, _), raw in zip(at, first.samples, strict=True)]
    context = calibrate(model.context, y_0, torch.full((m,), 1 / LATENT_ONE), LATENT)
    both = [torch.cat(pair, 1) for pair in zip(hyper.samples, context.samples, strict=True)]
    second = calibrate(model.second, both, torch.cat([hyper.step, context.step]), ACTIVATION, steps)
    chains = {"hyper_synthesis": hyper, "first": first, "context": context, "second": second}
    arrays: Arrays = {}
    for chain, done in chains.items():
        arrays |= named(chain, done.arrays)
    arrays["prior_level"] = _level_array(model.factorized_prior.log_scale.values)
    arrays["level"] = _level_array(model.log_scale.values)
    return arrays


def _first_pass(y: Tensor, raw: Tensor) -> Tensor:
    mean = raw.chunk(2, 1)[0]
    return ((y - mean).round() + mean) * parity_mask(y)


def _level_array(log_scale: Tensor) -> NDArray[Any]:
    return to_integers((log_scale.double() - math.log(SCALE_MIN)) * (LEVEL_ONE / LOG_LEVEL))
