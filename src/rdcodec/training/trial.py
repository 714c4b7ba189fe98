"""One trial of a sweep, in whatever process or machine it falls to: its folder says how far it is.

    python -m rdcodec.training.trial TRIAL.json

It stops, with a checkpoint, when its standard input ends.

A trial that was interrupted anywhere goes on from its last checkpoint; one that is finished is not run again. What it
found lies beside its weights as results, for the store.
"""

import _thread
import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from rdcodec.errors import RdcError
from rdcodec.models.config import ModelConfig, config_sha256, family_of
from rdcodec.models.records import parse_record
from rdcodec.models.weights import FILE_NAME
from rdcodec.store.files import dump_results, read_record, results_from_record
from rdcodec.store.records import Provenance, Result
from rdcodec.system import write_whole
from rdcodec.training.checkpoint import CHECKPOINT, RESTART
from rdcodec.training.logs import whole_records
from rdcodec.training.plan import Plan
from rdcodec.training.recipe import Budget, Recipe

RESULTS = "results.json"


@dataclass(frozen=True)
class Job:
    """All that a worker has to know; JSON types only, so that it can travel. command: what started the sweep."""

    name: str
    folder: str
    config: dict[str, Any]
    recipe: dict[str, Any]
    budget: dict[str, Any]
    sources: tuple[str, ...]
    seed: int
    threads: int
    device: str
    command: str

    def save(self) -> Path:
        """Write FOLDER.json, whole or not at all."""
        path = Path(self.folder + ".json")
        write_whole(path, json.dumps(asdict(self), indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> "Job":
        record = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**record, "sources": tuple(record["sources"])})


def is_done(job: Job) -> bool:
    """Whether it is trained and its results are written."""
    return (Path(job.folder) / RESULTS).exists()


def last_record(job: Job) -> dict[str, Any] | None:
    """The last record of a step in its training log."""
    steps = (record for record in reversed(whole_records(Path(job.folder))) if record.get("kind") == "train")
    return next(steps, None)


def carry_out(job: Job) -> None:
    """Train it, or what is left of it, and write its results. Only one process at a time works on a trial."""
    Path(job.folder).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(job.folder + ".lock"):  # a process may have outlived the sweep that started it
        if not is_done(job):
            _train(job)
            _write_results(job)


def _train(job: Job) -> None:
    import torch

    from rdcodec.models.precision import pick_device
    from rdcodec.training import run

    folder = Path(job.folder)
    if (folder / FILE_NAME).exists():
        return
    torch.set_num_threads(job.threads)
    setting = run.Setting(pick_device(job.device))
    if (folder / CHECKPOINT).exists() or (folder / RESTART).exists():
        run.resume(folder, _nothing, _say, setting)
        return
    if folder.exists():
        shutil.rmtree(folder)  # stopped before its first checkpoint
    config = parse_record(ModelConfig, job.config, job.name)
    plan = Plan(config, parse_record(Recipe, job.recipe, job.name), job.sources, job.seed)
    run.start(plan, folder, Budget(**job.budget), _nothing, _say, setting)


def _nothing(record: dict[str, Any]) -> None:
    """The log file has it."""


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _write_results(job: Job) -> None:
    """What the trial found: its cost, its training, and the rate and distortion of the held-out photographs."""
    folder = Path(job.folder)
    write_whole(folder / RESULTS, dump_results(results_of(job)))


def read_results(job: Job) -> list[Result]:
    """What a finished trial left."""
    path = Path(job.folder) / RESULTS
    return results_from_record(read_record(path), str(path))


def results_of(job: Job) -> list[Result]:
    """Results of a trial that is trained. Rates are estimated: values["estimated"] says so."""
    from rdcodec.measure.cost import count_model
    from rdcodec.training.record import finite
    from rdcodec.training.validation import PICTURES

    config = parse_record(ModelConfig, job.config, job.name)
    provenance = _provenance(job)
    counted = count_model(config)
    cost = {"parameters": counted.parameters, "kflops_per_px": counted.kflops_per_px}
    checks = [record for record in whole_records(Path(job.folder)) if record.get("kind") == "validation"]
    last = checks[-1] if checks else None
    rows = tuple({"step": check["step"], "eflop": check["eflop"], "loss": finite(check["loss"])} for check in checks)
    spent = {**_spent(Path(job.folder)), "loss": finite(last["loss"]) if last else None}
    found = [
        Result("count", job.name, job.name, cost, provenance),
        Result("training", job.name, job.name, spent, provenance, rows=rows),
    ]
    if last is None:  # no photograph was held out
        return found
    single = config.lmbda is not None
    held_out = replace(provenance, dataset_sha256=last.get("pictures_sha256"))
    for quality, bpp, psnr in zip(last["quality"], last["bpp"], last["psnr_db"], strict=True):
        if finite(bpp) is None or finite(psnr) is None:
            _say(f"{job.name}: rate or distortion at quality {quality:g} is not finite, and left out of the results")
            continue
        values = {"bpp": bpp, "psnr_db": psnr, "estimated": True, "family": family_of(config)}
        setting = None if single else quality
        found.append(Result("quality", job.name, job.name, values, held_out, PICTURES, setting))
    return found


def _spent(folder: Path) -> dict[str, float]:
    """What the training has cost, by its last checkpoint."""
    import torch

    progress = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["progress"]
    eflop = progress["flops"] / 1e18  # no trial starts from another's weights
    return {"eflop": eflop, "own_eflop": eflop, "steps": progress["step"], "seconds": round(progress["seconds"], 2)}


def _provenance(job: Job) -> Provenance:
    import hashlib

    from rdcodec.measure.machine import machine

    here = machine()
    weights = (Path(job.folder) / FILE_NAME).read_bytes()
    return Provenance(
        source="rdcodec",
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=job.command,
        commit=here["commit"],
        dirty=here["dirty"],
        package=here["package"],
        machine=here,
        config_sha256=config_sha256(parse_record(ModelConfig, job.config, job.name)),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )


def _leave_with_input() -> None:
    """Stop, with a checkpoint, when the sweep that started this process closes its standard input, or is gone."""
    while os.read(0, 1):  # not through sys.stdin, whose lock this thread would hold while Python ends: an abort
        pass
    _thread.interrupt_main()


def main(path: str) -> int:
    """Carry out the trial of a file; the exit code."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=_leave_with_input, daemon=True).start()
    try:
        carry_out(Job.read(Path(path)))
    except RdcError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
