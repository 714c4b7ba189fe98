"""What a network is in words, for the diagrams of models."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Box:
    """A network, or with no lines what flows between networks; part: what it counts as, or "data"."""

    title: str
    lines: tuple[str, ...]
    below: str  # resolution and channels of what comes out
    part: str
    copies: bool = False  # drawn as a stack: one for each slice


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural if need be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def numbers(value: Any) -> str:
    """A value of a configuration in words."""
    if isinstance(value, dict):
        return " ".join(f"{key} {numbers(inner)}" for key, inner in value.items())
    return " ".join(map(numbers, value)) if isinstance(value, tuple | list) else str(value)
