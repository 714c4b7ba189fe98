"""What training brought: rate against the computation so far."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import MIN_POINTS, Curve, bd_rate, excess_at_one_rate
from rdcodec.report.charts import Chart, Missing, Row, looks, new_axes, plain_log_axis, rounded
from rdcodec.report.study import Laboratory
from rdcodec.store.records import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Point = tuple[float, float]  # bpp and dB


def rate_by_training(laboratory: Laboratory) -> Chart | Missing:
    """Rate over each run's last, at equal PSNR of the held-out photographs, against the computation so far."""
    title = "Rate against training computation"
    found = [(run, points) for run in laboratory.trainings if len(points := _excess(run)) >= 2]
    longest = {run.codec: run.tag for run, _ in sorted(found, key=lambda pair: pair[1][-1][0])}
    rows: list[Row] = []
    notes = []
    for run, points in found:
        rows += [{"run": run.tag, "eflop": eflop, "excess_percent": excess} for eflop, excess in points]
        per_doubling = _last_doubling(points) if longest[run.codec] == run.tag else None
        if per_doubling is not None:
            rows += [
                {"run": f"{run.tag}, guess", "eflop": points[-1][0] * 2**n, "excess_percent": 100 * (factor - 1)}
                for n, factor in ((0, 1.0), (2, (1 - per_doubling / 100) ** 2))
            ]
            notes.append(f"- {run.tag}: the last doubling of the computation lowered the rate by {per_doubling:.1f} %.")
    if not rows:
        how = "`rdc results import RUN --tag TAG --store DB` takes them from a training run"
        return Missing(title, f"no run with two validations in the store; {how}.")
    note = (
        "Estimated rates of the averaged weights. For a model of one rate they follow the tangent at its lmbda, and "
        "the computation is that of its own training alone. Dashed: a guess for the longest training of each model, if "
        "two more doublings of the computation gained as much as the last one. It may be too good: the last doubling "
        "can include the fall of the learning rate.\n\n" + "\n".join(notes)
    )
    return Chart("rate-training", title, ("run", "eflop", "excess_percent"), rounded(rows), training_figure, note)


def _excess(run: Result) -> list[tuple[float, float]]:
    """Computation, and percent of rate over the run's last look; looks that share no PSNR with that are left out."""
    looks = _validations_of(run)
    if run.rows and run.rows[-1].get("lmbda"):
        return _excess_at_one_rate(looks, float(run.rows[-1]["lmbda"] or 0))
    curves = [(eflop, Curve.from_points(run.tag, p)) for eflop, p in looks if len(p) >= MIN_POINTS]
    found = []
    for eflop, curve in curves:
        try:
            found.append((eflop, bd_rate(curve, curves[-1][1]).value))
        except UsageError:
            continue
    return found


def _excess_at_one_rate(looks: Sequence[tuple[float, list[Point]]], lmbda: float) -> list[tuple[float, float]]:
    return [(eflop, excess_at_one_rate(points[0], looks[-1][1][0], lmbda)) for eflop, points in looks]


def _validations_of(run: Result) -> list[tuple[float, list[Point]]]:
    """Computation and points (bpp, dB) of each validation that has any, the last at each computation."""
    found: dict[float, dict[Any, Point]] = {}
    for row in run.rows:
        if row.get("bpp") and row.get("psnr_db") and row.get("eflop"):
            of_look = found.setdefault(float(row["eflop"] or 0), {})
            of_look[row["quality"]] = float(row["bpp"] or 0), float(row["psnr_db"] or 0)
    return [(eflop, list(points.values())) for eflop, points in found.items()]


def _last_doubling(points: Sequence[tuple[float, float]]) -> float | None:
    """Percent of the rate that the last doubling of computation took off; None for runs that began later."""
    half = points[-1][0] / 2
    if points[0][0] > half:
        return None
    logs = [np.log(eflop) for eflop, _ in points]
    before = 1 + float(np.interp(np.log(half), logs, [excess for _, excess in points])) / 100
    return 100 * (1 - 1 / before)


def training_figure(rows: Sequence[Row]) -> "Figure":
    """A line for each run, its guess dashed in the same colour."""
    figure, axes = new_axes()
    axes.set_xscale("log")
    runs = [name for name in dict.fromkeys(row["run"] for row in rows) if not name.endswith(", guess")]
    for name, (colour, marker) in zip(runs, looks(), strict=False):
        for run, form in ((name, {"marker": marker, "label": name}), (f"{name}, guess", {"linestyle": "--"})):
            points = [row for row in rows if row["run"] == run]
            xy = ([p["eflop"] for p in points], [p["excess_percent"] for p in points])
            axes.plot(*xy, color=colour, linewidth=1.4, markersize=5, **form)
    axes.axhline(0, color="#777777", linewidth=1.0, zorder=1)
    plain_log_axis(axes, [row["eflop"] for row in rows])
    axes.set(xlabel="training (EFLOP, forward and backward, log scale)", ylabel="rate over the run's last (%)")
    axes.set_title("Held-out photographs, equal PSNR", loc="left", fontsize=10)
    axes.set_ylim(None, min(60.0, 1.1 * max(row["excess_percent"] for row in rows)))
    axes.legend(loc="upper right", frameon=False)
    return figure
