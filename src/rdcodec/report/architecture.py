"""The models in pictures, drawn from their configurations: a block diagram of each, and what their parts cost."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from PIL import Image

from rdcodec.measure.flops import count_parts
from rdcodec.measure.published import table_1
from rdcodec.models.base import blueprint
from rdcodec.models.config import (
    CONFIGS,
    CharmEntropy,
    CheckerboardEntropy,
    ConvTransform,
    ElicTransform,
    Entropy,
    LayerChain,
    LightTransform,
    ModelConfig,
    SwinHyperAnalysis,
    SwinStages,
    Transform,
    config_names,
    load_config,
    name_group,
)
from rdcodec.report.plots import STYLE, TEXT
from rdcodec.report.tables import markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 120}}
IMAGES = "images/models"  # beside the page
HEIGHT, WIDTH = 512, 768  # of the picture that is counted
MILLION = 1e6

DATA = "#ffffff"
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
}
"""What the bars are made of, in their order, and the colours."""
PART_OF = {
    "hyper_synthesis": "hyper-synthesis",
    "reduction": "reduction",
    "mean and scale": "mean and scale",
    "context pass 0": "mean and scale",
    "context pass 1": "mean and scale",
    "residual prediction": "residuals and merge",
    "merge": "residuals and merge",
    "synthesis": "synthesis",
}
"""Components of the decoder, as `decode_parts` names them, by what the bars show."""


@dataclass(frozen=True)
class Box:
    """A network, or with no lines what flows between networks; part: key of PARTS, or "data"."""

    title: str
    lines: tuple[str, ...]
    below: str  # resolution and channels of what comes out
    part: str
    copies: bool = False  # drawn as a stack: one for each slice


@dataclass(frozen=True)
class Lane:
    """Boxes from left to right; a shortcut runs past all networks of its lane."""

    title: str
    boxes: tuple[Box, ...]
    shortcut: str = ""


@dataclass(frozen=True)
class Costs:
    """kFLOPs/px of the decoder's components as they run, and parameters of all parts by name in PARTS."""

    kflops_per_px: Mapping[str, float]
    parameters: Mapping[str, int]

    def kflops_by_part(self) -> dict[str, float]:
        """kFLOPs/px by name in PARTS."""
        found = dict.fromkeys(PARTS, 0.0)
        for component, value in self.kflops_per_px.items():
            found[PART_OF[component]] += value
        return found


@cache
def costs(config: ModelConfig) -> Costs:
    """Counted on the meta device, on a picture of 768x512."""
    model = blueprint(config)
    parts = count_parts(model.decode_parts(HEIGHT, WIDTH), WIDTH * HEIGHT)
    parameters = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        parameters[_part_of_parameter(name)] += parameter.numel()
    return Costs({part.name: part.kflops_per_px for part in parts}, parameters)


def _part_of_parameter(name: str) -> str:
    room, _, rest = name.partition(".")
    if room in ("analysis", "synthesis"):
        return room
    network = rest.split(".")[0] if room == "entropy" else room
    if network == "slices":
        network = rest.split(".")[2]
    known = {
        "hyper_analysis": "hyper-analysis",
        "hyper_synthesis": "hyper-synthesis",
        "reduce": "reduction",
        **dict.fromkeys(("mean", "scale", "first", "context", "second"), "mean and scale"),
        **dict.fromkeys(("lrp", "merge"), "residuals and merge"),
        **dict.fromkeys(("factorized_prior", "log_gain", "log_scale", "hyper_shift"), "prior, gains (tiny)"),
    }
    return known[network]


# What stands in the boxes


