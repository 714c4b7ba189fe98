"""Tables: the page of results, the data of a figure, and the short table of a README."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.anchors import shown_name
from rdcodec.measure.bdrate import REPORTING_WINDOW, Curve, bd_rate, bd_rate_by, relative_rate
from rdcodec.measure.codecs import model_of, tag_of
from rdcodec.measure.published import table_1
from rdcodec.measure.uncertainty import bd_interval
from rdcodec.metrics import MEASURED, METRICS
from rdcodec.report.charts import Chart, Missing
from rdcodec.report.devices import way
from rdcodec.report.markdown import markdown_table
from rdcodec.report.standings import kflops_per_px, paper_standings, ranks_of, reference, standings, training_of
from rdcodec.report.study import KODAK, SPEED_QUALITY, Laboratory, Measured, Study
from rdcodec.store.records import Result, Value

README_ANCHORS = {"JPEG": "kodak_jpeg_pillow", "WebP": "kodak_webp_pillow", "BPG": "bpg_444"}
"""Heading in a README and built-in curve of the codecs that our model stands beside there."""
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NONE = "-"
STRUCTURE = "ms_ssim"
LIGHTEST = "G"  # row of Table 1
README_DIGITS = {"bpp": 3, "psnr_db": 2, "ms_ssim": 4}

PREFACE = """# Results

