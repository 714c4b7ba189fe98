"""Photographs stored with other colour profiles: what they lose against the same ones in sRGB.

    python benchmarks/profiles.py --data KODAK --json docs/results/profiles.json

Each picture is converted from sRGB to a profile, coded, decoded and converted back: PSNR against the picture in sRGB.
At equal quality, which the encoder raises for such a picture, without that, and at equal bytes (BD-PSNR and BD-rate).
Every wide space holds all of sRGB, so nothing is clipped; samples of 8 bits alone have the PSNR named "8 bits".
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

import rdcodec
from rdcodec.codec import colour
from rdcodec.codec.container import ICC, Section
from rdcodec.codec.image import Pixels, read_image
from rdcodec.codec.pipeline import Codec
from rdcodec.measure.bdrate import Curve, bd_psnr, bd_rate
from rdcodec.measure.machine import machine
from rdcodec.metrics import psnr_db

D65 = (0.3127, 0.3290)
PROFILES = {  # x and y of red, green and blue; white; exponent, None: the curve of sRGB
    "Display P3": ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), D65, None),
    "Adobe RGB": ((0.64, 0.33, 0.21, 0.71, 0.15, 0.06), D65, 2.19921875),
    "sRGB, channels permuted": ((0.15, 0.06, 0.64, 0.33, 0.30, 0.60), D65, None),
}
QUALITIES = (10.0, 35.0, 60.0, 85.0)


def converted(pixels: Pixels, icc: bytes) -> Pixels:
    """sRGB to the profile."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(icc))
    image = ImageCms.profileToProfile(Image.fromarray(pixels), *profiles, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert image is not None
    return np.asarray(image)


def points(codec: Codec, pixels: Pixels, icc: bytes | None) -> list[list[tuple[float, float, float]]]:
    """At the qualities themselves, then as the encoder raises them: bpp, PSNR in sRGB, and the quality coded with."""
    stored = pixels if icc is None else converted(pixels, icc)
    analysed = codec.analyse(stored)
    ways = [QUALITIES]
    if icc is not None:
        ways.append(tuple(codec.in_true_colours(quality, stored, (Section(ICC, icc),)) for quality in QUALITIES))

    def point(quality: float) -> tuple[float, float, float]:
        coded = codec.code(analysed, quality)
        shown = coded.reconstruction if icc is None else colour.to_srgb(coded.reconstruction, icc)
        return coded.bpp, psnr_db(pixels, shown), quality

    return [[point(quality) for quality in way] for way in ways]


def measure(codec: Codec, pictures: list[Pixels]) -> Iterator[dict[str, Any]]:
    plain = np.mean([points(codec, pixels, None) for pixels in pictures], 0)[0]
    for name, numbers in PROFILES.items():
        icc = colour.matrix_profile(*numbers)
        held = [psnr_db(pixels, colour.to_srgb(converted(pixels, icc), icc)) for pixels in pictures]
        row: dict[str, Any] = {"model": codec.info.tag, "profile": name, "eight_bits_db": float(np.mean(held))}
        same, raised = np.mean([points(codec, pixels, icc) for pixels in pictures], 0)
        for way, found in (("same", same), ("raised", raised)):
            row[way] = {
                "db": [float(value) for value in found[:, 1] - plain[:, 1]],
                "bytes_percent": [float(value) for value in 100 * (found[:, 0] / plain[:, 0] - 1)],
                "quality": [float(value) for value in found[:, 2]],
            }
        curves = [Curve.from_points(name, curve[:, :2].tolist()) for curve in (same, plain)]
        row["bd_psnr_db"], row["bd_rate_percent"] = bd_psnr(*curves).value, bd_rate(*curves).value
        yield row


def table(record: dict[str, Any]) -> str:
    lines = [
        "# Photographs in other colour profiles",
        "",
        f"`python benchmarks/profiles.py --data KODAK --every {record['every']}`, {record['pictures']} photographs: "
        "PSNR in sRGB and bytes, against the "
        f"same photographs stored in sRGB, at qualities {QUALITIES[0]:g} to {QUALITIES[-1]:g}. The encoder raises the "
        'quality of pictures with a profile; "not raised" is without that. Profiles themselves are not counted.',
        "",
        "| model | profile | quality raised by | PSNR dB | bytes | not raised: PSNR dB | bytes | at equal bytes dB "
        "| BD-rate | 8 bits dB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in record["rows"]:
        lines.append(
            f"| {row['model']} | {row['profile']} | "
            f"{_span([b - a for a, b in zip(QUALITIES, row['raised']['quality'], strict=True)], '.1f')} | "
            f"{_span(row['raised']['db'], '+.2f')} | {_span(row['raised']['bytes_percent'], '+.0f', ' %')} | "
            f"{_span(row['same']['db'], '+.2f')} | {_span(row['same']['bytes_percent'], '+.0f', ' %')} | "
            f"{row['bd_psnr_db']:+.2f} | {row['bd_rate_percent']:+.1f} % | {row['eight_bits_db']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _span(values: list[float], form: str, unit: str = "") -> str:
    low, high = (f"{value:{form}}" for value in (min(values), max(values)))
    return (low if low == high else f"{low} to {high}") + unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of PNG in sRGB")
    parser.add_argument("--models", default="JIH")
    parser.add_argument("--every", type=int, default=1, help="take every nth picture")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    pictures = [read_image(path) for path in sorted(arguments.data.glob("*.png"))[:: arguments.every]]
    record: dict[str, Any] = {"machine": machine(), "pictures": len(pictures), "every": arguments.every}
    record |= {"qualities": QUALITIES, "rows": []}
    for model in arguments.models:
        for row in measure(rdcodec.load(model), pictures):
            record["rows"].append(row)
            if arguments.json:
                arguments.json.write_text(json.dumps(record, indent=1) + "\n")
                arguments.json.with_suffix(".md").write_text(table(record))
    sys.stdout.write(table(record))


if __name__ == "__main__":
    main()
