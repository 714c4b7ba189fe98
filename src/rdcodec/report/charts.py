"""The paper's figures with our models beside its own: savings against computation, families, rates, time.

A chart is made of its data first: what is drawn is read from the rows that its CSV file holds. To add one, write a
function that gives a `Chart`, or a `Missing` that says what fills it, and name it in `charts`.
"""

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import MIN_POINTS, Curve, bd_rate, excess_at_one_rate, load_curve, psnr_at, saving
from rdcodec.measure.codecs import model_of, search_of, tag_of
from rdcodec.measure.frontier import frontier
from rdcodec.measure.published import table_1
from rdcodec.measure.ranking import inversions, kendall_tau, ranks
from rdcodec.models.config import CONFIGS, config_names, family_of, load_config
from rdcodec.report.plots import COLOURS, DASHES, LABEL_GAP, MARKERS, TEXT, pictures, rate_axis, spread
from rdcodec.report.study import KODAK, PAPER, PUBLISHED, SPEED_QUALITY, Laboratory, Measured, Study
from rdcodec.store.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KODAK_CURVES = ("bpg_444", "vtm_18.0", "elic")
"""Published curves that the paper compares with; the first is what savings are over."""
POINT_BPP = 0.46
"""Rate at which a model of all rates is set beside the paper's, whose models have about this rate alone."""
LEAST_SAVING = -60.0  # percent: below it the figure of savings over the rate would be all JPEG
SAMPLES = 80
INSIDE = 6  # families that a legend within the figure has room for
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


@dataclass(frozen=True)
class Standing:
    """Where a codec stands: percent of the reference's rate saved at a PSNR in dB, which it has at a rate in bpp."""

    label: str
    by: str
    codec: str
    tag: str
    bpp: float | None
    psnr_db: float | None
    saving_percent: float


def study_charts(laboratory: Laboratory, study: Study) -> list[Chart | Missing]:
    """The figures of one set of pictures, those of the paper in its order; of a sweep those that tell trials apart."""
    if study.estimated:
        return [loss_by_flops(laboratory, study), families(study)]
    if study.reference is None:
        hint = "`rdc eval jpeg --data DIR -o jpeg.json` measures one, `--anchor jpeg.json` names it"
        return [Missing("Savings", f"need an anchor on the same pictures: {hint}."), families(study)]
    return [
        saving_by_flops(laboratory, study),
        families(study),
        saving_by_rate(study),
        saving_by_speed(laboratory, study),
        saving_by_training(laboratory, study),
    ]


def standings(study: Study, among: Sequence[Measured] | None = None) -> list[Standing]:
    """Where codecs stand at their own point, those of many rates at `POINT_BPP`; outside of their rates, left out.

    among: the codecs; None: those that figures show.
    """
    found = []
    for m in study.shown if among is None else among:
        bpp = m.curve.bpp[0] if len(m.curve.bpp) == 1 else POINT_BPP
        try:
            psnr_db = psnr_at(m.curve, bpp) if len(m.curve.bpp) > 1 else m.curve.psnr_db[0]
            percent = saving(bpp, psnr_db, reference(study))
        except UsageError:
            continue
        label = tag_of(m.points[0].tag) if m.ours or search_of(m.codec) else m.label
        found.append(Standing(label, m.by, m.codec, m.points[0].tag, bpp, psnr_db, percent))
    return found


def paper_standings(study: Study) -> dict[Standing, float]:
    """The rows of Table 1 with their kFLOPs/px; the paper gives neither their rate nor their PSNR."""
    rows = {published.row: published for published in table_1().values()} if study.identity == KODAK else {}
    return {
        Standing(row, PAPER, row, "Table 1", None, None, published.saving_percent): published.kflops_per_px
        for row, published in rows.items()
    }


