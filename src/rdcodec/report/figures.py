"""The figures of a report, but for rate and distortion. To add one: a function that gives a `Chart`, a line here."""

from collections.abc import Callable
from dataclasses import dataclass

from rdcodec.report.charts import Chart, Missing
from rdcodec.report.eye import by_metrics, knows_the_eye
from rdcodec.report.families import families, loss_by_flops
from rdcodec.report.relative import (
    relative_by_encoder,
    relative_by_flops,
    relative_by_rate,
    relative_by_speed,
    relative_by_training,
)
from rdcodec.report.study import Laboratory, Study
from rdcodec.report.times import time_by_flops
from rdcodec.report.trainings import rate_by_training


@dataclass(frozen=True)
class Figure:
    """A figure of the results on one set of pictures. of_files, of_estimates: of which rates it can be.

    where: on which sets it is looked for; elsewhere the page does not say that it is missing.
    """

    make: Callable[[Laboratory, Study], Chart | Missing]
    of_files: bool = True
    of_estimates: bool = False
    needs_reference: bool = False  # the curve that relative rates are against
    where: Callable[[Study], bool] = lambda study: True


FIGURES = (
    Figure(loss_by_flops, of_files=False, of_estimates=True),
    Figure(relative_by_flops, needs_reference=True),
    Figure(relative_by_encoder, needs_reference=True),
    Figure(by_metrics, where=knows_the_eye),
    Figure(families, of_estimates=True),
    Figure(relative_by_rate, needs_reference=True),
    Figure(relative_by_speed, needs_reference=True),
    Figure(relative_by_training, needs_reference=True),
)
"""Of each set of pictures, in the order of the page."""
LABORATORY_FIGURES: tuple[tuple[str, Callable[[Laboratory], Chart | Missing]], ...] = (
    ("Speed", time_by_flops),
    ("Training", rate_by_training),
)
"""Of all results together, each under its heading."""


def study_charts(laboratory: Laboratory, study: Study) -> list[Chart | Missing]:
    """The figures of one set of pictures; of a sweep's estimates those that tell trials apart."""
    known = [figure for figure in FIGURES if figure.where(study)]
    asked = [figure for figure in known if (figure.of_estimates if study.estimated else figure.of_files)]
    drawn = [figure.make(laboratory, study) for figure in asked if study.reference or not figure.needs_reference]
    if len(drawn) == len(asked):
        return drawn
    hint = "`rdc eval jpeg --data DIR -o jpeg.json` measures one, `--anchor jpeg.json` names it"
    return [Missing("Relative rates", f"need an anchor on the same pictures: {hint}."), *drawn]
