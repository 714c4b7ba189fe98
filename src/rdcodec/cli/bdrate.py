"""bdrate: curves against each other."""

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdcodec.cli import io
from rdcodec.errors import UsageError
from rdcodec.metrics import CURVES as METRICS
from rdcodec.metrics import EYE

if TYPE_CHECKING:
    from rdcodec.measure.bdrate import Curve

POINT_BPP = 0.46  # where the paper's models are


def bdrate(
    anchor: Annotated[str | None, typer.Argument(metavar="ANCHOR", help="Curve by name (bpg_444), or a file.")] = None,
    tests: Annotated[list[str] | None, typer.Argument(metavar="TEST", help="Curves by name, or result files.")] = None,
    metric: Annotated[
        str, typer.Option("--metric", metavar="METRIC", help=f"Metric to compare by: {', '.join(METRICS)}.")
    ] = "psnr",
    at: Annotated[
        float, typer.Option("--at", min=0.001, metavar="BPP", help="Rate at which the relative rate is read.")
    ] = POINT_BPP,
    listing: Annotated[bool, typer.Option("--list", metavar=io.FLAG, help="Show built-in curves.")] = False,
    dataset: Annotated[
        str | None, typer.Option("--dataset", metavar="NAME", help="With --list: data sets whose name contains this.")
    ] = None,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """BD-rate and BD-PSNR of curves against an anchor, and the relative rate at one point.

    Both are per cent of rate at equal quality, negative where fewer bits do. BD-rate: PCHIP of log-rate over
    quality, over the whole overlap and over 29 to 36 dB. MS-SSIM is compared in dB, and stands beside PSNR, as do
    SSIMULACRA 2 and PSNR-HVS-M where they were measured. Where both curves have results of the same pictures, the mean
    of the pictures' own BD-rates stands beside it with its 95 % interval (bootstrap).

    Example: [bold]rdc bdrate bpg_444 vtm_18.0 elic[/bold]
    """
    from rdcodec.measure.reading import load_curve

    if listing:
        _list_curves(dataset, as_json)
        return
    if anchor is None or not tests:
        raise UsageError("give an anchor and one or more curves, or --list to see what is built in")
    if metric not in METRICS:
        raise UsageError(f"--metric {metric}: is none of {', '.join(METRICS)}")
    reference = load_curve(anchor, metric)
    curves = [load_curve(test, metric) for test in tests]
    if as_json:
        for curve in curves:
            io.json_line("bdrate", _bd_record(curve, reference, at))
    else:
        show_bd_rates([(curve, reference) for curve in curves], at=at)


def _list_curves(dataset: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from rdcodec.measure.reading import about_curve, builtin_curves

    known = [about_curve(name) for name in builtin_curves()]
    wanted = (dataset or "").lower()
    found = [about for about in known if wanted in f"{about.pictures} {about.name}".lower()]
    if not found:
        names = ", ".join(sorted({about.pictures for about in known}))
        raise UsageError(f"--dataset {dataset}: no curve on such pictures: there are {names}")
    if as_json:
        for about in found:
            low, high = about.bpp
            record: dict[str, Any] = {key: value for key, value in asdict(about).items() if key != "bpp"}
            io.json_line("curve", record | {"bpp_low": low, "bpp_high": high})
        return
    for pictures in dict.fromkeys(about.pictures for about in found):
        table = io.table("curve", "codec", ">points", ">bpp", "MS-SSIM", "source")
        for about in (about for about in found if about.pictures == pictures):
            span = f"{about.bpp[0]:.2f}-{about.bpp[1]:.2f}"
            structure = "yes" if about.has_ms_ssim else "-"
            table.add_row(about.name, about.codec, str(about.points), span, structure, about.source.split()[0])
        io.show(table, title=f"{pictures}: {table.row_count} curves")


def _bd_record(curve: "Curve", anchor: "Curve", at: float) -> dict[str, Any]:
    """Deltas over the whole overlap, and what is None where the curves do not cover it: in the reporting window
    (of PSNR), and the relative rate at a rate."""
    from rdcodec.measure.bdrate import REPORTING_WINDOW, bd_psnr, bd_rate, bd_rate_by, relative_rate_at
    from rdcodec.measure.uncertainty import bd_interval

    interval = bd_interval(curve, anchor)
    result = bd_rate(curve, anchor)
    beside = {name: bd_rate_by(curve, anchor, name) for name in EYE}
    windowed = relative = gain = None
    with contextlib.suppress(UsageError):
        windowed = bd_rate(curve, anchor, REPORTING_WINDOW).value if curve.metric == "psnr" else None
    with contextlib.suppress(UsageError):
        relative = relative_rate_at(curve, anchor, at)
    with contextlib.suppress(UsageError):
        gain = bd_psnr(curve, anchor).value
    return {
        "test": curve.name,
        "anchor": anchor.name,
        "metric": curve.metric,
        "bd_rate_percent": result.value,
        "bd_rate_of_pictures_percent": interval and interval.value,
        "bd_rate_of_pictures_low_percent": interval and interval.low,
        "bd_rate_of_pictures_high_percent": interval and interval.high,
        "pictures": interval and interval.pictures,
        **{f"bd_rate_{name}_percent": value for name, value in beside.items()},
        "bd_rate_29_36_db_percent": windowed,
        "bd_quality": gain,
        "relative_rate_percent": relative,
        "relative_rate_at_bpp": at,
        "overlap_low": result.low,
        "overlap_high": result.high,
        "test_points": result.points[0],
        "anchor_points": result.points[1],
        "fit": "pchip",
        "warning": result.warning or _other_pictures(curve, anchor),
    }


def _other_pictures(curve: "Curve", anchor: "Curve") -> str | None:
    names = curve.pictures, anchor.pictures
    if not all(names) or names[0].lower() == names[1].lower():
        return None
    return f"their pictures have other names ({names[0]}; {names[1]}): compare only what was measured on the same"


def show_bd_rates(pairs: "Sequence[tuple[Curve, Curve]]", refuse: bool = True, at: float = POINT_BPP) -> None:
    """A line for each (test, anchor); with `refuse` off, a pair that has no answer is a note, not an error."""
    if not pairs:
        return

    quality = METRICS[pairs[0][0].metric]
    shared = pairs[0][1].name if len({anchor.name for _, anchor in pairs}) == 1 else None
    names = ("test",) if shared else ("test", "anchor")
    of_pictures = ">of pictures, 95 %"
    eye = _shown_beside(pairs) if quality.short == "psnr" else ()
    columns = (
        ">BD-rate",
        of_pictures,
        *(f">by {METRICS[name].title}" for name in eye),
        ">29-36 dB",
        f">BD-{quality.title}",
        f">at {at:g} bpp",
        f">overlap{quality.unit}",
        ">points",
    )
    table = io.table(*names, *columns)
    notes: list[str] = []
    for test, anchor in pairs:
        try:
            if len(test.bpp) == 1:
                notes.append(_own_point(test, anchor))
            else:
                row = _bd_record(test, anchor, at)
                table.add_row(*(row[name] for name in names), *_bd_cells(row, quality.unit, eye))
                notes += [f"{test.name} against {anchor.name}: {row['warning']}"] if row["warning"] else []
        except UsageError as error:
            if refuse:
                raise
            notes.append(str(error))
    if table.row_count:
        against = f"Against {shared}: " if shared else ""
        how = f"PCHIP of log-rate over {quality.heading}; rates under 0: fewer bits"
        io.show(table, title=f"{against}{how}")
        notes += _ranking([test for test, _ in pairs]) if shared else []
        notes += _without_pictures([curve for pair in pairs for curve in pair])
    for note in notes:
        io.write_text(note + "\n")


def _shown_beside(pairs: "Sequence[tuple[Curve, Curve]]") -> list[str]:
    """Metrics of the eye that have a column beside PSNR: MS-SSIM, and others where a pair has them."""
    from rdcodec.measure.bdrate import bd_rate_by

    return [name for name in EYE if name == "ms_ssim" or any(bd_rate_by(*pair, name) is not None for pair in pairs)]


def _own_point(test: "Curve", anchor: "Curve") -> str:
    """What a single-rate codec has in the place of a BD-rate."""
    from rdcodec.measure.bdrate import relative_rate

    percent = relative_rate(test.bpp[0], test.psnr_db[0], anchor)
    return f"{test.name} against {anchor.name}: {percent:+.1f} % at its only point, {test.bpp[0]:.3f} bpp"


def _without_pictures(curves: "Sequence[Curve]") -> list[str]:
    names = dict.fromkeys(curve.name for curve in curves if len(curve.bpp) > 1 and not curve.by_picture)
    return [f"means alone, so no interval: {', '.join(names)}"] if names else []


def _interval_cell(row: dict[str, Any]) -> str:
    names = ("bd_rate_of_pictures_percent", "bd_rate_of_pictures_low_percent", "bd_rate_of_pictures_high_percent")
    if row["pictures"] is None:
        return "-"
    value, low, high = (io.number(row[name], 1, sign=True) for name in names)
    return f"{value} ({low} to {high})"


def _ranking(curves: "Sequence[Curve]") -> list[str]:
    """One line: the order of the curves, those that pictures cannot tell apart as ties."""
    from rdcodec.measure.uncertainty import rank_text, ranks

    if len(curves) < 2 or not all(curve.by_picture for curve in curves):
        return []
    order = ranks(curves)
    named = sorted(zip(order, (curve.name for curve in curves), strict=True))
    return ["ranks, '=' for ties: " + ", ".join(f"{rank_text(rank, order)} {name}" for rank, name in named)]


def _bd_cells(row: dict[str, Any], unit: str, eye: Sequence[str]) -> list[str]:
    return [
        f"{row['bd_rate_percent']:+.2f} %",
        _interval_cell(row),
        *(io.number(row[f"bd_rate_{name}_percent"], 1, sign=True, unit=" %") for name in eye),
        io.number(row["bd_rate_29_36_db_percent"], 2, sign=True, unit=" %"),
        io.number(row["bd_quality"], 2, sign=True, unit=unit),
        io.number(row["relative_rate_percent"], 1, sign=True, unit=" %"),
        f"{row['overlap_low']:.1f} to {row['overlap_high']:.1f}",
        f"{row['test_points']} / {row['anchor_points']}",
    ]
