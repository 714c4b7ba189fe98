"""What each change of the paper's section 5 is worth: B against B with one change undone.

    python benchmarks/ablation.py --data photos/ -o runs/ablation [--tflop 60] [--threads 2]

Parameters and kFLOPs/px are counted; decoding times the networks with random weights on 768x512, in turns within one
run. Quality comes from twins of a quarter of every width, trained by `rdc train` with equal computation and one seed;
its validation is on the slice that training holds out. Without --data nothing is trained: quality then comes from the
runs that are finished already. A run that is finished is not run again, one that was interrupted is resumed, so that
the table in docs/results/ablation.md fills in.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from decode_parts import in_turns
from training_study import result, train

from rdcodec.measure.flops import kflops_per_px
from rdcodec.measure.machine import machine
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import ModelConfig, parse_record
from rdcodec.report.tables import markdown_table
from rdcodec.training.plan import find_config
from rdcodec.training.recipe import load_recipe

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results"
BASE = "B"
ARMS = {
    BASE: "as section 5 describes it",
    "B-elic192": "transforms of 3 x 192 channels, 3 residual blocks",
    "B-conv-hyper": "convolutional hyper-transforms",
    "B-lrp-added": "predicted residuals added, not merged",
    "B-full-hyper": "the whole hyper-synthesis output for each slice",
}
NARROWER = 4  # times, every width of a twin
WIDTHS = {"channels", "latent_channels", "widths", "head_channels", "outputs", "slices"}
CHANGES = {
    "stages": [{"until": 1.0, "batch": 8, "crop": 256}],
    **{"learning_rate": 1e-3, "warmup_steps": 50, "decay_share": 0.5, "average_decay": 0.98, "lmbdas": [0.013]},
}
HEIGHT, WIDTH = 512, 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="photographs; none: train nothing")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--tflop", type=float, default=60.0, help="training computation of every twin")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    configs = {name: find_config(name if name == BASE else str(HERE / "ablation" / f"{name}.toml")) for name in ARMS}
    record: dict[str, Any] = {"base": BASE, "machine": machine(), "tflop": arguments.tflop, "narrower": NARROWER}
    record["rows"] = {name: counted(config) for name, config in configs.items()}
    for name, milliseconds in decode_times(configs, arguments.repeats).items():
        record["rows"][name] |= milliseconds
    write(record, arguments.results)
    for name, config in configs.items():
        trial = trial_of(name, config, arguments.tflop)
        if arguments.data:
            arguments.output.mkdir(parents=True, exist_ok=True)
            print(f"{name}: {'done' if train(trial, arguments) else 'FAILED, see its log'}", flush=True)
        row = result(trial, arguments.output / trial["name"])
        if row:
            record["rows"][name]["quality"] = {key: row[key] for key in ("kflops_per_px", "validation", "curve")}
            write(record, arguments.results)


def counted(config: ModelConfig) -> dict[str, Any]:
    model = blueprint(config)
    return {
        "note": ARMS[config.name],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "kflops_per_px": kflops_per_px(model),
    }


def decode_times(configs: dict[str, ModelConfig], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the decoder's networks and of those before the synthesis; float32, random weights."""
    calls = {}
    for name, config in configs.items():
        model = ImageModel(config).eval().to(memory_format=torch.channels_last)
        for part, call in model.decode_parts(HEIGHT, WIDTH).items():
            calls[name, part] = call
    with torch.inference_mode():
        seconds = in_turns(calls, repeats)
    found = {}
    for name in configs:
        parts = {part: 1e3 * value for (of, part), value in seconds.items() if of == name}
        whole = sum(parts.values())
        found[name] = {"decode_ms": round(whole, 2), "entropy_ms": round(whole - parts["synthesis"], 2)}
    return found


def trial_of(name: str, config: ModelConfig, tflop: float) -> dict[str, Any]:
    """What training_study.py trains: the narrow twin."""
    recipe = load_recipe("paper").model_copy(update={"steps": None}).model_dump(exclude_none=True) | CHANGES
    twin = narrow(config.model_dump(exclude_none=True))
    parse_record(ModelConfig, twin, name)
    arm = {"arm": name, "note": ARMS[name], "share": 1.0, "seed": 0, "config": twin, "recipe": recipe}
    return {**arm, "name": f"{name}-{tflop:g}", "tflop": tflop}


def narrow(value: Any, key: str = "") -> Any:
    """Every width divided; kernels, depths, windows and counts stay."""
    if isinstance(value, dict):
        return {name: narrow(part, name) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(narrow(part, key) for part in value)
    return value // NARROWER if key in WIDTHS else value


def write(record: dict[str, Any], folder: Path) -> None:
    """The record and its table, with all that is known so far."""
    (folder / "ablation.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    base = record["rows"][BASE]
    rows = [cells(name, row, base) for name, row in record["rows"].items()]
    columns = ["model", "what it is", ">M parameters", ">kFLOPs/px", ">decode", ">entropy part"]
    columns += [">loss of twin", ">against B", ">bpp", ">PSNR dB"]
    cpu, threads = record["machine"]["cpu"], record["machine"]["threads"]
    text = (
        "# What the paper's changes are worth\n\n"
        "Written by `benchmarks/ablation.py`. Parameters and kFLOPs/px are counted. Times are those of the decoder's\n"
        "networks with random weights, as multiples of B's in the same run (768x512, float32, threads: "
        f"{threads}, {cpu}).\nLoss, rate and PSNR are of twins with a quarter of every width after "
        f"{record['tflop']:g} TFLOP of training each, one seed,\non the validation slice: hints, not proofs.\n\n"
        f"{markdown_table(columns, rows)}"
    )
    (folder / "ablation.md").write_text(text, encoding="utf-8")


def cells(name: str, row: dict[str, Any], base: dict[str, Any]) -> list[str]:
    found = [name, row["note"], f"{row['parameters'] / 1e6:.2f}", f"{row['kflops_per_px']:.1f}"]
    found += [f"x {row[key] / base[key]:.2f}" for key in ("decode_ms", "entropy_ms")]
    if "quality" not in row:
        return [*found, "-", "-", "-", "-"]
    last = row["quality"]["validation"]
    against = "-"
    if "quality" in base:
        against = f"{100 * (last['loss'] / base['quality']['validation']['loss'] - 1):+.1f} %"
    return [*found, f"{last['loss']:.4f}", against, f"{last['bpp'][0]:.3f}", f"{last['psnr_db'][0]:.2f}"]


if __name__ == "__main__":
    main()
