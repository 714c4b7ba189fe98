"""A model is one TOML file; these frozen records are what it may say."""

import difflib
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from rdcodec.errors import UsageError

Norm = Literal["gdn", "gdn-sqrt"]
FROM_LIST = Field(strict=False, min_length=1)  # a TOML or JSON list is no tuple to a strict record
FOLLOW_QUALITY = {"light", "checkerboard"}  # kinds that learn something for every quality


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Trunk(Record):
    """A run of residual blocks at one resolution."""

    width: PositiveInt
    blocks: Annotated[int, Field(ge=0)]


class LightTransform(Record):
    """Pointwise-depthwise blocks at 1/8 and 1/16 of the picture beside a linear shortcut (`transforms/light.py`)."""

    kind: Literal["light"]
    stride8: Trunk
    stride16: Trunk


class ConvTransform(Record):
    """Four 5x5 layers of stride 2 with GDN between them (`transforms/conv.py`).

    channels: outputs of the first three; the fourth gives the latents, or the picture.
    """

    kind: Literal["conv"]
    channels: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], FROM_LIST]
    norm: Norm


class CheckerboardEntropy(Record):
    """Hyperprior with a two-pass context (`entropy/checkerboard.py`)."""

    kind: Literal["checkerboard"]
    hyper_channels: PositiveInt
    features: PositiveInt
    hidden: PositiveInt


class LayerChain(Record):
    """Convolutions one after the other, with an activation between them; their strides make up 4."""

    channels: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    kernels: Annotated[tuple[Literal[1, 3, 5, 7], ...], FROM_LIST]
    strides: Annotated[tuple[Literal[1, 2], ...], FROM_LIST]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError("channels, kernels and strides need one number per layer each")
        if math.prod(self.strides) != 4:
            raise ValueError("the strides have to make up 4")
        return self


class HyperpriorEntropy(Record):
    """Mean-and-scale hyperprior (`entropy/hyperprior.py`).

    filters: hidden units of the free density of the hyper-latents, whose channels are the last of hyper_analysis.
    """

    kind: Literal["hyperprior"]
    hyper_analysis: LayerChain
    hyper_synthesis: LayerChain
    activation: Literal["relu", "leaky_relu"]
    filters: Annotated[tuple[PositiveInt, ...], FROM_LIST]

    @property
    def hyper_channels(self) -> int:
        """N, the channels of z."""
        return self.hyper_analysis.channels[-1]


Transform = Annotated[LightTransform | ConvTransform, Field(discriminator="kind")]
Entropy = Annotated[CheckerboardEntropy | HyperpriorEntropy, Field(discriminator="kind")]


class ModelConfig(Record):
    """One model: its transforms, its entropy model, and how many latent channels lie between them.

    lmbda: none for one model of all rates; a number for a model of one rate, its loss then is
    bpp + lmbda * MSE of samples on the 0..255 scale.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,22}$")]
    summary: str
    latent_channels: Annotated[PositiveInt, Field(le=768, multiple_of=2)]
    lmbda: Annotated[float, Field(gt=0)] | None = None
    analysis: Transform
    synthesis: Transform
    entropy: Entropy

    @model_validator(mode="after")
    def _fits(self) -> Self:
        entropy, kinds = self.entropy, {self.analysis.kind, self.synthesis.kind, self.entropy.kind}
        if isinstance(entropy, HyperpriorEntropy) and entropy.hyper_synthesis.channels[-1] != 2 * self.latent_channels:
            raise ValueError("the last of entropy.hyper_synthesis.channels has to be twice latent_channels")
        if self.lmbda is not None and (following := sorted(kinds & FOLLOW_QUALITY)):
            raise ValueError(f"lmbda makes a model of one rate, but {' and '.join(following)} parts follow quality")
        return self


R = TypeVar("R", bound=Record)
CONFIGS = Path(__file__).parent / "configs"


def config_names() -> list[str]:
    """Names of the models whose configuration is part of the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.toml"))


def load_config(path: Path) -> ModelConfig:
    """Read one model configuration; UsageError names the key that is unknown or of the wrong kind."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such configuration") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from None
    return parse_record(ModelConfig, data, str(path))


def parse_record(record: type[R], data: object, where: str) -> R:
    """Validate `data` as `record`; UsageError in one line otherwise."""
    try:
        return record.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_problem(record, error)}") from None


def _first_problem(record: type[Record], error: ValidationError) -> str:
    # A misspelt key is also a missing one, which pydantic names first.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    keys, inside = _place(record, problem["loc"])
    if problem["type"].startswith("union_tag"):
        keys.append("kind")
    key = ".".join(keys)
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}" if key else problem["msg"]
    near = difflib.get_close_matches(keys[-1], inside.model_fields, n=1)
    return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")


def _place(record: type[Record], location: Sequence[int | str]) -> tuple[list[str], type[Record]]:
    """The keys to a problem, without the kinds that pydantic puts between them, and the record of the last key."""
    keys: list[str] = []
    candidates = [record]
    for part in location:
        chosen = [candidate for candidate in candidates if part in _kinds(candidate)]
        if chosen:
            candidates = chosen
            continue
        keys.append(str(part))
        if candidates and isinstance(part, str):
            record = candidates[0]
            field = record.model_fields.get(part)
            candidates = _records(field.annotation) if field else []
    return keys, record


def _kinds(record: type[Record]) -> tuple[Any, ...]:
    """What the key `kind` of a record may say."""
    return get_args(record.model_fields["kind"].annotation) if "kind" in record.model_fields else ()


def _records(annotation: Any) -> list[type[Record]]:
    """The records that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return [annotation]
    return [record for part in get_args(annotation) for record in _records(part)]
