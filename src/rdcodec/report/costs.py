"""What the parts of the models cost, counted, and the figure of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from rdcodec.measure.cost import count_model
from rdcodec.models.base import blueprint
from rdcodec.models.config import ModelConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MILLION = 1e6
INCHES = 9.0  # width of a figure

# Okabe and Ito's colours, told apart by colour-blind readers; encoder alone is grey.
PARTS: dict[str, str] = {
    "analysis": "#d9d9d9",
    "hyper-analysis": "#a6a6a6",
    "hyper-synthesis": "#56B4E9",
    "reduction": "#F0E442",
    "mean and scale": "#009E73",
    "residuals and merge": "#CC79A7",
    "synthesis": "#E69F00",
    "prior, gains (tiny)": "#000000",
    "other networks": "#D55E00",
}
"""What the bars are made of, in their order, and the colours. The last: what a kind of entropy model does not name."""
OTHER = "other networks"
COMMON = {
    "analysis": "analysis",
    "synthesis": "synthesis",
    "hyper_analysis": "hyper-analysis",
    "hyper_synthesis": "hyper-synthesis",
    **dict.fromkeys(("factorized_prior", "log_gain", "log_scale", "hyper_shift"), "prior, gains (tiny)"),
}
"""Networks and components of the decoder that all models have, by what the bars show; the rest: `EntropyRecord`."""


@dataclass(frozen=True)
class Costs:
    """kFLOPs/px of the decoder's components as they run, and by name in PARTS; parameters by name in PARTS."""

    kflops_per_px: Mapping[str, float]
    kflops_by_part: Mapping[str, float]
    parameters: Mapping[str, int]


@cache
def costs(config: ModelConfig) -> Costs:
    """Counted on the meta device, on a picture of 768x512."""
    model, named = blueprint(config), {**COMMON, **config.entropy.parts}
    components = {part.name: part.kflops_per_px for part in count_model(config).parts}
    kflops, parameters = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0)
    for name, value in components.items():
        kflops[named.get(name, OTHER)] += value
    for name, parameter in model.named_parameters():
        parameters[named.get(_network(name), OTHER)] += parameter.numel()
    return Costs(components, kflops, parameters)


def _network(name: str) -> str:
    """The network that a parameter belongs to: the transform, or the first name within the entropy model."""
    room, _, rest = name.partition(".")
    if room != "entropy":
        return room
    network, *inner = rest.split(".")
    return inner[1] if network == "slices" else network


def costs_figure(configs: Sequence[ModelConfig]) -> "Figure":
    """FLOPs and parameters by part, a bar for each model; light models have axes of their own."""
    from matplotlib.figure import Figure

    light = [config for config in configs if config.lmbda is None]
    heavy = [config for config in configs if config.lmbda is not None]
    figure = Figure(figsize=(INCHES, 0.26 * len(configs) + 1.7), layout="constrained")
    parts = [part for part in PARTS if part != OTHER or any(costs(config).parameters[OTHER] for config in configs)]
    grid = figure.subplots(2, 2, height_ratios=(len(heavy), len(light)))
    for row, group in zip(grid, (heavy, light), strict=True):
        _bars(row[0], group, parts, [costs(config).kflops_by_part for config in group])
        by_part = [{p: n / MILLION for p, n in costs(config).parameters.items()} for config in group]
        _bars(row[1], group, parts, by_part)
    grid[0][0].set_title("decoder, kFLOPs/px", loc="left", fontsize=9.5)
    grid[0][1].set_title("parameters, millions", loc="left", fontsize=9.5)
    handles, labels = grid[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def _bars(
    axes: "Axes", group: Sequence[ModelConfig], parts: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> None:
    heights = range(len(group), 0, -1)
    left = [0.0] * len(group)
    for part in parts:
        values = [row[part] for row in rows]
        edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
        axes.barh(heights, values, left=left, color=PARTS[part], height=0.72, label=part, **edge)
        left = [a + b for a, b in zip(left, values, strict=True)]
    for height, total in zip(heights, left, strict=True):
        beside: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(f"{total:.1f}", (total, height), va="center", fontsize=8, **beside)
    axes.set_yticks(heights, [config.name for config in group])
    axes.set_xlim(0, 1.12 * max(left))
    axes.grid(False, axis="y")
