"""docs/models.md is what the configurations give, and its pictures show what is counted."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from torch import Tensor, nn

import rdcodec
from rdcodec.measure.cost import count_model
from rdcodec.models.base import blueprint
from rdcodec.models.config import CONFIGS as FOLDER
from rdcodec.models.config import ModelConfig, config_names, family_of, load_config
from rdcodec.models.entropy.hyper import HyperModel
from rdcodec.models.entropy.kinds import HyperEntropy
from rdcodec.models.entropy.model import EntropyModel
from rdcodec.models.transforms.kinds import TransformRecord
from rdcodec.models.transforms.network import TransformNetwork
from rdcodec.report.costs import PARTS, costs, costs_figure
from rdcodec.report.diagram import Lane, diagram, lanes
from rdcodec.report.models_page import FORMATS, IMAGES, models_page
from rdcodec.report.models_page import packaged as packaged_models

DOCS = Path(rdcodec.__file__).parents[2] / "docs"
CONFIGS = {name: load_config(FOLDER / f"{name}.toml") for name in config_names()}
PACKAGED = [config.name for config in packaged_models()]
AGAIN = "run python scripts/models_page.py"

every_model = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def test_page_is_up_to_date() -> None:
    assert (DOCS / "models.md").read_text(encoding="utf-8") == models_page(packaged_models()), AGAIN


def test_pictures_are_there_and_small() -> None:
    wanted = {f"{name}.{fmt}" for name in (*PACKAGED, "costs") for fmt in FORMATS}
    found = {path.name: path.stat().st_size for path in (DOCS / IMAGES).iterdir()}
    assert set(found) == wanted, AGAIN
    assert max(found.values()) < 180_000
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (DOCS / "models.md").read_text(encoding="utf-8"))
    assert len(shown) == len(PACKAGED) + 1 and all((DOCS / name).exists() for name in shown)


@every_model
def test_parts_add_up(config: ModelConfig) -> None:
    model = blueprint(config)
    found = costs(config)
    assert sum(found.parameters.values()) == sum(parameter.numel() for parameter in model.parameters())
    assert found.parameters["analysis"] == sum(parameter.numel() for parameter in model.analysis.parameters())
    by_part = found.kflops_by_part
    assert sum(by_part.values()) == pytest.approx(count_model(config).kflops_per_px)
    assert set(by_part) == set(found.parameters) == set(PARTS)
    assert not any(by_part[part] for part in ("analysis", "hyper-analysis", "prior, gains (tiny)"))


@pytest.mark.parametrize("config", [CONFIGS[name] for name in (*PACKAGED, "elic")], ids=[*PACKAGED, "elic"])
def test_diagrams_show_every_width(config: ModelConfig) -> None:
    analysis, entropy, synthesis = lanes(config)
    for lane, record in ((analysis, config.analysis), (entropy, config.entropy), (synthesis, config.synthesis)):
        shown = {int(number) for number in re.findall(r"\d+", words(lane))}
        assert widths(record.model_dump()) <= shown
    assert [lane.boxes[0].title for lane in (analysis, entropy, synthesis)] == ["picture", "y", "ŷ"]
    assert [lane.boxes[-1].title for lane in (analysis, entropy, synthesis)] == ["y", "ŷ", "picture"]


class PlainTransform(TransformRecord):
    """A kind that nothing else in the package knows."""

    kind: Literal["plain"] = "plain"
    width: int = 12

    @staticmethod
    def networks() -> tuple[type[TransformNetwork], type[TransformNetwork]]:
        return PlainAnalysis, PlainSynthesis


class PlainAnalysis(TransformNetwork):
    def __init__(self, config: PlainTransform, latent_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, config.width, 4, 4), nn.Conv2d(config.width, latent_channels, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class PlainSynthesis(TransformNetwork):
    def __init__(self, config: PlainTransform, latent_channels: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose2d(latent_channels, 3, 16, 16)

    def forward(self, y: Tensor, quality: Tensor) -> Tensor:
        return self.layer(y)


class PlainEntropy(HyperEntropy):
    """A kind of entropy model that nothing else knows, with a network of a name of its own."""

    kind: Literal["plain"] = "plain"
    width: int = 24

    @staticmethod
    def network() -> type[EntropyModel]:
        return PlainEntropyModel


class PlainEntropyModel(HyperModel):
    def __init__(self, config: PlainEntropy, latent_channels: int) -> None:
        super().__init__(config, latent_channels)
        self.predictor = nn.Conv2d(config.hyper_synthesis.outputs, config.width, 1)

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        features = self.synthesise(z)
        return {"hyper_synthesis": lambda: self.synthesise(z), "predictor": lambda: self.predictor(features)}


def test_a_kind_of_its_own_is_drawn_and_counted() -> None:
    hyper = CONFIGS["G"].entropy
    entropy = PlainEntropy(hyper_analysis=hyper.hyper_analysis, hyper_synthesis=hyper.hyper_synthesis, filters=(3,))
    own = {"name": "Plain", "analysis": PlainTransform(), "synthesis": PlainTransform(), "entropy": entropy}
    config = CONFIGS["G"].model_copy(update=own)
    assert family_of(config) == "plain + plain"
    analysis, coding, synthesis = map(words, lanes(config))
    assert "plain width 12" in analysis and "plain width 12" in synthesis and "width 24" in coding
    found = costs(config)
    predictor = blueprint(config).entropy.predictor
    assert found.parameters["other networks"] == sum(parameter.numel() for parameter in predictor.parameters())
    assert found.kflops_by_part["other networks"] > 0 and found.kflops_by_part["synthesis"] > 0
    labels = [text.get_text() for text in costs_figure([config, CONFIGS["I"]]).legends[0].get_texts()]
    assert "other networks" in labels
    assert diagram(config).axes


def words(lane: Lane) -> str:
    return " ".join(word for box in lane.boxes for word in (box.title, *box.lines, box.below))


def widths(record: object, key: str = "") -> set[int]:
    """The numbers of channels that a configuration gives."""
    if isinstance(record, dict):
        return set().union(*(widths(value, name) for name, value in record.items()))
    if isinstance(record, (tuple, list)):
        return set().union(*(widths(value, key) for value in record))
    is_width = key in (
        "channels",
        "widths",
        "width",
        "outputs",
        "hyper_channels",
        "features",
        "hidden",
        "slices",
        "groups",
    )
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
        assert lengths == pytest.approx(list(costs(CONFIGS[name]).kflops_by_part.values())[:-1])
    for axes, name in zip(figure.axes[1::2], ("B", "I"), strict=True):
        lengths = [1e6 * patch.get_width() for patch in axes.patches]
        assert lengths == pytest.approx(list(costs(CONFIGS[name]).parameters.values())[:-1])
