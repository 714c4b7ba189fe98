"""The files of a report: the page, and every figure and table with its data."""

from rdcodec.report.charts import Chart, Missing
from rdcodec.report.figures import LABORATORY_FIGURES, study_charts
from rdcodec.report.plots import rd_figure, render, styles
from rdcodec.report.study import Laboratory, Study
from rdcodec.report.tables import chart_text, curves_csv, paper_table, results_page, table_text

PAGE = "results.md"


def report_files(laboratory: Laboratory) -> dict[str, bytes]:
    """Every file of a report by name, the page first. NeedsModel if matplotlib is missing."""
    files: dict[str, bytes] = {}
    sections = []
    with styles():
        for study in laboratory.studies:
            sections.append((study, _study_section(laboratory, study, files)))
        ending = []
        for heading, make in LABORATORY_FIGURES:
            if isinstance(chart := make(laboratory), Chart) or (heading == "Speed" and laboratory.speeds):
                ending += [f"## {heading}\n", _drawn(chart, files)]
    return {PAGE: results_page(sections, ending).encode(), **files}


def _study_section(laboratory: Laboratory, study: Study, files: dict[str, bytes]) -> list[str]:
    """Texts of the figures of a study; their files are added to `files`."""
    stem = f"rd-{study.slug}"
    files |= render(rd_figure(study), stem)
    files[f"{stem}.csv"] = curves_csv(study).encode()
    texts = [f"![Rate and distortion on {study.name}]({stem}.svg)\n"]
    if study.reference is not None:
        table = paper_table(laboratory, study)
        files[f"{table.stem}.csv"] = table.data().encode()
        files[f"{table.stem}.md"] = table.markdown().encode()
        files[f"{table.stem}.tex"] = table.latex().encode()
        texts.append(table_text(table))
    return texts + [_drawn(chart, files) for chart in study_charts(laboratory, study)]


def _drawn(chart: Chart | Missing, files: dict[str, bytes]) -> str:
    if isinstance(chart, Missing):
        return chart_text(chart)
    files |= render(chart.figure(), chart.stem)
    files[f"{chart.stem}.csv"] = chart.data().encode()
    return chart_text(chart, f"{chart.stem}.svg")
