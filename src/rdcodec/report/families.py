"""Models by family: Fig. 2 of the paper, and the loss of a sweep's trials."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rdcodec.measure.frontier import frontier
from rdcodec.models.config import CONFIGS, config_names, family_of, load_config
from rdcodec.report.charts import (
    Chart,
    Missing,
    Row,
    eval_hint,
    label_points,
    looks,
    names_of,
    new_axes,
    plain_log_axis,
    points_of,
    rounded,
)
from rdcodec.report.plots import DASHES, pictures, rate_axis
from rdcodec.report.standings import kflops_per_px, published_curves
from rdcodec.report.study import Laboratory, Measured, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def families(_laboratory: Laboratory, study: Study) -> Chart | Missing:
    """Fig. 2 of the paper: the sweep by family, among published curves."""
    title = "Rate and distortion by family (Fig. 2 of the paper)"
    known = [(m, name) for m in study.shown if (name := family(m))]
    if not known:
        return Missing(title, f"no model of a known family among the results; {eval_hint()}.")
    rows: list[Row] = [
        {"curve": m.label, "letter": letter(m), "role": "result", "family": name, "bpp": bpp, "psnr_db": db}
        for m, name in known
        for bpp, db in points_of(m.curve)
    ]
    most = max(row["bpp"] for row in rows)
    rows += [
        {"curve": curve.name, "letter": "", "role": "published", "family": "", "bpp": bpp, "psnr_db": db}
        for curve in published_curves(study)
        for bpp, db in points_of(curve)
        if bpp <= 1.05 * most
    ]
    columns = ("curve", "letter", "role", "family", "bpp", "psnr_db")
    note = "The paper's models are missing: only their relative rates are published (Table 1), not rate and PSNR."
    return Chart(f"families-{study.slug}", title, columns, rounded(rows), lambda rows: family_figure(study, rows), note)


def family(measured: Measured) -> str | None:
    """What kind of model was measured: as its results say, or as its name does, if it is one of the package."""
    told = measured.points[0].values.get("family")
    if told is not None:
        return str(told)
    if measured.codec not in config_names():
        return None
    return family_of(load_config(CONFIGS / f"{measured.codec}.toml"))


def letter(measured: Measured) -> str:
    """What a point is called in a figure: the letter of a model of the package; trials of a sweep have none."""
    return measured.codec if measured.codec in config_names() else ""


def family_figure(study: Study, rows: Sequence[Row]) -> "Figure":
    """A colour and a marker for each family, letters at single points, published curves as thin lines."""
    figure, axes = new_axes()
    ours = [row for row in rows if row["role"] == "result"]
    ends: list[tuple[float, float, str, bool]] = []
    styles = dict(zip(dict.fromkeys(row["family"] for row in ours), looks(), strict=False))
    for curve in dict.fromkeys(row["curve"] for row in ours):
        points = [row for row in ours if row["curve"] == curve]
        colour, marker = styles[points[0]["family"]]
        xy = ([p["bpp"] for p in points], [p["psnr_db"] for p in points])
        axes.plot(*xy, marker=marker, color=colour, linewidth=1.6, markersize=6, markeredgecolor="white", zorder=3)
        ends.append((points[-1]["bpp"], points[-1]["psnr_db"], points[-1]["letter"], False))
    for (colour, marker), name in ((style, name) for name, style in styles.items()):
        single = all(len(points) == 1 for points in _curves(ours, name))
        axes.plot([], [], marker=marker, color=colour, linestyle="none" if single else "-", label=name)
    low, high = min(row["psnr_db"] for row in ours) - 1, max(row["psnr_db"] for row in ours) + 3
    for dashes, curve in zip(itertools.cycle(DASHES), names_of(rows, "published"), strict=False):
        points = [row for row in rows if row["curve"] == curve]
        xy = ([p["bpp"] for p in points], [p["psnr_db"] for p in points])
        if any(low < db < high for db in xy[1]):
            axes.plot(*xy, color="#555555", linestyle=dashes, linewidth=1.0, label=curve, zorder=2)
    axes.set_xlim(0, 1.05 * max(row["bpp"] for row in ours))
    axes.set_ylim(low, high)
    label_points(axes, [end for end in ends if end[2]], [(row["bpp"], row["psnr_db"]) for row in rows])
    axes.set(xlabel=rate_axis(study), ylabel="PSNR (dB, RGB)")
    axes.set_title(pictures(study), loc="left", fontsize=10)
    if len(styles) == 1:
        axes.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    else:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


def _curves(rows: Sequence[Row], name: str) -> list[list[Row]]:
    """The points of each model of a family."""
    mine = [row for row in rows if row["family"] == name]
    return [[row for row in mine if row["curve"] == curve] for curve in dict.fromkeys(row["curve"] for row in mine)]


def loss_by_flops(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """What a sweep is for: the loss on held-out photographs against the decoder's computation, and the frontier."""
    title = "Loss against decode computation"
    losses = {run.codec: run.values.get("loss") for run in laboratory.trainings}
    points = [(m, kflops_per_px(laboratory, m.codec), losses.get(m.codec)) for m in study.results]
    found = [(m, flops, float(loss)) for m, flops, loss in points if flops and loss is not None]
    if not found:
        return Missing(
            title, "no trial of a sweep is counted and trained; `rdc sweep SWEEP.toml --store DB` does both."
        )
    on = frontier([flops for _, flops, _ in found], [-loss for _, _, loss in found])
    rows = [
        {"codec": m.codec, "family": family(m) or "", "kflops_per_px": flops, "loss": loss, "on_frontier": int(i in on)}
        for i, (m, flops, loss) in sorted(enumerate(found), key=lambda item: item[1][1])
    ]
    return Chart(
        f"loss-flops-{study.slug}",
        title,
        ("codec", "family", "kflops_per_px", "loss", "on_frontier"),
        rounded(rows),
        lambda rows: loss_figure(study, rows),
        "The loss is bpp + lmbda * MSE with estimated rates, and all rates of a model have the same weight. The table "
        "gives the training. The line joins the models that no other model beats in both loss and computation.",
    )


def loss_figure(study: Study, rows: Sequence[Row]) -> "Figure":
    """A colour and a marker for each family; trials on the frontier are named."""
    figure, axes = new_axes()
    axes.set_xscale("log")
    on = [row for row in rows if row["on_frontier"]]
    axes.plot([r["kflops_per_px"] for r in on], [r["loss"] for r in on], color="#777777", linewidth=1.2, zorder=2)
    families = dict.fromkeys(row["family"] for row in rows)
    for name, (colour, marker) in zip(families, looks(), strict=False):
        mine = [row for row in rows if row["family"] == name]
        points = ([r["kflops_per_px"] for r in mine], [r["loss"] for r in mine])
        axes.plot(*points, marker, color=colour, markersize=7, markeredgecolor="white", label=name or None, zorder=3)
    plain_log_axis(axes, [row["kflops_per_px"] for row in rows])
    axes.margins(y=0.12)
    names = [(row["kflops_per_px"], row["loss"], row["codec"], False) for row in on]
    label_points(axes, names, [(row["kflops_per_px"], row["loss"]) for row in rows])
    axes.set(xlabel="decoder (kFLOPs per pixel, log scale)", ylabel="loss (bpp + lmbda * MSE)")
    axes.set_title(pictures(study), loc="left", fontsize=10)
    if len(families) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure
