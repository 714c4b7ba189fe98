"""Frozen records that a TOML or JSON file may hold, and what is wrong with one, in one line."""

import difflib
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from rdcodec.errors import UsageError

FROM_LIST = Field(strict=False, min_length=1)  # a TOML or JSON list is no tuple to a strict record
EvenInt = Annotated[PositiveInt, Field(multiple_of=2)]
OddKernel = Literal[1, 3, 5, 7]
MAX_DEPTH = 256  # layers of a kind: a model is built before its weights can contradict its configuration


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Sparse(Record):
    """A record that is written without what is None, so that fields may join it and older records keep their hashes."""

    @model_serializer(mode="wrap")
    def _without_none(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if value is not None}


R = TypeVar("R", bound=Record)


def one_of(kinds: tuple[type[Record], ...]) -> Any:
    """The type of a field that holds one of these records: its key `kind` tells which."""
    return Annotated[reduce(or_, kinds), Field(discriminator="kind")]


def read_toml(path: Path, missing: str) -> dict[str, Any]:
    """What a TOML file says; UsageError in one line if it cannot be read, with `missing` if it is not there."""
    import tomllib  # here: weights bring their configuration along

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: {missing}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give a TOML file") from None
    except ValueError as error:  # of the syntax, or of the encoding
        raise UsageError(f"{path}: not a TOML file ({error})") from None


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
