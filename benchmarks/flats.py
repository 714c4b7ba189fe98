"""Flat pictures: how far they come back from their colour, with the encoder's correction and without.

    python benchmarks/flats.py --json docs/results/flats.json

A picture of one colour for each of 20, at two sizes, one of them no multiple of 16. "Border" is the outermost 16
samples on each side. Then a page, a photograph between black bars and a screen, made here: bytes, PSNR of all and error
of flat areas, and seconds of encoding.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import rdcodec
from rdcodec.codec import flat
from rdcodec.codec.image import Pixels, read_image
from rdcodec.codec.pipeline import Analysed, Codec, Encoded
from rdcodec.measure.machine import machine
from rdcodec.metrics import psnr_db
from rdcodec.models.weights import find_weights, read_weights

GREYS = [(level, level, level) for level in (0, 16, 64, 128, 192, 240, 255)]
PRIMARIES = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0)]
OTHERS = [(200, 30, 30), (30, 90, 200), (250, 200, 20), (60, 140, 60), (120, 60, 160), (240, 220, 200), (90, 60, 40)]
KINDS = {"white, black, greys": GREYS, "saturated primaries": PRIMARIES, "other colours": OTHERS}
SIZES = ((150, 200), (192, 256))
QUALITIES = (10, 50, 85, 100)
BORDER = 16
PHOTO = Path(rdcodec.__file__).parent / "data" / "astronaut.png"


def encodings(codec: Codec, image: Pixels, quality: float) -> dict[str, tuple[Encoded, float]]:
    """Without the correction and with it, and the seconds of each."""
    found = {}
    for name in ("before", "after"):
        began = time.perf_counter()
        analysed = codec.analyse(image)
        if name == "before":
            analysed = Photograph(**vars(replace(analysed)))
        found[name] = codec.code(analysed, quality), time.perf_counter() - began
    return found


class Photograph(Analysed):
    """A picture in which nobody looks for flat areas."""

    flats = None


def colours(codec: Codec, quality: float) -> list[dict[str, Any]]:
    """Largest errors and sums of squares over the colours of each kind."""
    rows = []
    for kind, members in KINDS.items():
        totals = {name: {"inside": 0, "border": 0, "mean_square": 0.0, "bytes": 0} for name in ("before", "after")}
        for colour in members:
            for height, width in SIZES:
                image = np.full((height, width, 3), colour, np.uint8)
                for name, (coded, _) in encodings(codec, image, quality).items():
                    errors = np.abs(coded.reconstruction.astype(int) - image)
                    inside = errors[BORDER:-BORDER, BORDER:-BORDER].max()
                    total = totals[name]
                    total["inside"] = max(total["inside"], int(inside))
                    errors[BORDER:-BORDER, BORDER:-BORDER] = 0
                    total["border"] = max(total["border"], int(errors.max()))
                    total["mean_square"] += coded.mse / len(members) / len(SIZES)
                    total["bytes"] += len(coded.data)
        rows.append({"kind": kind, "quality": quality, **totals})
    return rows


def mixed() -> dict[str, Pixels]:
    """A page of text, a photograph between bars, a screen."""
    page = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(page)
    for line in range(18):
        draw.text((40, 30 + 24 * line), "A white page must come back white, letters and all. " * 2, fill="black")
    photo = read_image(PHOTO)
    bars = np.zeros((photo.shape[0] + 192, photo.shape[1], 3), np.uint8)
    bars[96:-96] = photo
    screen = Image.new("RGB", (640, 480), (240, 240, 245))
    draw = ImageDraw.Draw(screen)
    draw.rectangle((0, 0, 639, 40), fill=(30, 90, 200))
    draw.rectangle((0, 41, 160, 479), fill=(45, 45, 50))
    for row in range(8):
        draw.text((20, 70 + 40 * row), f"Menu entry {row}", fill="white")
        draw.rectangle((200, 70 + 48 * row, 600, 100 + 48 * row), outline=(180, 180, 190), fill="white")
    return {"page of text": np.asarray(page), "photograph between bars": bars, "screen": np.asarray(screen)}


def pictures(codec: Codec, quality: float) -> list[dict[str, Any]]:
    rows = []
    for kind, image in {**mixed(), "photograph": read_image(PHOTO)}.items():
        row: dict[str, Any] = {"kind": kind, "quality": quality}
        for name, (coded, seconds) in encodings(codec, image, quality).items():
            row[name] = {"bytes": len(coded.data), "psnr_db": psnr_db(image, coded.reconstruction), "encode_s": seconds}
            if found := flat.find(image):
                row[name]["off"] = flat.off(found, coded.reconstruction).mean_square ** 0.5
        rows.append(row)
    return rows


def table(record: dict[str, Any]) -> str:
    lines = [
        "# Flat areas",
        "",
        "`python benchmarks/flats.py`: pictures of one colour at two sizes, largest error in grey levels inside and "
        f"within {BORDER} samples of the border, without the encoder's correction of flat areas and with it.",
        "",
        "| model | quality | colours | inside | border | error (RMS) | bytes |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for row in record["colours"]:
        a, b = row["before"], row["after"]
        lines.append(
            f"| {row['model']} | {row['quality']} | {row['kind']} | {a['inside']} to {b['inside']} | "
            f"{a['border']} to {b['border']} | {a['mean_square'] ** 0.5:.2f} to {b['mean_square'] ** 0.5:.2f} | "
            f"{100 * b['bytes'] / a['bytes'] - 100:+.0f} % |"
        )
    lines += [
        "",
        '"Off" is the RMS error in flat blocks that are surrounded by flat blocks.',
        "",
        "| model | quality | picture | off | PSNR dB | bytes | time |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for row in record["pictures"]:
        a, b = row["before"], row["after"]
        change = f"{a['off']:.2f} to {b['off']:.2f}" if "off" in a else "-"
        psnr = f"{a['psnr_db']:.2f} to {b['psnr_db']:.2f}"
        lines.append(
            f"| {row['model']} | {row['quality']} | {row['kind']} | {change} | {psnr} | "
            f"{100 * b['bytes'] / a['bytes'] - 100:+.1f} % | x {b['encode_s'] / a['encode_s']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="JIH")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    record: dict[str, Any] = {"machine": machine(), "colours": [], "pictures": []}
    for model in arguments.models:
        weights = read_weights(find_weights(model))
        codec = Codec(weights)
        for quality in QUALITIES:
            for part, rows in (("colours", colours), ("pictures", pictures)):
                record[part] += [{"model": weights.tag, **row} for row in rows(codec, quality)]
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
        arguments.json.with_suffix(".md").write_text(table(record))
    sys.stdout.write(table(record))


if __name__ == "__main__":
    main()
