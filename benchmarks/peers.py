"""Whole files of H, I and J beside classical codecs and CompressAI's models: encode and decode at equal PSNR.

    PYTHONPATH=src python benchmarks/peers.py --data KODAK --json docs/results/peers.json

One process, one thread for every codec, codecs in turns, so that other work on the machine affects all of them alike.
Each picture is coded by each codec at the lowest setting that reaches the asked PSNR. CompressAI's models have random
weights, from a seed: the time of a network does not depend on them, PSNR and size mean nothing and are left out. They
are measured where CompressAI can be imported.
"""

import argparse
import io
import json
import os
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from rdcodec.codec import engine
from rdcodec.codec.image import Pixels, read_image
from rdcodec.codec.pipeline import Codec
from rdcodec.measure.anchors import ANCHORS
from rdcodec.measure.machine import machine
from rdcodec.measure.rd import fingerprint
from rdcodec.measure.reading import load_curve
from rdcodec.metrics import psnr_db
from rdcodec.models.weights import find_weights, read_weights
from rdcodec.store.files import dump_results
from rdcodec.store.records import Provenance, Result

CLASSICAL = ("jpeg", "webp", "avif444", "x265_444", "jxl")
CURVES = {
    "jpeg": "kodak_jpeg_pillow",
    "webp": "kodak_webp_pillow",
    "avif444": "kodak_avif444",
    "x265_444": "kodak_x265_444",
    "jxl": "kodak_jxl",
}
"""Built-in curves of the classical codecs."""
COMPRESSAI = {"bmshj2018_hyperprior": 4, "mbt2018_mean": 4, "cheng2020_anchor": 4}
"""CompressAI's quality of about 32 dB, which decides the widths of its networks."""
TASKS = ("encode", "decode")


@dataclass(frozen=True)
class Peer:
    """A codec in one of its settings: scale holds them all, from worst to best; None where there is no choice."""

    name: str
    summary: str
    scale: range | None
    encode: Callable[[Pixels, int], bytes]
    decode: Callable[[bytes], Pixels]


def ours(model: str, maker: str) -> Peer:
    weights = read_weights(find_weights(model))
    codec = Codec(weights, engine=maker)
    summary = f"rdcodec {weights.tag}, {'the core' if maker == 'native' else 'torch'}"
    return Peer(
        f"{model}, {'core' if maker == 'native' else 'torch'}",
        summary,
        range(0, 101),
        lambda image, setting: codec.compress(image, setting),
        codec.decompress,
    )


def avif_default() -> Peer:
    """As Pillow writes AVIF by default: what a person gets who asks for nothing."""

    def encode(image: Pixels, setting: int) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(image).save(buffer, "AVIF", quality=setting, max_threads=1)
        return buffer.getvalue()

    anchor = ANCHORS["avif420"]
    return Peer(
        "avif_default",
        f"AVIF 4:2:0, speed 6, as Pillow writes it; {anchor.version()}",
        range(0, 101),
        encode,
        anchor.decode,
    )


def classical() -> Iterator[Peer]:
    for name in CLASSICAL:
        anchor = ANCHORS[name]
        if anchor.found():
            yield Peer(name, anchor.tag(), anchor.scale, anchor.encode, anchor.decode)
    yield avif_default()


def compressai() -> Iterator[Peer]:
    try:
        from compressai_import import compressai, zoo
    except ImportError as error:
        print(f"without CompressAI: {error}", file=sys.stderr)
        return
    for name, quality in COMPRESSAI.items():
        torch.manual_seed(1)
        model = getattr(zoo, name)(quality=quality, pretrained=False).eval()
        model.update(force=True)
        yield Peer(
            name,
            f"{name} of CompressAI {compressai.__version__}, quality {quality}, random weights",
            None,
            *wrapped(model),
        )


def wrapped(model: Any) -> tuple[Callable[[Pixels, int], bytes], Callable[[bytes], Pixels]]:
    """Its two calls with bytes between, as a user of CompressAI has to write them. Sides are multiples of 64."""

    @torch.inference_mode()
    def encode(image: Pixels, setting: int) -> bytes:
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
        coded = model.compress(x)
        y, z = (strings[0] for strings in coded["strings"])
        return struct.pack("<HHI", *coded["shape"], len(y)) + y + z

    @torch.inference_mode()
    def decode(data: bytes) -> Pixels:
        rows, columns, y_bytes = struct.unpack_from("<HHI", data)
        strings = [[data[8 : 8 + y_bytes]], [data[8 + y_bytes :]]]
        x = model.decompress(strings, (rows, columns))["x_hat"]
        return np.asarray((x[0].permute(1, 2, 0) * 255).clamp(0, 255).round().to(torch.uint8))

    return encode, decode


def lowest(peer: Peer, image: Pixels, least_db: float) -> int:
    """The lowest setting of `peer` whose picture has at least that PSNR, by bisection."""
    assert peer.scale is not None
    low, high = 0, len(peer.scale) - 1
    while low < high:
        middle = (low + high) // 2
        if psnr_db(image, peer.decode(peer.encode(image, peer.scale[middle]))) >= least_db:
            high = middle
        else:
            low = middle + 1
    return peer.scale[low]


