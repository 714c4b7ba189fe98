"""Tables: the page of results, the data of a figure, and the short table of a README."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.bdrate import REPORTING_WINDOW, Curve, bd_rate, rate_at, saving
from rdcodec.measure.rd import means
from rdcodec.report.study import Result, Study

README_ANCHORS = {"JPEG": "kodak_jpeg_pillow", "WebP": "kodak_webp_pillow", "BPG": "bpg_444"}
"""Heading in a README and built-in curve of the codecs that our model stands beside there."""
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NONE = "-"

PREFACE = """# Results

Written by `rdc report`. Rates count every byte of a file; PSNR and MS-SSIM are over RGB, on the decoded 8-bit
pictures; all are means over the pictures. BD-rate is by PCHIP of log-rate over PSNR; negative: fewer bits than the
anchor at equal PSNR.
"""


def results_page(studies: Sequence[Study], figures: Mapping[str, Sequence[str]]) -> str:
    """Markdown of all studies; `figures` are the names of the picture files to show, by slug."""
    return "\n".join([PREFACE, *(_study_text(study, figures.get(study.slug, ())) for study in studies)])


def curves_csv(study: Study) -> str:
    """All points of a study: curve, role (result or anchor), quality, bpp, psnr_db, ms_ssim; empty: unknown."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["curve", "role", "quality", "bpp", "psnr_db", "ms_ssim"])
    for result in study.results:
        for mean in means(result.evaluation.rows):
            numbers = (_csv_number(mean[key]) for key in ("setting", "bpp", "psnr_db", "ms_ssim"))
            writer.writerow([result.label, "result", *numbers])
    for anchor in study.anchors:
        for bpp, psnr_db in zip(anchor.bpp, anchor.psnr_db, strict=True):
            writer.writerow([anchor.name, "anchor", "", _csv_number(bpp), _csv_number(psnr_db), ""])
    return out.getvalue()


def readme_section(study: Study, anchors: Mapping[str, Curve]) -> str:
    """A short table for each result: its points, each anchor's rate at the same PSNR, and the rate saved."""
    return "\n".join(_readme_table(study, result, anchors) for result in study.results)


def replace_results(text: str, section: str, name: str) -> str:
    """`text` with `section` between the two markers, which stay; BadInput naming the file if they are not there."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BadInput(f"{name}: needs the lines {BEGIN} and {END}, once each, where the results belong")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    newline = "\r\n" if "\r\n" in text else "\n"
    return before + newline.join([BEGIN, *section.splitlines(), END]) + after


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a column whose name starts with '>' is for numbers."""
    head = [column.removeprefix(">") for column in columns]
    rule = ["---:" if column.startswith(">") else "---" for column in columns]
    return "".join(f"| {' | '.join(_escape(cell) for cell in row)} |\n" for row in (head, rule, *rows))


def points_table(result: Result) -> str:
    """Rate, PSNR and MS-SSIM of every setting."""
    rows = [
        [_setting(m), _number(m["bpp"], 4), _number(m["psnr_db"], 2), _number(m["ms_ssim"], 5)]
        for m in means(result.evaluation.rows)
    ]
    return markdown_table([">quality", ">bpp", ">PSNR dB", ">MS-SSIM"], rows)


def bd_table(result: Result, anchors: Sequence[Curve]) -> str:
    """BD-rate against each anchor; a single-rate model has its saving at its own point instead."""
    low, high = REPORTING_WINDOW
    columns = ["anchor", ">BD-rate", f">{low:.0f}-{high:.0f} dB", ">overlap", ">points", "note"]
    return markdown_table(columns, [[anchor.name, *_bd_cells(result.curve, anchor)] for anchor in anchors])


def _study_text(study: Study, figures: Sequence[str]) -> str:
    parts = [f"## {study.name}, {_count(study.picture_count, 'picture')}\n"]
    parts += [f"![Rate and distortion on {study.name}]({figure})\n" for figure in figures]
    for result in study.results:
        parts += [f"### {result.label}\n", _provenance(result), points_table(result)]
        if study.anchors:
            parts.append(bd_table(result, study.anchors))
    return "\n".join(parts)


