"""From a finished run to released weights: tables fitted to photographs, a tagged file, the model card beside it."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rdcodec.errors import BadInput, UsageError
from rdcodec.export.channels import with_busy_channels
from rdcodec.export.pixels import with_pixels
from rdcodec.measure.bdrate import Curve, bd_rate, excess_at_one_rate, relative_rate
from rdcodec.measure.cost import count_model
from rdcodec.measure.machine import machine
from rdcodec.measure.rd import Evaluation
from rdcodec.measure.reading import load_curve
from rdcodec.models.config import ModelConfig
from rdcodec.models.scale import LMBDA_0, LMBDA_100
from rdcodec.models.weights import FILE_NAME, TAG, Weights, read_weights, save_weights
from rdcodec.system import write_whole
from rdcodec.training.data import decoded, load_photos
from rdcodec.training.logs import LOG, whole_records
from rdcodec.training.plan import RUN_FILE, Only, Plan
from rdcodec.training.recipe import Recipe
from rdcodec.training.tables import SIDE, evenly, with_fitted_tables
from rdcodec.training.validation import bd_rates, cut

BUSY_PHOTOS = 60  # evenly taken, to see which channels are never used
MOST_BYTES = 40_000_000  # in one file; code hosts refuse larger ones from 50 or 100 MB on
TRAINED: dict[Only, str] = {
    "entropy": "the entropy model alone; the transforms are those of the start",
    "decoder": "entropy model and synthesis, on latents as files have them; analysis and gains are those of the start",
}
STARTS = {"klt": "KLT of the photographs' patches", "random": "random"}


def release(
    run: Path,
    tag: str,
    folder: Path,
    notes: str = "",
    evaluations: Sequence[Path] = (),
    sources: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write FOLDER/TAG.safetensors, in pieces where it is large, and FOLDER/TAG.md; returns the path of the weights.

    run: a run folder, or the file of a released tag, whose networks get the new tag and other tables.
    notes: Markdown on the data, their licences and that of the weights. evaluations: result files of
    `rdc eval` of these weights. sources: photographs to which the entropy tables are fitted; of a run by default those
    that it was trained on. say: told what is skipped. UsageError if the tag does not fit the model or is taken: a
    released tag never changes.
    """
    again = run.is_file()
    path = run if again else run / FILE_NAME
    weights = read_weights(path)
    match = TAG.fullmatch(tag)
    if match is None or match["name"] != weights.config.name or int(match["number"]) == 0:
        raise UsageError(f"{tag}: a tag of this model is {weights.config.name}.1, {weights.config.name}.2, ...")
    target = folder / f"{tag}.safetensors"
    if tag == weights.tag or target.exists():
        raise UsageError(f"{target}: exists, and released weights never change: give the next tag")
    if again and not sources:
        raise UsageError(f"{weights.tag} is released: give the photographs that {tag} is fitted to with --data")
    origin = _of_tag(path) if again else _of_run(run)  # says what is wrong before anything is computed
    evaluated = [f"## {_title(result)}\n\n{_evaluation(result)}" for result in evaluations]
    released = replace(weights, tag=tag)
    if weights.entropy:  # others cannot code files, whatever their tables
        photos = load_photos(sources or [Path(source) for source in Plan.read(run).sources], say)
        looked_at = [cut(photo)[:SIDE, :SIDE] for photo in decoded(evenly(photos.train, BUSY_PHOTOS))]
        released = with_busy_channels(released, looked_at)
        if less := weights.parameters - released.parameters:
            origin.insert(0, f"{less:,} parameters of channels that are zero on all photographs are left out.")
            say(origin[0])
        released = with_pixels(released, looked_at)
        released = with_fitted_tables(released, photos.train, say)
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(target, released, MOST_BYTES)
    write_whole(target.with_suffix(".md"), card(released, [*origin, *evaluated, notes.strip()]))
    return target


def retire(tag: str, folder: Path) -> str:
    """Leave of FOLDER/TAG.safetensors and its pieces only what decodes, for a tag that has a successor; says how much.

    Tag and hashes stay, and files made with these weights decode as before. UsageError if there are none.
    """
    path = folder / f"{tag}.safetensors"
    if not path.is_file():
        raise UsageError(f"{path}: no such weights; name a tag that is in {folder}")
    pieces = list(folder.glob(f"{tag}.piece-*.safetensors"))
    weights, size = read_weights(path), sum(file.stat().st_size for file in (path, *pieces))
    save_weights(path, weights.for_decoding())
    for piece in pieces:
        piece.unlink()
    return f"{path}: {size / 1e6:.1f} MB, now {path.stat().st_size / 1e6:.1f} MB, which only decode"


