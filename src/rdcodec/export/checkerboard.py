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
from rdcodec.models.entropy.checkerboard import CheckerboardModel, mask
from rdcodec.models.entropy.integer import LOG_LEVEL
from rdcodec.models.entropy.lattice import Lattice
from rdcodec.models.entropy.structure import HYPER, LATENT


@torch.no_grad()
def quantise_checkerboard(model: CheckerboardModel, latents: Sequence[tuple[Tensor, float]]) -> Arrays:
    """Integer arrays of a trained model; latents as `QUANTISERS` gives them."""
    m = model.latent_channels
    at = [(y, y.new_tensor([quality])) for y, quality in latents]
    z_hat = [model.analyse(y, quality).round().clamp(-HYPER_MAX, HYPER_MAX) for y, quality in at]
    steps = torch.cat([torch.full((m,), 1 / MEAN_ONE), torch.full((m,), LOG_LEVEL / LEVEL_ONE)]).double()
    hyper = calibrate(model.hyper_synthesis, z_hat, torch.ones(model.hyper_channels), HYPER)
    found = calibrate(model.first, hyper.samples, hyper.step, ACTIVATION, steps)
    chains = {"hyper_synthesis": hyper, "first": found}
    y_hat = [torch.zeros_like(y) for y, _ in at]
    for lattice, names in zip(model.lattices, model.later, strict=False):  # the last pass is seen by none
        y_hat = [_with_pass(*seen, lattice) for seen in zip(at, found.samples, y_hat, strict=True)]
        context, network = (model.part(name) for name in names)
        sees = calibrate(context, y_hat, torch.full((m,), 1 / LATENT_ONE), LATENT)
        both = [torch.cat(pair, 1) for pair in zip(hyper.samples, sees.samples, strict=True)]
        found = calibrate(network, both, torch.cat([hyper.step, sees.step]), ACTIVATION, steps)
        chains |= dict(zip(names, (sees, found), strict=True))
    arrays: Arrays = {}
    for chain, done in chains.items():
        arrays |= named(chain, done.arrays)
    arrays["prior_level"] = _level_array(model.factorized_prior.log_scale.values)
    arrays["level"] = _level_array(model.log_scale.values)
    return arrays


def _with_pass(latents: tuple[Tensor, Tensor], raw: Tensor, y_hat: Tensor, lattice: Lattice) -> Tensor:
    (y, _), mean = latents, raw.chunk(2, 1)[0]
    return torch.where(mask(y, lattice), (y - mean).round() + mean, y_hat)


def _level_array(log_scale: Tensor) -> NDArray[Any]:
    return to_integers((log_scale.double() - math.log(SCALE_MIN)) * (LEVEL_ONE / LOG_LEVEL))