def lanes(config: ModelConfig) -> tuple[Lane, Lane, Lane]:
    """Analysis, entropy model and synthesis of a model."""
    found, m = costs(config), config.latent_channels
    million = {part: count / MILLION for part, count in found.parameters.items()}
    entropy = sum(million.values()) - million["analysis"] - million["synthesis"]
    shortcut = "linear shortcut: patches of 16×16×3 {} latents, starts as KLT"
    shortcut = shortcut if isinstance(config.synthesis, LightTransform) else ""
    picture, y, y_hat = (_data(*of) for of in (("picture", "1/1, 3"), ("y", f"1/16, {m}"), ("ŷ", f"1/16, {m}")))
    rate = sum(found.kflops_per_px.values()) - found.kflops_per_px["synthesis"]
    return (
        Lane(
            f"Analysis (encoder alone), {million['analysis']:.2f} M parameters",
            (picture, *_analysis(config.analysis, m), y),
            shortcut.format("to"),
        ),
        Lane(
            f"Entropy model: z is coded first, then y {_order(config.entropy)}. {entropy:.2f} M parameters, "
            f"{rate:.1f} kFLOPs/px in the decoder",
            (y, *_entropy(config, found.kflops_per_px), y_hat),
        ),
        Lane(
            f"Synthesis, {million['synthesis']:.2f} M parameters, {found.kflops_per_px['synthesis']:.1f} kFLOPs/px",
            (y_hat, *_synthesis(config.synthesis, m), picture),
            shortcut.format("from"),
        ),
    )


def _order(entropy: Entropy) -> str:
    match entropy:
        case CharmEntropy():
            return "slice by slice"
        case CheckerboardEntropy():
            return "in two halves"
    return "at once"


def _data(name: str, below: str) -> Box:
    return Box(name, (), below, "data")


def _analysis(transform: Transform, m: int) -> list[Box]:
    stages: list[tuple[str, tuple[str, ...]]]
    match transform:
        case ConvTransform():
            stages = [("conv 5×5 ↓2", ("GDN",) if stage < 3 else ()) for stage in range(4)]
            outputs = (*transform.channels, m)
        case ElicTransform():
            blocks = _count(transform.residual_blocks, "residual block")
            after = ((blocks,), (blocks, "attention"), (blocks,), ("attention",))
            stages = [("conv 5×5 ↓2", lines) for lines in after]
            outputs = (*transform.channels, m)
        case SwinStages():
            enter = ("conv 2×2 ↓2", *("merge 2×2 ↓2",) * 3)
            stages = [(e, _swin(transform, stage)) for stage, e in enumerate(enter)]
            outputs = transform.widths
        case LightTransform():
            return [
                _light("pixel-unshuffle 8", transform, "8", ()),
                _light("pixel-unshuffle 2", transform, "16", (f"1×1 to {m}",)),
            ]
    below = [f"1/{2 ** (stage + 1)}, {channels}" for stage, channels in enumerate(outputs)]
    return [Box(title, lines, under, "analysis") for (title, lines), under in zip(stages, below, strict=True)]


def _synthesis(transform: Transform, m: int) -> list[Box]:
    stages: list[tuple[str, tuple[str, ...]]]
    match transform:
        case ConvTransform():
            stages = [("deconv 5×5 ↑2", ("inverse GDN",) if stage < 3 else ()) for stage in range(4)]
            outputs = (*transform.channels, 3)
        case ElicTransform():
            blocks = _count(transform.residual_blocks, "residual block")
            after = ((blocks,), ("attention", blocks), (blocks,), ())
            stages = [("deconv 5×5 ↑2", lines) for lines in after]
            stages[0] = ("attention", ("deconv 5×5 ↑2", blocks))
            outputs = (*transform.channels, 3)
        case SwinStages():
            leave = (*("split 2×2 ↑2",) * 3, "linear, shuffle ↑2")
            stages = [(_swin(transform, stage)[0], (*_swin(transform, stage)[1:], e)) for stage, e in enumerate(leave)]
            outputs = (*transform.widths[1:], 3)
        case LightTransform():
            return [
                _light(f"1×1 from {m}", transform, "16", (), "synthesis"),
                _light("1×1, pixel-shuffle 2", transform, "8", ("1×1 to 192", "pixel-shuffle 8"), "synthesis"),
            ]
    below = [f"1/{2 ** (3 - stage)}, {channels}" for stage, channels in enumerate(outputs)]
    return [Box(title, lines, under, "synthesis") for (title, lines), under in zip(stages, below, strict=True)]


