"""One photograph from every codec at one file size, for the pages."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from rdcodec.codec.image import Pixels, read_image
from rdcodec.measure.anchors import shown_name
from rdcodec.metrics import psnr_db
from rdcodec.report.crops import Box, versions

SIDE = 480
"""Pixels of the part that is shown, at most, in each direction."""


@dataclass(frozen=True)
class Shots:
    """What the pages need (`values`), and the pictures' files by address."""

    values: dict[str, Any]
    files: dict[str, bytes]


def take_shots(photo: Path, file_bytes: int, models: list[str], box: Box | None = None) -> Shots:
    """Code a photograph with our models and the classical codecs that run here, each in no more than `file_bytes`.

    box: the part to show, left, top, right and bottom; None: the middle. Raises RdcError where one of our models cannot
    make so small a file.
    """
    import rdcodec

    image = read_image(photo)
    height, width = image.shape[:2]
    left, top = max(0, (width - SIDE) // 2), max(0, (height - SIDE) // 2)
    box = box or (left, top, min(width, left + SIDE), min(height, top + SIDE))
    files: dict[str, bytes] = {}
    shots = [_shot("Original", image, image, 0, box, files)]
    for version in versions(image, file_bytes, [rdcodec.load(name) for name in models]):
        if version.name in ("jpeg_default", "webp_m4"):
            continue
        shots.append(_shot(shown_name(version.name), image, version.decoded, version.file_bytes, box, files))
    size = (box[2] - box[0], box[3] - box[1])
    values = {
        "shots": shots,
        "width": width,
        "height": height,
        "file_bytes": file_bytes,
        "shot_width": size[0],
        "shot_height": size[1],
        "shown_width": min(960, 2 * size[0]),
    }
    return Shots(values, files)


def _shot(
    name: str, image: Pixels, decoded: Pixels, file_bytes: int, box: Box, files: dict[str, bytes]
) -> dict[str, Any]:
    """A picture's entry; its part of the photograph is added to the files, as WebP that loses next to nothing."""
    out = io.BytesIO()
    part = Image.fromarray(decoded).crop(box)
    part.save(out, "WEBP", quality=96, method=6)
    address = f"pictures/{len(files)}.webp"
    files[address] = out.getvalue()
    decibels = psnr_db(image, decoded)
    shown = f"{decibels:.2f} dB" if math.isfinite(decibels) else ""
    return {
        "name": name,
        "file": address,
        "bytes": file_bytes,
        "psnr": shown,
        "width": part.width,
        "height": part.height,
    }