def card(weights: Weights, parts: Sequence[str]) -> str:
    """The model card, Markdown: what the weights are, then the parts."""
    counted = count_model(weights.config)
    about = [
        f"# {weights.tag}\n\n{weights.config.summary[:1].upper()}{weights.config.summary[1:]}.",
        _table(
            ("model", f"{weights.config.name}, {counted.parameters / 1e6:.2f} M parameters"),
            ("decoder", f"{counted.kflops_per_px:.1f} kFLOPs/px"),
            ("rates", f"{_rates(weights.config)} (loss = bpp + lmbda x MSE of 8-bit RGB)"),
            ("entropy path", f"integers, hash {weights.entropy_hash.hex()}; tables {weights.tables.hash().hex()}"),
            ("synthesis", f"{'integers' if weights.pixels else 'floats'}, hash {weights.synthesis_hash.hex()}"),
        ),
    ]
    return "\n\n".join(part for part in [*about, *parts] if part) + "\n"


def _of_run(run: Path) -> list[str]:
    """How a run trained its networks, and how they did."""
    plan, log = Plan.read(run), read_log(run)
    training = "## Training\n\n" + _table(*_training(run, plan, log))
    return [training, "## Validation\n\n" + _validation(log), _progress(log)]


def _of_tag(path: Path) -> list[str]:
    """Where the networks of a released tag come from: its card, one level further down; Markdown has six."""
    try:
        text = path.with_suffix(".md").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadInput(
            f"{path.with_suffix('.md')}: {error.strerror}; the new card needs that of {path.stem}"
        ) from error
    about = f"The networks of {path.stem}, with entropy tables fitted to photographs. Of {path.stem} itself:"
    return [about, re.sub(r"(?m)^(#{1,5}) ", r"#\1 ", text)]


def _rates(config: ModelConfig) -> str:
    if config.lmbda is not None:
        return f"one: lmbda {config.lmbda:g}"
    return f"quality 0 to 100: lmbda {LMBDA_0:g} to {LMBDA_100:g}"


def read_log(run: Path) -> list[dict[str, Any]]:
    """The records of RUN/log.jsonl; BadInput if there is none that can be read."""
    if records := whole_records(run):
        return records
    raise BadInput(f"{run / LOG}: no log that can be read; train the run before it is released")


def _training(run: Path, plan: Plan, log: list[dict[str, Any]]) -> list[tuple[str, str]]:
    last = log[-1]
    here = json.loads((run / RUN_FILE).read_text(encoding="utf-8")).get("machine") or machine()
    recipe: Recipe = plan.recipe
    sources = ", ".join(dict.fromkeys(Path(source).name for source in (*plan.earlier_sources, *plan.sources)))
    return [
        ("data", f"{sources}; see below"),
        ("steps", f"{last['step']:,}: {_stages(recipe)}"),
        ("optimiser", f"{recipe.optimizer}, learning rate {recipe.learning_rate:g}, linear to zero; weights averaged"),
        ("start", _start(plan)),
        *([("trained", TRAINED[plan.only])] if plan.only else []),
        ("seed", str(plan.seed)),
        ("training compute", f"{last['eflop']:.6f} EFLOP, forward and backward{_earlier(plan, last['eflop'])}"),
        ("wall time", f"{last['seconds'] / 3600:.2f} h of training steps"),
        ("machine", f"{_processors(here)}, torch {here.get('torch')}"),
    ]


def _processors(here: dict[str, Any]) -> str:
    """The GPU where there was one, and the cores."""
    cores = f"{here.get('cpu')}, {here.get('cores')} cores"
    return f"{gpu}, {cores}" if (gpu := here.get("gpu")) else cores


def _start(plan: Plan) -> str:
    if plan.warm_start is None:
        return STARTS[plan.recipe.start]
    name = Path(plan.warm_start).stem
    return f"the weights {name}" if TAG.fullmatch(name) else "the weights of an earlier run"


def _earlier(plan: Plan, eflop: float) -> str:
    if plan.warm_start is None:
        return ""
    whole = plan.whole_eflop(eflop)
    return "; that of the start is not known" if whole is None else f"; {whole:.6f} EFLOP with that of the start"


def _stages(recipe: Recipe) -> str:
    parts = (
        f"to {stage.until:.0%} of the budget {stage.batch} crops of {stage.crop} pixels" for stage in recipe.stages
    )
    return ", ".join(parts)


