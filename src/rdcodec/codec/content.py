"""Whether a picture is one that another format serves better, and the word that says so."""

import numpy as np

from rdcodec.codec.picture import Picture, Pixels
from rdcodec.codec.picture_writer import WRITE_MAX_SIDE, encode_picture

SAMPLE = 1 << 18  # pixels that are looked at
TILE, TILES = 64, 4  # pixels a side, and tiles along each side, that a lossless size is judged from
FLAT_SHARE = 0.1  # of pixels that equal their neighbours: most photographs have less, drawings more
FEW_COLOURS = 256
PHOTO_BPP = 3  # of a lossless file: most photographs need more, and then a guess has to do, for speed
MUCH = 2  # a lossless file of so many times the size is no better choice


def advice(picture: Picture, file_bytes: int, input_bytes: int) -> str | None:
    """A clause for the person whose file is larger than its input, or whose picture is no photograph; else None.

    It names the size of a lossless WebP file of the picture. Photographs cost little: a few tiles tell them.
    """
    larger = file_bytes > input_bytes
    if not larger and not _may_be_drawn(picture.pixels):
        return None
    if max(picture.pixels.shape) > WRITE_MAX_SIDE["webp"]:
        return f"is larger than its input of {input_bytes} B" if larger else None
    pixels = picture.pixels.size // 3
    if pixels > (TILE * TILES) ** 2 and (bpp := _lossless_bpp(picture)) > PHOTO_BPP:
        guess = round(bpp * pixels / 8)
        return _larger(input_bytes, f"about {guess}") if larger else None
    lossless = len(encode_picture(picture, "webp"))
    if larger:
        return _larger(input_bytes, str(lossless))
    if lossless > MUCH * file_bytes:
        return None
    return f"looks like text, line art or few colours: a lossless WebP has {lossless} B"


def _larger(input_bytes: int, lossless: str) -> str:
    return f"is larger than its input of {input_bytes} B: a lossless WebP has {lossless} B"


def _may_be_drawn(pixels: Pixels) -> bool:
    """Whether many pixels equal those to the left and above, or colours are few, in up to `SAMPLE` pixels."""
    height, width = pixels.shape[:2]
    rows = np.arange(0, height, -(-height * width // SAMPLE))
    here, above = pixels[rows], pixels[np.maximum(rows - 1, 0)]
    same = (here[:, 1:] == here[:, :-1]) & (here[:, 1:] == above[:, 1:])
    if same.size and same.all(-1).mean() >= FLAT_SHARE:
        return True
    colours = here.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32)
    return len(np.unique(colours)) <= FEW_COLOURS


def _lossless_bpp(picture: Picture) -> float:
    """Bits per pixel of a lossless WebP file, judged from tiles all over the picture."""
    height, width = picture.pixels.shape[:2]
    tiles = picture.pixels
    if min(height, width) > TILE * TILES:
        tops, lefts = (np.linspace(0, side - TILE, TILES).astype(int) for side in (height, width))
        rows = [np.concatenate([tiles[top : top + TILE, left : left + TILE] for left in lefts], 1) for top in tops]
        tiles = np.concatenate(rows)
    return 24 * len(encode_picture(Picture(np.ascontiguousarray(tiles)), "webp")) / tiles.size
