"""Tables and plots of training studies, from their results to a page of the documentation.

    python benchmarks/training_study_page.py docs/results/recipes.json --page docs/training.md

The table replaces what stands between the page's markers of the results' name; the figure lies beside the results.
"""

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import Curve, bd_rate
from rdcodec.report.plots import COLOURS, FORMATS, MARKERS, STYLE
from rdcodec.report.tables import markdown_table

Row = dict[str, Any]
WORST = 1.25  # of the base's loss: what the figure shows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--page", type=Path, required=True)
    arguments = parser.parse_args()
    study = json.loads(arguments.results.read_text(encoding="utf-8"))
    arms: dict[str, list[Row]] = {}
    for row in study["rows"]:
        arms.setdefault(row["arm"], []).append(row)
    base = arms[study["base"]]
    table = markdown_table(
        ["arm", "what it is", ">TFLOP", ">steps", ">minutes", ">loss", ">rate", ">against x265"],
        [cells(name, rows, base) for name, rows in sorted(arms.items(), key=lambda arm: loss(arm[1]))],
    )
    name = arguments.results.stem
    between(
        arguments.page,
        name,
        f"![Validation loss of every arm]({figure(arguments.results, arms, study['base'])})\n\n{table}",
    )


def cells(name: str, rows: list[Row], base: list[Row]) -> list[str]:
    """A row of the table: means over the seeds. The rate is that at equal PSNR, against the first run of the base."""
    last = [row["validation"] for row in rows]
    losses = [record["loss"] for record in last]
    spread = f" ± {(max(losses) - min(losses)) / 2:.4f}" if len(losses) > 1 else ""
    return [
        name,
        rows[0]["note"],
        f"{fmean(record['eflop'] for record in last) * 1e6:.0f}",
        f"{fmean(record['step'] for record in last):,.0f}",
        f"{fmean(record['seconds'] for record in last) / 60:.0f}",
        f"{fmean(losses):.4f}{spread}",
        percent([difference(row, base[0]) for row in rows]),
        percent([record["bd_rate_percent"]["x265_444"] for record in last]),
    ]


def difference(row: Row, base: Row) -> float | None:
    """BD-rate against another run; None where the curves do not meet."""
    try:
        return bd_rate(curve(row), curve(base)).value
    except UsageError:
        return None


def percent(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{fmean(known):+.1f} %" if len(known) == len(values) else "-"


def loss(rows: list[Row]) -> float:
    return fmean(row["validation"]["loss"] for row in rows)


def curve(row: Row) -> Curve:
    record = row["validation"]
    return Curve.from_points(row["name"], zip(record["bpp"], record["psnr_db"], strict=True))


def figure(results: Path, arms: dict[str, list[Row]], base: str) -> str:
    """The validation loss of every run by arm, and training loss over compute of the base and the best; its name.

    Arms far beyond the base are named at the edge, or nothing else could be told apart.
    """
    import matplotlib
    from matplotlib.figure import Figure

    worst = WORST * loss(arms[base])
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        drawn = Figure(figsize=(9.0, 0.22 * len(arms) + 1.0), layout="constrained")
        ends, curves = drawn.subplots(1, 2, width_ratios=(3, 2))
        ordered = sorted(arms.items(), key=lambda arm: -loss(arm[1]))
        for height, (_, rows) in enumerate(ordered):
            for row in rows:
                value, whole = row["validation"]["loss"], row["share"] == 1
                ends.plot(min(value, worst), height, MARKERS[0 if whole else 2], color=COLOURS[0 if whole else 2])
                if value > worst:
                    ends.annotate(f"{value:.2f} ", (worst, height), ha="right", va="center", xytext=(-6, 0),
                                  textcoords="offset points")  # fmt: skip
        ends.axvline(loss(arms[base]), color="#888888", linewidth=0.8, linestyle="--")
        ends.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        ends.set(xlabel="validation loss; diamonds: on a share of the budget")
        for name, colour in ((base, COLOURS[1]), (ordered[-1][0], COLOURS[0])):
            tflop, values = zip(*arms[name][0]["curve"], strict=True)
            curves.plot(tflop, values, color=colour, label=name)
        curves.set(xlabel="TFLOP", ylabel="training loss")
        curves.legend(frameon=False)
        for fmt, options in FORMATS.items():
            drawn.savefig(results.with_suffix(f".{fmt}"), format=fmt, bbox_inches="tight", **options)
    return f"results/{results.stem}.svg"


def between(page: Path, name: str, section: str) -> None:
    """Replace what stands between the page's markers of this name."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page}: needs the lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n{section}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
