"""One part of a photograph from every codec at one file size, side by side."""

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rdcodec.codec.image import Pixels
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import NeedsModel, RdcError, UsageError
from rdcodec.measure.anchors import ANCHORS, at_file_bytes, shown_name
from rdcodec.metrics import psnr_db

SIDE = 400  # pixels of a tile's longer side, about
GAP, HEAD = 12, 58
PAPER, INK, NOTE = (255, 255, 255), (20, 20, 20), (90, 90, 90)
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Version:
    """What one codec made of a picture: its name, the size of the file, and the picture that came back."""

    name: str
    file_bytes: int
    decoded: Pixels


def parse_box(text: str, width: int, height: int) -> Box:
    """'X,Y,W,H' as left, top, right and bottom in a picture of that size. UsageError if it is not inside."""
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", text)
    if not match:
        raise UsageError(f"--box {text}: write left, top, width and height in pixels, as in 100,50,128,128")
    x, y, w, h = map(int, match.groups())
    if not (w and h) or x + w > width or y + h > height:
        raise UsageError(f"--box {text}: is not inside the picture of {width}x{height}")
    return x, y, x + w, y + h


def versions(image: Pixels, file_bytes: int, codecs: Sequence[Codec]) -> list[Version]:
    """Every codec at its best in no more than `file_bytes`: ours first, then the classical ones that run here.

    A classical codec that is not installed or cannot make so small a file is left out. Raises RdcError where one of
    ours cannot.
    """
    found = []
    for codec in codecs:
        data = codec.encode_target(image, file_bytes=file_bytes).data
        found.append(Version(f"rdcodec {codec.info.tag}", len(data), codec.decompress(data)))
    for name, anchor in ANCHORS.items():
        with contextlib.suppress(NeedsModel):
            anchor.version()
            with contextlib.suppress(RdcError):
                _, data = at_file_bytes(anchor, image, file_bytes)
                found.append(Version(name, len(data), anchor.decode(data)))
    return found


def contact_sheet(image: Pixels, box: Box, found: Sequence[Version]) -> Pixels:
    """The part of the original and of every version, enlarged by a whole factor, labelled; uint8 (H, W, 3)."""
    left, top, right, bottom = box
    zoom = max(1, round(SIDE / max(right - left, bottom - top)))
    width, height = zoom * (right - left), zoom * (bottom - top)
    pixels = image.shape[0] * image.shape[1]
    entries = [("original", f"{image.shape[1]}x{image.shape[0]}, part {right - left}x{bottom - top}", image)]
    for v in found:
        quality = psnr_db(image, v.decoded)
        decibels = f"{quality:.2f} dB" if math.isfinite(quality) else "equal"
        note = f"{v.file_bytes} B, {8 * v.file_bytes / pixels:.3f} bpp, {decibels}"
        entries.append((shown_name(v.name), note, v.decoded))
    cell = max(width, 260)  # room for the note
    columns = min(len(entries), 3 if len(entries) < 7 else 4)
    lines = -(-len(entries) // columns)
    size = (columns * (cell + GAP) + GAP, lines * (height + HEAD + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for index, (name, note, picture) in enumerate(entries):
        x, y = GAP + index % columns * (cell + GAP), index // columns * (height + HEAD + GAP)
        pen.text((x, y + 6), name, fill=INK, font=ImageFont.load_default(22))
        pen.text((x, y + 34), note, fill=NOTE, font=ImageFont.load_default(15))
        part = Image.fromarray(picture).crop(box).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(part, (x, y + HEAD))
    return np.asarray(sheet)
