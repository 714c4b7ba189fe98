"""Time against computation, on our machines and the paper's: Fig. 4 of the paper."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rdcodec.measure.machine import processor_name
from rdcodec.measure.published import table_1
from rdcodec.measure.ranking import inversions, kendall_tau, ranks
from rdcodec.report.charts import Chart, Missing, Row, looks, plain_log_axis, rounded
from rdcodec.report.plots import DASHES, TEXT
from rdcodec.report.standings import kflops_per_px
from rdcodec.report.study import PAPER, Laboratory
from rdcodec.store.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 3  # models that have an order
PANELS = {"kodak": "Kodak, or one picture of that size", "clic": "CLIC"}
PICTURES = {"kodak": "Kodak's size", "clic": "CLIC"}
RANKED_BY = "A100"  # the device whose order the last panel holds the others against
BESIDE = 0.13  # of a rank, between the marks of two series


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


def time_by_flops(laboratory: Laboratory) -> Chart | Missing:
    """Fig. 4 of the paper: decode time against FLOPs for every way of running, and rank against rank."""
    title = "Decode time against computation (Fig. 4 of the paper)"
    ours = our_series(laboratory)
    if not ours:
        how = "`rdc bench A B C D E F G --store DB` does it, or `-o FILE` and `rdc results import FILE`"
        return Missing(title, f"needs three models timed in one way: {how}.")
    rows: list[Row] = []
    lines = [
        "Left and centre: decode time of the networks; ours is without entropy coding. Right: the order by time on the "
        f"paper's {RANKED_BY} and on other devices; a mark off the line has another rank. Our times and the paper's "
        "come from different weights and software, and our A to G are reconstructed from its table: compare orders, "
        "not times.\n"
    ]
    found = [*ours, *paper_series()]
    for series in found:
        models = list(series.times)
        flops, times = [series.flops[model] for model in models], series.order(models)
        figures = zip(models, flops, times, ranks(flops), ranks(times), strict=True)
        keys = ("codec", "kflops_per_px", "decode_ms_per_mpx", "flops_rank", "time_rank")
        head = {"pictures": series.pictures, "series": series.name, "by": series.by}
        rows += [{**head, **dict(zip(keys, row, strict=True))} for row in figures]
        tau = kendall_tau(flops, times)
        pairs = [f"{more} before {less}" for more, less in inversions(models, flops, times)]
        words = f"more FLOPs and yet faster: {', '.join(pairs)}" if pairs else "no model with more FLOPs is faster"
        lines.append(f"- {_where(series)}: Kendall tau of FLOPs and time {tau:.2f}, {len(models)} models; {words}.")
    lines += _agreements(found)
    columns = ("pictures", "series", "by", "codec", "kflops_per_px", "decode_ms_per_mpx", "flops_rank", "time_rank")
    return Chart("time-flops", title, columns, rounded(rows), time_figure, "\n".join(lines))


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
        flops = {s.codec: kflops_per_px(laboratory, s.codec) or 0.0 for s in speeds}
        if len(times) >= FEWEST:
            found.append(Series(name, pictures, "rdcodec", times, flops))
    return found


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


def time_figure(rows: Sequence[Row]) -> "Figure":
    """Time over FLOPs for each set of pictures, and rank over rank; equal order would be the diagonal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 4.4), layout="constrained")
    panels = figure.subplots(1, len(PANELS) + 1)
    styles = dict(zip(dict.fromkeys(_style(row) for row in rows), looks(), strict=False))
    for axes, (pictures, title) in zip(panels, PANELS.items(), strict=False):
        _times(axes, [row for row in rows if row["pictures"] == pictures], styles)
        axes.set_title(title, loc="left", fontsize=9)
    panels[0].set(ylabel="decode time (ms per megapixel, log scale)")
    _ranks(panels[-1], [row for row in rows if row["pictures"] == "kodak"], styles)
    for (name, by), (colour, marker) in styles.items():
        face = "white" if by == PAPER else colour
        label = f"{name}, the paper" if by == PAPER else name
        panels[0].plot([], [], marker, color=colour, markerfacecolor=face, label=label)
    figure.legend(loc="outside lower center", frameon=False, ncols=3)
    return figure


