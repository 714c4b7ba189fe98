"""Time against computation, on our machines and the paper's: Fig. 4 of the paper."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.measure.ranking import ranks
from rdcodec.report.charts import Chart, Missing, Row, plain_log_axis, rounded
from rdcodec.report.devices import FEWEST, our_series, paper_series
from rdcodec.report.orders import agreements, flops_table, paper_table, speed_tables
from rdcodec.report.plots import COLOURS, MARKERS, TEXT
from rdcodec.report.study import PAPER, Laboratory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = {"kodak": "Kodak, or one picture of that size", "clic": "CLIC"}
RANKED_BY = "A100"  # the device whose order the last panel holds the others against
THREADS = re.compile(r", \d+ threads?")
COLOURED = [colour for colour in COLOURS if colour != "#000000"]  # black is the paper's
COLUMN = 0.8  # of the space between two models, for the marks of all series
NOTE = (
    "Left and centre: decode time of the networks; ours is without entropy coding. Right: the order by time on Kodak. "
    f"A bar is the rank of a model on the paper's {RANKED_BY}; a mark off its bar has another rank on that device. Our "
    "times and the paper's come from different weights and software, and our A to G are reconstructed from its table: "
    "compare orders, not times.\n\n"
    "Kendall's tau is 1 if two orders agree and 0 if they are unrelated. Three models are too few to say much."
)


def time_by_flops(laboratory: Laboratory) -> Chart | Missing:
    """Fig. 4 of the paper: decode time against FLOPs for every way of running, and rank against rank."""
    title = "Decode time against computation (Fig. 4 of the paper)"
    ours = our_series(laboratory)
    if not ours:
        how = "`rdc bench A B C D E F G --store DB` does it, or `-o FILE` and `rdc results import FILE`"
        return Missing(title, f"needs three models timed in one way: {how}.")
    ours = sorted(ours, key=lambda series: (list(PANELS).index(series.pictures), series.name))
    found = [*ours, *paper_series()]
    rows: list[Row] = []
    for series in found:
        models = list(series.times)
        flops, times = [series.flops[model] for model in models], series.order(models)
        figures = zip(models, flops, times, ranks(flops), ranks(times), strict=True)
        keys = ("codec", "kflops_per_px", "decode_ms_per_mpx", "flops_rank", "time_rank")
        head = {"pictures": series.pictures, "series": series.name, "by": series.by}
        rows += [{**head, **dict(zip(keys, row, strict=True))} for row in figures]
    columns = ("pictures", "series", "by", "codec", "kflops_per_px", "decode_ms_per_mpx", "flops_rank", "time_rank")
    note = "\n\n".join((NOTE, flops_table(found), paper_table(found), *agreements(ours), *speed_tables(laboratory)))
    return Chart("time-flops", title, columns, rounded(rows), time_figure, note)


def time_figure(rows: Sequence[Row]) -> "Figure":
    """Time over FLOPs for each set of pictures, and the ranks of models on all devices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 4.6), layout="constrained")
    panels = figure.subplots(1, len(PANELS) + 1)
    styles = _styles(rows)
    for axes, (pictures, title) in zip(panels, PANELS.items(), strict=False):
        _times(axes, [row for row in rows if row["pictures"] == pictures], styles)
        axes.set_title(title, loc="left", fontsize=9)
    panels[0].set(ylabel="decode time (ms per megapixel, log scale)")
    _ranks(panels[-1], [row for row in rows if row["pictures"] == "kodak"], styles)
    for (name, by), look in styles.items():
        panels[0].plot([], [], label=f"{name}, the paper" if by == PAPER else name, **look)
    figure.legend(loc="outside lower center", frameon=False, ncols=3)
    return figure


def _style(row: Row) -> tuple[str, str]:
    return row["series"], row["by"]


def _styles(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, Any]]:
    """How each series is drawn: a colour for each machine and engine, a marker for each number of threads.

    The paper's are hollow.
    """
    keys = list(dict.fromkeys(_style(row) for row in rows))
    plain = {name: THREADS.sub("", name) for name, by in keys if by != PAPER}
    colours = dict(zip(dict.fromkeys(plain.values()), itertools.cycle(COLOURED), strict=False))
    counts = {name: "".join(THREADS.findall(name)) for name in plain}
    markers = dict(zip(sorted(set(counts.values())), itertools.cycle(MARKERS[:3]), strict=False))
    hollow = itertools.cycle(MARKERS[3:])
    looks: dict[tuple[str, str], dict[str, Any]] = {}
    for name, by in keys:
        look = {"linestyle": "none", "markersize": 6, "markeredgewidth": 0.6, "markeredgecolor": "white"}
        if by == PAPER:
            look |= {"marker": next(hollow), "color": "#000000", "markeredgecolor": "#000000"}
            look |= {"markerfacecolor": "white", "markeredgewidth": 1.0}
        else:
            look |= {"marker": markers[counts[name]], "color": colours[plain[name]]}
        looks[name, by] = look
    return looks


def _times(axes: "Axes", rows: Sequence[Row], styles: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    axes.set(xscale="log", yscale="log", xlabel="decoder (kFLOPs per pixel, log scale)")
    for key in dict.fromkeys(_style(row) for row in rows):
        points = [row for row in rows if _style(row) == key]
        axes.plot([p["kflops_per_px"] for p in points], [p["decode_ms_per_mpx"] for p in points], **styles[key])
    plain_log_axis(axes, [row["kflops_per_px"] for row in rows])
    plain_log_axis(axes, [row["decode_ms_per_mpx"] for row in rows], vertical=True)
    tallest = {row["codec"]: max((r for r in rows if r["codec"] == row["codec"]), key=_time) for row in rows}
    for codec, row in tallest.items():
        place = (row["kflops_per_px"], row["decode_ms_per_mpx"])
        axes.annotate(codec, place, (0, 7), textcoords="offset points", ha="center", color=TEXT, fontsize=8)


def _ranks(axes: "Axes", rows: Sequence[Row], styles: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
    """Rank on other devices beside the rank on `RANKED_BY`, among the models that both have."""
    base = {row["codec"]: row["decode_ms_per_mpx"] for row in rows if _style(row) == (RANKED_BY, PAPER)}
    names = sorted(base, key=lambda codec: base[codec])
    places = {name: rank for rank, name in enumerate(names, start=1)}
    for place in places.values():
        axes.plot([place - COLUMN / 2, place + COLUMN / 2], [place, place], color="#cccccc", linewidth=9, zorder=1)
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["codec"] in base and _style(row) != (RANKED_BY, PAPER):
            found.setdefault(_style(row), {})[row["codec"]] = row["decode_ms_per_mpx"]
    drawn = {key: times for key, times in found.items() if len(times) >= FEWEST}
    for index, (key, times) in enumerate(drawn.items()):
        shift = COLUMN * ((index + 0.5) / len(drawn) - 0.5)
        bars = sorted(places[codec] for codec in times)  # a device that lacks models is ranked among its own
        heights = np.interp(ranks(list(times.values())), range(1, len(bars) + 1), bars)
        axes.plot([places[codec] + shift for codec in times], heights, **styles[key])
    axes.set_xticks(range(1, len(names) + 1), names)
    axes.set_yticks(range(1, len(names) + 1))
    axes.grid(visible=False, axis="x")
    axes.set(xlabel=f"models, fastest first on the paper's {RANKED_BY}", ylabel="rank by time, 1 is the fastest")
    axes.set_title("Order on other devices, Kodak", loc="left", fontsize=9)


def _time(row: Row) -> float:
    return float(row["decode_ms_per_mpx"])
