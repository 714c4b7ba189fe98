"""models, flops: what models there are and what they cost."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rdcodec.cli import io
from rdcodec.errors import NeedsModel, UsageError

if TYPE_CHECKING:
    from rdcodec.measure.flops import PartCost
    from rdcodec.models.config import ModelConfig


def models(as_json: io.Json = False, verbose: io.Verbose = 0) -> None:
    """List the models of the package.

    kFLOPs/px is what a decoder runs per pixel of a 768x512 picture; 1 multiply-add = 2 FLOPs.

    Example: [bold]rdc models[/bold]
    """
    from rdcodec.models.config import config_names, name_group

    records = [_model_record(name) for name in config_names()]
    if as_json:
        for record in records:
            io.json_line("model", record)
        return
    table = io.table("model", "tag", ">parameters", ">kFLOPs/px", "weights", "")
    for previous, record in zip([records[0], *records], records, strict=False):
        if name_group(previous["name"]) != name_group(record["name"]):
            table.add_section()
        table.add_row(
            record["name"],
            record["tag"] or "-",
            f"{record['parameters'] / 1e6:.2f} M",
            f"{record['kflops_per_px']:.1f}",
            "yes" if record["tag"] else "no",
            record["summary"],
        )
    io.show(table)


def flops(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, TOML file of a configuration, or run folder.")],
    by: Annotated[
        Literal["component", "total"], typer.Option("--by", help="A line per network of the decoder, or one.")
    ] = "component",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Size of the picture.")] = "768x512",
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """Count what a model's decoder computes.

    FLOPs: 2 per multiply-add, 1 per bias and per product of two activations; elementwise work is apart.

    Example: [bold]rdc flops I --by component[/bold]
    """
    width, height = parse_size(size)
    from rdcodec.measure.flops import count_parts, total
    from rdcodec.models.base import blueprint

    parts = count_parts(blueprint(_find_config(model)).decode_parts(height, width), width * height)
    sum_ = total(parts)
    rows = [*parts, sum_] if by == "component" else [sum_]
    if as_json:
        for row in rows:
            io.json_line("flops", {"model": model, "width": width, "height": height, **_cost(row)})
        return
    table = io.table("component", ">kFLOPs/px", ">kMAC/px", ">elementwise/px", ">share")
    for row in rows:
        share = f"{100 * row.flops / sum_.flops:.1f} %"
        if row is sum_ and len(rows) > 1:
            table.add_section()
        table.add_row(
            row.name,
            f"{row.kflops_per_px:.1f}",
            f"{row.kmacs_per_px:.2f}",
            f"{row.elementwise_per_px:.0f}",
            share,
        )
    io.show(table, title=f"Decoder of {model}, {width}x{height}")


def parse_size(text: str) -> tuple[int, int]:
    """'768x512' as width and height."""
    match = re.fullmatch(r"([1-9]\d{0,7})x([1-9]\d{0,7})", text)
    if not match:
        raise UsageError(f"--size {text}: write width and height, as in 768x512")
    return int(match[1]), int(match[2])


def _model_record(name: str) -> dict[str, Any]:
    from rdcodec.measure.flops import kflops_per_px
    from rdcodec.models.base import blueprint

    config = _find_config(name)
    model = blueprint(config)
    return {
        "name": name,
        "tag": _newest_tag(name),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "kflops_per_px": round(kflops_per_px(model), 1),
        "summary": config.summary,
    }


def _newest_tag(name: str) -> str | None:
    from rdcodec.models.weights import find_weights

    try:
        return find_weights(name).stem
    except NeedsModel:
        return None


def _find_config(model: str) -> "ModelConfig":
    """Of a name, a TOML file, or a run folder."""
    from rdcodec.models.config import CONFIGS, config_names, load_config
    from rdcodec.models.weights import find_weights, read_weights

    if model in config_names():
        return load_config(CONFIGS / f"{model}.toml")
    if model.endswith(".toml"):
        return load_config(Path(model))
    return read_weights(find_weights(model)).config


def _cost(part: "PartCost") -> dict[str, Any]:
    return {
        "component": part.name,
        "kflops_per_px": part.kflops_per_px,
        "kmacs_per_px": part.kmacs_per_px,
        "elementwise_per_px": part.elementwise_per_px,
        "macs": part.macs,
        "flops": part.flops,
    }
