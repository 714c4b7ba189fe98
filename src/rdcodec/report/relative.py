"""Relative rate over computation, speed, training and rate: Fig. 1 and 3 of the paper, and the like."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.errors import UsageError
from rdcodec.measure.anchors import shown_name
from rdcodec.measure.bdrate import Curve, psnr_at, relative_rate
from rdcodec.measure.codecs import search_of
from rdcodec.measure.frontier import frontier
from rdcodec.measure.published import Decoder
from rdcodec.measure.reading import load_curve
from rdcodec.report.charts import (
    SAMPLES,
    Chart,
    Missing,
    Row,
    eval_hint,
    label_points,
    looks,
    name_levels,
    names_of,
    new_axes,
    plain_log_axis,
    points_of,
    rounded,
)
from rdcodec.report.devices import way
from rdcodec.report.plots import COLOURS, DASHES, MARKERS, pictures, rate_axis
from rdcodec.report.standings import (
    POINT_BPP,
    Standing,
    decoder_standings,
    encoder_kflops_per_px,
    kflops_per_px,
    paper_standings,
    published_curves,
    published_standings,
    reference,
    standings,
    training_eflop,
)
from rdcodec.report.study import KODAK, OTHER, PAPER, PUBLISHED, SPEED_QUALITY, Laboratory, Study
from rdcodec.store.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OPTIMISED = "published, optimised for each picture"
MOST = 60.0  # percent: above it the figure of relative rates over the rate would be all JPEG


def _series(standing: Standing) -> str:
    """Files that a search wrote stand beside those of one pass."""
    search = search_of(standing.codec)
    return f"rdcodec, {search}" if search else ""


def relative_by_flops(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """Fig. 1 of the paper."""
    title = "Relative rate over decode computation (Fig. 1 of the paper)"
    points = [(s, kflops_per_px(laboratory, s.codec), _series(s)) for s in standings(study)]
    counted = [(s, flops, series) for s, flops, series in points if flops]
    if not counted:
        return Missing(title, nothing(study, "counted", "`rdc results count MODEL --store DB` counts it"))
    counted += [(s, flops, "") for s, flops in paper_standings(study).items()]
    others = decoder_standings(study)
    counted += [(s, decoder.kflops_per_px, _kind(decoder)) for s, decoder in others]
    if _is_alone(study, counted):
        return Missing(title, _alone(counted[0][0]))
    rows = _cost_rows(counted, "kflops_per_px", less_is_better=True)
    placed = {load_curve(decoder.curve).name for _, decoder in others if decoder.curve}
    levels = [s for s in published_standings(study) if s.label not in placed]
    rows += [_cost_row(s, None, "", "kflops_per_px", False) for s in levels]
    axis = "decoder (kFLOPs per pixel, log scale)"
    return Chart(
        f"relative-flops-{study.slug}",
        title,
        _cost_columns("kflops_per_px"),
        tuple(rows),
        lambda rows: cost_figure(study, rows, "kflops_per_px", axis, whole=True),
        "A coloured line joins the models of one source that no other model of that source beats in both rate and "
        "computation. Grey lines are the frontier of all codecs: dashed with the codecs that are optimised for each "
        "picture, solid without them. The paper's figures are those of its Table 1. Models of many rates are shown at "
        f"{POINT_BPP} bpp, models of one rate at that rate. Rates of other codecs come from the built-in curves. Their "
        "FLOPs were published or counted here; `measure/curves/decoders.json` names the sources, which can differ by "
        "half for one codec."
        if study.identity == KODAK
        else "",
    )


def relative_by_encoder(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """What the encoder pays: codecs that are optimised for each picture decode with little."""
    title = "Relative rate over encode computation"
    points = [(s, encoder_kflops_per_px(laboratory, s.codec), _series(s)) for s in standings(study)]
    found = [(s, flops, series) for s, flops, series in points if flops]
    if not found:
        return Missing(title, nothing(study, "counted", "`rdc results count MODEL --store DB` counts it"))
    for s, decoder in decoder_standings(study):
        if decoder.encoder_kflops_per_px:
            found.append((s, decoder.encoder_kflops_per_px, _kind(decoder)))
    if _is_alone(study, found):
        return Missing(title, _alone(found[0][0]))
    cost, axis = "encoder_kflops_per_px", "encoder (kFLOPs per pixel, log scale)"
    return Chart(
        f"relative-encoder-{study.slug}",
        title,
        _cost_columns(cost),
        tuple(_cost_rows(found, cost, less_is_better=True)),
        lambda rows: cost_figure(study, rows, cost, axis, whole=True),
        "FLOPs of all networks that an encoder runs. For searches and optimisations this is an estimate: each step "
        "counts as three passes of the decoder. Grey lines are as in Fig. 1. Other codecs are shown if their encoder's "
        "FLOPs or number of steps are known.",
    )


def _kind(decoder: Decoder) -> str:
    """The series of a codec of others."""
    if decoder.curve is None:
        return "published, placed by its BD-rate against VTM"
    return OPTIMISED if decoder.one_optimisation_per_picture else "published, one model for all pictures"


def relative_by_speed(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """The frontier of relative rate and decoding speed, for every way in which speed was measured."""
    title = "Relative rate over decoding speed"
    found = []
    at_one_psnr = [speed for speed in laboratory.speeds if speed.values.get("at_psnr_db") is not None]
    for standing in standings(study):
        for speed in (*laboratory.comparable_speeds, *at_one_psnr):
            if _elsewhere(speed, laboratory, study):
                continue
            rate = speed.values.get("decode_mpx_per_s")
            if speed.codec == standing.codec and speed.tag in (standing.tag, standing.codec) and rate:
                found.append((standing, float(rate), way(speed, laboratory.speeds)))
    if found:
        found += _timed_anchors(laboratory, study)
    if not found:
        return Missing(title, nothing(study, "timed", "`rdc bench MODEL -o FILE` and `rdc results import FILE` do it"))
    if _is_alone(study, found):
        return Missing(title, _alone(found[0][0]))
    rows = _cost_rows(found, "decode_mpx_per_s", less_is_better=False)
    axis = "decoding of whole files (megapixels per second, log scale)"
    return Chart(
        f"relative-speed-{study.slug}",
        title,
        _cost_columns("decode_mpx_per_s"),
        tuple(rows),
        lambda rows: cost_figure(study, rows, "decode_mpx_per_s", axis),
        f"Files of quality {SPEED_QUALITY:g}, or of a model's only rate; a series at one PSNR says so. "
        "Marks at one height are the same files, decoded in several ways: the fastest is named. Lines join the models "
        "that no other model beats in both rate and speed.",
    )


def _elsewhere(speed: Result, laboratory: Laboratory, study: Study) -> bool:
    """Whether a speed was measured on the pictures of another study: "clic, 1 picture", "4 Kodak pictures"."""
    of = speed.dataset.lower()
    return study.name.lower() not in of and any(other.name.lower() in of for other in laboratory.studies)


def _timed_anchors(laboratory: Laboratory, study: Study) -> list[tuple[Standing, float, str]]:
    """Other codecs that were timed on the same machines as ours, by the names of their curves."""
    places = []
    heic = (load_curve("kodak_x265_444"),) if study.identity == KODAK else ()
    for curve in (*study.anchors, *heic):
        for speed in laboratory.speeds:
            rate = speed.values.get("decode_mpx_per_s")
            if _elsewhere(speed, laboratory, study):
                continue
            if shown_name(speed.codec) == curve.name and rate and curve.bpp[0] <= POINT_BPP <= curve.bpp[-1]:
                psnr_db = psnr_at(curve, POINT_BPP)
                percent = relative_rate(POINT_BPP, psnr_db, reference(study))
                standing = Standing(curve.name, OTHER, curve.name, speed.tag, POINT_BPP, psnr_db, percent)
                places.append((standing, float(rate), way(speed, laboratory.speeds)))
    return places


def relative_by_training(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """The frontier of relative rate and of what training cost."""
    title = "Relative rate over training computation"
    found = []
    for standing in standings(study):
        eflop = training_eflop(laboratory, standing.codec, standing.tag)
        if eflop:
            found.append((standing, eflop, _series(standing)))
    if not found:
        how = "`rdc results import RUN --tag TAG --store DB` takes it from a training run"
        return Missing(title, nothing(study, "with known training", how))
    if _is_alone(study, found):
        return Missing(title, _alone(found[0][0]))
    rows = _cost_rows(found, "eflop", less_is_better=True)
    return Chart(
        f"relative-training-{study.slug}",
        title,
        _cost_columns("eflop"),
        tuple(rows),
        lambda rows: cost_figure(study, rows, "eflop", "training (EFLOP, forward and backward, log scale)"),
        "Includes the training of the weights that a model started from. "
        "Lines join the models that no other model beats in both rate and computation.",
    )


def cost_figure(study: Study, rows: Sequence[Row], cost: str, axis: str, whole: bool = False) -> "Figure":
    """Relative rates over a cost, a frontier for each source and series; codecs without the cost are level lines.

    whole: with the frontier of all sources together, of which less of the cost is better.
    """
    figure, axes = new_axes()
    if whole:
        figure.set_size_inches(8.4, 6.0)
    axes.set_xscale("log")
    drawn = [row for row in rows if row[cost] is not None]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in drawn:
        groups.setdefault((row["by"], row["series"]), []).append(row)
    colours, markers = itertools.cycle(c for c in COLOURS if c != "#000000"), itertools.cycle(MARKERS)
    for (by, series), group in groups.items():
        paper = by == PAPER
        black = paper or by == OTHER
        colour, marker = "#000000" if black else next(colours), "o" if paper else next(markers)
        on = [row for row in group if row["on_frontier"]]
        face = "white" if paper else colour
        name = "paper, Table 1" if paper else (series or by)
        points = ([r[cost] for r in group], [r["relative_rate_percent"] for r in group])
        axes.plot(*points, marker, color=colour, markerfacecolor=face, markersize=7, label=name, zorder=3)
        if by == PUBLISHED:
            continue
        axes.plot([r[cost] for r in on], [r["relative_rate_percent"] for r in on], color=colour, linewidth=1.2)
    if whole and len(groups) > 1:
        _whole_frontiers(axes, drawn, cost)
    for row, dashes in zip((r for r in rows if r[cost] is None), itertools.cycle(DASHES[1:]), strict=False):
        axes.axhline(row["relative_rate_percent"], color="#777777", linewidth=1.0, linestyle=dashes, zorder=1)
    axes.axhline(0, color="#777777", linewidth=1.0, zorder=1)
    low, high = min(r["relative_rate_percent"] for r in rows), max(r["relative_rate_percent"] for r in rows)
    room = 0.1 * (max(high, 0) - min(low, 0))  # for the names of points
    axes.set_ylim(min(low, 0) - room, max(high, 0) + room)
    levels = [(row["relative_rate_percent"], row["codec"]) for row in rows if row[cost] is None]
    name_levels(axes, [*levels, (0, reference(study).name)])
    axes.set(xlabel=axis, ylabel=rate_label(study))
    plain_log_axis(axes, [row[cost] for row in drawn])
    others = (PAPER, PUBLISHED, OTHER)
    named: dict[tuple[str, float], Row] = {}
    for row in drawn:
        key = row["codec"], row["relative_rate_percent"]
        named[key] = max(row, named.get(key, row), key=lambda r: r[cost])
    marks = [(r[cost], r["relative_rate_percent"], r["codec"], r["by"] in others) for r in named.values()]
    label_points(axes, marks, [(r[cost], r["relative_rate_percent"]) for r in drawn])
    axes.set_title(_shown(study), loc="left", fontsize=10)
    if len(groups) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    return figure


def _whole_frontiers(axes: "Axes", rows: Sequence[Row], cost: str) -> None:
    """The frontier of all codecs, and that of those which are not optimised for each picture."""
    single = [row for row in rows if row["series"] != OPTIMISED]
    paths = []
    for group in (rows, single):
        on = frontier([r[cost] for r in group], [-r["relative_rate_percent"] for r in group])
        paths.append([(group[i][cost], group[i]["relative_rate_percent"]) for i in on])
    whole, without = paths
    label = "frontier of all" if whole == without else "frontier of those that are not optimised for each picture"
    axes.plot(*zip(*without, strict=True), color="#cccccc", linewidth=5, label=label, zorder=0.5)
    if whole != without:
        axes.plot(*zip(*whole, strict=True), color="#999999", linestyle=DASHES[1], label="frontier of all", zorder=0.6)


def relative_by_rate(_laboratory: Laboratory, study: Study) -> Chart | Missing:
    """Fig. 3 of the paper: the relative rate at every rate."""
    title = "Relative rate over the rates (Fig. 3 of the paper)"
    rows: list[Row] = []
    curves = [("result", m.label, m.curve) for m in study.shown]
    curves += [("anchor", curve.name, curve) for curve in (*published_curves(study)[1:], *study.anchors)]
    for role, name, curve in curves:
        if curve.name == reference(study).name or name in {row["curve"] for row in rows}:
            continue
        for bpp, psnr_db in sampled(curve):
            try:
                percent = relative_rate(bpp, psnr_db, reference(study))
            except UsageError:  # the reference does not reach that PSNR
                continue
            if percent <= MOST:
                point = {"bpp": bpp, "psnr_db": psnr_db, "relative_rate_percent": percent}
                rows.append({"curve": name, "role": role, **point})
    if not any(row["role"] == "result" for row in rows):
        return Missing(title, f"no result between the PSNR of {reference(study).name}; {eval_hint()}.")
    columns = ("curve", "role", "bpp", "psnr_db", "relative_rate_percent")
    note = f"Rate compared with {reference(study).name} at equal PSNR. Curves end at {MOST:+.0f} %."
    return Chart(
        f"relative-rate-{study.slug}", title, columns, rounded(rows), lambda rows: rate_figure(study, rows), note
    )


def rate_figure(study: Study, rows: Sequence[Row]) -> "Figure":
    """Relative rates over the rate; results bold, anchors thin, single points as marks."""
    figure, axes = new_axes()
    ours = names_of(rows, "result")
    styles = dict(zip(ours, looks(), strict=False))
    dashes = itertools.cycle(DASHES)
    for curve in dict.fromkeys(row["curve"] for row in rows):
        points = [row for row in rows if row["curve"] == curve]
        xy = ([p["bpp"] for p in points], [p["relative_rate_percent"] for p in points])
        if curve not in styles:
            axes.plot(*xy, color="#555555", linestyle=next(dashes), linewidth=1.1, label=curve, zorder=2)
            continue
        colour, marker = styles[curve]
        form = {"marker": marker, "linestyle": "none"} if len(points) == 1 else {"linewidth": 2.4}
        axes.plot(*xy, color=colour, label=curve, zorder=3, **form)
    most = 1.05 * max(row["bpp"] for row in rows if row["role"] == "result")
    axes.axhline(0, color="#777777", linewidth=1.0, zorder=1)
    axes.set_xlim(0, most)
    shown = [row["relative_rate_percent"] for row in rows if row["bpp"] <= most]
    axes.set_ylim(min(shown) - 3, max(shown) + 5)
    axes.set(xlabel=rate_axis(study), ylabel=rate_label(study))
    axes.set_title(pictures(study), loc="left", fontsize=10)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


def rate_label(study: Study) -> str:
    """Name of the axis of relative rates."""
    return f"rate against {reference(study).name} (%, lower is better)"


def _cost_columns(cost: str) -> tuple[str, ...]:
    return ("codec", "by", "series", cost, "bpp", "psnr_db", "relative_rate_percent", "on_frontier")


def _cost_rows(found: Sequence[tuple[Standing, float, str]], cost: str, less_is_better: bool) -> list[dict[str, Any]]:
    """Rows by source and series, each with its own frontier."""
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys((standing.by, series) for standing, _, series in found):
        group = [(s, value) for s, value, series in found if (s.by, series) == key]
        costs = [value if less_is_better else -value for _, value in group]
        on = frontier(costs, [-s.relative_rate_percent for s, _ in group])
        order = sorted(range(len(group)), key=lambda i: costs[i])
        rows += [_cost_row(group[i][0], group[i][1], key[1], cost, i in on) for i in order]
    return rows


def _cost_row(s: Standing, value: float | None, series: str, cost: str, on: bool) -> dict[str, Any]:
    row = {"codec": s.label, "by": s.by, "series": series, cost: value, "bpp": s.bpp, "psnr_db": s.psnr_db}
    return rounded([{**row, "relative_rate_percent": s.relative_rate_percent, "on_frontier": int(on)}])[0]  # type: ignore[return-value]


def sampled(curve: Curve) -> list[tuple[float, float]]:
    """Rates evenly spaced along a curve, and the PSNR there; a single point as it is."""
    if len(curve.bpp) == 1:
        return points_of(curve)
    rates = np.linspace(curve.bpp[0], curve.bpp[-1], SAMPLES)[1:-1]
    inner = [(float(rate), psnr_at(curve, float(rate))) for rate in rates]
    return [points_of(curve)[0], *inner, points_of(curve)[-1]]


def _is_alone(study: Study, found: Sequence[tuple[Standing, float, str]]) -> bool:
    """Whether a chart would hold one codec; on Kodak that stands beside the paper's."""
    return len({standing for standing, *_ in found}) == 1 and study.identity != KODAK


def _alone(standing: Standing) -> str:
    others = f"no other model reaches {POINT_BPP} bpp on these pictures with a known cost"
    return f"{standing.codec} would be the only point, because {others}."


def nothing(study: Study, what: str, how: str) -> str:
    if not standings(study):
        return f"no result reaches {POINT_BPP} bpp within the PSNR of {reference(study).name}; {eval_hint()}."
    return f"no measured model is {what} in the store; {how}."


def _shown(study: Study) -> str:
    return f"{pictures(study)}; models of many rates at {POINT_BPP} bpp"
