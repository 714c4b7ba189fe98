"""The block diagram of a model, from its configuration: analysis, entropy model, synthesis."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rdcodec.models.config import ModelConfig
from rdcodec.models.words import Box
from rdcodec.report.costs import INCHES, MILLION, PARTS, costs
from rdcodec.report.plots import TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DATA = "#ffffff"
GAP = 0.2  # between boxes
LANE, SHORTCUT = 1.42, 0.42  # heights
LINE = 0.145  # of text
DATA_WIDTH = 0.62


@dataclass(frozen=True)
class Lane:
    """Boxes from left to right; a shortcut runs past all networks of its lane."""

    title: str
    boxes: tuple[Box, ...]
    shortcut: str = ""


def lanes(config: ModelConfig) -> tuple[Lane, Lane, Lane]:
    """Analysis, entropy model and synthesis of a model."""
    found, m = costs(config), config.latent_channels
    million = {part: count / MILLION for part, count in found.parameters.items()}
    entropy = sum(million.values()) - million["analysis"] - million["synthesis"]
    picture, y, y_hat = (_data(*of) for of in (("picture", "1/1, 3"), ("y", f"1/16, {m}"), ("ŷ", f"1/16, {m}")))
    rate = sum(found.kflops_per_px.values()) - found.kflops_per_px["synthesis"]
    return (
        Lane(
            f"Analysis (encoder alone), {million['analysis']:.2f} M parameters",
            (picture, *config.analysis.boxes("analysis", m), y),
            config.analysis.shortcut.format("to"),
        ),
        Lane(
            f"Entropy model: z is coded first, then y {config.entropy.order}. {entropy:.2f} M parameters, "
            f"{rate:.1f} kFLOPs/px in the decoder",
            (y, *config.entropy.boxes(m), y_hat),
        ),
        Lane(
            f"Synthesis, {million['synthesis']:.2f} M parameters, {found.kflops_per_px['synthesis']:.1f} kFLOPs/px",
            (y_hat, *config.synthesis.boxes("synthesis", m), picture),
            config.synthesis.shortcut.format("from"),
        ),
    )


def _data(name: str, below: str) -> Box:
    return Box(name, (), below, "data")


def diagram(config: ModelConfig) -> "Figure":
    """The block diagram of a model: analysis, entropy model, synthesis."""
    from matplotlib.figure import Figure

    rows = lanes(config)
    heights = [LANE + SHORTCUT * bool(lane.shortcut) for lane in rows]
    height = sum(heights) + 0.55
    figure = Figure(figsize=(INCHES, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, INCHES), ylim=(0, height))
    axes.set_axis_off()
    axes.text(0.08, height - 0.12, f"{config.name}  ", fontsize=13, fontweight="bold", va="top", color="black")
    total = sum(costs(config).kflops_per_px.values())
    parameters = sum(costs(config).parameters.values()) / MILLION
    caption = f"{parameters:.2f} M parameters, {total:.1f} kFLOPs/px in the decoder; below boxes: resolution, channels"
    axes.text(INCHES - 0.08, height - 0.14, caption, fontsize=8, ha="right", va="top", color=TEXT)
    top = height - 0.45
    for lane, lane_height in zip(rows, heights, strict=True):
        _draw_lane(axes, lane, top)
        top -= lane_height
    return figure


def _draw_lane(axes: "Axes", lane: Lane, top: float) -> None:
    axes.text(0.08, top, lane.title, fontsize=8.5, fontweight="bold", va="top", color="black")
    middle = top - 0.2 - SHORTCUT * bool(lane.shortcut) - 0.5
    spans = _place(lane.boxes)
    for box, (left, width) in zip(lane.boxes, spans, strict=True):
        _draw_box(axes, box, left, width, middle)
    for box, ((left, width), (right, _)) in zip(lane.boxes, pairwise(spans), strict=False):
        _arrow(axes, (left + width + 0.08 * box.copies, middle), (right, middle))
    if lane.shortcut:
        (first, first_width), (last, last_width) = spans[0], spans[-1]
        left, right = spans[1][0], spans[-2][0] + spans[-2][1]
        height = middle + 0.5 + 0.24
        part = "synthesis" if lane.boxes[-1].title == "picture" else "analysis"
        _rectangle(axes, left, height - 0.11, right - left, 0.22, PARTS[part])
        axes.text((left + right) / 2, height, lane.shortcut, fontsize=7, ha="center", va="center", color="black")
        start, end = first + first_width / 2, last + last_width / 2
        axes.plot([start, start], [middle + 0.17, height], color=TEXT, linewidth=0.9)
        _arrow(axes, (start, height), (left, height))
        axes.plot([right, end], [height, height], color=TEXT, linewidth=0.9)
        _arrow(axes, (end, height), (end, middle + 0.17))
        axes.text(end + 0.06, middle + 0.3, "+", fontsize=11, fontweight="bold", color="black", va="center")


def _place(boxes: Sequence[Box]) -> list[tuple[float, float]]:
    """Left ends and widths of the boxes of a lane: networks share the room by the length of their text."""
    networks = [box for box in boxes if box.lines or box.part != "data"]
    room = INCHES - 0.24 - GAP * (len(boxes) - 1) - DATA_WIDTH * (len(boxes) - len(networks))
    lengths = {id(box): max(9, *map(len, (box.title, box.below, *box.lines))) + 2 for box in networks}
    whole = sum(lengths.values())
    spans, left = [], 0.12
    for box in boxes:
        width = room * lengths[id(box)] / whole if box.part != "data" else DATA_WIDTH
        spans.append((left, width))
        left += width + GAP
    return spans


def _draw_box(axes: "Axes", box: Box, left: float, width: float, middle: float) -> None:
    half = 0.17 if box.part == "data" else 0.5
    colour = DATA if box.part == "data" else PARTS[box.part]
    for offset in (0.08, 0.04) if box.copies else ():
        _rectangle(axes, left + offset, middle - half + offset, width, 2 * half, colour)
    _rectangle(axes, left, middle - half, width, 2 * half, colour, round_=box.part == "data")
    texts = (box.title, *box.lines)
    for index, text in enumerate(texts):
        y = middle + ((len(texts) - 1) / 2 - index) * LINE
        weight = "bold" if index == 0 else "normal"
        axes.text(left + width / 2, y, text, fontsize=7, ha="center", va="center", color="black", fontweight=weight)
    axes.text(left + width / 2, middle - half - 0.1, box.below, fontsize=6.5, ha="center", va="center", color=TEXT)


def _rectangle(
    axes: "Axes", left: float, bottom: float, width: float, height: float, colour: str, round_: bool = False
) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = f"round,pad=0,rounding_size={0.15 if round_ else 0.04}"
    edge: dict[str, Any] = {"facecolor": colour, "edgecolor": "#444444", "linewidth": 0.8}
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=style, **edge))


def _arrow(axes: "Axes", start: tuple[float, float], end: tuple[float, float]) -> None:
    line = {"arrowstyle": "-|>", "color": TEXT, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    axes.annotate("", xy=end, xytext=start, arrowprops=line)
