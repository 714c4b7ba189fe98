"""Which integer form each entropy model has: its arrays, its tables, and what runs them."""

from torch import nn

from rdcodec.errors import UsageError
from rdcodec.exact.layers import Arrays
from rdcodec.exact.tables import LEVELS
from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.checkerboard import CheckerboardModel
from rdcodec.models.entropy.hyper import HyperModel
from rdcodec.models.entropy.hyperprior import HyperpriorModel
from rdcodec.models.entropy.integer import IntegerCheckerboard
from rdcodec.models.entropy.integer_hyper import (
    IntegerCharm,
    IntegerHyperprior,
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


def table_rows(model: nn.Module) -> int:
    """How many rows its tables have."""
    return LEVELS + (model.hyper_channels if isinstance(model, HyperModel) else 0)
