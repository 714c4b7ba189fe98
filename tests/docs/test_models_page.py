"""docs/models.md is what the configurations give, and its pictures show what is counted."""

import re
from pathlib import Path

import pytest

import rdcodec
from rdcodec.measure.flops import kflops_per_px
from rdcodec.models.base import blueprint
from rdcodec.models.config import ModelConfig
from rdcodec.report.architecture import FORMATS, IMAGES, PARTS, Lane, costs, costs_figure, diagram, lanes, models_page
from rdcodec.report.architecture import packaged as packaged_models

DOCS = Path(rdcodec.__file__).parents[2] / "docs"
CONFIGS = {config.name: config for config in packaged_models()}
AGAIN = "run python scripts/models_page.py"

every_model = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def test_page_is_up_to_date() -> None:
    assert (DOCS / "models.md").read_text(encoding="utf-8") == models_page(packaged_models()), AGAIN


def test_pictures_are_there_and_small() -> None:
    wanted = {f"{name}.{fmt}" for name in (*CONFIGS, "costs") for fmt in FORMATS}
    found = {path.name: path.stat().st_size for path in (DOCS / IMAGES).iterdir()}
    assert set(found) == wanted, AGAIN
    assert max(found.values()) < 150_000
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (DOCS / "models.md").read_text(encoding="utf-8"))
    assert len(shown) == len(CONFIGS) + 1 and all((DOCS / name).exists() for name in shown)


@every_model
def test_parts_add_up(config: ModelConfig) -> None:
    model = blueprint(config)
    found = costs(config)
    assert sum(found.parameters.values()) == sum(parameter.numel() for parameter in model.parameters())
    assert found.parameters["analysis"] == sum(parameter.numel() for parameter in model.analysis.parameters())
    by_part = found.kflops_by_part()
    assert sum(by_part.values()) == pytest.approx(kflops_per_px(model))
    assert set(by_part) == set(found.parameters) == set(PARTS)
    assert not any(by_part[part] for part in ("analysis", "hyper-analysis", "prior, gains (tiny)"))


@every_model
def test_diagrams_show_every_width(config: ModelConfig) -> None:
    analysis, entropy, synthesis = lanes(config)
    for lane, record in ((analysis, config.analysis), (entropy, config.entropy), (synthesis, config.synthesis)):
        shown = {int(number) for number in re.findall(r"\d+", words(lane))}
        assert widths(record.model_dump()) <= shown
    assert [lane.boxes[0].title for lane in (analysis, entropy, synthesis)] == ["picture", "y", "ŷ"]
    assert [lane.boxes[-1].title for lane in (analysis, entropy, synthesis)] == ["y", "ŷ", "picture"]


def words(lane: Lane) -> str:
    return " ".join(word for box in lane.boxes for word in (box.title, *box.lines, box.below))


def widths(record: object, key: str = "") -> set[int]:
    """The numbers of channels that a configuration gives."""
    if isinstance(record, dict):
        return set().union(*(widths(value, name) for name, value in record.items()))
    if isinstance(record, (tuple, list)):
        return set().union(*(widths(value, key) for value in record))
    is_width = key in ("channels", "widths", "width", "outputs", "hyper_channels", "features", "hidden", "slices")
    return {record} if is_width and isinstance(record, int) else set()


@pytest.mark.parametrize("name", ["B", "G", "I"])
def test_texts_stay_inside_their_boxes(name: str) -> None:
    """As drawn: no text is wider than the picture, and those of a lane do not run into each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = diagram(CONFIGS[name])
    renderer = FigureCanvasAgg(figure).get_renderer()
    extents = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text()]
    for index, extent in enumerate(extents):
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1
        assert not any(extent.shrunk(0.9, 0.7).overlaps(other.shrunk(0.9, 0.7)) for other in extents[:index])


def test_bars_have_the_counted_lengths() -> None:
    figure = costs_figure([CONFIGS[name] for name in ("B", "I")])
    for axes, name in zip(figure.axes[::2], ("B", "I"), strict=True):
        lengths = [patch.get_width() for patch in axes.patches]
        assert lengths == pytest.approx(list(costs(CONFIGS[name]).kflops_by_part().values()))
    for axes, name in zip(figure.axes[1::2], ("B", "I"), strict=True):
        lengths = [1e6 * patch.get_width() for patch in axes.patches]
        assert lengths == pytest.approx(list(costs(CONFIGS[name]).parameters.values()))
