"""How speeds were measured: machines, engines and threads, and the paper's devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rdcodec.measure.machine import processor_name
from rdcodec.measure.published import table_1
from rdcodec.report.standings import kflops_per_px
from rdcodec.report.study import PAPER, Laboratory
from rdcodec.store.records import Result

FEWEST = 3  # models that have an order


@dataclass(frozen=True)
class Series:
    """Decode times of several models in one way: milliseconds per megapixel, and kFLOPs/px of the decoder."""

    name: str
    pictures: str
    by: str
    times: Mapping[str, float]
    flops: Mapping[str, float]

    def order(self, models: Sequence[str]) -> list[float]:
        """Times of some of its models."""
        return [self.times[model] for model in models]


def our_series(laboratory: Laboratory) -> list[Series]:
    """What the store holds of each machine and way that has at least `FEWEST` models.

    Of several measurements of a way on pictures of one size, the one of most models: networks alone or within whole
    files, this or that picture.
    """
    groups: dict[tuple[str, str], dict[object, list[Result]]] = {}
    for speed in laboratory.comparable_speeds:
        if speed.values.get("decode_networks_mpx_per_s") and kflops_per_px(laboratory, speed.codec):
            pictures = "clic" if speed.dataset.lower().startswith("clic") else "kodak"
            runs = groups.setdefault((manner(speed, laboratory.speeds), pictures), {})
            runs.setdefault((speed.dataset, speed.values.get("coded")), []).append(speed)
    found = []
    for (name, pictures), runs in groups.items():
        speeds = max(runs.values(), key=lambda run: len({speed.codec for speed in run}))
        times = {s.codec: 1000 / float(s.values["decode_networks_mpx_per_s"] or 1) for s in speeds}
        flops = {s.codec: _flops(s, laboratory) for s in speeds}
        if len(times) >= FEWEST:
            found.append(Series(name, pictures, "rdcodec", times, flops))
    return found


def _flops(speed: Result, laboratory: Laboratory) -> float:
    """What the decoder that was timed computes; a count is of the newest weights."""
    return float(speed.values.get("kflops_per_px") or kflops_per_px(laboratory, speed.codec) or 0)


def paper_series() -> list[Series]:
    """The columns of Table 1."""
    rows = {published.row: published for published in table_1().values()}
    devices = {pictures: list(speeds) for pictures, speeds in next(iter(rows.values())).decode_mpx_per_s.items()}
    return [
        Series(
            device,
            pictures,
            PAPER,
            {letter: 1000 / row.decode_mpx_per_s[pictures][device] for letter, row in rows.items()},
            {letter: row.kflops_per_px for letter, row in rows.items()},
        )
        for pictures, names in devices.items()
        for device in names
    ]


def way(speed: Result, among: Sequence[Result]) -> str:
    """How a speed was measured, in words; the processor is named where there are several."""
    return ", ".join(part for part in (manner(speed, among), speed.dataset) if part)


def manner(speed: Result, among: Sequence[Result]) -> str:
    """`way` without the pictures."""
    values, machine = speed.values, speed.provenance.machine
    threads = values.get("threads")
    device = values.get("device") or "cpu"
    if device == "cpu":
        processors = {(_processor(r), r.values.get("device")) for r in among}
        device = _processor(speed) if len(processors) > 1 and machine.get("cpu") else "CPU"
        device += f", {threads} thread{'s' * (threads != 1)}" if threads else ""
    kernels = values.get("kernels")  # results of before the core lack it
    dtype = values.get("dtype")  # other codecs have none
    engine = f"core {kernels}" if kernels else dtype and f"torch {dtype}"
    parts = (device, engine, values.get("isa"))
    return ", ".join(str(part) for part in parts if part)


def _processor(speed: Result) -> str:
    cpu, isa = (speed.provenance.machine.get(key) for key in ("cpu", "isa"))
    return processor_name(str(cpu or ""), isa if isinstance(isa, list) else ())
