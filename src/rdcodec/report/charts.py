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
Box = tuple[float, float, float, float]
PLACES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (2, 2), (-2, 2), (2, -2), (-2, -2))
"""Where a name may stand beside its point, the best first; from `FAR` on, a line leads to it."""
FAR = 8


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


def label_points(
    axes: "Axes", points: Sequence[tuple[float, float, str, bool]], avoid: Sequence[tuple[float, float]] = ()
) -> None:
    """Names beside their points, where they meet fewest others; the limits of the axes must be set before.

    points: x, y, name, and whether it is another's: those are thin, ours bold. avoid: what else is drawn.
    """
    from matplotlib.patheffects import withStroke

    scale = 72 / axes.figure.dpi
    at = [axes.transData.transform((x, y)) * scale for x, y, _, _ in points]
    frame = [edge * scale for edge in axes.bbox.extents]
    drawn = [*at, *(axes.transData.transform(place) * scale for place in avoid)]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in drawn]
    for (x, y), (*place, name, others) in sorted(zip(at, points, strict=True), key=lambda item: item[1][3]):
        size = 7.5 if others else 9
        width, height = 0.56 * size * len(name), 1.1 * size
        boxes = [_label_box(x, y, dx, dy, width, height) for dx, dy in PLACES]
        worst = [sum(_overlap(box, other) for other in taken) + 9 * _outside(box, frame) for box in boxes]
        index = min(range(len(PLACES)), key=lambda i: (worst[i], i))
        left, low, right, high = boxes[index]
        taken.append(boxes[index])
        middle = ((left + right) / 2 - x, (low + high) / 2 - y)
        axes.annotate(
            name,
            (place[0], place[1]),
            middle,
            textcoords="offset points",
            ha="center",
            va="center",
            color=TEXT,
            fontsize=size,
            fontweight="normal" if others else "bold",
            path_effects=[withStroke(linewidth=2.0, foreground="white")],  # lines run through the names
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkB": 4}
            if index >= FAR
            else None,
        )


def _label_box(x: float, y: float, dx: float, dy: float, width: float, height: float) -> Box:
    """Of a name beside (x, y) in the direction dx, dy, in points of 1/72 inch."""
    distance = 4 + 3 * max(abs(dx), abs(dy)) ** 2
    left = x + (distance if dx > 0 else -distance - width if dx < 0 else -width / 2)
    low = y + (distance if dy > 0 else -distance - height if dy < 0 else -height / 2)
    return left, low, left + width, low + height


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box, frame: Sequence[float]) -> float:
    """Area of a box that is not within the frame."""
    whole = (box[2] - box[0]) * (box[3] - box[1])
    return whole - _overlap(box, (frame[0], frame[1], frame[2], frame[3]))


def plain_log_axis(axes: "Axes", values: Sequence[float], vertical: bool = False) -> None:
    """Ticks at 1, 2 and 5, over many decades at 1, with plain numbers, and room at both ends."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis = axes.yaxis if vertical else axes.xaxis
    room = 1.35 if max(values) > 3 * min(values) else 4.0  # at least a decade, so that there are ticks
    low, high = min(values) / room, max(values) * room
    (axes.set_ylim if vertical else axes.set_xlim)(low, high)
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    digits = (1, 2, 5) if len(powers) <= 5 else (1,)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_locator(NullLocator())