def _swin(stages: SwinStages, index: int) -> tuple[str, ...]:
    return _count(stages.depths[index], "Swin block"), f"window {stages.window}"


def _light(title: str, transform: LightTransform, stride: str, after: tuple[str, ...], part: str = "analysis") -> Box:
    trunk = transform.stride8 if stride == "8" else transform.stride16
    lines = (f"{_count(trunk.blocks, 'block')} of width {trunk.width}:", "1×1, depthwise 3×3, 1×1;", "feed-forward")
    return Box(title, (*lines, *after), f"1/{stride}, {trunk.width}", part)


def _entropy(config: ModelConfig, kflops: Mapping[str, float]) -> list[Box]:
    entropy, m = config.entropy, config.latent_channels
    z = _data("z", f"1/64, {entropy.hyper_channels}")
    if isinstance(entropy, CheckerboardEntropy):
        return [*_light_hyper(entropy, z), *_passes(entropy, m)]
    analysis = Box("hyper-analysis", _hyper_lines(entropy.hyper_analysis), "", "hyper-analysis")
    lines, outputs = _hyper_lines(entropy.hyper_synthesis), entropy.hyper_synthesis.outputs
    if isinstance(entropy, CharmEntropy):
        return [analysis, z, Box("hyper-synthesis", lines, f"1/16, {outputs}", "hyper-synthesis"), *_slices(entropy)]
    lines = (*lines, "means and scales of y")
    return [analysis, z, Box("hyper-synthesis", lines, f"1/16, 2×{m}", "hyper-synthesis")]


def _hyper_lines(network: LayerChain | SwinStages) -> tuple[str, ...]:
    if isinstance(network, LayerChain):
        synthesis = network.strides[0] == 2
        word = {1: "conv", 2: "deconv" if synthesis else "conv"}
        arrow = {1: "", 2: " ↑2" if synthesis else " ↓2"}
        layers = zip(network.kernels, network.strides, network.channels, strict=True)
        return tuple(f"{word[stride]} {k}×{k}{arrow[stride]}, {channels}" for k, stride, channels in layers)
    stages = zip(network.depths, network.widths, strict=True)
    first, second = (f"{_count(depth, 'Swin block')}, {width}" for depth, width in stages)
    window = f"(window {network.window})"
    if isinstance(network, SwinHyperAnalysis):
        return "conv 2×2 ↓2", first, "merge 2×2 ↓2", second, window
    return first, "split 2×2 ↑2", second, "linear, shuffle ↑2", window


def _between(widths: tuple[int, ...]) -> str:
    """The widths that a layer has in the slices: 192, or 64-234."""
    low, high = min(widths), max(widths)
    return str(low) if low == high else f"{low}-{high}"


def _slices(entropy: CharmEntropy) -> list[Box]:
    count, sizes = len(entropy.slices), sorted(set(entropy.slices))
    kernels = " → ".join(f"{k}×{k}" for k in entropy.kernels)
    widths = " → ".join((*map(_between, entropy.widths), "slice"))
    support = "all earlier slices" if entropy.max_support is None else f"first {entropy.max_support} slices"
    kernel = entropy.merge_kernel
    merge = "LRP added" if kernel is None else f"LRP merged by {kernel}×{kernel}"
    lines = ("mean, scale, LRP, each:", kernels, widths, merge, f"sees {support}")
    size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
    slices = Box(f"slice i of {count}", lines, f"1/16, {size} each", "mean and scale", copies=True)
    if entropy.reduction is None:
        return [slices]
    kernel, channels = entropy.reduction.kernel, entropy.reduction.channels
    convolution = f"conv {kernel}×{kernel}", "for each slice"
    reduction = Box("reduction", convolution, f"1/16, {count}×{channels}", "reduction")
    return [reduction, slices]


