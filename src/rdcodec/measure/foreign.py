"""What a codec under measurement costs besides rate: its speed, and its networks where it shows them.

A codec in Python may have `decode_parts(data)`: the networks that decode these bytes, by name, each a call without
arguments. They are counted and timed. `device` says where they run ("cpu" if it does not), `parameters` how many there
are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rdcodec.codec.image import Pixels
from rdcodec.errors import RdcError
from rdcodec.measure.rd import Evaluation, means
from rdcodec.store.records import Result, Value
from rdcodec.system import core_count

POINT_BPP = 0.46
"""Speed and cost are those of the setting whose rate is nearest to this, where codecs are compared."""
REPEATS = 3


def speed_result(evaluation: Evaluation, device: str = "cpu") -> Result | None:
    """Whole files per second at the setting nearest to `POINT_BPP`; None where no times were taken."""
    point = min(means(evaluation.rows), key=lambda mean: abs((mean["bpp"] or 0) - POINT_BPP))
    rows = [row for row in evaluation.rows if row.setting == point["setting"]]
    pixels = sum(row.width * row.height for row in rows)
    encode, decode = ([getattr(row, key) for row in rows] for key in ("enc_s", "dec_s"))
    if None in encode or None in decode or not sum(encode) or not sum(decode):
        return None
    values: dict[str, Value] = {
        "device": device,
        "threads": int(evaluation.machine.get("threads") or core_count()),
        "encode_mpx_per_s": round(pixels / sum(encode) / 1e6, 6),
        "decode_mpx_per_s": round(pixels / sum(decode) / 1e6, 6),
        "at_setting": point["setting"],
    }
    pictures = evaluation.dataset
    origin = evaluation.provenance(dataset_sha256=pictures.get("sha256"))
    return Result("speed", evaluation.codec, evaluation.tag, values, origin, str(pictures["name"]))


def cost_results(evaluation: Evaluation, coder: Any, image: Pixels) -> list[Result]:
    """The count of a codec's `decode_parts` on one picture, and their time; nothing for a codec without them.

    NeedsModel where torch is missing, RdcError for whatever the codec raises, and for what cannot be counted.
    """
    if not callable(getattr(coder, "decode_parts", None)):
        return []
    point = min(means(evaluation.rows), key=lambda mean: abs((mean["bpp"] or 0) - POINT_BPP))
    setting = point["setting"]
    if setting is not None and setting.is_integer():
        setting = int(setting)
    try:
        return _counted(evaluation, coder, image, setting)
    except RdcError:
        raise
    except Exception as error:
        raise RdcError(f"decode_parts: failed with {type(error).__name__}: {error}; -v shows where") from error


def _counted(evaluation: Evaluation, coder: Any, image: Pixels, setting: float | None) -> list[Result]:
    import torch

    from rdcodec.measure.bench import summarise, timed
    from rdcodec.measure.cost import total
    from rdcodec.measure.flops import count_parts

    pixels = image.shape[0] * image.shape[1]
    with torch.inference_mode():
        parts = coder.decode_parts(coder.encode(image, setting))
        costs = count_parts(parts, pixels)
        for run in parts.values():
            run()  # warm up
        seconds = {name: summarise([timed(run) for _ in range(REPEATS)]).seconds for name, run in parts.items()}
    whole = total(costs)
    counts: dict[str, Value] = {
        "parameters": getattr(coder, "parameters", None),
        "kflops_per_px": round(whole.kflops_per_px, 6),
        "kmacs_per_px": round(whole.kmacs_per_px, 6),
        "elementwise_per_px": round(whole.elementwise_per_px, 6),
    }
    rows: tuple[Mapping[str, Value], ...] = tuple(
        {"part": cost.name, "kflops_per_px": round(cost.kflops_per_px, 6)} for cost in costs
    )
    found = [Result("count", evaluation.codec, evaluation.tag, counts, evaluation.provenance(), rows=rows)]
    speed = speed_result(evaluation, str(getattr(coder, "device", "cpu")))
    if speed is not None:
        networks = round(pixels / sum(seconds.values()) / 1e6, 6)
        timing: tuple[Mapping[str, Value], ...] = tuple(
            {"part": name, "seconds": round(value, 6)} for name, value in seconds.items()
        )
        values = {**speed.values, "decode_networks_mpx_per_s": networks, "kflops_per_px": counts["kflops_per_px"]}
        found.append(replace(speed, values=values, rows=timing))
    return found


def results_beside(evaluation: Evaluation, coder: Any, images: Sequence[Pixels]) -> list[Result]:
    """Speed, and cost where the codec shows its networks: what a store keeps beside the quality."""
    found = cost_results(evaluation, coder, images[0]) if images else []
    speed = None if any(result.kind == "speed" for result in found) else speed_result(evaluation)
    return [*found, *([speed] if speed else [])]