def _style(row: Row) -> tuple[str, str]:
    return row["series"], row["by"]


def _times(axes: "Axes", rows: Sequence[Row], styles: Mapping[tuple[str, str], tuple[str, str]]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="decoder (kFLOPs per pixel, log scale)")
    for key in dict.fromkeys(_style(row) for row in rows):
        colour, marker = styles[key]
        points = [row for row in rows if _style(row) == key]
        face = "white" if key[1] == PAPER else colour
        xy = ([p["kflops_per_px"] for p in points], [p["decode_ms_per_mpx"] for p in points])
        axes.plot(*xy, marker, color=colour, markerfacecolor=face, markersize=6)
    tallest = {row["codec"]: max((r for r in rows if r["codec"] == row["codec"]), key=_time) for row in rows}
    for codec, row in tallest.items():
        place = (row["kflops_per_px"], row["decode_ms_per_mpx"])
        axes.annotate(codec, place, (0, 7), textcoords="offset points", ha="center", color=TEXT, fontsize=8)
    plain_log_axis(axes, [row["kflops_per_px"] for row in rows])
    plain_log_axis(axes, [row["decode_ms_per_mpx"] for row in rows], vertical=True)


def _ranks(axes: "Axes", rows: Sequence[Row], styles: Mapping[tuple[str, str], tuple[str, str]]) -> None:
    """Rank on other devices over the rank on `RANKED_BY`, among the models that both have; marks beside each other."""
    base = {row["codec"]: row["decode_ms_per_mpx"] for row in rows if _style(row) == (RANKED_BY, PAPER)}
    names = sorted(base, key=lambda codec: base[codec])
    axes.plot([1, len(names)], [1, len(names)], color="#777777", linewidth=1.0, linestyle=DASHES[1], zorder=1)
    keys = [key for key in dict.fromkeys(_style(row) for row in rows) if key != (RANKED_BY, PAPER)]
    for index, key in enumerate(keys):
        times = {row["codec"]: row["decode_ms_per_mpx"] for row in rows if _style(row) == key and row["codec"] in base}
        if len(times) < FEWEST:
            continue
        colour, marker = styles[key]
        shift = BESIDE * (index - (len(keys) - 1) / 2)
        x = [rank + shift for rank in ranks([base[codec] for codec in times])]
        face = "white" if key[1] == PAPER else colour
        axes.plot(x, ranks(list(times.values())), marker, color=colour, markerfacecolor=face, markersize=6)
    axes.set_xticks(range(1, len(names) + 1), names)
    axes.set_yticks(range(1, len(names) + 1))
    axes.set(xlabel=f"models, fastest first on the paper's {RANKED_BY}", ylabel="rank by time")
    axes.set_title("Order on another device", loc="left", fontsize=9)


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
    parts = (device, f"core {kernels}" if kernels else values.get("dtype"), values.get("isa"))
    return ", ".join(str(part) for part in parts if part)


def _processor(speed: Result) -> str:
    cpu, isa = (speed.provenance.machine.get(key) for key in ("cpu", "isa"))
    return processor_name(str(cpu or ""), isa if isinstance(isa, list) else ())


def _where(series: Series) -> str:
    paper = ", the paper" if series.by == PAPER else ""
    return f"{series.name}{paper}, {PICTURES[series.pictures]}"


def _agreements(found: Sequence[Series]) -> list[str]:
    """A line for every two ways of measuring that order models differently, and one that counts those that agree."""
    lines, alike = [], 0
    for one, other in itertools.combinations(found, 2):
        models = [model for model in one.times if model in other.times]
        if one.pictures != other.pictures or len(models) < FEWEST:
            continue
        first, second = one.order(models), other.order(models)
        turned = [f"{more} and {less}" for more, less in inversions(models, first, second)]
        where, tau = f"{_where(one)} and {_where(other)}", kendall_tau(first, second)
        words = f"Kendall tau of the times {tau:.2f}, {len(models)} models; in the other order: {', '.join(turned)}"
        lines += [f"- {where}: {words}."] * bool(turned)
        alike += not turned
    return [*lines, *[f"- Pairs of these series that order their common models alike: {alike}."] * bool(alike)]


def _time(row: Row) -> float:
    return float(row["decode_ms_per_mpx"])
