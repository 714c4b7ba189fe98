"""Flat areas: what a picture of one colour here and there needs to come back as it was.

No photograph teaches a transform that nothing at all happens in a block, least of all at the border of a picture, and a
coarse step leaves a whole area off by its half. So the encoder looks at what the decoder will make of such blocks and
adds the error to their latents, a few times over; what it adds stays until a symbol gives way. Latents can be corrected
where samples cannot: above white and below black. Decoders are as before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec.engine import Image, Latents

PATCH = 16
SHARE = 20  # one block in so many has to be flat: for fewer, coding again is too slow
ROUNDS, MOST_ROUNDS = 6, 12  # the latter where errors can be seen; twice as many where a level more is enough
PATIENCE = 3  # rounds that may bring nothing, one after another; not where errors can be seen
NEAR = 2.0  # levels: no round is worth its time if no error is larger
SEEN_GREY, SEEN = 4.0, 8.0  # levels: errors of greys and of other colours that may remain
SEEN_FROM = 400  # tenths of quality: below it steps are too coarse for that
# Errors of 1 to 20 levels count 0.35 to 2.8 times: single large ones, at the border, die out in a few rounds, small
# ones do not swing. Found on flat pictures of 20 colours and three sizes.
LEVELS, LEAST, MOST = 4.3, 0.35, 2.8
EXTREME = 4  # times as much for white and black: what goes beyond them is not seen
AT_ONCE = 4096  # blocks whose errors are in memory together


@dataclass(frozen=True)
class Flats:
    """The flat blocks of a picture: places of n of them, and their colours."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    colours: NDArray[np.uint8]  # (n, 3)


class Off(NamedTuple):
    """How far flat blocks are from their colours, in grey levels. What comes first counts first."""

    seen: float  # by how much the largest error is beyond what may remain
    largest: float
    mean_square: float


def find(image: Image) -> Flats | None:
    """The blocks of one colour in uint8 (H, W, 3) whose neighbours have it too; None if they are too few to matter."""
    height, width = image.shape[:2]
    # Nine samples of each block first, so that photographs cost little.
    seen = [image[_at(row, height)][:, _at(column, width)] for row in (0, 7, 15) for column in (0, 7, 15)]
    flat = np.logical_and.reduce([(other == seen[0]).all(-1) for other in seen[1:]])
    if flat.sum() * SHARE < flat.size:
        return None
    rows, columns = np.nonzero(flat)
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE], columns[at : at + AT_ONCE]
        flat[some] = (_blocks(image, *some) == seen[0][some][:, :, None, None]).all((1, 2, 3))
    rows, columns = np.nonzero(_amid_its_like(flat, seen[0]))
    return Flats(rows, columns, seen[0][rows, columns]) if len(rows) * SHARE >= flat.size else None


def off(flats: Flats, decoded: Image) -> Off:
    """How far they are off in a decoded picture, uint8 (H, W, 3)."""
    seen = largest = total = 0.0
    for part, errors in _errors(flats, decoded):
        most = np.abs(errors).max((1, 2, 3))
        grey = np.ptp(flats.colours[part], axis=1) == 0
        seen = max(seen, float((most - np.where(grey, SEEN_GREY, SEEN)).max()))
        largest = max(largest, float(most.max()))
        total += float(np.square(errors).sum(dtype=np.float64))
    return Off(seen, largest, total / (len(flats.rows) * 3 * PATCH**2))


def is_enough(least: Off, rounds: int, waited: int, tenths: int) -> bool:
    """Whether to stop after so many rounds, the last `waited` of which have brought nothing."""
    if least.seen > 0 and tenths >= SEEN_FROM:
        return rounds >= MOST_ROUNDS * (2 if least.seen <= 1 else 1)
    return least.largest <= NEAR or rounds >= ROUNDS or waited >= PATIENCE


def correct(flats: Flats, decoded: Image, y: Latents, gain: Latents, shortcut: NDArray[np.float32]) -> None:
    """Add to y (rows, columns, M), in steps of 1 / gain (M,), what the decoded blocks lack.

    shortcut: the linear part of the analysis, (768, M).
    """
    for part, errors in _errors(flats, decoded):
        colours = flats.colours[part]
        extreme = (colours == 0).all(1) | (colours == 255).all(1)
        weights = np.clip(np.abs(errors) / LEVELS, LEAST, MOST) * np.where(extreme, EXTREME, 1)[:, None, None, None]
        lacking = (errors * weights).reshape(len(errors), -1).astype(np.float32)
        y[flats.rows[part], flats.columns[part]] += lacking @ shortcut * gain


def _errors(flats: Flats, decoded: Image) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Some blocks after others: which, and how much they lack, (n, 3, 16, 16)."""
    for at in range(0, len(flats.rows), AT_ONCE):
        part = slice(at, at + AT_ONCE)
        blocks = _blocks(decoded, flats.rows[part], flats.columns[part])
        yield part, flats.colours[part, :, None, None].astype(np.float32) - blocks


def _amid_its_like(flat: NDArray[np.bool_], colours: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which flat blocks have eight flat neighbours of their colour; beyond the border the picture goes on."""
    rows, columns = flat.shape
    around = np.pad(np.where(flat[..., None], colours.astype(np.int16), -1), ((1, 1), (1, 1), (0, 0)), mode="edge")
    same = [
        (around[row : row + rows, column : column + columns] == colours).all(-1)
        for row in range(3)
        for column in range(3)
    ]
    found: NDArray[np.bool_] = np.logical_and.reduce([flat, *same])
    return found


def _at(first: int, length: int) -> NDArray[np.intp]:
    """Place `first` of each block along a side, whose last sample goes on."""
    return np.minimum(np.arange(first, first + -(-length // PATCH) * PATCH, PATCH), length - 1)


def _blocks(image: Image, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Blocks (n, 3, 16, 16) at these places; the last samples of a picture go on to fill the last of them."""
    inside = np.arange(PATCH)
    down = np.minimum(rows[:, None] * PATCH + inside, image.shape[0] - 1)
    across = np.minimum(columns[:, None] * PATCH + inside, image.shape[1] - 1)
    blocks: NDArray[np.uint8] = image[down[:, :, None], across[:, None, :]].transpose(0, 3, 1, 2)
    return blocks
