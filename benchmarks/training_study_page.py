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
        ["arm", "what it is", ">kFLOPs/px", ">TFLOP", ">steps", ">minutes", ">loss", ">rate", ">against x265"],
        [cells(name, rows, base) for name, rows in sorted(arms.items(), key=lambda arm: loss(arm[1]))],
    )
    name = arguments.results.stem
    between(arguments.page, name, f"![Validation loss of every arm]({figure(arguments.results, arms)})\n\n{table}")


def cells(name: str, rows: list[Row], base: list[Row]) -> list[str]:
    """A row of the table: means over the seeds. The rate is that at equal PSNR, against the first run of the base."""
    last = [row["validation"] for row in rows]
    losses = [record["loss"] for record in last]
    spread = f" ± {(max(losses) - min(losses)) / 2:.4f}" if len(losses) > 1 else ""
    return [
        name,
        rows[0]["note"],
        f"{rows[0]['kflops_per_px']:.1f}",
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


def figure(results: Path, arms: dict[str, list[Row]]) -> str:
    """Training loss over compute, and the validation loss at the end of every arm; the name of the picture."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        drawn = Figure(figsize=(7.0, 0.32 * len(arms) + 1.0))
        axes = drawn.subplots()
        ordered = sorted(arms.items(), key=lambda arm: -loss(arm[1]))
        for height, (_, rows) in enumerate(ordered):
            for row in rows:
                share = MARKERS[0] if row["share"] == 1 else MARKERS[2]
                axes.plot(row["validation"]["loss"], height, share, color=COLOURS[0 if row["share"] == 1 else 2])
        axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
        axes.set(xlabel="validation loss (round: the whole budget, diamond: a share of it)")
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
