"""models, flops: what models there are and what they cost."""

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rdcodec.cli import io
from rdcodec.errors import NeedsModel, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from rdcodec.measure.flops import LayerCost, Term

LAYER_COLUMNS = 120  # of the terminal: layers have long names


def models(
    get: Annotated[
        list[str] | None,
        typer.Option(
            "--get", metavar="NAME", help="Fetch weights (G, or a tag: H.1) from $RDCODEC_WEIGHTS_URL; repeatable."
        ),
    ] = None,
    no_progress: io.NoProgress = False,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """List the models of the package, or fetch weights that it does not have.

    kFLOPs/px is what a decoder runs per pixel of a 768x512 picture; 1 multiply-add = 2 FLOPs. Beside it is what the
    paper's Table 1 says of its models A to G, whose parameters of A, B and G leave the analysis transform out.

    Example: [bold]rdc models[/bold]
    """
    from rdcodec.models.config import config_names, name_group

    if get:
        _get(get, as_json, not no_progress)
        return
    records = [_model_record(name) for name in config_names()]
    if as_json:
        for record in records:
            io.json_line("model", record)
        return
    columns = ("param.\nM", "without\nanalysis", "kFLOPs\n/px", "paper:\nparam.", "kFLOPs\n/px", "BPG's\nrate")
    table = io.table("model", "tag", *(f">{column}" for column in columns))
    for previous, record in zip([records[0], *records], records, strict=False):
        if name_group(previous["name"]) != name_group(record["name"]):
            table.add_section()
        table.add_row(
            record["name"],
            record["tag"] or "-",
            _millions(record["parameters"]),
            _millions(record["parameters_without_analysis"]),
            io.number(record["kflops_per_px"], 1),
            io.number(record["table_1_parameters_m"], 1),
            io.number(record["table_1_kflops_per_px"], 1),
            io.number(record["table_1_relative_rate_percent"], 1, unit=" %"),
        )
    io.show(table)
    width = max(len(record["name"]) for record in records)
    for record in records:
        first = f"  {record['name']:{width}}  "
        lines = textwrap.wrap(record["summary"], 79, initial_indent=first, subsequent_indent=" " * len(first))
        io.write_text("\n".join(lines) + "\n")


def _get(names: Sequence[str], as_json: bool, show_progress: bool) -> None:
    """Each is there before the next is asked for."""
    from rdcodec.models.elsewhere import elsewhere
    from rdcodec.models.fetch import find_tag, get_weights

    for name in names:
        tag = find_tag(name)
        size = sum(file.size for file in elsewhere().get(tag, ()))
        with io.progress(f"fetching {tag}", size, show_progress, of_bytes=True) as advance:
            path = get_weights(tag, advance)
        if as_json:
            io.json_line("weights", {"tag": path.stem, "path": str(path)})
        else:
            io.write_text(f"{path.stem}  {path}\n")


def _millions(count: int | None) -> str:
    return io.number(None if count is None else count / 1e6, 2)


def flops(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, TOML file of a configuration, or run folder.")],
    by: Annotated[
        Literal["component", "layer", "total"],
        typer.Option("--by", help="A line per network of the decoder, per layer, or one."),
    ] = "component",
    size: Annotated[str, typer.Option("--size", metavar="WxH", help="Size of the picture.")] = "768x512",
    formula: Annotated[
        bool, typer.Option("--formula", metavar=io.FLAG, help="The cost at every size instead, as a formula.")
    ] = False,
    as_json: io.Json = False,
    verbose: io.Verbose = 0,
) -> None:
    """Count what a model's decoder computes.

    FLOPs: 2 per multiply-add, 1 per bias and per product of two activations; elementwise work is apart.

    Example: [bold]rdc flops I --by layer[/bold]
    """
    width, height = parse_size(size)
    from rdcodec.measure.flops import cost_formula, count_layers
    from rdcodec.models.base import blueprint
    from rdcodec.models.weights import find_model

    network = blueprint(find_model(model)[0])
    if formula:
        _show_formula(model, cost_formula(network), as_json)
        return
    layers = count_layers(network, width, height)
    rows = {"layer": layers, "component": _by_component(layers), "total": []}[by] + [_sum("total", "total", layers)]
    if as_json:
        for row in rows:
            io.json_line("flops", {"model": model, "width": width, "height": height, **_cost(row, by == "layer")})
        return
    title = f"Decoder of {model}, {width}x{height}"
    if by == "layer":
        io.show(_layer_table(layers), title, at_least=LAYER_COLUMNS)
    else:
        io.show(_component_table(rows), title)


def _by_component(layers: Sequence["LayerCost"]) -> list["LayerCost"]:
    names = dict.fromkeys(layer.component for layer in layers)
    return [_sum(name, name, [layer for layer in layers if layer.component == name]) for name in names]


def _sum(component: str, name: str, layers: Sequence["LayerCost"]) -> "LayerCost":
    from rdcodec.measure.cost import total
    from rdcodec.measure.flops import LayerCost

    parameters = sum(layer.parameters for layer in layers)
    return LayerCost(component, "", (), parameters, total((layer.cost for layer in layers), name))


def _component_table(rows: Sequence["LayerCost"]) -> "Table":
    """The last row is the total."""
    table = io.table("component", ">parameters", ">kFLOPs/px", ">kMAC/px", ">elem./px", ">share")
    for row in rows:
        if row is rows[-1] and len(rows) > 1:
            table.add_section()
        cost = row.cost
        table.add_row(
            cost.name,
            str(row.parameters),
            f"{cost.kflops_per_px:.1f}",
            f"{cost.kmacs_per_px:.2f}",
            f"{cost.elementwise_per_px:.0f}",
            _share(row, rows[-1]),
        )
    return table


def _layer_table(layers: Sequence["LayerCost"]) -> "Table":
    """Layers below their components."""
    table = io.table("layer", "kind", "output", ">parameters", ">kFLOPs/px", ">elem./px", ">share")
    whole = _sum("total", "total", layers)

    def add(row: "LayerCost", name: str, style: str | None = None) -> None:
        shape = "x".join(map(str, row.shape[1:] if row.shape[:1] == (1,) else row.shape))
        cost = row.cost
        figures = str(row.parameters), f"{cost.kflops_per_px:.3f}", f"{cost.elementwise_per_px:.1f}", _share(row, whole)
        table.add_row(name, row.kind, shape, *figures, style=style)

    for component in _by_component(layers):
        add(component, component.cost.name, "bold")
        for layer in layers:
            if layer.component == component.component:
                add(layer, f"  {layer.cost.name}" if layer.shape else "  activations, sums, norms")
        table.add_section()
    add(whole, whole.cost.name, "bold")
    return table


def _share(row: "LayerCost", whole: "LayerCost") -> str:
    return f"{100 * row.cost.flops / whole.cost.flops:.1f} %"


def _show_formula(model: str, terms: Sequence["Term"], as_json: bool) -> None:
    """The cost as a sum over padded pixels."""
    if as_json:
        for term in terms:
            rate = float(term.flops_per_padded_px)
            record = {"component": term.component, "multiple": term.multiple, "flops_per_padded_px": rate}
            io.json_line("flops-formula", {"model": model, **record})
        return
    table = io.table("component", ">m", ">FLOPs per padded pixel")
    for term in terms:
        table.add_row(term.component, str(term.multiple), f"{float(term.flops_per_padded_px):.4f}")
    table.add_section()
    for multiple in sorted({term.multiple for term in terms}):
        rate = sum(float(term.flops_per_padded_px) for term in terms if term.multiple == multiple)
        table.add_row("total", str(multiple), f"{rate:.4f}")
    io.show(table, title=f"Decoder of {model}, any size")
    io.write_text(
        " FLOPs of a picture of W x H pixels: the sum over the totals of\n"
        " rate x P(m), where P(m) = m ceil(W / m) x m ceil(H / m) pixels.\n"
    )


def parse_size(text: str) -> tuple[int, int]:
    """'768x512' as width and height."""
    match = re.fullmatch(r"([1-9]\d{0,7})x([1-9]\d{0,7})", text)
    if not match:
        raise UsageError(f"--size {text}: write width and height, as in 768x512")
    return int(match[1]), int(match[2])


def _model_record(name: str) -> dict[str, Any]:
    from rdcodec.measure.cost import count_model
    from rdcodec.measure.published import table_1
    from rdcodec.models.weights import find_model

    config, _ = find_model(name)
    published = table_1().get(name)
    counted = count_model(config)
    return {
        "name": name,
        "tag": _newest_tag(name),
        "parameters": counted.parameters,
        "parameters_without_analysis": counted.parameters - counted.analysis_parameters,
        "kflops_per_px": round(counted.kflops_per_px, 1),
        "table_1_row": published and published.row,
        "table_1_parameters_m": published and published.parameters_m,
        "table_1_kflops_per_px": published and published.kflops_per_px,
        "table_1_relative_rate_percent": published and published.relative_rate_percent,
        "summary": config.summary,
    }


def _newest_tag(name: str) -> str | None:
    from rdcodec.models.weights import find_weights

    try:
        return find_weights(name).stem
    except NeedsModel:
        return None


def _cost(row: "LayerCost", is_layer: bool) -> dict[str, Any]:
    own = {"layer": row.cost.name, "kind": row.kind, "shape": row.shape} if is_layer else {}
    return {
        "component": row.component,
        **own,
        "parameters": row.parameters,
        "kflops_per_px": row.cost.kflops_per_px,
        "kmacs_per_px": row.cost.kmacs_per_px,
        "elementwise_per_px": row.cost.elementwise_per_px,
        "macs": row.cost.macs,
        "flops": row.cost.flops,
        "elementwise": row.cost.elementwise,
    }
