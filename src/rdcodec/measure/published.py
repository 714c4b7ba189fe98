"""Figures that others published: Table 1 of the paper, and what the decoders behind the built-in curves cost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

TABLE_1 = Path(__file__).parent / "paper" / "table1.json"
DECODERS = Path(__file__).parent / "curves" / "decoders.json"


@dataclass(frozen=True)
class Published:
    """A row of Table 1: millions of parameters, kFLOPs/px of the decoder, percent of rate against BPG's on Kodak.

    decode_mpx_per_s: by pictures ("kodak", "clic") and GPU ("V100", "A100").
    with_analysis: whether our configuration meets the parameters with its analysis transform, or without it.
    """

    row: str
    parameters_m: float
    kflops_per_px: float
    relative_rate_percent: float
    decode_mpx_per_s: Mapping[str, Mapping[str, float]]
    with_analysis: bool


@cache
def table_1() -> dict[str, Published]:
    """The rows by name of the configuration that stands for them; two stand for A, and two for G."""
    data = json.loads(TABLE_1.read_text(encoding="utf-8"))
    return {
        name: Published(reading["row"], **data["rows"][reading["row"]], with_analysis=reading["with_analysis"])
        for name, reading in data["readings"].items()
    }


@dataclass(frozen=True)
class Decoder:
    """What the networks of a codec cost: kFLOPs/px (2 a multiply-add) and millions of parameters; None: not known.

    curve: of the built-in curves on Kodak, None where there is none; then bd_rate has `percent` against the curve
    `anchor`. encoder_kflops_per_px: of all that an encoder runs. basis: "published", or "counted here" from the shapes
    of its layers. one_optimisation_per_picture: the encoder trains for each picture.
    """

    curve: str | None
    label: str
    kflops_per_px: float
    encoder_kflops_per_px: float | None
    parameters_m: float | None
    one_optimisation_per_picture: bool
    training: str
    basis: str
    source: str
    note: str = ""
    bd_rate: Mapping[str, float | str] = field(default_factory=dict)


@cache
def decoders() -> tuple[Decoder, ...]:
    """Codecs of others with what they cost, each with its source."""
    return tuple(Decoder(**record) for record in json.loads(DECODERS.read_text(encoding="utf-8"))["codecs"])
