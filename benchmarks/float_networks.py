"""Entropy models in floats behind the interface of the integers: what files would depend on without those."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.exact.tables import LEVELS, SCALE_MIN
from rdcodec.models.entropy import checkerboard as cb
from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.integer import LOG_LEVEL
from rdcodec.models.entropy.integer_hyper import channels_from
from rdcodec.models.entropy.slices import see
from rdcodec.models.sizes import HYPER_STRIDE


def float_networks(model: Any) -> Any:
    """The trained float networks in the place of the integers, with the same tables, order and steps; or None."""
    forms = {cb.CheckerboardModel: FloatCheckerboard, CharmModel: FloatCharm}
    return forms[type(model)](model) if type(model) in forms else None


def indexes(log_scale: Tensor) -> Tensor:
    """Table rows of log-scales, uint8."""
    level = (log_scale - math.log(SCALE_MIN)) / LOG_LEVEL
    return level.round().clamp(0, LEVELS - 1).to(torch.uint8)


class FloatCheckerboard:
    """As IntegerCheckerboard."""

    def __init__(self, model: cb.CheckerboardModel) -> None:
        self.model = model

    def code(self, height: int, width: int, tenths: int, coder: Any) -> Tensor:
        """y_hat (1, M, height, width) in quantisation steps."""
        model, at = self.model, torch.tensor([tenths / 10])
        rows, columns = -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)
        prior = indexes(model.factorized_prior.log_scale(at))[0, :, 0, 0].expand(rows, columns, -1)
        features = model.hyper_synthesis(coder.z(prior).permute(2, 0, 1)[None])[:, :, :height, :width]
        y_hat = torch.zeros(1, model.latent_channels, height, width)
        for step, lattice in enumerate(model.lattices):
            mean, log_scale = (cb.take(part, lattice) for part in self.parameters(step, features, y_hat, at))
            symbols = coder.y(partial(cb.take, lattice=lattice), mean * MEAN_ONE, indexes(log_scale))
            y_hat = y_hat + cb.spread(mean + symbols, lattice)
        return y_hat

    def parameters(self, step: int, features: Tensor, y_hat: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of every element."""
        return self.model._mean_and_scale(self.model.predict(step, features, y_hat), at)


class FloatCharm:
    """As IntegerCharm."""

    def __init__(self, model: CharmModel) -> None:
        self.model = model
        self.prior = torch.arange(LEVELS, LEVELS + model.hyper_channels, dtype=torch.int16)

    def code(self, height: int, width: int, tenths: int, coder: Any) -> Tensor:
        """y_hat (1, M, height, width) in quantisation steps."""
        z = coder.z(self.prior.expand(-(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE), -1))
        features = self.model.synthesise(z.permute(2, 0, 1)[None])[:, :, :height, :width]
        decoded: list[Tensor] = []
        rows = zip(self.model.networks, self.model.own_features(features), self.model.config.slices, strict=True)
        for index, (networks, own, channels) in enumerate(rows):
            seen = see(self.model.config, index, own, decoded)
            mean, log_scale = (x[0].permute(1, 2, 0) for x in networks.mean_and_scale(seen))
            part = channels_from(sum(self.model.config.slices[:index]), channels)
            y_hat = mean + coder.y(part, mean * MEAN_ONE, indexes(log_scale))
            decoded.append(networks.refine(seen, y_hat.permute(2, 0, 1)[None]))
        return torch.cat(decoded, 1)
