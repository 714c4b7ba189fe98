"""A model is one TOML file, and this record what it may say. The kinds of its parts: `kinds.py` of their rooms."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, model_validator

from rdcodec.models.entropy.kinds import Entropy
from rdcodec.models.records import Record, parse_record, read_toml
from rdcodec.models.transforms.kinds import Transform


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
        m = self.latent_channels
        transforms = self.analysis.problem("analysis", m) or self.synthesis.problem("synthesis", m)
        if problem := transforms or self.entropy.problem(m):
            raise ValueError(problem)
        parts = (self.analysis, self.synthesis, self.entropy)
        following = sorted({part.kind for part in parts if part.follows_quality})
        if self.lmbda is not None and following:
            raise ValueError(f"lmbda makes a model of one rate, but {' and '.join(following)} parts follow quality")
        return self


def config_sha256(config: ModelConfig | Mapping[str, Any]) -> str:
    """Of a configuration, or of its record as JSON gave it back, hexadecimal; the order of keys plays no part."""
    record = config.model_dump(mode="json", warnings=False) if isinstance(config, ModelConfig) else config
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


CONFIGS = Path(__file__).parent / "configs"


def family_of(config: ModelConfig) -> str:
    """What kind of model it is, in words: "ELIC + CHARM, SwinT hyper"."""
    kinds = " + ".join(part.word or part.kind for part in (config.synthesis, config.entropy))
    return f"{kinds}, {config.entropy.hyper_word}" if config.entropy.hyper_word else kinds


def config_names() -> list[str]:
    """Names of the models whose configuration is part of the package, in the order of their groups."""
    return sorted((path.stem for path in CONFIGS.glob("*.toml")), key=lambda name: (name_group(name), name))


def name_group(name: str) -> int:
    """0 for A to J, 1 for other readings of the paper's rows (A-whole), 2 for published models (elic)."""
    if name[0].islower():
        return 2
    return int(len(name) > 1)


def load_config(path: Path) -> ModelConfig:
    """Read one model configuration; UsageError names the key that is unknown or of the wrong kind."""
    return parse_record(ModelConfig, read_toml(path, "no such configuration"), str(path))
