"""The checkerboard entropy model on integers: what encoder and decoder both run, with the same result everywhere.

`CheckerboardModel` learns in floats; `export` turns what the decoder needs of it into integer arrays, which are
shipped with the weights and hashed; `IntegerCheckerboard` runs them. What its sisters in `integer_hyper.py` need too
stands here.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdcodec.exact.arithmetic import exact_arithmetic, shift_right
from rdcodec.exact.chain import Arrays
from rdcodec.exact.fixed import HYPER_MAX, LATENT_MAX, LATENT_ONE, LEVEL_ONE, MEAN_ONE, interpolate
from rdcodec.exact.layers import IntegerChain
from rdcodec.exact.tables import LEVELS, SCALE_MAX, SCALE_MIN
from rdcodec.models.entropy.checkerboard import mirror_edge, spread, take
from rdcodec.models.entropy.kinds import CheckerboardEntropy
from rdcodec.models.entropy.lattice import Lattice
from rdcodec.models.entropy.structure import CHECKERBOARD_INPUTS, PARAMETER, checkerboard_chains, levels, nested
from rdcodec.models.sizes import HYPER_STRIDE

LOG_LEVEL = math.log(SCALE_MAX / SCALE_MIN) / (LEVELS - 1)  # of scale, from one table row to the next


Part = Callable[[Tensor], Tensor]  # takes the elements of one pass from y: (1, M, h, w) -> (h, w, channels)


class SymbolCoder(Protocol):
    """Turns the table index of every element into its symbol: an encoder looks it up, a decoder reads it."""

    def z(self, indexes: Tensor) -> Tensor:
        """indexes (h, w, N) uint8 or int16 -> symbols, the same shape, float32 carrier."""
        ...

    def y(self, part: Part, mean: Tensor, indexes: Tensor) -> Tensor:
        """mean (steps of 1/64) and indexes (uint8) of the elements that `part` takes -> symbols."""
        ...


class IntegerForm(Protocol):
    """Codes y (M, h, w) and its hyper-latents through a SymbolCoder. Only exact integers decide a symbol."""

    def __init__(self, config: Any, latent_channels: int, arrays: Arrays) -> None:
        """config gives the structure, arrays every number. NeedsModel if an array is missing or altered."""

    def to(self, device: torch.device) -> "IntegerForm":
        """Move the networks to a device."""
        ...

    def code(self, height: int, width: int, tenths: int, coder: SymbolCoder) -> Tensor:
        """y_hat (1, M, height, width) in quantisation steps, as encoder and decoder both build it.

        height, width: of the latents, any positive number; hyper-latents cover ceil(side / 4).
        tenths: quality, 0..1000.
        """
        ...


class IntegerCheckerboard:
    """The `IntegerForm` of `CheckerboardModel`."""

    def __init__(self, config: CheckerboardEntropy, latent_channels: int, arrays: Arrays) -> None:
        self.config = config
        self.chains = {
            name: IntegerChain(chain, nested(arrays, name), CHECKERBOARD_INPUTS[name], PARAMETER)
            for name, chain in checkerboard_chains(config, latent_channels).items()
        }
        self.prior_level = levels(arrays, "prior_level", config.hyper_channels)
        self.level = levels(arrays, "level", latent_channels)
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> "IntegerCheckerboard":
        self.device = device
        for chain in self.chains.values():
            chain.to(device)
        return self

    def code(self, height: int, width: int, tenths: int, coder: SymbolCoder) -> Tensor:
        with exact_arithmetic(self.device):
            return self._code(height, width, tenths, coder)

    def _code(self, height: int, width: int, tenths: int, coder: SymbolCoder) -> Tensor:
        rows, columns = -(-height // HYPER_STRIDE), -(-width // HYPER_STRIDE)
        prior = level_indexes(torch.zeros(rows, columns, 1, device=self.device), self._offset(self.prior_level, tenths))
        z = coder.z(prior).clamp(-HYPER_MAX, HYPER_MAX)
        features = self.chains["hyper_synthesis"](z.permute(2, 0, 1)[None])[:, :, :height, :width]
        offset = self._offset(self.level, tenths)
        y_hat = torch.zeros(1, len(self.level[0]), height, width, device=self.device)
        for step, lattice in enumerate(self.config.lattices()):
            y_hat = y_hat + _code_pass(lattice, self._parameters(step, features, y_hat), offset, coder)
        return y_hat / MEAN_ONE

    def _parameters(self, step: int, features: Tensor, y_hat: Tensor) -> Tensor:
        """Means and levels of a pass, (1, 2 M, h, w)."""
        if step == 0:
            return self.chains["first"](features)
        height, width = features.shape[2:]
        seen = shift_right(y_hat + MEAN_ONE // LATENT_ONE // 2, 2).clamp_(-LATENT_MAX, LATENT_MAX)
        context, network = (self.chains[name] for name in self.config.later()[step - 1])
        return network(torch.cat([features, context(mirror_edge(seen))[:, :, :height, :width]], 1))

    def _offset(self, anchors: NDArray[np.int32], tenths: int) -> Tensor:
        # Half a level makes the shift in `level_indexes` a rounding.
        return torch.from_numpy(interpolate(anchors, tenths) + LEVEL_ONE // 2).to(self.device, torch.float32)


def _code_pass(lattice: Lattice, parameters: Tensor, offset: Tensor, coder: SymbolCoder) -> Tensor:
    mean, level = take(parameters, lattice).chunk(2, -1)
    own = partial(take, lattice=lattice)
    indexes = level_indexes(level, own(offset.expand(*parameters.shape[2:], -1).permute(2, 0, 1)[None]))
    return spread(mean + MEAN_ONE * coder.y(own, mean, indexes), lattice)


def level_indexes(level: Tensor, offset: Tensor | int) -> Tensor:
    """Table rows of log-scales (..., C), which come in steps of 1 / LEVEL_ONE."""
    return shift_right(level + offset, 4).clamp_(0, LEVELS - 1).to(torch.uint8)
