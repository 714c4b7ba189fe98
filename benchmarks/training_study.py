"""Arms of equal training compute: which recipe gives the lowest validation loss for its FLOPs?

    python benchmarks/training_study.py benchmarks/recipes.toml --data photos/ -o runs/recipes \\
        --results docs/results/recipes.json

The study file has a model, a budget in TFLOPs, a recipe and arms: each arm changes some keys of the recipe (or
`model`, `changes` in it, or its `share` of the budget), says so in its `note`, and runs once per seed. `base` is the
arm that the others are compared with. A run that is finished is not run again, one that was interrupted is resumed.
--results gets a row for every finished run; `training_study_page.py` makes a page of it.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

from rdcodec.measure.flops import kflops_per_px
from rdcodec.measure.machine import machine
from rdcodec.models.base import blueprint
from rdcodec.models.config import ModelConfig, parse_record
from rdcodec.training.plan import find_config
from rdcodec.training.sweep import changed

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2, help="runs beside each other")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    study = tomllib.loads(arguments.study.read_text(encoding="utf-8"))
    trials = list_trials(study)
    with ThreadPoolExecutor(arguments.workers) as pool:
        for trial, ok in zip(trials, pool.map(lambda trial: train(trial, arguments), trials), strict=True):
            print(f"{trial['name']}: {'done' if ok else 'FAILED, see its log'}", flush=True)
    rows = [row for trial in trials if (row := result(trial, arguments.output / trial["name"]))]
    record = {"base": study["base"], "machine": machine(), "rows": rows}
    arguments.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def list_trials(study: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per arm and seed: the configuration, TFLOPs and recipe of a run."""
    trials = []
    for arm, own in study["arms"].items():
        keys = {"share": 1.0, "seeds": [0], "model": study.get("model"), "changes": {}, "note": ""}
        values = {key: own.get(key, usual) for key, usual in keys.items()}
        recipe = {**study["recipe"], **{key: value for key, value in own.items() if key not in keys}}
        config = changed(find_config(values["model"]).model_dump(exclude_none=True), values["changes"])
        arm_of = {"arm": arm, "note": values["note"], "share": values["share"], "config": config, "recipe": recipe}
        tflop = study["tflop"] * values["share"]
        trials += [{**arm_of, "name": f"{arm}-{seed}", "seed": seed, "tflop": tflop} for seed in values["seeds"]]
    return trials


def train(trial: dict[str, Any], arguments: argparse.Namespace) -> bool:
    run = arguments.output / trial["name"]
    if (run / "weights.safetensors").exists():
        return True
    config, recipe = (arguments.output / f"{trial['name']}.{kind}.toml" for kind in ("config", "recipe"))
    for path, values in ((config, trial["config"]), (recipe, trial["recipe"])):
        path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in values.items()), encoding="utf-8")
    command = [sys.executable, "-m", "rdcodec", "train"]
    if (run / "checkpoint.pt").exists():
        command += ["--resume", str(run)]
    else:
        command += [str(config), "-o", str(run), "--recipe", str(recipe), "--tflop", str(trial["tflop"])]
        command += ["--seed", str(trial["seed"])]
        command += [part for path in arguments.data for part in ("--data", str(path))]
    command += ["--threads", str(arguments.threads)]
    with (arguments.output / f"{trial['name']}.log").open("a") as log:
        return subprocess.run(command, stdout=log, stderr=log, cwd=ROOT).returncode == 0


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def result(trial: dict[str, Any], run: Path) -> dict[str, Any] | None:
    """A finished run with its last validation and its training loss over compute; None for any other."""
    if not (run / "weights.safetensors").exists():
        return None
    records = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    last = next(record for record in reversed(records) if record["kind"] == "validation")
    model = blueprint(parse_record(ModelConfig, trial["config"], trial["name"]))
    return {**trial, "kflops_per_px": kflops_per_px(model), "validation": last, "curve": loss_curve(records)}


def loss_curve(records: list[dict[str, Any]], points: int = 16) -> list[list[float]]:
    """(TFLOPs, mean training loss since the point before); single records are too noisy to read."""
    train = [record for record in records if record["kind"] == "train"]
    size = max(1, len(train) // points)
    groups = [train[at : at + size] for at in range(0, len(train) - size + 1, size)]
    return [[group[-1]["eflop"] * 1e6, fmean(record["loss"] for record in group)] for group in groups]


if __name__ == "__main__":
    main()
