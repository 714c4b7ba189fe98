"""What a model and the parts of its decoder compute, as records; `flops.py` counts it, with torch.

The counts of the packaged configurations are in `data/counts.json`, which `scripts/counts.py` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdcodec.models.config import config_sha256

if TYPE_CHECKING:
    from rdcodec.models.config import ModelConfig

COUNTS = Path(__file__).parents[1] / "data" / "counts.json"


@dataclass(frozen=True)
class PartCost:
    """Computation of one part of a network on one image of `pixels` true pixels."""

    name: str
    pixels: int
    macs: int
    biases: int
    products: int
    elementwise: int

    @property
    def flops(self) -> int:
        """The headline: 2 per multiply-accumulate, 1 per bias, 1 per product of two activations."""
        return 2 * self.macs + self.biases + self.products

    @property
    def kflops_per_px(self) -> float:
        """Headline in thousands per pixel."""
        return self.flops / self.pixels / 1000

    @property
    def kmacs_per_px(self) -> float:
        """Multiply-accumulates in thousands per pixel; twice this is the pure 2 x MAC figure."""
        return self.macs / self.pixels / 1000

    @property
    def elementwise_per_px(self) -> float:
        """Elementwise operations outside the headline, per pixel (not thousands)."""
        return self.elementwise / self.pixels


@dataclass(frozen=True)
class ModelCount:
    """A configuration's parameters, those of its analysis among them, and its decoder's parts on a 768x512 picture."""

    parameters: int
    analysis_parameters: int
    parts: tuple[PartCost, ...]

    @property
    def kflops_per_px(self) -> float:
        """Headline figure of the decoder."""
        return total(self.parts).kflops_per_px


def total(costs: Iterable[PartCost], name: str = "total") -> PartCost:
    """Sum of the parts of one image. Raises ValueError for none, or for different images."""
    costs = list(costs)
    if len({cost.pixels for cost in costs}) != 1:
        raise ValueError("a total needs parts of one and the same image")
    return PartCost(
        name,
        costs[0].pixels,
        macs=sum(cost.macs for cost in costs),
        biases=sum(cost.biases for cost in costs),
        products=sum(cost.products for cost in costs),
        elementwise=sum(cost.elementwise for cost in costs),
    )


@cache
def count_model(config: ModelConfig) -> ModelCount:
    """From the package where it has the configuration, otherwise counted once in a process, which takes seconds.

    Raises UncountedOpError, and ModuleNotFoundError where it has to be counted and torch is missing.
    """
    found = packaged_counts().get(config_sha256(config))
    if found is not None:
        return found
    from rdcodec.measure.flops import count_config

    return count_config(config)


@cache
def packaged_counts() -> dict[str, ModelCount]:
    """By SHA-256 of the configuration."""
    records: list[dict[str, Any]] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return {
        record["config_sha256"]: ModelCount(
            record["parameters"],
            record["analysis_parameters"],
            tuple(PartCost(**part) for part in record["parts"]),
        )
        for record in records
    }
