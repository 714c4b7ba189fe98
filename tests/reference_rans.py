"""The coder of `rdcodec.codec.rans` in plain Python: it defines the format (in words: `docs/format.md`).

Two things surprise at first (rANS: J. Duda, arXiv:1311.2540; 16-bit words: F. Giesen, `rans_word_sse41.h`).
rANS is a stack: the encoder walks from the last symbol to the first, and its last word is read first. And
decoding a symbol brings a state back to what it was before that symbol was encoded: a sound stream ends with
every state at `LOW`.
"""

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec.rans import Indexes
from rdcodec.exact.tables import PRECISION, TOTAL, Tables

STATES = 4
LOW = 1 << 16  # between steps a state is in LOW..2^32-1
STATE_BYTES = 4 * STATES

# Two steps of uniform probabilities follow an escape: sign and exponent e in 5 bits, then e bits of mantissa;
# |symbol| - radius is 2^e + mantissa. An Exp-Golomb code, its exponent of fixed length so that it is bounded.
EXPONENT_BITS = 4
ESCAPE_BITS = 1 + EXPONENT_BITS


def reference_encode(symbols: NDArray[np.int32], indexes: Indexes, tables: Tables) -> bytes:
    """What `encode` gives."""
    steps: list[tuple[int, int, int]] = []  # state number, first slot, slots
    coded = 0
    for symbol, index in zip(symbols.tolist(), indexes.tolist(), strict=True):
        if index >= tables.skip_below:
            steps += [(coded % STATES, *slots) for slots in _slots(symbol, index, tables)]
            coded += 1
    states = [LOW] * STATES
    words: list[int] = []
    for k, start, freq in reversed(steps):
        if states[k] >= freq << 16:
            words.append(states[k] & 0xFFFF)
            states[k] >>= 16
        states[k] = (states[k] // freq << PRECISION) + start + states[k] % freq
    return np.array(states, "<u4").tobytes() + np.array(words[::-1], "<u2").tobytes()


def _slots(symbol: int, index: int, tables: Tables) -> list[tuple[int, int]]:
    """The (first slot, slots) of each step that codes a symbol: one, or three with an escape."""
    radius, row = int(tables.radius[index]), _row(index, tables)
    beyond = abs(symbol) - radius
    column = symbol + radius if beyond <= 0 else 2 * radius + 1
    slots = [(row[column], row[column + 1] - row[column])]
    if beyond > 0:
        exponent = beyond.bit_length() - 1
        sign = symbol < 0
        slots += [
            _uniform(sign << EXPONENT_BITS | exponent, ESCAPE_BITS),
            _uniform(beyond - (1 << exponent), exponent),
        ]
    return slots


def _uniform(value: int, bits: int) -> tuple[int, int]:
    return value << PRECISION - bits, 1 << PRECISION - bits


def _row(index: int, tables: Tables) -> list[int]:
    return [*tables.cdf[tables.start[index] : tables.start[index + 1]].tolist(), TOTAL]


def reference_decode(data: bytes, indexes: Indexes, tables: Tables) -> NDArray[np.int32]:
    """What a `Decoder` gives for all positions of a picture. The stream must be sound."""
    states = np.frombuffer(data[:STATE_BYTES], "<u4").tolist()
    words = iter(np.frombuffer(data[STATE_BYTES:], "<u2").tolist())

    def take(k: int, row: list[int]) -> int:
        """The column of `row` (first slots, then 65536) that state k shows; the state moves on."""
        slot = states[k] % TOTAL
        column = next(c for c, end in enumerate(row[1:]) if slot < end)
        states[k] = (row[column + 1] - row[column]) * (states[k] >> PRECISION) + slot - row[column]
        if states[k] < LOW:
            states[k] = states[k] << 16 | next(words)
        return column

    def take_bits(k: int, bits: int) -> int:
        return take(k, list(range(0, TOTAL + 1, 1 << PRECISION - bits)))

    symbols = []
    coded = 0
    for index in indexes.tolist():
        symbol = 0
        if index >= tables.skip_below:
            k, radius = coded % STATES, int(tables.radius[index])
            symbol = take(k, _row(index, tables)) - radius
            if symbol > radius:
                sign, exponent = divmod(take_bits(k, ESCAPE_BITS), 1 << EXPONENT_BITS)
                symbol = (radius + (1 << exponent) + take_bits(k, exponent)) * (-1 if sign else 1)
            coded += 1
        symbols.append(symbol)
    return np.array(symbols, np.int32)
