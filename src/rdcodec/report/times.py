"""Time against computation: Fig. 4 of the paper."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rdcodec.measure.ranking import inversions, kendall_tau, ranks
from rdcodec.report.charts import Chart, Missing, Row, looks, plain_log_axis, rounded
from rdcodec.report.plots import DASHES, TEXT
from rdcodec.report.standings import kflops_per_px
from rdcodec.report.study import Laboratory
from rdcodec.store.records import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    return Chart("time-flops", title, columns, rounded(rows), time_figure, note)


def time_figure(rows: Sequence[Row]) -> "Figure":
    """Time over FLOPs on the left, rank over rank on the right; equal order would be the diagonal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(xscale="log", yscale="log")
    for name, (colour, marker) in zip(dict.fromkeys(row["series"] for row in rows), looks(), strict=False):
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
    plain_log_axis(left, [row["kflops_per_px"] for row in rows])
    plain_log_axis(left, [row["decode_ms_per_mpx"] for row in rows], vertical=True)
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
    kernels = values.get("kernels")  # results of before the core lack it
    parts = (device, f"core {kernels}" if kernels else values.get("dtype"), values.get("isa"), speed.dataset)
    return ", ".join(str(part) for part in parts if part)


def _ranking(names: Sequence[str], flops: Sequence[float], times: Sequence[float]) -> str:
    pairs = [f"{more} before {less}" for more, less in inversions(names, flops, times)]
    words = f"more FLOPs and yet faster: {', '.join(pairs)}" if pairs else "no model with more FLOPs is faster"
    return f"Kendall tau of FLOPs and time {kendall_tau(flops, times):.2f}, {len(names)} models; {words}."


def _time(row: Row) -> float:
    return float(row["decode_ms_per_mpx"])
