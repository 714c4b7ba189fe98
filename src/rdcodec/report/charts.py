"""What a figure is: its data and how it is drawn, and what the drawings share."""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.measure.bdrate import Curve
from rdcodec.report.plots import COLOURS, LABEL_GAP, MARKERS, TEXT, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES = 80
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Chart:
    """A figure, its data, and what there is to say of it. stem: of its files; note: Markdown."""

    stem: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    draw: Callable[[Sequence[Row]], "Figure"]
    note: str = ""

    def figure(self) -> "Figure":
        """The figure, drawn from the rows and nothing else."""
        return self.draw(self.rows)

    def data(self) -> str:
        """The rows as CSV; empty: unknown, or none."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if row[key] is None else row[key] for key in self.columns} for row in self.rows)
        return out.getvalue()


@dataclass(frozen=True)
class Missing:
    """A figure without data, and the command that brings some."""

    title: str
    reason: str


def rounded(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Six digits, in the file as in the figure."""
    return tuple({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def points_of(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.bpp, curve.psnr_db, strict=True))


def names_of(rows: Iterable[Row], role: str) -> list[str]:
    return list(dict.fromkeys(row["curve"] for row in rows if row["role"] == role))


def looks() -> Iterable[tuple[str, str]]:
    """Colours with markers; with five and seven of them, 35 differ."""
    colours = [c for c in COLOURS if c != "#000000"] + ["#000000"]
    return zip(itertools.cycle(colours), itertools.cycle(MARKERS), strict=False)


def eval_hint() -> str:
    return "`rdc eval MODEL --data DIR -o FILE` measures one"


def new_axes() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.4))
    return figure, figure.subplots()


def name_levels(axes: "Axes", levels: Sequence[tuple[float, str]]) -> None:
    """Names of level lines in the right margin, moved apart where the lines lie close."""
    low, high = axes.get_ylim()
    ordered = sorted(levels)
    heights = spread([(level - low) / (high - low) for level, _ in ordered], LABEL_GAP, top=1.0)
    for height, (_, name) in zip(heights, ordered, strict=True):
        place = {"xycoords": "axes fraction", "va": "center", "annotation_clip": False}
        axes.annotate(name, (1.01, height), color=TEXT, fontsize=8, **place)  # type: ignore[arg-type]


def label_points(axes: "Axes", points: Sequence[tuple[float, float, str, bool]]) -> None:
    """Names beside their points: the paper's above, ours below."""
    from matplotlib.patheffects import withStroke

    for x, y, name, above in points:
        axes.annotate(
            name,
            (x, y),
            (0, 7 if above else -15),
            textcoords="offset points",
            ha="center",
            color=TEXT,
            fontsize=9,
            fontweight="normal" if above else "bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # lines run through the names of close points
        )


def plain_log_axis(axes: "Axes", values: Sequence[float], vertical: bool = False) -> None:
    """Ticks at 1, 2 and 5 with plain numbers, and room at both ends."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.yaxis if vertical else axes.xaxis
    room = 1.35 if max(values) > 3 * min(values) else 4.0  # at least a decade, so that there are ticks
    low, high = min(values) / room, max(values) * room
    (axes.set_ylim if vertical else axes.set_xlim)(low, high)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