def _validation(log: list[dict[str, Any]]) -> str:
    records = [r for r in log if r["kind"] == "validation"]
    if not records:
        return "No photograph was held out."
    record = records[-1]
    rows = zip(record["quality"], record["bpp"], record["psnr_db"], strict=True)
    lines = [
        "Held-out photographs, estimated rate of the float model:",
        "",
        "| quality | bpp | PSNR dB |",
        "|---:|---:|---:|",
        *(f"| {quality:g} | {bpp:.3f} | {psnr_db:.2f} |" for quality, bpp, psnr_db in rows),
    ]
    rates = {name: value for name, value in record.get("bd_rate_percent", {}).items() if value is not None}
    if rates:
        kind = "BD-rate" if len(record["bpp"]) > 1 else "Rate at equal PSNR"
        lines += ["", f"{kind} there against " + ", ".join(f"{n} {v:+.1f} %" for n, v in rates.items()) + "."]
    return "\n".join(lines)


def _progress(log: list[dict[str, Any]]) -> str:
    """BD-rate of each validation against the last one: how much rate the training took off."""
    records = [r for r in log if r["kind"] == "validation"]
    if not records:
        return ""
    lines = [
        "## Rate over training",
        "",
        f"Averaged weights on the held-out photographs, {_kind_of_excess(records[-1])} against the end of the run:",
        "",
        "| steps | hours | EFLOP | excess rate |",
        "|---:|---:|---:|---:|",
    ]
    for record in records:
        excess = _excess(record, records[-1])
        hours = record["seconds"] / 3600
        shown = "-" if excess is None else f"{excess:+.1f} %"
        lines.append(f"| {record['step']:,} | {hours:.2f} | {record['eflop']:.6f} | {shown} |")
    return "\n".join(lines)


def _kind_of_excess(record: dict[str, Any]) -> str:
    return "BD-rate" if len(record["bpp"]) > 1 else "rate at equal PSNR, by the tangent at lmbda,"


def _excess(record: dict[str, Any], last: dict[str, Any]) -> float | None:
    """Percent of rate over the last validation."""
    rates = (*record["bpp"], *last["bpp"])
    if not all(map(math.isfinite, (*rates, *record["psnr_db"], *last["psnr_db"]))) or min(rates) <= 0:
        return None
    if len(last["bpp"]) > 1:
        return bd_rates(record, {"end": _curve(last)})["end"]
    point, best = ((look["bpp"][0], look["psnr_db"][0]) for look in (record, last))
    return excess_at_one_rate(point, best, last["lmbda"][0])


def _curve(record: dict[str, Any]) -> Curve:
    return Curve.from_points("model", zip(record["bpp"], record["psnr_db"], strict=True))


def _title(path: Path) -> str:
    return str(Evaluation.load(path).dataset["name"])


def _evaluation(path: Path) -> str:
    evaluation = Evaluation.load(path)
    curve = evaluation.curve()
    lines = ["Real files:", "", "| bpp | PSNR dB |", "|---:|---:|"]
    lines += [f"| {bpp:.4f} | {psnr_db:.3f} |" for bpp, psnr_db in zip(curve.bpp, curve.psnr_db, strict=True)]
    if "kodak" in evaluation.dataset["name"].lower():
        anchors = {"JPEG (Pillow)": "kodak_jpeg_pillow", "WebP (Pillow)": "kodak_webp_pillow", "BPG 4:4:4": "bpg_444"}
        lines += ["", _beside(curve, {label: load_curve(name) for label, name in anchors.items()})]
    return "\n".join(lines)


def _beside(curve: Curve, anchors: dict[str, Curve]) -> str:
    """The BD-rate against each; of a single point the difference in rate at its PSNR."""
    if len(curve.bpp) == 1:
        rates = {label: relative_rate(curve.bpp[0], curve.psnr_db[0], anchor) for label, anchor in anchors.items()}
        texts = [f"{label} {percent:+.1f} %" for label, percent in rates.items()]
        return "Rate at equal PSNR against " + ", ".join(texts) + "."
    found = [(label, bd_rate(curve, anchor)) for label, anchor in anchors.items()]
    texts = [f"{label} {bd.value:+.1f} % ({bd.low:.1f} to {bd.high:.1f} dB)" for label, bd in found]
    return "BD-rate against " + ", ".join(texts) + "."


def _table(*rows: tuple[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