def published_standings(study: Study) -> list[Standing]:
    """The published curves that the paper compares with, at `POINT_BPP`."""
    curves = [load_curve(name) for name in KODAK_CURVES[1:]] if study.identity == KODAK else []
    return [
        Standing(
            curve.name,
            PUBLISHED,
            curve.name,
            "",
            POINT_BPP,
            psnr_at(curve, POINT_BPP),
            saving(POINT_BPP, psnr_at(curve, POINT_BPP), reference(study)),
        )
        for curve in curves
    ]


def reference(study: Study) -> Curve:
    """What savings are over."""
    if study.reference is None:
        raise ValueError(f"{study.name}: no reference")
    return study.reference


def kflops_per_px(laboratory: Laboratory, codec: str) -> float | None:
    """Headline count of a codec's decoder, where a count or a bench in the store gives it."""
    for result in (*laboratory.counts, *laboratory.speeds):
        value = result.values.get("kflops_per_px")
        if result.codec == model_of(codec) and value is not None:
            return float(value)
    return None


# Savings against a cost: the paper's Fig. 1, and the same for speed and for training


def _series(standing: Standing) -> str:
    """Files that a search wrote stand beside those of one pass."""
    search = search_of(standing.codec)
    return f"rdcodec, {search}" if search else ""