def _light_hyper(entropy: CheckerboardEntropy, z: Box) -> list[Box]:
    f, n = entropy.features, entropy.hyper_channels
    down = (f"1×1, {f}", "depthwise 3×3, unshuffle 2", f"1×1, {f}", "depthwise 3×3, unshuffle 2", f"1×1, {n}")
    up = (f"3×3, {n}", f"1×1, {4 * f}, shuffle 2", "depthwise 3×3", f"1×1, {4 * f}, shuffle 2", "depthwise 3×3")
    return [
        Box("hyper-analysis", down, "", "hyper-analysis"),
        z,
        Box("hyper-synthesis", up, f"1/16, {f}", "hyper-synthesis"),
    ]


def _passes(entropy: CheckerboardEntropy, m: int) -> list[Box]:
    h = entropy.hidden
    first = Box("pass 0: even half", (f"1×1, {h}", f"1×1, 2×{m}"), f"1/16, 2×{m}", "mean and scale")
    lines = ("features, and pass 0 by", f"depthwise 3×3, 2×{m};", f"1×1, {h}", f"1×1, {h}", f"1×1, 2×{m}")
    return [first, Box("pass 1: odd half", lines, f"1/16, 2×{m}", "mean and scale")]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


# Drawing

INCHES = 9.0  # width of a diagram
GAP = 0.2  # between boxes
LANE, SHORTCUT = 1.42, 0.42  # heights
LINE = 0.145  # of text
DATA_WIDTH = 0.62


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


def costs_figure(configs: Sequence[ModelConfig]) -> "Figure":
    """FLOPs and parameters by part, a bar for each model; light models have axes of their own."""
    from matplotlib.figure import Figure

    light = [config for config in configs if config.lmbda is None]
    heavy = [config for config in configs if config.lmbda is not None]
    figure = Figure(figsize=(INCHES, 0.26 * len(configs) + 1.7), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=(len(heavy), len(light)))
    for row, group in zip(grid, (heavy, light), strict=True):
        _bars(row[0], group, [costs(config).kflops_by_part() for config in group])
        by_part = [{p: n / MILLION for p, n in costs(config).parameters.items()} for config in group]
        _bars(row[1], group, by_part)
    grid[0][0].set_title("decoder, kFLOPs/px", loc="left", fontsize=9.5)
    grid[0][1].set_title("parameters, millions", loc="left", fontsize=9.5)
    handles, labels = grid[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def _bars(axes: "Axes", group: Sequence[ModelConfig], rows: Sequence[Mapping[str, float]]) -> None:
    heights = range(len(group), 0, -1)
    left = [0.0] * len(group)
    for part, colour in PARTS.items():
        values = [row[part] for row in rows]
        edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
        axes.barh(heights, values, left=left, color=colour, height=0.72, label=part, **edge)
        left = [a + b for a, b in zip(left, values, strict=True)]
    for height, total in zip(heights, left, strict=True):
        beside: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points"}
        axes.annotate(f"{total:.1f}", (total, height), va="center", fontsize=8, **beside)
    axes.set_yticks(heights, [config.name for config in group])
    axes.set_xlim(0, 1.12 * max(left))
    axes.grid(False, axis="y")


def draw_models(configs: Sequence[ModelConfig]) -> dict[str, bytes]:
    """The diagrams and the figure of costs in every format, by file name."""
    matplotlib: Any = import_module("matplotlib")
    files: dict[str, bytes] = {}
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figures = {config.name: diagram(config) for config in configs} | {"costs": costs_figure(configs)}
        for name, figure in figures.items():
            for fmt, options in FORMATS.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=fmt, facecolor="white", **options)
                files[f"{name}.{fmt}"] = _fewer_colours(buffer) if fmt == "png" else buffer.getvalue()
    return files


def _fewer_colours(png: io.BytesIO) -> bytes:
    """A third of the bytes, and to the eye the same."""
    out = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()


# The page

