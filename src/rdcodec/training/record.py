"""A training run as a result for the store."""

import json
import math
from pathlib import Path
from typing import Any

from rdcodec.errors import BadInput
from rdcodec.models.config import config_sha256
from rdcodec.store.records import Provenance, Result
from rdcodec.training.plan import RUN_FILE
from rdcodec.training.release import read_log

FIGURES = ("step", "seconds", "eflop")


def training_result(run: Path, tag: str | None = None) -> Result:
    """What a run has cost so far, with its start where that is known, and a row for each validation and quality.

    The rows of a model of one rate say its lmbda, and count its own training alone: what it starts from is another.
    A point that was not finite has no row.

    tag: of the weights that were released from it; None: the name of the folder. Raises BadInput for a folder that
    is no run, or whose log is damaged.
    """
    try:
        plan = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
        name, machine = str(plan["config"]["name"]), dict(plan.get("machine") or {})
        lmbda = {"lmbda": float(given)} if (given := plan["config"].get("lmbda")) is not None else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{run}: no folder of a training run ({RUN_FILE} is missing or damaged)") from error
    log = read_log(run)
    losses = [record["loss"] for record in log if record.get("kind") == "train"]
    if any(key not in log[-1] for key in FIGURES):
        raise BadInput(f"{run}: its log does not say what was spent; train it with this version")
    last, earlier = log[-1], plan.get("earlier_eflop") or 0
    return Result(
        kind="training",
        codec=name,
        tag=tag or run.resolve().name,
        values={
            "eflop": last["eflop"] + earlier,
            "own_eflop": last["eflop"],
            "steps": last["step"],
            "seconds": last["seconds"],
            "loss": finite(losses[-1]) if losses else None,
        },
        provenance=Provenance(
            source="rdcodec",
            machine=machine,
            commit=machine.get("commit"),
            dirty=machine.get("dirty"),
            package=machine.get("package"),
            config_sha256=config_sha256(plan["config"]),
        ),
        rows=tuple(
            {**_spent(record, 0 if lmbda else earlier), **lmbda, "quality": quality, "bpp": bpp, "psnr_db": psnr_db}
            for record in log
            if record.get("kind") == "validation"
            for quality, bpp, psnr_db in zip(record["quality"], record["bpp"], record["psnr_db"], strict=True)
            if math.isfinite(bpp) and math.isfinite(psnr_db)
        ),
    )


def finite(value: float) -> float | None:
    """The value, or None where it is no number that a store can keep."""
    return value if math.isfinite(value) else None


def _spent(record: dict[str, Any], earlier: float) -> dict[str, float]:
    return {**{key: record[key] for key in FIGURES}, "eflop": record["eflop"] + earlier}
