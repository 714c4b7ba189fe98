"""Codecs by metrics of the eye beside PSNR: what is tuned for the one may lose by the other."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.measure.bdrate import Array, Curve, bd_rate_by, pchip
from rdcodec.metrics import ASKED, CURVES, EYE
from rdcodec.report.charts import Chart, Missing, Row, looks, names_of, rounded
from rdcodec.report.markdown import markdown_table
from rdcodec.report.plots import DASHES, pictures, rate_axis
from rdcodec.report.study import Laboratory, Measured, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BESIDE = ("psnr", *EYE)
PANELS = ("psnr", "ssimulacra2")
FIRST = "jpeg"
"""What the others are compared with, if it was measured."""


def knows_the_eye(study: Study) -> bool:
    """Whether any codec was measured by a metric that has to be asked for."""
    return bool(study.by_eye)


def by_metrics(_laboratory: Laboratory, study: Study) -> Chart | Missing:
    """Every codec that was measured by a metric of the eye, with its BD-rate by each metric."""
    title = "PSNR and the eye"
    known = study.by_eye
    if len(known) < 2:
        hint = f"`rdc eval CODEC --data DIR --metrics {','.join(ASKED)} -o FILE` measures one"
        return Missing(title, f"fewer than two codecs were measured by {' or '.join(ASKED)}; {hint}.")
    ours = {m.label for m in study.results}
    rows: list[Row] = [
        {"curve": m.label, "role": "result" if m.label in ours else "anchor", "bpp": point.values["bpp"]}
        | {name: CURVES[name].read(point.values) for name in BESIDE}
        for m in known
        for point in m.points
    ]
    return Chart(
        f"eye-{study.slug}",
        title,
        ("curve", "role", "bpp", *BESIDE),
        rounded(rows),
        lambda rows: eye_figure(study, rows),
        _table(known),
    )


def _table(known: Sequence[Measured]) -> str:
    """BD-rates against one of the codecs by each metric."""
    anchor = next((m for m in known if m.codec == FIRST), known[0])
    rows = [(m.label, [_percent(m.curve, anchor.curve, name) for name in BESIDE]) for m in known if m is not anchor]
    columns = ["codec", *(f">by {CURVES[name].title.strip()}" for name in BESIDE)]
    return f"BD-rate against {anchor.label}, measured on the same pictures; negative is smaller.\n\n" + markdown_table(
        columns, [[label, *cells] for label, cells in rows]
    )


def _percent(curve: Curve, anchor: Curve, name: str) -> str:
    value = bd_rate_by(curve, anchor, name)
    return "-" if value is None else f"{value:+.1f} %"


def eye_figure(study: Study, rows: Sequence[Row]) -> "Figure":
    """Rate against PSNR, and beside it against SSIMULACRA 2: the same codecs in the same colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2))
    axes = figure.subplots(1, len(PANELS))
    results = names_of(rows, "result")
    most = 1.05 * max(row["bpp"] for row in rows if row["role"] == "result")
    styles = dict(zip([*results, *names_of(rows, "anchor")], looks(), strict=False))
    for panel, name in zip(axes, PANELS, strict=True):
        _draw(panel, rows, name, styles, most)
        panel.set(xlim=(0, most), xlabel=rate_axis(study), ylabel=CURVES[name].heading)
    axes[0].set_title(pictures(study), loc="left", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.tight_layout()
    return figure


def _draw(panel: "Axes", rows: Sequence[Row], name: str, styles: dict[str, tuple[str, str]], most: float) -> None:
    """Results bold with their points, others thin; the heights shown are those of the results and what lies above."""
    dashes = itertools.cycle(DASHES)
    lowest, highest = [], []
    for label, (colour, marker) in styles.items():
        mine = [row for row in rows if row["curve"] == label and row[name] is not None]
        if not mine:
            continue
        curve = Curve.from_points(label, [(row["bpp"], row[name]) for row in mine], name)
        rates, heights = _smooth(curve)
        line: dict[str, Any] = {"linestyle": next(dashes), "linewidth": 1.1}
        if mine[0]["role"] == "result":
            lowest.append(curve.psnr_db[0])
            line = {"linestyle": "-", "linewidth": 2.2}
            panel.plot(curve.bpp, curve.psnr_db, marker, color=colour, markersize=6, markeredgecolor="white", zorder=4)
        panel.plot(rates, heights, color=colour, label=label, zorder=3, **line)
        highest += [float(heights[rates <= most].max())] if rates[0] <= most else []
    room = 0.03 * (max(highest) - min(lowest))
    panel.set_ylim(min(lowest) - room, max(highest) + room)


def _smooth(curve: Curve) -> tuple[Array, Array]:
    """Points along a curve between its measured ones, as BD-rate takes it."""
    if len(curve.bpp) < 2:
        return np.array(curve.bpp), np.array(curve.psnr_db)
    heights = np.linspace(curve.psnr_db[0], curve.psnr_db[-1], 200)
    return np.exp(pchip(curve.psnr_db, curve.log_rate, heights)), heights
