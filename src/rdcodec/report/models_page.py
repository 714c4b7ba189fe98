"""The page of the models and its pictures, from their configurations."""

import io
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from PIL import Image

from rdcodec.measure.published import table_1
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, load_config, name_group
from rdcodec.report.costs import MILLION, costs, costs_figure
from rdcodec.report.diagram import diagram
from rdcodec.report.markdown import markdown_table
from rdcodec.report.plots import STYLE

FORMATS: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 120}}
IMAGES = "images/models"  # beside the page

PREFACE = """# The models

Written by `python scripts/models_page.py` from the configurations in `src/rdcodec/models/configs/`; its
parameters and FLOPs are counted. `rdc models` lists the same figures, `rdc flops B --by layer` every layer.

**A to G** are the models of Minnen and Johnston, "Advancing the Rate-Distortion-Computation Frontier for Neural Image
Compression" (ICIP 2023). The models were not published. Section 5 describes B. For the others, Table 1 gives only
the kinds of parts, the number of parameters and kFLOPs/px. Two figures do not determine an architecture, so each
configuration is one of those that match them. The sections below say what is certain and what was fitted. The rates in
the table are relative to BPG, as the paper measured them with its own weights; negative is smaller.

**H, I and J** are ours: light models that serve all rates with one set of weights. Here they are as they are trained;
their released weights lack the channels that are always zero, and `rdc models` counts these.

kFLOPs/px counts what a decoder runs on a picture of 768x512, as the paper does: 2 FLOPs per multiply-add, 1 per bias
and per product of two activations. Table 1 seems to leave out the analysis transform in the parameters of A, B and G,
and to include it in those of C to F. **Bold** is the figure that matches the table. A-whole and G-whole are A and G
under the assumption that Table 1 counts all parameters.

Measurements: [where decoding spends its time](results/decode-parts.md), [whether A to G can
learn](results/learn.md), and [what each of the paper's changes is worth](results/ablation.md).

"""
READING = """## What computes where

Grey parts run in the encoder only. The light models have an axis of their own because they are much smaller.

![FLOPs and parameters of every model by part]({images}/costs.svg)

## How to read the diagrams

Each line runs from left to right. Analysis turns the picture into latents y, at 1/16 of its sides. The entropy model
sends hyper-latents z, at 1/64, as side information. From them it predicts the mean and scale of every latent, and y is
coded with these; ŷ is the decoder's version of y. Synthesis turns ŷ into the picture. Grey boxes run only in the
encoder. Numbers after a comma are channels; ↓2 halves the sides, ↑2 doubles them.

A *residual block* is 1×1 to half of the channels, 3×3, 1×1 back, plus its input. *Attention* gates three such blocks by
three others. LRP, latent residual prediction, estimates what rounding removed from a decoded slice. The shortcut of
the light models starts as the Karhunen-Loève transform (KLT) of photographs' patches.
"""


def models_page(configs: Sequence[ModelConfig]) -> str:
    """The Markdown of docs/models.md."""
    rows = [_page_row(config) for config in configs]
    columns = ["model", ">M parameters", ">without analysis", ">Table 1", ">kFLOPs/px", ">Table 1", ">rate against BPG"]
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
    return [config.name, *counted, *printed, f"{published.relative_rate_percent:+.1f} %"]


def _section(config: ModelConfig) -> str:
    image = f"![Block diagram of {config.name}]({IMAGES}/{config.name}.svg)"
    return f"\n## {config.name}: {config.summary}\n\n{header_comment(config.name)}\n\n{image}\n"


def header_comment(name: str) -> str:
    """The comment at the top of a model's configuration file."""
    lines = (CONFIGS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return "\n".join(comment)


def packaged() -> list[ModelConfig]:
    """The family and the other readings of its rows, by name, without the published baselines."""
    names = [name for name in config_names() if name_group(name) < 2]
    return [load_config(CONFIGS / f"{name}.toml") for name in names]


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
    """A third of the bytes, and it looks the same."""
    out = io.BytesIO()
    with Image.open(png) as picture:
        picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(out, "png", optimize=True)
    return out.getvalue()