PREFACE = """# The models

Written by `python scripts/models_page.py` from the configurations in `src/rdcodec/models/configs/`; what it says is
counted, not copied. `rdc models` lists the same figures, `rdc flops B --by layer` goes down to every layer.

**A to G** are the models of Minnen and Johnston, "Advancing the Rate-Distortion-Computation Frontier for Neural Image
Compression" (ICIP 2023), which were not published. Its section 5 describes B; of the others it gives, in Table 1, the
kinds of their parts, the number of parameters and kFLOPs/px. Two figures do not determine an architecture: a
configuration that meets them is possible, not certain, and each one says below what in it is sure and what was fitted.
The savings in the table are those that the paper measured with its own weights.

**H, I and J** are ours: light models that serve all rates with one set of weights.

1 multiply-add = 2 FLOPs. kFLOPs/px is what a decoder runs on a picture of 768x512: 2 per multiply-add, 1 per bias and
per product of two activations, as the paper counts. Table 1's parameters of A, B and G seem to leave the analysis
transform out, those of C to F not; **bold** is the figure that meets the table. A-whole and G-whole read A and G the
other way.

Measured of them, beyond counts: [where decoding takes its time](results/decode-parts.md), [that all of A to G can
learn](results/learn.md), and [what each of the paper's changes is worth](results/ablation.md).

"""
READING = """## What computes where

Grey is what only an encoder has. Sizes differ too much for one axis: the light models have their own.

![FLOPs and parameters of every model by part]({images}/costs.svg)

## How to read the diagrams

Each line runs from left to right. Analysis turns the picture into latents y, at 1/16 of its sides. The entropy model
sends hyper-latents z, at 1/64, as side information, and from them predicts mean and scale of every latent, with which
y is coded; ŷ is what the decoder has of y. Synthesis turns ŷ into the picture. Grey boxes run in the encoder alone.
Numbers after a comma are channels; ↓2 halves the sides, ↑2 doubles them.

A *residual block* is 1×1 to half of the channels, 3×3, 1×1 back, plus its input; *attention* gates three such blocks by
three others. LRP, latent residual prediction, guesses from a decoded slice what rounding took from it. The shortcut of
the light models starts as the Karhunen-Loève transform (KLT) of photographs' patches.
"""


def models_page(configs: Sequence[ModelConfig]) -> str:
    """The Markdown of docs/models.md."""
    rows = [_page_row(config) for config in configs]
    columns = ["model", ">M parameters", ">without analysis", ">Table 1", ">kFLOPs/px", ">Table 1", ">saved of BPG"]
    parts = [PREFACE, markdown_table(columns, rows), "\n", READING.format(images=IMAGES)]
    return "".join(parts) + "".join(_section(config) for config in configs)


def _page_row(config: ModelConfig) -> list[str]:
    found, published = costs(config), table_1().get(config.name)
    whole = sum(found.parameters.values()) / MILLION
    without = whole - found.parameters["analysis"] / MILLION
    counted = [f"{whole:.2f}", f"{without:.2f}"]
    kflops = f"{sum(found.kflops_per_px.values()):.1f}"
    if published is None:
        return [config.name, *counted, "-", kflops, "-", "-"]
    bold = 0 if published.with_analysis else 1
    counted[bold] = f"**{counted[bold]}**"
    printed = f"{published.parameters_m:.1f}", kflops, f"{published.kflops_per_px:.1f}"
    return [config.name, *counted, *printed, f"{published.saving_percent:.1f} %"]


def _section(config: ModelConfig) -> str:
    image = f"![Block diagram of {config.name}]({IMAGES}/{config.name}.svg)"
    return f"\n## {config.name}: {config.summary}\n\n{header_comment(config.name)}\n\n{image}\n"


def header_comment(name: str) -> str:
    """What the configuration of a model says of itself, in the comment on top of its file."""
    lines = (CONFIGS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return "\n".join(comment)


def packaged() -> list[ModelConfig]:
    """The family and the other readings of its rows, by name; the published baselines are not drawn."""
    names = [name for name in config_names() if name_group(name) < 2]
    return [load_config(CONFIGS / f"{name}.toml") for name in names]
