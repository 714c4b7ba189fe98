"""From a trained model to a weights file: integers measured on photographs, tables, hashes."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rdcodec.exact.chain import Arrays
from rdcodec.exact.tables import Tables
from rdcodec.export.calibration import Image, calibration_latents
from rdcodec.export.checkerboard import quantise_checkerboard
from rdcodec.export.hyper import quantise_charm, quantise_hyperprior
from rdcodec.export.pixels import quantise_synthesis
from rdcodec.export.tables import build_gaussian_tables, free_masses
from rdcodec.models.base import ImageModel
from rdcodec.models.entropy.hyper import HyperModel
from rdcodec.models.state import raw_of, stored
from rdcodec.models.weights import UNRELEASED, Weights, save_weights

CALIBRATION_PHOTOS = 12


def export(
    model: ImageModel,
    path: Path,
    photos: Sequence[Image] = (),
    tag: str | None = None,
    eflop: float | None = None,
) -> Weights:
    """Write a weights file: floats as they are stored, integers made from these, fresh tables.

    photos: uint8 (H, W, 3), cut to multiples of 64: what the reach of the integers is measured on, beside two hard
    pictures. The tag says that the weights are unreleased unless it is given.
    eflop: training computation behind the model, for the file to say.
    """
    state = stored(model)
    kept = copy.deepcopy(model).cpu().float().eval()
    kept.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    entropy: Arrays = {}
    pixels: Arrays = {}
    if model.config.entropy.integer_form():
        latents = calibration_latents(kept, photos[:CALIBRATION_PHOTOS])
        entropy = QUANTISERS[model.config.entropy.kind](kept.entropy, latents)
        pixels = quantise_synthesis(kept, latents)
    tag = tag or f"{model.config.name}.{UNRELEASED}"
    weights = Weights(tag, model.config, raw_of(state), entropy, build_tables_of(kept.entropy), eflop, pixels)
    save_weights(path, weights)
    return weights


QUANTISERS: dict[str, Callable[[Any, Sequence[tuple[Tensor, float]]], Arrays]] = {
    "checkerboard": quantise_checkerboard,
    "hyperprior": quantise_hyperprior,
    "charm": quantise_charm,
}
"""What makes the arrays of each kind of entropy model that has an integer form.

It takes the trained network and latents: y in quantised units (1, M, h, w), sides multiples of 4, each with its
quality, to measure how far activations reach: a score of photographs, at low, middle and high quality if the model
knows these.
"""


def build_tables_of(model: nn.Module) -> Tables:
    """The Gaussian rows for the scales of y, and behind them a row for each channel of z if its density is free."""
    return build_gaussian_tables(more=free_masses(model.factorized_prior) if isinstance(model, HyperModel) else ())
