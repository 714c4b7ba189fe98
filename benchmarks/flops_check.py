"""Our count of multiply-adds against two others: torch's FlopCounterMode, and fvcore where it is installed.

    python benchmarks/flops_check.py [--json docs/results/flops-check.json]

Counted are the decoders of the twelve combinations of the sweep, {conv, elic, swin} transforms x {hyperprior, charm} x
{conv, swin} hyper-transforms, with the parts of the rows of Table 1 that have them, and of every packaged model, for a
picture of 768x512. All three run the same networks, each with rules of its own for the operations that it meets:
FlopCounterMode sees them below autograd, fvcore in a trace. fvcore has no rule for attention's two products: its column
has to be what ours is without them. It needs real tensors, of 256x256, where nothing is padded either and a pixel costs
the same; the rest runs on the meta device. Some minutes with fvcore, seconds without.
"""

import argparse
import json
import logging
import warnings
from collections.abc import Callable
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rdcodec.measure.flops import count_parts, total
from rdcodec.models.base import ImageModel, blueprint
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, load_config, parse_record

RESULT = Path(__file__).parent.parent / "docs" / "results" / "flops-check.json"
HEIGHT, WIDTH = 512, 768
TRACED_SIDE = 256
TRANSFORMS = {"conv": "G", "elic": "B", "swin": "E"}  # the rows whose parts these are
ENTROPIES = {"hyperprior": "F", "charm": "B"}
HYPER = {"conv": "F", "swin": "B"}
PRODUCTS = ("conv", "linear", "matmul", "addmm", "mm", "bmm", "einsum")  # fvcore's names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    fvcore = fvcore_counter()
    configs = [combination(*parts) for parts in product(TRANSFORMS, ENTROPIES, HYPER)]
    configs += [load_config(CONFIGS / f"{name}.toml") for name in config_names()]
    print(f"{'kMAC/px of the decoder':24}{'ours':>11}{'torch':>11}{'attention':>11}{'without':>11}{'fvcore':>11}")
    rows = []
    for config in configs:
        rows.append(check(config, fvcore))
        print(line(rows[-1]), flush=True)
    record = {
        "picture": [WIDTH, HEIGHT],
        "versions": {name: version(name) for name in ("torch", "fvcore")},
        "agree": all(row["agree"] for row in rows),
        "rows": rows,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("all agree" if record["agree"] else "THEY DISAGREE")


def combination(transform: str, entropy: str, hyper: str) -> ModelConfig:
    """One of the twelve, of the parts of packaged models."""
    of = {name: load_config(CONFIGS / f"{name}.toml").model_dump(exclude_none=True) for name in "BEFG"}
    parts = of[TRANSFORMS[transform]]
    hyper_parts = {key: of[HYPER[hyper]]["entropy"][key] for key in ("hyper_analysis", "hyper_synthesis")}
    if entropy == "hyperprior" and hyper == "swin":
        hyper_parts["hyper_synthesis"] = {**hyper_parts["hyper_synthesis"], "outputs": 640}
    model = {**of[ENTROPIES[entropy]]["entropy"], **hyper_parts}
    name = f"{transform}-{entropy}-{hyper}"
    return parse_record(ModelConfig, {**parts, "name": name, "entropy": model}, name)


def check(config: ModelConfig, fvcore: Callable[[ModelConfig], int] | None) -> dict[str, Any]:
    """Multiply-adds by each of the counters."""
    model = blueprint(config)
    ours = total(count_parts(model.decode_parts(HEIGHT, WIDTH), HEIGHT * WIDTH))
    by_torch, attention = torch_counts(model)
    by_fvcore = fvcore(config) if fvcore else None
    return {
        "model": config.name,
        "kflops_per_px": ours.kflops_per_px,
        "macs": ours.macs,
        "torch_macs": by_torch,
        "attention_macs": attention,
        "fvcore_macs": by_fvcore,
        "agree": ours.macs == by_torch and by_fvcore in (None, ours.macs - attention),
    }


def torch_counts(model: ImageModel) -> tuple[int, int]:
    """Multiply-adds by FlopCounterMode: all of them, and attention's."""
    with FlopCounterMode(display=False) as counter:
        for run in model.decode_parts(HEIGHT, WIDTH).values():
            run()
    counts = counter.get_flop_counts()["Global"]
    names = {op: str(op) for op in counts}
    attention = sum(count for op, count in counts.items() if "bmm" in names[op] or "attention" in names[op])
    return counter.get_total_flops() // 2, attention // 2


def fvcore_counter() -> Callable[[ModelConfig], int] | None:
    """Multiply-adds by fvcore, which calls one of them a FLOP; None where it is not installed."""
    try:
        from fvcore.nn import FlopCountAnalysis
    except ImportError:
        return None
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")

    def count(config: ModelConfig) -> int:
        found = FlopCountAnalysis(Decoder(ImageModel(config).eval()), torch.zeros(1))
        by_operator = found.unsupported_ops_warnings(False).uncalled_modules_warnings(False).by_operator()
        macs = int(sum(by_operator[name] for name in PRODUCTS))
        return macs * HEIGHT * WIDTH // TRACED_SIDE**2

    return count


class Decoder(nn.Module):
    """All parts of a decoder, as one call that can be traced."""

    def __init__(self, model: ImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, _: Tensor) -> list[Tensor]:
        return flat([run() for run in self.model.decode_parts(TRACED_SIDE, TRACED_SIDE).values()])


def flat(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else [tensor for part in found for tensor in flat(part)]


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def line(row: dict[str, Any]) -> str:
    counts = (row["macs"], row["torch_macs"], row["attention_macs"], row["macs"] - row["attention_macs"])
    shown = [*counts, row["fvcore_macs"]]
    cells = "".join(f"{'-':>11}" if n is None else f"{n / HEIGHT / WIDTH / 1000:11.4f}" for n in shown)
    return f"{row['model']:24}{cells}{'' if row['agree'] else '  DIFFER'}"


if __name__ == "__main__":
    main()
