"""What the store keeps: results, each with where it comes from. Standard library only.

A result is one figure or one small family of figures that were measured together: a codec at one setting on one set
of pictures, a model's speed on one machine, a model's operations, a training run. `values` holds them by name, units
in the names; `rows` holds the finer table beside them (a row per picture, or per part of a network).

    kind       values                                                          rows
    quality    bpp, the metrics of `metrics.METRICS`, enc_s, dec_s              per picture
               of a trial of a sweep: estimated (true), family (words)
    speed      device, engine, kernels, dtype, threads, isa, encode_s, decode_s, encode_mpx_per_s, decode_mpx_per_s,
               decode_networks_mpx_per_s (without entropy coding), peak_memory_mib,
               gflop_per_s, roofline_share                                     per part: part, seconds, low_s, high_s
    count      parameters, parameters_without_analysis, training_flops_per_px (forward and backward),
               kflops_per_px, kmacs_per_px, elementwise_per_px
                                                                               per part
    training   eflop (with that of the start), own_eflop, steps, images, seconds, loss
                                                                               per validation
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal["quality", "speed", "count", "training"]
KINDS: tuple[str, ...] = get_args(Kind)
Value = float | int | str | bool | None


@dataclass(frozen=True)
class Provenance:
    """Where a result comes from. None: it does not apply, or was not recorded (published curves).

    source: who measured; "rdcodec" for this program, else where the figure was published.
    command: as it can be typed again. machine: the record of `measure.machine`.
    *_sha256: hexadecimal; of the pictures, of the model's configuration, of its weights file.
    """

    source: str
    created_utc: str | None = None
    command: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    package: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    dataset_sha256: str | None = None
    config_sha256: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Result:
    """One result. codec: name for figures ("I", "jpeg"); tag: what exactly ran ("I.1", a version string).

    dataset: name of the set of pictures, "" where none was needed. setting: the codec's own scale, None where it has
    a single rate, or where a setting has no meaning.
    """

    kind: Kind
    codec: str
    tag: str
    values: Mapping[str, Value]
    provenance: Provenance
    dataset: str = ""
    setting: float | None = None
    rows: tuple[Mapping[str, Value], ...] = ()

    def __post_init__(self) -> None:
        if self.setting is not None:  # one form of a number, so that 50 and 50.0 have one id
            object.__setattr__(self, "setting", float(self.setting))

    def to_dict(self) -> dict[str, Any]:
        """JSON types only, as the store and its JSON files keep it."""
        record = vars(self) | {"values": dict(self.values), "rows": [dict(row) for row in self.rows]}
        record["provenance"] = vars(self.provenance) | {"machine": dict(self.provenance.machine)}
        return record

    @property
    def id(self) -> str:
        """SHA-256 over the content: the same result has the same id wherever it is imported."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
