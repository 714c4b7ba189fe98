"""Entropy tables fitted to the symbols that really fall on each row, instead of the Gaussian of its scale.

Latents are zero more often than the Gaussians that models learn with, and far out more often. Which row an element
takes, and with it every network, stays as it is; a file needs fewer bits for the same symbols.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rdcodec.codec.pipeline import Codec, Encoded
from rdcodec.exact.tables import Tables
from rdcodec.export.tables import fit, widen
from rdcodec.export.weights import build_tables_of
from rdcodec.models.weights import Weights
from rdcodec.training.data import AnyPhoto, Photo, decoded
from rdcodec.training.validation import cut

SIDE = 512  # of a photograph, at most this much from its upper left corner
LOOKS = 3  # qualities of each photograph
STEP = (5**0.5 - 1) / 2  # of the scale from one look to the next: they lie evenly, however many there are
MOST_PHOTOS = 150  # evenly taken: of 350, a tenth of the symbols gives files that are 0.01 % larger


def with_fitted_tables(
    weights: Weights, photos: Sequence[AnyPhoto], say: Callable[[str], None] = lambda line: None
) -> Weights:
    """The same networks, with tables fitted to the symbols of photographs; the tag is the caller's to change.

    Tables that are fitted already are fitted afresh, with the same result. say: told of photographs that cannot be
    decoded. NeedsModel for weights that only decode.
    """
    wide = replace(weights, tables=widen(build_tables_of(weights.build().entropy)))
    codec = Codec(wide, torch.device("cpu"))
    chosen = decoded(evenly(photos, MOST_PHOTOS), say)
    return replace(weights, tables=fit(wide.tables, count_symbols(codec, chosen)))


def evenly(photos: Sequence[AnyPhoto], most: int) -> Sequence[AnyPhoto]:
    """At most so many of them, from first to last."""
    return photos[:: -(-len(photos) // most) or 1]


def count_symbols(codec: Codec, photos: Sequence[Photo]) -> NDArray[np.int64]:
    """How often each column of each row is coded, as `Tables.cdf` has them, over all of the quality scale."""
    counts = np.zeros(codec.tables.start[-1], np.int64)
    for number, photo in enumerate(photos):
        analysed = codec.analyse(cut(photo)[:SIDE, :SIDE])
        for look in range(1 if codec.single_rate else LOOKS):
            quality = None if codec.single_rate else 100 * ((number * LOOKS + look) * STEP % 1)
            counts += columns_of(codec.code(analysed, quality), codec.tables)
    return counts


def columns_of(coded: Encoded, tables: Tables) -> NDArray[np.int64]:
    """How often a coded picture takes each column of each row, escapes too, as `Tables.cdf` has them."""
    symbols, rows = np.concatenate(coded.symbols), np.concatenate(coded.indexes).astype(np.int64)
    is_coded = rows >= tables.skip_below
    symbols, rows = symbols[is_coded], rows[is_coded]
    radius = tables.radius[rows]
    column = np.where(np.abs(symbols) > radius, 2 * radius + 1, symbols + radius)
    return np.bincount(tables.start[rows] + column, minlength=tables.start[-1])