def measure(peers: list[Peer], image: Pixels, least_db: float, turns: int) -> list[dict[str, Any]]:
    """Bytes, PSNR and median seconds of each codec on one picture."""
    rows: list[dict[str, Any]] = []
    files = []
    for peer in peers:
        setting = 0 if peer.scale is None else lowest(peer, image, least_db)
        files.append(peer.encode(image, setting))
        decoded = peer.decode(files[-1])
        about = {"bytes": len(files[-1]), "psnr_db": psnr_db(image, decoded)} if peer.scale else {}
        rows.append({"codec": peer.name, "setting": setting, **about})
    seconds: dict[tuple[str, str], list[float]] = {(peer.name, task): [] for peer in peers for task in TASKS}
    for _ in range(turns):
        for peer, row, data in zip(peers, rows, files, strict=True):
            seconds[peer.name, "encode"].append(timed(lambda: peer.encode(image, row["setting"])))  # noqa: B023
            seconds[peer.name, "decode"].append(timed(lambda: peer.decode(data)))  # noqa: B023
    return [row | {f"{task}_s": statistics.median(seconds[row["codec"], task]) for task in TASKS} for row in rows]


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def summary(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each codec over all pictures: megapixels per second, bpp, mean PSNR."""
    total = []
    for name, about in record["codecs"].items():
        found = [(picture["pixels"], row) for picture in record["pictures"] for row in picture["rows"]]
        rows = [(pixels, row) for pixels, row in found if row["codec"] == name]
        size = sum(pixels for pixels, _ in rows)
        entry: dict[str, Any] = {"codec": name, "about": about}
        for task in TASKS:
            entry[f"{task}_mpx_per_s"] = size / 1e6 / sum(row[f"{task}_s"] for _, row in rows)
        if "bytes" in rows[0][1]:
            entry["bpp"] = 8 * sum(row["bytes"] for _, row in rows) / size
            entry["psnr_db"] = statistics.fmean(row["psnr_db"] for _, row in rows)
        total.append(entry)
    return total


def table(record: dict[str, Any]) -> str:
    """The summary in Markdown; speeds also as multiples of I's in the core."""
    here, rows = record["machine"], record["summary"]
    base = next(row for row in rows if row["codec"] == "I, core")
    lines = [
        "# Compared with other codecs",
        "",
        f"`python benchmarks/peers.py --data KODAK`: {here['cpu']}, one thread, "
        f"{len(record['pictures'])} Kodak pictures, each at the lowest setting that reaches {record['least_db']:g} dB, "
        f"medians of {record['turns']} turns. In brackets: speed relative to I in the core. CompressAI's models have "
        "random weights: their times are valid, their sizes and PSNR would be meaningless.",
        "",
        "| codec | bpp | PSNR dB | encode MP/s | decode MP/s |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        size = f"{row['bpp']:.3f} | {row['psnr_db']:.2f}" if "bpp" in row else "- | -"
        speeds = (f"{row[key]:.3g} ({row[key] / base[key]:.2g} x)" for key in (f"{task}_mpx_per_s" for task in TASKS))
        lines.append(f"| {row['about']} | {size} | {' | '.join(speeds)} |")
    return "\n".join(lines) + "\n"


def speed_results(record: dict[str, Any]) -> list[Result]:
    """Speeds of our core and, by the names of their curves, of the classical codecs, as a report reads them."""
    here, found = record["machine"], []
    for row in record["summary"]:
        model, _, kind = row["codec"].partition(", ")
        if kind == "core":
            codec, tag = model, row["about"].split()[1].rstrip(",")
        elif row["codec"] in CURVES:
            codec, tag = load_curve(CURVES[row["codec"]]).name, row["about"]
        else:
            continue
        values = {
            "device": "cpu",
            "threads": 1,
            "kernels": here["kernels"] if kind == "core" else None,
            "encode_mpx_per_s": round(row["encode_mpx_per_s"], 6),
            "decode_mpx_per_s": round(row["decode_mpx_per_s"], 6),
            "at_psnr_db": record["least_db"],
        }
        command = "python benchmarks/peers.py --data kodak"
        origin = {"commit": here["commit"], "dirty": here["dirty"], "dataset_sha256": record.get("dataset_sha256")}
        where = Provenance("rdcodec", command=command, machine=here, **origin)
        count = f"{len(record['pictures'])} Kodak pictures at {record['least_db']:g} dB"
        found.append(Result("speed", codec, tag, values, where, count))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Kodak's pictures")
    parser.add_argument("--pictures", type=int, default=6, help="how many of them")
    parser.add_argument("--psnr", type=float, default=32.0, help="dB that each picture has at least")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    engine.set_threads(1)
    peers = [
        *(ours(model, "native") for model in "JIH"),
        *(ours(model, "torch") for model in "JIH"),
        *classical(),
        *compressai(),
    ]
    record: dict[str, Any] = {
        "machine": machine(),
        "least_db": arguments.psnr,
        "turns": arguments.turns,
        "codecs": {peer.name: peer.summary for peer in peers},
        "pictures": [],
    }
    paths = sorted(arguments.data.glob("*.png"))
    chosen = {path.name: read_image(path) for path in paths[:: -(-len(paths) // arguments.pictures)]}
    record["dataset_sha256"] = fingerprint(chosen)
    for name, image in chosen.items():
        rows = measure(peers, image, arguments.psnr, arguments.turns)
        record["pictures"].append({"name": name, "pixels": image.shape[0] * image.shape[1], "rows": rows})
        print(name, file=sys.stderr)
    record |= {"summary": summary(record), "load_after": os.getloadavg()[0]}
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
        arguments.json.with_suffix(".md").write_text(table(record))
        arguments.json.with_name(f"speed-{arguments.json.name}").write_text(dump_results(speed_results(record)))
    sys.stdout.write(table(record))


if __name__ == "__main__":
    main()
