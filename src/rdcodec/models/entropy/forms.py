"""Which integer form each entropy model has: what runs its arrays, and its tables."""

from rdcodec.errors import UsageError
from rdcodec.exact.layers import Arrays
from rdcodec.exact.tables import LEVELS
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.integer import IntegerCheckerboard
from rdcodec.models.entropy.integer_hyper import IntegerCharm, IntegerHyperprior
from rdcodec.models.entropy.kinds import (
    CharmEntropy,
    CheckerboardEntropy,
    Entropy,
    HyperEntropy,
    HyperpriorEntropy,
)

IntegerForm = IntegerCheckerboard | IntegerHyperprior | IntegerCharm


def has_integer_form(entropy: Entropy) -> bool:
    """Whether it can code files; others can be trained and measured."""
    if isinstance(entropy, CharmEntropy):
        return entropy.scale_synthesis is None and entropy.lrp
    return isinstance(entropy, CheckerboardEntropy | HyperpriorEntropy)


def integer_form(config: ModelConfig, arrays: Arrays) -> IntegerForm:
    """The entropy model on integers: config gives the structure, arrays every number.

    NeedsModel if an array is missing or altered, UsageError for a model without integer form.
    """
    entropy = config.entropy
    if has_integer_form(entropy):
        if isinstance(entropy, CheckerboardEntropy):
            return IntegerCheckerboard(entropy, config.latent_channels, arrays)
        if isinstance(entropy, HyperpriorEntropy):
            return IntegerHyperprior(entropy, config.latent_channels, arrays)
        if isinstance(entropy, CharmEntropy):
            return IntegerCharm(entropy, arrays)
    raise UsageError(f"a {entropy.kind} model of this kind has no integer form: it can be trained, not code files")


def table_rows(entropy: Entropy) -> int:
    """How many rows its tables have."""
    return LEVELS + (entropy.hyper_channels if isinstance(entropy, HyperEntropy) else 0)