def saving_by_flops(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """Fig. 1 of the paper."""
    title = "Saving against decode computation (Fig. 1 of the paper)"
    points = [(s, kflops_per_px(laboratory, s.codec), _series(s)) for s in standings(study)]
    counted = [(s, flops, series) for s, flops, series in points if flops]
    if not counted:
        return Missing(title, _nothing(study, "counted", "`rdc results count MODEL --store DB` counts it"))
    counted += [(s, flops, "") for s, flops in paper_standings(study).items()]
    if _is_alone(study, counted):
        return Missing(title, _alone(counted[0][0]))
    rows = _cost_rows(counted, "kflops_per_px", less_is_better=True)
    rows += [_cost_row(s, None, "", "kflops_per_px", False) for s in published_standings(study)]
    axis = "decoder (kFLOPs per pixel, log scale)"
    return Chart(
        f"saving-flops-{study.slug}",
        title,
        _cost_columns("kflops_per_px"),
        tuple(rows),
        lambda rows: cost_figure(study, rows, "kflops_per_px", axis),
        "Lines join the models that no other of the same source beats in both. The paper's figures are those of its "
        f"Table 1; models of many rates stand at {POINT_BPP} bpp, models of one rate at their own."
        if study.identity == KODAK
        else "",
    )


def saving_by_speed(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """The frontier of saving and decoding speed, for every way in which speed was measured."""
    title = "Saving against decoding speed"
    found = []
    for standing in standings(study):
        for speed in laboratory.comparable_speeds:
            rate = speed.values.get("decode_mpx_per_s")
            if speed.codec == standing.codec and speed.tag in (standing.tag, standing.codec) and rate:
                found.append((standing, float(rate), way(speed, laboratory.speeds)))
    if not found:
        return Missing(title, _nothing(study, "timed", "`rdc bench MODEL -o FILE` and `rdc results import FILE` do it"))
    if _is_alone(study, found):
        return Missing(title, _alone(found[0][0]))
    rows = _cost_rows(found, "decode_mpx_per_s", less_is_better=False)
    axis = "decoding of whole files (megapixels per second, log scale)"
    return Chart(
        f"saving-speed-{study.slug}",
        title,
        _cost_columns("decode_mpx_per_s"),
        tuple(rows),
        lambda rows: cost_figure(study, rows, "decode_mpx_per_s", axis),
        f"Files of quality {SPEED_QUALITY:g}, or of a model's only rate. "
        "Lines join the models that no other beats in both.",
    )


def saving_by_training(laboratory: Laboratory, study: Study) -> Chart | Missing:
    """The frontier of saving and of what training cost."""
    title = "Saving against training computation"
    found = []
    for standing in standings(study):
        eflop = training_eflop(laboratory, standing.codec, standing.tag)
        if eflop:
            found.append((standing, eflop, _series(standing)))
    if not found:
        how = "`rdc results import RUN --tag TAG --store DB` takes it from a training run"
        return Missing(title, _nothing(study, "with known training", how))
    if _is_alone(study, found):
        return Missing(title, _alone(found[0][0]))
    rows = _cost_rows(found, "eflop", less_is_better=True)
    return Chart(
        f"saving-training-{study.slug}",
        title,
        _cost_columns("eflop"),
        tuple(rows),
        lambda rows: cost_figure(study, rows, "eflop", "training (EFLOP, forward and backward, log scale)"),
        "With the training of the weights that a model started from. "
        "Lines join the models that no other beats in both.",
    )


def training_eflop(laboratory: Laboratory, codec: str, tag: str) -> float | None:
    """Training behind a codec, with that of what it started from: of that tag or else of any in the store."""
    run = training_of(laboratory, codec, tag)
    return float(run.values["eflop"] or 0) if run else None


def training_of(laboratory: Laboratory, codec: str, tag: str) -> Result | None:
    """The training run behind a codec, of that tag or else of any, where the store has it."""
    runs = [run for run in laboratory.trainings if run.codec == model_of(codec) and run.values.get("eflop")]
    own = [run for run in runs if run.tag == tag_of(tag)] or runs
    return own[-1] if own else None


def cost_figure(study: Study, rows: Sequence[Row], cost: str, axis: str) -> "Figure":
    """Savings over a cost, a frontier for each source and series; codecs without the cost are level lines."""
    figure, axes = _axes()
    axes.set_xscale("log")
    drawn = [row for row in rows if row[cost] is not None]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in drawn:
        groups.setdefault((row["by"], row["series"]), []).append(row)
    colours, markers = itertools.cycle(c for c in COLOURS if c != "#000000"), itertools.cycle(MARKERS)
    for (by, series), group in groups.items():
        paper = by == PAPER
        colour, marker = ("#000000", "o") if paper else (next(colours), next(markers))
        on = [row for row in group if row["on_frontier"]]
        axes.plot([r[cost] for r in on], [r["saving_percent"] for r in on], color=colour, linewidth=1.2, zorder=2)
        face = "white" if paper else colour
        name = "paper, Table 1" if paper else (series or by)
        points = ([r[cost] for r in group], [r["saving_percent"] for r in group])
        axes.plot(*points, marker, color=colour, markerfacecolor=face, markersize=7, label=name, zorder=3)
    _label_points(axes, [(r[cost], r["saving_percent"], r["codec"], r["by"] == PAPER) for r in drawn])
    for row, dashes in zip((r for r in rows if r[cost] is None), itertools.cycle(DASHES[1:]), strict=False):
        axes.axhline(row["saving_percent"], color="#777777", linewidth=1.0, linestyle=dashes, zorder=1)
    axes.axhline(0, color="#777777", linewidth=1.0, zorder=1)
    low, high = min(r["saving_percent"] for r in rows), max(r["saving_percent"] for r in rows)
    room = 0.1 * (max(high, 0) - min(low, 0))  # for the names of points
    axes.set_ylim(min(low, 0) - room, max(high, 0) + room)
    levels = [(row["saving_percent"], row["codec"]) for row in rows if row[cost] is None]
    _name_levels(axes, [*levels, (0, reference(study).name)])
    axes.set(xlabel=axis, ylabel=f"rate saved over {reference(study).name} (%)")
    _plain_log_axis(axes, [row[cost] for row in drawn])
    axes.set_title(_shown(study), loc="left", fontsize=10)
    if len(groups) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    return figure


# Families and rates: the paper's Fig. 2 and 3


def families(study: Study) -> Chart | Missing:
    """Fig. 2 of the paper: the sweep by family, among published curves."""
    title = "Rate and distortion by family (Fig. 2 of the paper)"
    known = [(m, name) for m in study.shown if (name := family(m))]
    if not known:
        return Missing(title, f"no model of a known family among the results; {_eval_hint()}.")
    rows: list[Row] = [
        {"curve": m.label, "letter": letter(m), "role": "result", "family": name, "bpp": bpp, "psnr_db": db}
        for m, name in known
        for bpp, db in _points(m.curve)
    ]
    most = max(row["bpp"] for row in rows)
    rows += [
        {"curve": curve.name, "letter": "", "role": "published", "family": "", "bpp": bpp, "psnr_db": db}
        for curve in _published(study)
        for bpp, db in _points(curve)
        if bpp <= 1.05 * most
    ]
    columns = ("curve", "letter", "role", "family", "bpp", "psnr_db")
    note = "Of the models of the paper, rate and PSNR are not published; only its savings are (Table 1)."
    return Chart(
        f"families-{study.slug}", title, columns, _rounded(rows), lambda rows: family_figure(study, rows), note
    )


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
    figure, axes = _axes()
    ours = [row for row in rows if row["role"] == "result"]
    lefts = 0  # names of single points alternate: their points lie close
    styles = dict(zip(dict.fromkeys(row["family"] for row in ours), _looks(), strict=False))
    for curve in dict.fromkeys(row["curve"] for row in ours):
        points = [row for row in ours if row["curve"] == curve]
        colour, marker = styles[points[0]["family"]]
        xy = ([p["bpp"] for p in points], [p["psnr_db"] for p in points])
        axes.plot(*xy, marker=marker, color=colour, linewidth=1.6, markersize=6, markeredgecolor="white", zorder=3)
        end, single = points[-1], len(points) == 1
        lefts += single
        left = bool(single and lefts % 2)
        axes.annotate(
            end["letter"],
            (end["bpp"], end["psnr_db"]),
            (-7 if left else 7, -3),
            textcoords="offset points",
            ha="right" if left else "left",
            color=colour,
            zorder=4,
        )
    for (colour, marker), name in ((style, name) for name, style in styles.items()):
        axes.plot([], [], marker=marker, color=colour, label=name)
    low, high = min(row["psnr_db"] for row in ours) - 1, max(row["psnr_db"] for row in ours) + 3
    for dashes, curve in zip(itertools.cycle(DASHES), _names(rows, "published"), strict=False):
        points = [row for row in rows if row["curve"] == curve]
        xy = ([p["bpp"] for p in points], [p["psnr_db"] for p in points])
        if any(low < db < high for db in xy[1]):
            axes.plot(*xy, color="#555555", linestyle=dashes, linewidth=1.0, label=curve, zorder=2)
    axes.set_xlim(0, 1.05 * max(row["bpp"] for row in ours))
    axes.set_ylim(low, high)
    axes.set(xlabel=rate_axis(study), ylabel="PSNR (dB, RGB)")
    axes.set_title(pictures(study), loc="left", fontsize=10)
    if len(styles) <= INSIDE:
        axes.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")
    else:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


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
        _rounded(rows),
        lambda rows: loss_figure(study, rows),
        "bpp + lmbda * MSE with estimated rates, all rates of a model weighted alike, after the training that the "
        "table says; the line joins the models that no other beats in both.",
    )


def loss_figure(study: Study, rows: Sequence[Row]) -> "Figure":
    """A colour and a marker for each family; trials on the frontier are named."""
    figure, axes = _axes()
    axes.set_xscale("log")
    on = [row for row in rows if row["on_frontier"]]
    axes.plot([r["kflops_per_px"] for r in on], [r["loss"] for r in on], color="#777777", linewidth=1.2, zorder=2)
    families = dict.fromkeys(row["family"] for row in rows)
    for name, (colour, marker) in zip(families, _looks(), strict=False):
        mine = [row for row in rows if row["family"] == name]
        points = ([r["kflops_per_px"] for r in mine], [r["loss"] for r in mine])
        axes.plot(*points, marker, color=colour, markersize=7, markeredgecolor="white", label=name or None, zorder=3)
    _plain_log_axis(axes, [row["kflops_per_px"] for row in rows])
    axes.margins(y=0.12)
    for row in on:
        at = (row["kflops_per_px"], row["loss"])
        axes.annotate(row["codec"], at, (0, -11), textcoords="offset points", ha="center", fontsize=8, zorder=4)
    axes.set(xlabel="decoder (kFLOPs per pixel, log scale)", ylabel="loss (bpp + lmbda * MSE)")
    axes.set_title(pictures(study), loc="left", fontsize=10)
    if len(families) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


def saving_by_rate(study: Study) -> Chart | Missing:
    """Fig. 3 of the paper: what is saved at every rate."""
    title = "Saving over the rates (Fig. 3 of the paper)"
    rows: list[Row] = []
    curves = [("result", m.label, m.curve) for m in study.shown]
    curves += [("anchor", curve.name, curve) for curve in (*_published(study)[1:], *study.anchors)]
    for role, name, curve in curves:
        if curve.name == reference(study).name or name in {row["curve"] for row in rows}:
            continue
        for bpp, psnr_db in _sampled(curve):
            try:
                percent = saving(bpp, psnr_db, reference(study))
            except UsageError:  # the reference does not reach that PSNR
                continue
            if percent >= LEAST_SAVING:
                point = {"bpp": bpp, "psnr_db": psnr_db, "saving_percent": percent}
                rows.append({"curve": name, "role": role, **point})
    if not any(row["role"] == "result" for row in rows):
        return Missing(title, f"no result between the PSNR of {reference(study).name}; {_eval_hint()}.")
    columns = ("curve", "role", "bpp", "psnr_db", "saving_percent")
    note = f"Rate saved over {reference(study).name} at equal PSNR; curves are cut at {LEAST_SAVING:.0f} %."
    return Chart(
        f"saving-rate-{study.slug}", title, columns, _rounded(rows), lambda rows: rate_figure(study, rows), note
    )


def rate_figure(study: Study, rows: Sequence[Row]) -> "Figure":
    """Savings over the rate; results bold, anchors thin, single points as marks."""
    figure, axes = _axes()
    ours = _names(rows, "result")
    looks = dict(zip(ours, _looks(), strict=False))
    dashes = itertools.cycle(DASHES)
    for curve in dict.fromkeys(row["curve"] for row in rows):
        points = [row for row in rows if row["curve"] == curve]
        xy = ([p["bpp"] for p in points], [p["saving_percent"] for p in points])
        if curve not in looks:
            axes.plot(*xy, color="#555555", linestyle=next(dashes), linewidth=1.1, label=curve, zorder=2)
            continue
        colour, marker = looks[curve]
        form = {"marker": marker, "linestyle": "none"} if len(points) == 1 else {"linewidth": 2.4}
        axes.plot(*xy, color=colour, label=curve, zorder=3, **form)
    most = 1.05 * max(row["bpp"] for row in rows if row["role"] == "result")
    axes.axhline(0, color="#777777", linewidth=1.0, zorder=1)
    axes.set_xlim(0, most)
    shown = [row["saving_percent"] for row in rows if row["bpp"] <= most]
    axes.set_ylim(min(shown) - 3, max(shown) + 5)
    axes.set(xlabel=rate_axis(study), ylabel=f"rate saved over {reference(study).name} (%)")
    axes.set_title(pictures(study), loc="left", fontsize=10)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


# Time and FLOPs: the paper's Fig. 4


def time_by_flops(laboratory: Laboratory) -> Chart | Missing:
    """Fig. 4 of the paper: decode time against FLOPs for every way of running, and rank against rank."""
    title = "Decode time against computation (Fig. 4 of the paper)"
    series: dict[str, list[Result]] = {}
    for speed in laboratory.comparable_speeds:
        if speed.values.get("decode_networks_mpx_per_s") and kflops_per_px(laboratory, speed.codec):
            series.setdefault(way(speed, laboratory.speeds), []).append(speed)
    rows: list[Row] = []
    lines, order = [], {}
    for name, speeds in series.items():
        if len(speeds) < 3:
            continue
        names = [speed.codec for speed in speeds]
        flops = [kflops_per_px(laboratory, codec) or 0.0 for codec in names]
        times = [1000 / float(speed.values["decode_networks_mpx_per_s"] or 1) for speed in speeds]
        figures = zip(names, flops, times, ranks(flops), ranks(times), strict=True)
        keys = ("codec", "kflops_per_px", "decode_ms_per_mpx", "flops_rank", "time_rank")
        rows += [{"series": name, **dict(zip(keys, row, strict=True))} for row in figures]
        order[name] = dict(zip(names, times, strict=True))
        lines.append(f"- {name}: {_ranking(names, flops, times)}")
    if not rows:
        how = "`rdc bench A B C D E F G --store DB` does it, or `-o FILE` and `rdc results import FILE`"
        return Missing(title, f"needs three models timed in one way: {how}.")
    for (one, first), (other, second) in itertools.combinations(order.items(), 2):
        common = [name for name in first if name in second]
        if len(common) > 2:
            tau = kendall_tau([first[name] for name in common], [second[name] for name in common])
            lines.append(f"- {one} and {other}: Kendall tau of the times {tau:.2f}, {len(common)} models.")
    columns = ("series", "codec", "kflops_per_px", "decode_ms_per_mpx", "flops_rank", "time_rank")
    note = "Networks of the decoder alone, without entropy coding.\n\n" + "\n".join(lines)
    return Chart("time-flops", title, columns, _rounded(rows), time_figure, note)


# What training brought


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
            notes.append(f"- {run.tag}: the last doubling of the computation took {per_doubling:.1f} % off the rate.")
    if not rows:
        how = "`rdc results import RUN --tag TAG --store DB` takes them from a training run"
        return Missing(title, f"no run with two validations in the store; {how}.")
    note = (
        "Estimated rates of the averaged weights; those of a model of one rate by the tangent at its lmbda, against "
        "its own training alone. Dashed: a guess for the longest training of each model, as if two more doublings took "
        "as much off; where a run was looked at before its learning rate fell, that fall is in it, so that it may be "
        "too good.\n\n" + "\n".join(notes)
    )
    return Chart("rate-training", title, ("run", "eflop", "excess_percent"), _rounded(rows), training_figure, note)


def _excess(run: Result) -> list[tuple[float, float]]:
    """Computation, and percent of rate over the run's last look; looks that share no PSNR with that are left out."""
    looks = _looks_of(run)
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


def _looks_of(run: Result) -> list[tuple[float, list[Point]]]:
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
    figure, axes = _axes()
    axes.set_xscale("log")
    runs = [name for name in dict.fromkeys(row["run"] for row in rows) if not name.endswith(", guess")]
    for name, (colour, marker) in zip(runs, _looks(), strict=False):
        for run, form in ((name, {"marker": marker, "label": name}), (f"{name}, guess", {"linestyle": "--"})):
            points = [row for row in rows if row["run"] == run]
            xy = ([p["eflop"] for p in points], [p["excess_percent"] for p in points])
            axes.plot(*xy, color=colour, linewidth=1.4, markersize=5, **form)
    axes.axhline(0, color="#777777", linewidth=1.0, zorder=1)
    _plain_log_axis(axes, [row["eflop"] for row in rows])
    axes.set(xlabel="training (EFLOP, forward and backward, log scale)", ylabel="rate over the run's last (%)")
    axes.set_title("Held-out photographs, equal PSNR", loc="left", fontsize=10)
    axes.set_ylim(None, min(60.0, 1.1 * max(row["excess_percent"] for row in rows)))
    axes.legend(loc="upper right", frameon=False)
    return figure


def time_figure(rows: Sequence[Row]) -> "Figure":
    """Time over FLOPs on the left, rank over rank on the right; equal order would be the diagonal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(xscale="log", yscale="log")
    for name, (colour, marker) in zip(dict.fromkeys(row["series"] for row in rows), _looks(), strict=False):
        points = sorted((row for row in rows if row["series"] == name), key=lambda row: row["kflops_per_px"])
        form = {"color": colour, "marker": marker, "linewidth": 1.0, "markersize": 6, "markeredgecolor": "white"}
        left.plot([p["kflops_per_px"] for p in points], [p["decode_ms_per_mpx"] for p in points], label=name, **form)
        right.plot([p["flops_rank"] for p in points], [p["time_rank"] for p in points], **form)
    tallest = {row["codec"]: max((r for r in rows if r["codec"] == row["codec"]), key=_time) for row in rows}
    for codec, row in tallest.items():
        place = (row["kflops_per_px"], row["decode_ms_per_mpx"])
        left.annotate(codec, place, (0, 7), textcoords="offset points", ha="center", color=TEXT, fontsize=8)
    last = max(row["flops_rank"] for row in rows)
    right.plot([1, last], [1, last], color="#777777", linewidth=1.0, linestyle=DASHES[1], zorder=1)
    left.set(xlabel="decoder (kFLOPs per pixel)", ylabel="decode time (ms per megapixel)")
    codecs = {row["flops_rank"]: row["codec"] for row in rows}
    right.set_xticks(list(codecs), [f"{rank:g}\n{codec}" for rank, codec in codecs.items()])
    right.set(xlabel="rank by FLOPs", ylabel="rank by time")
    _plain_log_axis(left, [row["kflops_per_px"] for row in rows])
    _plain_log_axis(left, [row["decode_ms_per_mpx"] for row in rows], vertical=True)
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return figure


def way(speed: Result, among: Sequence[Result]) -> str:
    """How a speed was measured, in words; the processor is named where there are several."""
    values, machine = speed.values, speed.provenance.machine
    threads = values.get("threads")
    device = values.get("device") or "cpu"
    processors = {(r.provenance.machine.get("cpu"), r.values.get("device")) for r in among}
    if device == "cpu":
        device = str(machine.get("cpu") or "CPU") if len(processors) > 1 else "CPU"
        device += f", {threads} thread{'s' * (threads != 1)}" if threads else ""
    parts = (device, values.get("dtype"), values.get("isa"), speed.dataset)
    return ", ".join(str(part) for part in parts if part)


def _ranking(names: Sequence[str], flops: Sequence[float], times: Sequence[float]) -> str:
    pairs = [f"{more} before {less}" for more, less in inversions(names, flops, times)]
    words = f"more FLOPs and yet faster: {', '.join(pairs)}" if pairs else "no model with more FLOPs is faster"
    return f"Kendall tau of FLOPs and time {kendall_tau(flops, times):.2f}, {len(names)} models; {words}."


def _time(row: Row) -> float:
    return float(row["decode_ms_per_mpx"])


# Shared


def _cost_columns(cost: str) -> tuple[str, ...]:
    return ("codec", "by", "series", cost, "bpp", "psnr_db", "saving_percent", "on_frontier")


def _cost_rows(found: Sequence[tuple[Standing, float, str]], cost: str, less_is_better: bool) -> list[dict[str, Any]]:
    """Rows by source and series, each with its own frontier."""
    rows: list[dict[str, Any]] = []
    for key in dict.fromkeys((standing.by, series) for standing, _, series in found):
        group = [(s, value) for s, value, series in found if (s.by, series) == key]
        costs = [value if less_is_better else -value for _, value in group]
        on = frontier(costs, [s.saving_percent for s, _ in group])
        order = sorted(range(len(group)), key=lambda i: costs[i])
        rows += [_cost_row(group[i][0], group[i][1], key[1], cost, i in on) for i in order]
    return rows


def _cost_row(s: Standing, value: float | None, series: str, cost: str, on: bool) -> dict[str, Any]:
    row = {"codec": s.label, "by": s.by, "series": series, cost: value, "bpp": s.bpp, "psnr_db": s.psnr_db}
    return _rounded([{**row, "saving_percent": s.saving_percent, "on_frontier": int(on)}])[0]  # type: ignore[return-value]


def _rounded(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Six digits, in the file as in the figure."""
    return tuple({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows)


def _points(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.bpp, curve.psnr_db, strict=True))


def _published(study: Study) -> list[Curve]:
    if study.identity == KODAK:
        return [load_curve(name) for name in KODAK_CURVES]
    return list(study.anchors)


def _sampled(curve: Curve) -> list[tuple[float, float]]:
    """Rates evenly spaced along a curve, and the PSNR there; a single point as it is."""
    if len(curve.bpp) == 1:
        return _points(curve)
    rates = np.linspace(curve.bpp[0], curve.bpp[-1], SAMPLES)[1:-1]
    inner = [(float(rate), psnr_at(curve, float(rate))) for rate in rates]
    return [_points(curve)[0], *inner, _points(curve)[-1]]


def _names(rows: Iterable[Row], role: str) -> list[str]:
    return list(dict.fromkeys(row["curve"] for row in rows if row["role"] == role))


def _looks() -> Iterable[tuple[str, str]]:
    """Colours with markers; with five and seven of them, 35 differ."""
    colours = [c for c in COLOURS if c != "#000000"] + ["#000000"]
    return zip(itertools.cycle(colours), itertools.cycle(MARKERS), strict=False)


def _is_alone(study: Study, found: Sequence[object]) -> bool:
    """Whether a chart would hold one point; on Kodak that stands beside the paper's."""
    return len(found) == 1 and study.identity != KODAK


def _alone(standing: Standing) -> str:
    return f"{standing.codec} is alone there: others of many rates do not reach {POINT_BPP} bpp, or are not known."


def _nothing(study: Study, what: str, how: str) -> str:
    if not standings(study):
        return f"no result reaches {POINT_BPP} bpp within the PSNR of {reference(study).name}; {_eval_hint()}."
    return f"no measured model is {what} in the store; {how}."


def _eval_hint() -> str:
    return "`rdc eval MODEL --data DIR -o FILE` measures one"


def _shown(study: Study) -> str:
    return f"{pictures(study)}; models of many rates at {POINT_BPP} bpp"


def _axes() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.4))
    return figure, figure.subplots()


def _name_levels(axes: "Axes", levels: Sequence[tuple[float, str]]) -> None:
    """Names of level lines in the right margin, moved apart where the lines lie close."""
    low, high = axes.get_ylim()
    ordered = sorted(levels)
    heights = spread([(level - low) / (high - low) for level, _ in ordered], LABEL_GAP, top=1.0)
    for height, (_, name) in zip(heights, ordered, strict=True):
        place = {"xycoords": "axes fraction", "va": "center", "annotation_clip": False}
        axes.annotate(name, (1.01, height), color=TEXT, fontsize=8, **place)  # type: ignore[arg-type]


def _label_points(axes: "Axes", points: Sequence[tuple[float, float, str, bool]]) -> None:
    """Names beside their points: the paper's above, ours below."""
    for x, y, name, above in points:
        axes.annotate(
            name,
            (x, y),
            (0, 7 if above else -14),
            textcoords="offset points",
            ha="center",
            color=TEXT,
            fontsize=9,
            fontweight="normal" if above else "bold",
        )


def _plain_log_axis(axes: "Axes", values: Sequence[float], vertical: bool = False) -> None:
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
