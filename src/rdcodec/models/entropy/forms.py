"""Which integer form each entropy model has: its arrays, its tables, and what runs them."""

from collections.abc import Sequence

from torch import Tensor, nn

from rdcodec.errors import UsageError
from rdcodec.exact.layers import Arrays
from rdcodec.exact.tables import LEVELS, Tables, build_gaussian_tables
from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.checkerboard import CheckerboardModel
from rdcodec.models.entropy.hyper import HyperModel
from rdcodec.models.entropy.hyperprior import HyperpriorModel
from rdcodec.models.entropy.integer import IntegerCheckerboard, quantise_checkerboard
from rdcodec.models.entropy.integer_hyper import (
    IntegerCharm,
    IntegerHyperprior,
    quantise_charm,
    quantise_hyperprior,
)

IntegerForm = IntegerCheckerboard | IntegerHyperprior | IntegerCharm


def has_integer_form(model: nn.Module) -> bool:
    """Whether it can code files; others can be trained and measured."""
    if isinstance(model, CharmModel):
        return model.scale_synthesis is None and all(len(networks.lrp) for networks in model.networks)
    return isinstance(model, CheckerboardModel | HyperpriorModel)


def integer_form(model: nn.Module, arrays: Arrays) -> IntegerForm:
    """The entropy model on integers: model gives the structure, arrays every number.

    NeedsModel if an array is missing or altered, UsageError for a model without integer form.
    """
    if not has_integer_form(model):
        raise UsageError(f"{type(model).__name__} of this kind has no integer form: it can be trained, not code files")
    if isinstance(model, CheckerboardModel):
        return IntegerCheckerboard(model, arrays)
    if isinstance(model, HyperpriorModel):
        return IntegerHyperprior(model, arrays)
    assert isinstance(model, CharmModel)
    return IntegerCharm(model, arrays)


def quantise(model: nn.Module, latents: Sequence[tuple[Tensor, float]]) -> Arrays:
    """Integer arrays of a trained entropy model.

    latents: y in quantised units (1, M, h, w), sides multiples of 4, each with its quality, to measure how far
    activations reach: a score of photographs, at low, middle and high quality if the model knows these.
    """
    if isinstance(model, CheckerboardModel):
        return quantise_checkerboard(model, latents)
    y = [latent for latent, _ in latents]
    if isinstance(model, HyperpriorModel):
        return quantise_hyperprior(model, y)
    assert isinstance(model, CharmModel)
    return quantise_charm(model, y)


def table_rows(model: nn.Module) -> int:
    """How many rows its tables have."""
    return LEVELS + (model.hyper_channels if isinstance(model, HyperModel) else 0)


def build_tables_of(model: nn.Module) -> Tables:
    """The Gaussian rows for the scales of y, and behind them a row for each channel of z if its density is free."""
    return build_gaussian_tables(more=model.factorized_prior.masses() if isinstance(model, HyperModel) else ())