def _provenance(result: Result) -> str:
    """What ran, on which pictures, when, and on what."""
    evaluation = result.evaluation
    found = evaluation.machine
    dataset, at_once = evaluation.dataset, evaluation.jobs
    hardware = [
        found.get("cpu"),
        _count(found.get("cores"), "core"),
        _count(found.get("threads"), "thread"),
        " ".join(found.get("isa") or ()),
        found.get("gpu"),
    ]
    software = [
        found.get("package") and f"rdcodec {found['package']}",
        found.get("commit") and f"commit {found['commit'][:12]}{' with changes' * bool(found.get('dirty'))}",
        found.get("torch") and f"torch {found['torch']}",
        found.get("python") and f"Python {found['python']}",
        found.get("os"),
    ]
    lines = {
        "codec": f"rdcodec, weights {evaluation.tag}" if result.ours else evaluation.tag,
        "pictures": f"{dataset['name']}, SHA-256 {dataset['sha256'][:12]}",
        "measured": f"{evaluation.created_utc}, {_count(at_once, 'picture')} at a time",
        "machine": _join(hardware),
        "software": _join(software),
    }
    return "".join(f"- {key}: {value}\n" for key, value in lines.items())


def _bd_cells(curve: Curve, anchor: Curve) -> list[str]:
    """Cells of `bd_table` after the anchor's name; where there is no figure, the note says why."""
    points = f"{len(curve.bpp)} / {len(anchor.bpp)}"
    try:
        if len(curve.bpp) == 1:
            return [NONE, NONE, NONE, points, _saving(curve, anchor)]
        whole = bd_rate(curve, anchor)
    except UsageError as error:
        return [NONE, NONE, NONE, points, str(error)]
    share = (whole.high - whole.low) / (curve.psnr_db[-1] - curve.psnr_db[0])
    overlap = f"{whole.low:.2f}-{whole.high:.2f} dB"
    note = f"only {100 * share:.0f} % of the curve" if share < 0.5 else ""
    return [_percent(whole.value), _windowed(curve, anchor), overlap, points, note]


def _saving(curve: Curve, anchor: Curve) -> str:
    percent = saving(curve.bpp[0], curve.psnr_db[0], anchor)
    what = f"saves {percent:.1f} %" if percent >= 0 else f"needs {-percent:.1f} % more"
    return f"{what} at its only point"


def _windowed(curve: Curve, anchor: Curve) -> str:
    try:
        return _percent(bd_rate(curve, anchor, REPORTING_WINDOW).value)
    except UsageError:  # the overlap does not hold the window
        return NONE


def _readme_table(study: Study, result: Result, anchors: Mapping[str, Curve]) -> str:
    columns = [">quality", ">bpp", ">PSNR dB", ">MS-SSIM"]
    columns += [column for name in anchors for column in (f">{name} bpp", ">saved")]
    rows = []
    for m in means(result.evaluation.rows):
        row = [_setting(m), _number(m["bpp"], 3), _number(m["psnr_db"], 2), _number(m["ms_ssim"], 4)]
        rows.append(row + [cell for anchor in anchors.values() for cell in _rival_cells(m, anchor)])
    found = {name: _bd_cells(result.curve, anchor)[0] for name, anchor in anchors.items()}
    bd_rates = ", ".join(f"{name} {percent}" for name, percent in found.items() if percent != NONE)
    return (
        f"{result.label} on the {study.picture_count} {study.name} pictures (means of whole files), and what other "
        "codecs need for the same PSNR:\n\n"
        f"{markdown_table(columns, rows)}\n"
        f"{f'BD-rate against {bd_rates}. ' if bd_rates else ''}"
        f"Curves: {', '.join(anchor.name for anchor in anchors.values())}.\n"
    )


def _rival_cells(mean: Mapping[str, Any], anchor: Curve) -> list[str]:
    """An anchor's rate at the PSNR of a point, and what the point saves of it."""
    if mean["psnr_db"] is None:
        return [NONE, NONE]
    try:
        rate = rate_at(anchor, mean["psnr_db"])
    except UsageError:  # the anchor does not reach that PSNR
        return [NONE, NONE]
    return [_number(rate, 3), f"{round(100 * (1 - mean['bpp'] / rate))} %"]


def _setting(mean: Mapping[str, Any]) -> str:
    return NONE if mean["setting"] is None else f"{mean['setting']:g}"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return f"{value:+.1f} %"


def _csv_number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _count(number: int | None, noun: str) -> str:
    return "" if number is None else f"{number} {noun}{'' if number == 1 else 's'}"


def _join(parts: Sequence[str | None]) -> str:
    return ", ".join(part for part in parts if part) or "unknown"


def _escape(cell: str) -> str:
    return cell.replace("|", r"\|")