Written by `rdc report`. Rates count every byte of a file. PSNR and MS-SSIM are measured over RGB on the decoded 8-bit
pictures. All figures are means over the pictures. BD-rate interpolates log-rate over PSNR with PCHIP. A relative rate
compares two rates at equal PSNR. Both are negative if files are smaller: a saving of 10 % in the paper is -10 % here.
"Of pictures" is the mean of the BD-rates of single pictures, with a 95 % interval from a bootstrap over the pictures.
It needs results of both codecs on the same pictures, at least five. Some codecs, such as JPEG XL, are tuned for the eye
and not for PSNR, so there is also a BD-rate at equal MS-SSIM (in dB).
"""


TIES = (
    "The number in front of a codec is its rank: one more than the number of codecs that are better with 95 % "
    "confidence, picture by picture. '=' marks ties.\n"
)


@dataclass(frozen=True)
class Table:
    """A table in its three forms; columns that begin with '>' are for numbers."""

    stem: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str

    def markdown(self) -> str:
        """With a heading line and alignments."""
        return markdown_table(self.columns, self.rows)

    def data(self) -> str:
        """CSV; '-' is left empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([column.removeprefix(">") for column in self.columns])
        writer.writerows([["" if cell == NONE else cell for cell in row] for row in self.rows])
        return out.getvalue()

    def latex(self) -> str:
        """A tabular, with rules of the package booktabs."""
        form = "".join("r" if column.startswith(">") else "l" for column in self.columns)
        head = [column.removeprefix(">") for column in self.columns]
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (head, *self.rows)]
        rules = [rf"\begin{{tabular}}{{{form}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        return "\n".join([f"% {self.title}; needs \\usepackage{{booktabs}}", *rules, r"\end{tabular}", ""])


def results_page(sections: Sequence[tuple[Study, Sequence[str]]], ending: Sequence[str] = ()) -> str:
    """Markdown of all studies, each with its figures (as `chart_text` gives them), and what follows them."""
    return "\n".join(
        [
            PREFACE,
            *_verdict([study for study, _ in sections]),
            *(_study_text(study, figures) for study, figures in sections),
            *ending,
        ]
    )


def _verdict(studies: Sequence[Study]) -> list[str]:
    """Per data set of real files, BD-rates against the reference, lowest first; nothing where there are none."""
    lines = []
    for study in studies:
        anchor = study.reference
        if anchor is None or any(result.newest.values.get("estimated") for result in study.results):
            continue
        cells = [(result.label, _bd_cells(result.curve, anchor)) for result in study.results]
        rates = sorted((float(cell[0].removesuffix(" %")), label) for label, cell in cells if cell[0] != NONE)
        alone = [f"{label} {cell[-1]}" for label, cell in cells if len(cell) and "only point" in cell[-1]]
        ranks = ranks_of(study)
        ranked = [f"({ranks[label]}) " if label in ranks else "" for _, label in rates]
        shown = [f"{rank}{label} {rate:+.1f} %" for rank, (rate, label) in zip(ranked, rates, strict=True)]
        found = [*shown, *alone]
        lines.append(f"- {study.name}, BD-rate against {anchor.name}: {', '.join(found)}.\n")
    ranked = [TIES] if any(" (1" in line or ": (" in line for line in lines) else []
    return ["## In short\n", *lines, *ranked] if lines else []


def chart_text(chart: Chart | Missing, picture: str = "") -> str:
    """Markdown of a figure, or of what is missing for it."""
    if isinstance(chart, Missing):
        return f"### {chart.title}\n\nNot drawn: {chart.reason}\n"
    note = f"\n{chart.note}\n" if chart.note else ""
    return f"### {chart.title}\n\n![{chart.title}]({picture})\n{note}"


def table_text(table: Table) -> str:
    """Markdown of a table under its title."""
    return f"### {table.title}\n\n{table.markdown()}\n{table.note}\n"


def paper_table(laboratory: Laboratory, study: Study) -> Table:
    """Table 1 with our models beside the paper's: what they cost, and their rate at their own point."""
    ours = {(s.codec, s.tag): s for s in standings(study, study.results)}
    rows = []
    paper = {standing.label: standing for standing in paper_standings(study)}
    published = {row.row: row for row in table_1().values()} if study.identity == KODAK else {}
    counted = {result.codec: result for result in laboratory.counts}
    ranked = ranks_of(study)
    manner, speeds = _speeds_in_one_way(laboratory, study)
    timed = {m.label: _speed(speeds, m) for m in study.results}
    for letter, row in published.items():
        figures = [
            f"{row.parameters_m:.1f}",
            f"{row.kflops_per_px:.1f}",
            NONE,
            f"{paper[letter].relative_rate_percent:+.2f}",
        ]
        rows.append((letter, "paper", *figures, NONE, NONE, NONE, *_papers_eflop(letter, counted)))
    for m in study.results:
        standing, flops = ours.get((m.codec, m.points[0].tag)), kflops_per_px(laboratory, m.codec)
        cells = [
            _number(_parameters_m(counted.get(model_of(m.codec))), 1),
            _number(flops, 1),
            _number(standing.bpp if standing else None, 3),
            f"{standing.relative_rate_percent:+.2f}" if standing else NONE,
            NONE if study.reference is None else _bd_cells(m.curve, study.reference)[0],
            ranked.get(m.label, NONE),
            _number(_decode_speed(timed[m.label]), 1),
            *_eflop_cells(training_of(laboratory, m.codec, m.points[0].tag)),
        ]
        rows.append((m.label, m.by, *cells))
    name = reference(study).name if study.reference else "the anchor"
    columns = (
        *("model", "from", ">parameters (M)", ">kFLOPs/px", ">bpp", ">rate (%)", ">BD-rate", ">rank"),
        *(">decode MP/s", ">own training (EFLOP)", ">with its start (EFLOP)"),
    )
    note = (
        f"Rate: compared with {name} at equal PSNR (negative: smaller), at the model's only rate, or at 0.46 bpp for "
        "models of all rates. "
        "Rank: by rate at equal PSNR, picture by picture; '=' marks codecs that these pictures do not separate (95 %). "
        "Parameters of A, B and G are counted without the analysis transform, as the paper seems to do. "
        "Effort: the encoder searched for better files; the decoder is the same. "
        f"Decode: whole files of quality {SPEED_QUALITY:g}, or of the only rate{manner and f'; {manner}'}. "
        f"{_times_of_others(study, timed)}"
        "'-': not known; rates and times of the paper's models are not listed. "
        "`rdc results count MODEL` and `rdc bench MODEL` measure ours. "
        "Training: forward and backward passes, for these weights alone and together with the weights they started "
        "from. For the paper's models it is computed from two million steps with batches of 32, or of 16 for large "
        "models. The paper does not say which models are large, so all but G have both figures. Crops of 256 pixels "
        "are a guess."
    )
    title = "Models, cost and rate (Table 1 of the paper)"
    return Table(f"table1-{study.slug}", title, columns, tuple(rows), note)


def _parameters_m(count: Result | None) -> float | None:
    """Parameters in millions as Table 1 counts this model: some of its rows leave the analysis out."""
    if count is None:
        return None
    row = table_1().get(count.codec)
    key = "parameters" if row is None or row.with_analysis else "parameters_without_analysis"
    value = count.values.get(key)
    return None if value is None else float(value) / 1e6


def _two_digits(value: float | None) -> str:
    return NONE if value is None else f"{float(f'{value:.2g}'):f}".rstrip("0").rstrip(".")


def _papers_eflop(letter: str, counted: Mapping[str, Result]) -> tuple[str, str]:
    """Training of a model of Table 1, which starts from nothing: steps and batch are the paper's, FLOPs are counted."""
    per_px = counted[letter].values.get("training_flops_per_px") if letter in counted else None
    if per_px is None:
        return NONE, NONE
    batches = (32,) if letter == LIGHTEST else (16, 32)
    cell = " or ".join(_two_digits(2e6 * batch * 256**2 * float(per_px) / 1e18) for batch in batches)
    return cell, cell


def _eflop_cells(run: Result | None) -> tuple[str, str]:
    """Training of the weights themselves, and with that of what they started from."""
    both = (run.values.get(key) if run else None for key in ("own_eflop", "eflop"))
    own, whole = (None if value is None else float(value) for value in both)
    return _two_digits(own), _two_digits(whole)


def _speeds_in_one_way(laboratory: Laboratory, study: Study) -> tuple[str, list[Result]]:
    """Speeds measured in one way, and that way in words.

    The core comes before torch, these pictures before others, most of the models before fewer, most threads, and the
    newest.
    """
    models = {model_of(m.codec) for m in study.results}
    ways: dict[str, list[Result]] = {}
    for speed in laboratory.comparable_speeds:
        if speed.codec in models and speed.values.get("decode_mpx_per_s"):
            ways.setdefault(way(speed, laboratory.speeds), []).append(speed)

    def rank(item: tuple[str, list[Result]]) -> tuple[bool, bool, bool, int, int, str]:
        pictures, name = item[1][0].dataset.lower(), study.name.lower()
        core, count = bool(item[1][0].values.get("kernels")), len({s.codec for s in item[1]})
        when = max(s.provenance.created_utc or "" for s in item[1])
        threads = int(item[1][0].values.get("threads") or 0)
        return core, pictures == name, pictures.startswith(name), count, threads, when

    return max(ways.items(), key=rank, default=("", []))


def _speed(speeds: Sequence[Result], measured: Measured) -> Result | None:
    """Of the same weights where these were measured, else of the model's last ones that were."""
    of_model = [speed for speed in speeds if speed.codec == model_of(measured.codec)]
    own = [speed for speed in of_model if speed.tag == tag_of(measured.points[0].tag)] or of_model
    return own[-1] if own else None


def _decode_speed(speed: Result | None) -> float | None:
    return float(speed.values["decode_mpx_per_s"] or 0) if speed else None


def _times_of_others(study: Study, timed: Mapping[str, Result | None]) -> str:
    """Which weights were timed in the place of those of a row."""
    tags = {tag_of(m.points[0].tag): speed.tag for m in study.results if (speed := timed[m.label])}
    others = [f"{speed} for {tag}" for tag, speed in tags.items() if speed != tag]
    return f"Times were measured with other weights of a model: {', '.join(others)}. " if others else ""


def curves_csv(study: Study) -> str:
    """All points of a study: curve, role (result or anchor), quality, bpp, metrics; empty: unknown."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    points = [point for result in study.results for point in result.points]
    names = [m.name for m in MEASURED if not m.asked or any(p.values.get(m.name) is not None for p in points)]
    writer.writerow(["curve", "role", "quality", "bpp", *names])
    for result in study.results:
        for point in result.points:
            numbers = (_csv_number(point.values.get(key)) for key in ("bpp", *names))
            writer.writerow([result.label, "result", _csv_number(point.setting), *numbers])
    for anchor in study.anchors:
        for bpp, psnr_db in zip(anchor.bpp, anchor.psnr_db, strict=True):
            others = ["" for name in names if name != "psnr_db"]
            writer.writerow([anchor.name, "anchor", "", _csv_number(bpp), _csv_number(psnr_db), *others])
    return out.getvalue()


def readme_section(study: Study, anchors: Mapping[str, Curve]) -> str:
    """The first result's points and their rates against each anchor's at the same PSNR; BD-rates of all results."""
    bd_rates = "\n".join(filter(None, (_readme_bd_rates(result, anchors) for result in study.results)))
    curves = ", ".join(anchor.name for anchor in anchors.values())
    return f"{_readme_table(study, study.results[0], anchors)}\n{bd_rates}\n\nCurves: {curves}.\n"


def replace_results(text: str, section: str, name: str) -> str:
    """`text` with `section` between the two markers, which stay; BadInput naming the file if they are not there."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BadInput(f"{name}: needs the lines {BEGIN} and {END}, once each, where the results belong")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    newline = "\r\n" if "\r\n" in text else "\n"
    return before + newline.join([BEGIN, *section.splitlines(), END]) + after


def points_table(result: Measured) -> str:
    """Rate and every metric that was measured, of every setting."""
    known = [metric for metric in MEASURED if any(p.values.get(metric.name) is not None for p in result.points)]
    rows = [
        [_setting(p), _number(p.values["bpp"], 4), *(_number(p.values.get(m.name), m.digits) for m in known)]
        for p in result.points
    ]
    return markdown_table([">quality", ">bpp", *(f">{metric.heading}" for metric in known)], rows)


def quality_table(results: Sequence[Result]) -> Table:
    """Rate and every metric of quality results, by codec and pictures."""
    known = [metric for metric in METRICS if any(r.values.get(metric.name) is not None for r in results)]
    columns = ("codec", "pictures", ">setting", ">bpp", *(f">{metric.heading}" for metric in known))
    rows = []
    for r in results:
        metrics = (_number(r.values.get(metric.name), metric.digits) for metric in known)
        rows.append((shown_name(r.codec), r.dataset, _setting(r), _number(r.values["bpp"], 4), *metrics))
    return Table("quality", "Rate and distortion, means over the pictures", columns, tuple(rows), "")


def bd_table(result: Measured, anchors: Sequence[Curve]) -> str:
    """BD-rate against each anchor; a single-rate model has its relative rate at its own point instead."""
    low, high = REPORTING_WINDOW
    columns = [
        "anchor",
        ">BD-rate",
        ">of pictures, 95 %",
        ">by MS-SSIM",
        f">{low:.0f}-{high:.0f} dB",
        ">overlap",
        ">points",
        "note",
    ]
    return markdown_table(columns, [[anchor.name, *_bd_cells(result.curve, anchor)] for anchor in anchors])


def _study_text(study: Study, figures: Sequence[str]) -> str:
    count = f", {_count(study.picture_count, 'picture')}" if study.picture_count else ""
    parts = [f"## {study.name}{count}\n", *figures]
    for result in study.results:
        parts += [f"### {result.label}\n", "<details><summary>Provenance, points and anchors</summary>\n"]
        parts += [_provenance(result), points_table(result)]
        if study.anchors:
            parts.append(bd_table(result, study.anchors))
        parts.append("</details>\n")
    return "\n".join(parts)


def _provenance(result: Measured) -> str:
    """What ran, on which pictures, when, and on what."""
    last, times = result.newest, sorted({point.provenance.created_utc or "" for point in result.points})
    found, jobs = last.provenance.machine, last.values.get("jobs")
    hardware = [
        found.get("cpu"),
        _count(found.get("cores"), "core"),
        _count(found.get("threads"), "thread"),
        " ".join(map(str, isa)) if isinstance(isa := found.get("isa"), list) else isa and str(isa),
        found.get("gpu"),
    ]
    origin, commit = last.provenance, last.provenance.commit
    software = [
        origin.package and f"rdcodec {origin.package}",
        commit and f"commit {commit[:12]}{' with changes' * bool(origin.dirty)}",
        found.get("torch") and f"torch {found['torch']}",
        found.get("python") and f"Python {found['python']}",
        found.get("os"),
    ]
    sha256 = origin.dataset_sha256
    at_once = f"{_count(jobs, 'picture')} at a time" if jobs else None
    lines = {
        "rates": "estimated by the model, not from files" if last.values.get("estimated") else "",
        "codec": f"rdcodec, weights {last.tag}" if result.ours else last.tag,
        "published": "" if origin.source == "rdcodec" else origin.source,
        "pictures": _join([last.dataset, sha256 and f"SHA-256 {sha256[:12]}"]),
        "measured": ", ".join(part for part in (" to ".join(dict.fromkeys((times[0], times[-1]))), at_once) if part),
        "command": origin.command and f"`{origin.command}`",
        "machine": _join(hardware) if found else "",
        "software": _join(software) if found else "",
    }
    return "".join(f"- {key}: {value}\n" for key, value in lines.items() if value)


def _bd_cells(curve: Curve, anchor: Curve) -> list[str]:
    """Cells of `bd_table` after the anchor's name; where there is no figure, the note says why."""
    points = f"{len(curve.bpp)} / {len(anchor.bpp)}"
    try:
        if len(curve.bpp) == 1:
            return [*[NONE] * 5, points, _own_point(curve, anchor)]
        whole = bd_rate(curve, anchor)
    except UsageError as error:
        return [*[NONE] * 5, points, str(error)]
    share = (whole.high - whole.low) / (curve.psnr_db[-1] - curve.psnr_db[0])
    overlap = f"{whole.low:.2f}-{whole.high:.2f} dB"
    note = f"only {100 * share:.0f} % of the curve" if share < 0.5 else ""
    beside = (_of_pictures(curve, anchor), _by_structure(curve, anchor), _windowed(curve, anchor))
    return [_percent(whole.value), *beside, overlap, points, note]


def _by_structure(curve: Curve, anchor: Curve) -> str:
    """BD-rate by MS-SSIM: codecs that are tuned for the eye are not judged on PSNR alone."""
    value = bd_rate_by(curve, anchor, STRUCTURE)
    return NONE if value is None else _percent(value)


def _of_pictures(curve: Curve, anchor: Curve) -> str:
    """Mean BD-rate of the pictures with its interval."""
    interval = bd_interval(curve, anchor)
    return f"{interval.value:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})" if interval else NONE


def _own_point(curve: Curve, anchor: Curve) -> str:
    return f"{_percent(relative_rate(curve.bpp[0], curve.psnr_db[0], anchor))} at its only point"


def _windowed(curve: Curve, anchor: Curve) -> str:
    try:
        return _percent(bd_rate(curve, anchor, REPORTING_WINDOW).value)
    except UsageError:  # the overlap does not hold the window
        return NONE


def _readme_table(study: Study, result: Measured, anchors: Mapping[str, Curve]) -> str:
    columns = [">quality", ">bpp", ">PSNR dB", ">MS-SSIM", *(f">against {name}" for name in anchors)]
    rows = []
    for p in result.points:
        row = [_setting(p), *(_number(p.values.get(key), digits) for key, digits in README_DIGITS.items())]
        rows.append(row + [_relative_rate(p.values, anchor) for anchor in anchors.values()])
    return (
        f"{result.label} on the {study.picture_count} {study.name} pictures (means of whole files), and its rate "
        "against that of other codecs at the same PSNR. Negative means smaller files:\n\n"
        f"{markdown_table(columns, rows)}"
    )


def _readme_bd_rates(result: Measured, anchors: Mapping[str, Curve]) -> str:
    found = {name: _bd_cells(result.curve, anchor)[0] for name, anchor in anchors.items()}
    bd_rates = ", ".join(f"{name} {percent}" for name, percent in found.items() if percent != NONE)
    return bd_rates and f"- BD-rate of {result.label} against {bd_rates}."


def _relative_rate(mean: Mapping[str, Any], anchor: Curve) -> str:
    """Rate of a point against the anchor's at the same PSNR; negative: smaller."""
    if mean.get("psnr_db") is None:
        return NONE
    try:
        return f"{relative_rate(mean['bpp'], mean['psnr_db'], anchor):+.0f} %"
    except UsageError:  # the anchor does not reach that PSNR
        return NONE


def _setting(point: Result) -> str:
    return NONE if point.setting is None else f"{point.setting:g}"


def _number(value: Value, digits: int) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return f"{value:+.1f} %"


def _csv_number(value: Value) -> str:
    return "" if value is None else f"{value:.6g}"


def _count(number: Value, noun: str) -> str:
    """Machines and values of others may hold anything here."""
    shown = f"{number:g}" if isinstance(number, int | float) else number
    return "" if number is None else f"{shown} {noun}{'' if number == 1 else 's'}"


def _join(parts: Sequence[str | None]) -> str:
    return ", ".join(part for part in parts if part) or "unknown"


def _latex(cell: str) -> str:
    """Text of a cell with TeX's own characters escaped; '-' before a digit is a minus."""
    text = re.sub(r"([%&#_$])", r"\\\1", cell)
    return re.sub(r"^-(?=\d)", "$-$", text)
