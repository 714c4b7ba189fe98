"""A model is one TOML file; these frozen records are what it may say."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from rdcodec.errors import UsageError


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


class CheckerboardEntropy(Record):
    """Hyperprior with a two-pass context (`entropy/checkerboard.py`)."""

    kind: Literal["checkerboard"]
    hyper_channels: PositiveInt
    features: PositiveInt
    hidden: PositiveInt


class ModelConfig(Record):
    """One model: its transforms, its entropy model, and how many latent channels lie between them."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,22}$")]
    summary: str
    latent_channels: Annotated[PositiveInt, Field(le=768, multiple_of=2)]
    analysis: LightTransform
    synthesis: LightTransform
    entropy: CheckerboardEntropy


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
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}"
    known = sorted(_field_names(record))
    near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")


def _field_names(record: type[Record]) -> set[str]:
    names = set(record.model_fields)
    for field in record.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Record):
            names |= _field_names(field.annotation)
    return names
