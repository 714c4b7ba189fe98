"""Tables of times: whether they follow FLOPs, how devices agree, and speeds of networks and whole files."""

import itertools
from collections.abc import Sequence

from rdcodec.measure.ranking import inversions, kendall_tau
from rdcodec.report.devices import FEWEST, Series, way
from rdcodec.report.markdown import markdown_table
from rdcodec.report.study import PAPER, Laboratory

PICTURES = {"kodak": "Kodak's size", "clic": "CLIC"}
DEVICES = ("A100", "V100")


def flops_table(found: Sequence[Series]) -> str:
    """Whether times follow FLOPs, a row for each series."""
    rows = []
    for series in found:
        models = list(series.times)
        flops, times = [series.flops[model] for model in models], series.order(models)
        pairs = _than(inversions(models, flops, times))
        rows.append((*_head(series), _names(models), f"{kendall_tau(flops, times):.2f}", pairs))
    columns = ("pictures", "device", "models", ">tau of FLOPs and time", "more FLOPs and yet faster")
    return _titled("FLOPs and time", columns, rows)


def paper_table(found: Sequence[Series]) -> str:
    """The order of the times against that of the paper's devices on the same pictures."""
    bases = {(series.name, series.pictures): series for series in found if series.by == PAPER}
    rows = []
    for series in found:
        cells: list[str] = []
        for device in DEVICES:
            base = bases[device, series.pictures]
            models = [model for model in series.times if model in base.times]
            if base is series or len(models) < FEWEST:
                cells += ["-", "-"]
                continue
            here, there = series.order(models), base.order(models)
            cells += [f"{kendall_tau(here, there):.2f}", _than(inversions(models, there, here))]
        if any(cell != "-" for cell in cells):
            rows.append((*_head(series), *cells))
    titles = [(f">tau with the {device}", f"faster, and slower on the {device}") for device in DEVICES]
    columns = ("pictures", "device", *itertools.chain(*titles))
    return _titled("The order of the times, and that on the paper's devices", columns, rows)


def agreements(found: Sequence[Series]) -> list[str]:
    """The pairs of our own series that order models differently, and how many agree."""
    lines, alike = [], 0
    for one, other in itertools.combinations(found, 2):
        models = [model for model in one.times if model in other.times]
        if one.pictures != other.pictures or len(models) < FEWEST:
            continue
        first, second = one.order(models), other.order(models)
        turned = _than(inversions(models, second, first))
        where, tau = f"{one.name}, and {other.name}; {PICTURES[one.pictures]}", kendall_tau(first, second)
        lines += [f"- {where}: tau {tau:.2f}; faster on the first only: {turned}."] * (turned != "-")
        alike += turned == "-"
    if not lines and not alike:
        return []
    return ["\n".join(["Our own devices among each other:\n", *lines, f"- Pairs that order all alike: {alike}."])]


def _head(series: Series) -> tuple[str, str]:
    return PICTURES[series.pictures], f"{series.name}{', the paper' if series.by == PAPER else ''}"


def _than(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{one} than {other}" for one, other in pairs) or "-"


def _names(models: Sequence[str]) -> str:
    """'A to G' for letters that follow each other."""
    ordered = sorted(models)
    following = all(len(m) == 1 for m in ordered) and ord(ordered[-1]) - ord(ordered[0]) == len(ordered) - 1
    return f"{ordered[0]} to {ordered[-1]}" if following else ", ".join(ordered)


def speed_tables(laboratory: Laboratory) -> list[str]:
    """Speeds in MP/s by machine, engine and pictures: networks alone (random weights too), decoding and encoding."""
    columns = {
        "decode_networks_mpx_per_s": "Networks of the decoder alone, without entropy coding",
        "decode_mpx_per_s": "Decoding of whole files, with entropy coding",
        "encode_mpx_per_s": "Encoding of whole files",
    }
    return [text for key, title in columns.items() if (text := _speed_table(laboratory, key, title))]


def _speed_table(laboratory: Laboratory, key: str, title: str) -> str:
    """One row for each way, one column for each model of a letter."""
    found: dict[str, dict[str, str]] = {}
    for speed in laboratory.comparable_speeds:
        alone = speed.values.get("coded") is False
        if len(speed.codec) == 1 and speed.values.get(key) and alone == (key == "decode_networks_mpx_per_s"):
            found.setdefault(way(speed, laboratory.speeds), {})[speed.codec] = _digits(float(speed.values[key] or 0))
    models = sorted({model for row in found.values() for model in row})
    rows = [(name, *(row.get(model, "-") for model in models)) for name, row in sorted(found.items())]
    heads = ("device and pictures", *(f">{model}" for model in models))
    return _titled(f"{title} (MP/s)", heads, rows) if rows else ""


def _titled(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"{title}:\n\n{markdown_table(columns, rows).strip()}"


def _digits(speed: float) -> str:
    return f"{speed:#.3g}".rstrip(".")
