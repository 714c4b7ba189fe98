"""Table 1 of the paper, and which of our configurations stands for which of its rows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE_1 = Path(__file__).parent / "paper" / "table1.json"


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
