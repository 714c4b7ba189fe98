"""How figures look, and the figure of rate and distortion. `charts.py` has those of the paper."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.errors import NeedsModel, UsageError
from rdcodec.measure.bdrate import Array, Curve, bd_rate, pchip
from rdcodec.report.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers, but their yellow, too pale for lines on white:
# vermillion, black, blue, bluish green, orange, reddish purple, sky blue; and grey. Results come first, then anchors.
COLOURS = ("#D55E00", "#000000", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#888888")
MARKERS = ("o", "s", "D", "^", "v")
DASHES: tuple[Any, ...] = (
    *("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2))),
    *((0, (6, 2, 1.5, 2, 1.5, 2)), (0, (4, 4)), (0, (1.5, 4)), (0, (9, 2, 1.5, 2))),
)
TEXT = "#333333"
STYLE = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "svg.hashsalt": "rdcodec",  # the same figure is the same file
}
FORMATS: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 200}}
NEAR = 0.85  # of the largest rate: ends beyond it can be named in the margin
MOST_BESIDE = 11  # more names than these would stand far from their ends
MOST_TRIALS = 6  # of a sweep in the figure of rate and distortion, before it shows the best and the worst
LABEL_GAP = 0.055  # of the height of the axes, between the middles of two labels


@dataclass(frozen=True)
class End:
    """Where a curve leaves the axes, the label it gets, and how it is drawn."""

    label: str
    bpp: float
    psnr_db: float
    style: Mapping[str, Any]


def rd_figure(study: Study) -> "Figure":
    """Rate and distortion: results bold with their measured points, anchors thin, named at their ends.

    The rates shown are those of the results. Between points a curve is what BD-rate takes it for: PCHIP.
    """
    from matplotlib.figure import Figure

    results = [result.curve for result in study.shown]
    results, others = _best_and_worst(results) if study.estimated and len(results) > MOST_TRIALS else (results, [])
    most = 1.03 * max(curve.bpp[-1] for curve in results)
    least_db = min(curve.psnr_db[0] for curve in results) - 1
    figure = Figure(figsize=(7.0, 4.4))
    axes = figure.subplots()
    ends: list[End] = []
    for index, curve in enumerate(others):
        label = f"{len(others)} trials between them" if not index else None
        style: dict[str, Any] = {"color": "#bbbbbb", "linewidth": 1.0}
        bpp, psnr_db = smooth(curve, most, least_db)
        axes.plot(bpp, psnr_db, **style, zorder=1)
        if label:
            ends.append(End(label, bpp[-1], psnr_db[-1], style))
    for curve, style in styled(results, study.anchors):
        bpp, psnr_db = smooth(curve, most, least_db)
        if not len(bpp):
            continue
        axes.plot(bpp, psnr_db, **{**style, "marker": None})
        if "marker" in style:
            axes.plot(curve.bpp, curve.psnr_db, **{**style, "linestyle": "none"})
        ends.append(End(curve.name, bpp[-1], psnr_db[-1], style))
    axes.set(
        xlim=(0, most),
        ylim=(least_db, max(end.psnr_db for end in ends) + 0.5),
        xlabel=rate_axis(study),
        ylabel="PSNR (dB, RGB)",
    )
    axes.set_title(pictures(study), loc="left", fontsize=10)
    _name(axes, sorted(ends, key=lambda end: end.psnr_db))
    return figure


def _best_and_worst(curves: Sequence[Curve]) -> tuple[list[Curve], list[Curve]]:
    """Of a sweep's trials, which lie close, the ones of least and of most rate; and the others."""

    def rate(curve: Curve) -> float:
        try:
            return bd_rate(curve, curves[0]).value
        except UsageError:
            return 0.0

    first, *between, last = sorted(curves, key=rate)
    return [first, last], between


def rate_axis(study: Study) -> str:
    """What the rates of a figure are: of files, or estimates where any result has nothing else."""
    return "rate (bits per pixel; models estimated)" if study.estimated else "rate (bits per pixel of the whole file)"


@contextmanager
def styles() -> Iterator[None]:
    """Within it figures are drawn in the report's style, whatever the user's own. NeedsModel without matplotlib."""
    try:
        matplotlib: Any = import_module("matplotlib")
    except ImportError as error:
        raise NeedsModel("figures need matplotlib; pip install 'rdcodec[report]'") from error
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        yield


def render(figure: "Figure", stem: str) -> dict[str, bytes]:
    """A figure in every format, by file name."""
    files: dict[str, bytes] = {}
    for fmt, options in FORMATS.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=fmt, bbox_inches="tight", **options)
        files[f"{stem}.{fmt}"] = buffer.getvalue()
    return files


def styled(results: Sequence[Curve], anchors: Sequence[Curve]) -> Iterator[tuple[Curve, dict[str, Any]]]:
    """Every curve with how it is drawn. Anchors differ in their dashes too, for print without colour."""
    colours = cycle(COLOURS)
    bold: dict[str, Any] = {"linewidth": 2.4, "markersize": 6, "markeredgecolor": "white", "zorder": 3}
    for curve, marker in zip(results, cycle(MARKERS), strict=False):
        line = {"linestyle": "none"} if len(curve.bpp) == 1 else {}
        yield curve, {"color": next(colours), "marker": marker, **bold, **line}
    others = cycle(COLOURS[len(results) :] or COLOURS)  # no anchor looks like a result
    for curve, dashes in zip(anchors, cycle(DASHES), strict=False):
        yield curve, {"color": next(others), "linestyle": dashes, "linewidth": 1.1, "zorder": 4}


def smooth(curve: Curve, most: float, least_db: float, samples: int = 400) -> tuple[Array, Array]:
    """Rates in bpp and PSNR in dB along a curve, up to the rate `most` and from `least_db` on."""
    psnr_db = np.linspace(max(curve.psnr_db[0], least_db), curve.psnr_db[-1], samples)
    if psnr_db[0] > psnr_db[-1]:
        return np.empty(0), np.empty(0)
    bpp = np.exp(pchip(curve.psnr_db, curve.log_rate, psnr_db))
    shown = bpp <= most
    return bpp[shown], psnr_db[shown]


def pictures(study: Study) -> str:
    """Which pictures a figure is about."""
    return f"{study.name}, means over {study.picture_count} pictures" if study.picture_count else study.name


def spread(positions: Sequence[float], gap: float, top: float) -> list[float]:
    """Rising positions moved apart to be `gap` from each other, upwards first, then down from `top`."""
    placed: list[float] = []
    for position in positions:
        placed.append(max(position, placed[-1] + gap) if placed else position)
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], top)
        top = placed[index] - gap
    return placed


def _name(axes: "Axes", ends: Sequence[End]) -> None:
    """Name the curves, given by rising ends: beside these if all are near the right and few, else in a legend."""
    (_, most), (low, high) = axes.get_xlim(), axes.get_ylim()
    if min(end.bpp for end in ends) < NEAR * most or len(ends) > MOST_BESIDE:
        handles = [axes.plot([], [], label=end.label, **end.style)[0] for end in reversed(ends)]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
        return
    heights = spread([(end.psnr_db - low) / (high - low) for end in ends], LABEL_GAP, top=1.0)
    for end, height in zip(ends, heights, strict=True):
        bold, colour = "marker" in end.style, end.style["color"]
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.7}
        axes.annotate(
            end.label,
            xy=(end.bpp, end.psnr_db),
            xytext=(1.035, height),
            textcoords="axes fraction",
            va="center",
            color=colour if bold else TEXT,
            fontweight="bold" if bold else "normal",
            annotation_clip=False,
            arrowprops={**line, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2},
        )
