"""The entropy coder: four interleaved rANS states over the integer tables of a model.

Read `reference_encode` and `reference_decode` first: they define the format (in words: `docs/format.md`).
The compiled loops below do the same, byte for byte, and trust no input: Numba checks no bounds.

Two things surprise at first (rANS: J. Duda, arXiv:1311.2540; 16-bit words: F. Giesen, `rans_word_sse41.h`).
rANS is a stack: the encoder walks from the last symbol to the first, and its last word is read first. And
decoding a symbol brings a state back to what it was before that symbol was encoded: a sound stream ends with
every state at `LOW`.
"""

import numpy as np
from numpy.typing import NDArray

from rdcodec.codec.jit import compiled
from rdcodec.errors import BadInput
from rdcodec.exact.tables import BUCKET_BITS, PRECISION, TOTAL, Tables

STATES = 4
LOW = 1 << 16  # between steps a state is in LOW..2^32-1
STATE_BYTES = 4 * STATES
MAX_SYMBOL = 32767
Indexes = NDArray[np.uint8 | np.uint16]

# Two steps of uniform probabilities follow an escape: sign and exponent e in 5 bits, then e bits of mantissa;
# |symbol| - radius is 2^e + mantissa. An Exp-Golomb code, its exponent of fixed length so that it is bounded.
EXPONENT_BITS = 4
ESCAPE_BITS = 1 + EXPONENT_BITS

BLOCK = 2048  # positions whose coded ones are listed before they are coded
PADDING = 4  # words behind the end: a symbol reads up to 3, from one behind the end in a damaged stream


# The definition


def reference_encode(symbols: NDArray[np.int32], indexes: Indexes, tables: Tables) -> bytes:
    """What `encode` gives, in plain Python."""
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
    """What a `Decoder` gives for all positions of a picture, in plain Python. The stream must be sound."""
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


# The coder


def encode(symbols: NDArray[np.int32], indexes: Indexes, tables: Tables) -> bytes:
    """Code a whole picture: symbols (N,) int32 in decoding order, with the table index of each, (N,) uint8 or uint16.

    Gives the four states (u32), then the words (u16) in the order of reading, all little-endian.
    ValueError for a symbol beyond +-32767, or one that is not 0 where the index is below `tables.skip_below`.
    """
    indexes = _checked(indexes, tables)
    if symbols.dtype != np.int32 or symbols.shape != indexes.shape:
        raise ValueError(f"symbols are {symbols.dtype} {symbols.shape}, need int32 {indexes.shape}")
    symbols = np.require(symbols, requirements=["C", "W"])
    coded, escapes, wrong = _count(symbols, indexes, tables.radius, tables.skip_below)
    if wrong:
        raise ValueError(f"{wrong} symbols are beyond +-{MAX_SYMBOL}, or not 0 where the index is not coded")
    states = np.full(STATES, LOW, np.int64)
    words = np.empty(coded + 2 * escapes, np.uint16)  # a step writes one, and keeps it or not
    rows = tables.edges, tables.edge_start, tables.radius
    first = _encode(symbols, indexes, coded, states, words, *rows, tables.skip_below)
    return states.astype("<u4").tobytes() + words[first:].astype("<u2").tobytes()


class Decoder:
    """Reads one coded picture, in as many calls as its model has passes."""

    def __init__(self, data: bytes, tables: Tables) -> None:
        """BadInput if the data cannot be a stream at all."""
        if len(data) < STATE_BYTES or len(data) % 2:
            raise _damaged(f"{len(data)} bytes")
        self._tables = tables
        self._states = np.frombuffer(data, "<u4", count=STATES).astype(np.int64)
        self._coded = 0
        self._words = np.pad(np.frombuffer(data, "<u2", offset=STATE_BYTES).astype(np.uint16), (0, PADDING))
        self._end = len(self._words) - PADDING
        self._position = 0  # of the next word; beyond the end once the stream has proved damaged
        if np.any(self._states < LOW):
            raise _damaged("a state is out of range")

    def decode(self, indexes: Indexes) -> NDArray[np.int32]:
        """The next symbols: indexes (n,) uint8 or uint16 to (n,) int32, 0 where the index is below `tables.skip_below`.

        BadInput if the stream ends too early or has a symbol beyond +-32767.
        """
        indexes = _checked(indexes, self._tables)
        symbols = np.zeros(len(indexes), np.int32)
        tables = self._tables
        stream = self._states, self._words, self._position, self._end
        rows = tables.edges, tables.edge_start, tables.radius, tables.bucket
        self._position, self._coded = _decode(symbols, indexes, self._coded, *stream, *rows, tables.skip_below)
        if self._position > self._end:
            raise _damaged("it ends too early or holds an impossible symbol")
        return symbols

    def finish(self) -> None:
        """BadInput unless every word was used and every state is back where the encoder started."""
        if self._position != self._end or np.any(self._states != LOW):
            raise _damaged("it does not end with the last symbol")


def _damaged(what: str) -> BadInput:
    return BadInput(f"the coded stream is damaged ({what}): get the file again from its source")


def _checked(indexes: Indexes, tables: Tables) -> Indexes:
    if indexes.dtype not in (np.uint8, np.uint16) or indexes.ndim != 1:
        raise ValueError(f"indexes are {indexes.dtype} {indexes.shape}, need uint8 or uint16 (n,)")
    if indexes.max(initial=0) >= len(tables.radius):
        raise ValueError(f"index {indexes.max()} in tables of {len(tables.radius)} rows")
    return np.require(indexes, requirements=["C", "W"])  # read-only arrays would be compiled for once more


# The compiled loops. Sums and products are int64 in Numba, whatever integers go in; only abs() and a mix with
# uint64 (a float!) need care.


@compiled
def _count(
    symbols: NDArray[np.int32], indexes: Indexes, radius: NDArray[np.int32], skip_below: int
) -> tuple[int, int, int]:
    """How many symbols are coded, how many of them escaped, and how many nobody can code."""
    coded = escapes = wrong = 0
    for i in range(len(symbols)):
        s = symbols[i]  # no abs(s): that of -2^31 is negative
        if indexes[i] >= skip_below:
            r = radius[indexes[i]]
            coded += 1
            escapes += s < -r or s > r
            wrong += s < -MAX_SYMBOL or s > MAX_SYMBOL
        else:
            wrong += s != 0
    return coded, escapes, wrong


@compiled
def _list_coded(indexes: Indexes, begin: int, end: int, skip_below: int, listed: NDArray[np.int64]) -> int:
    """List the coded positions of begin..end-1, give their number. No branch: it could not be predicted."""
    count = 0
    for i in range(begin, end):
        listed[count] = i
        count += indexes[i] >= skip_below
    return count


@compiled
def _push(state: int, start: int, freq: int, words: NDArray[np.uint16], position: int) -> tuple[int, int]:
    """Put a step on a state. When the state is full, its lower half goes to words[position], counted down."""
    words[position] = state & 0xFFFF
    full = state >= freq << 16
    state = state >> 16 if full else state
    quotient = int(np.int64(np.uint32(state) // np.uint32(freq)))  # half the time of a 64-bit division
    return (quotient << PRECISION) + start + state - quotient * freq, position - full


@compiled
def _push_escape(state: int, symbol: int, radius: int, words: NDArray[np.uint16], position: int) -> tuple[int, int]:
    beyond = abs(symbol) - radius
    exponent = 0
    while beyond >> exponent + 1:
        exponent += 1
    spare = PRECISION - exponent
    state, position = _push(state, (beyond - (1 << exponent)) << spare, 1 << spare, words, position)
    value = (symbol < 0) << EXPONENT_BITS | exponent
    spare = PRECISION - ESCAPE_BITS
    return _push(state, value << spare, 1 << spare, words, position)


@compiled
def _encode(
    symbols: NDArray[np.int32],
    indexes: Indexes,
    coded: int,
    states: NDArray[np.int64],
    words: NDArray[np.uint16],
    edges: NDArray[np.int32],
    edge_start: NDArray[np.int32],
    radius: NDArray[np.int32],
    skip_below: int,
) -> int:
    """Fill `words` from its end; gives the position of the first one."""
    listed = np.empty(BLOCK, np.int64)
    position = len(words) - 1
    for block in range(-(-len(symbols) // BLOCK) - 1, -1, -1):
        begin, end = block * BLOCK, min((block + 1) * BLOCK, len(symbols))
        for j in range(_list_coded(indexes, begin, end, skip_below, listed) - 1, -1, -1):
            coded -= 1
            k = coded % STATES
            i = listed[j]
            symbol, r = symbols[i], radius[indexes[i]]
            column = symbol + r
            if abs(symbol) > r:
                states[k], position = _push_escape(states[k], symbol, r, words, position)
                column = 2 * r + 1
            at = edge_start[indexes[i]] + column
            states[k], position = _push(states[k], edges[at], edges[at + 1] - edges[at], words, position)
    return position + 1


@compiled
def _pull(state: int, start: int, freq: int, words: NDArray[np.uint16], position: int) -> tuple[int, int]:
    """Take a step off a state. When the state runs low, words[position] becomes its lower half."""
    state = freq * (state >> PRECISION) + (state & TOTAL - 1) - start
    low = state < LOW
    word = words[position]
    return state << 16 | word if low else state, position + low


@compiled
def _pull_escape(state: int, radius: int, words: NDArray[np.uint16], position: int) -> tuple[int, int, int]:
    spare = PRECISION - ESCAPE_BITS
    value = (state & TOTAL - 1) >> spare
    state, position = _pull(state, value << spare, 1 << spare, words, position)
    exponent = value & (1 << EXPONENT_BITS) - 1
    spare = PRECISION - exponent
    mantissa = (state & TOTAL - 1) >> spare
    state, position = _pull(state, mantissa << spare, 1 << spare, words, position)
    size = radius + (1 << exponent) + mantissa
    return state, position, -size if value >> EXPONENT_BITS else size


@compiled
def _decode(
    symbols: NDArray[np.int32],
    indexes: Indexes,
    coded: int,
    states: NDArray[np.int64],
    words: NDArray[np.uint16],
    position: int,
    end_position: int,
    edges: NDArray[np.int32],
    edge_start: NDArray[np.int32],
    radius: NDArray[np.int32],
    bucket: NDArray[np.uint16],
    skip_below: int,
) -> tuple[int, int]:
    """Fill `symbols`; gives the next position (end_position + 1 in a damaged stream) and the coded count."""
    listed = np.empty(BLOCK, np.int64)
    for begin in range(0, len(symbols), BLOCK):
        end = min(begin + BLOCK, len(symbols))
        for j in range(_list_coded(indexes, begin, end, skip_below, listed)):
            k = coded % STATES
            coded += 1
            i = listed[j]
            index = indexes[i]
            slot = states[k] & TOTAL - 1
            at = edge_start[index] + bucket[index, slot >> PRECISION - BUCKET_BITS]
            while edges[at + 1] <= slot:  # ends: a row's last edge is 65536
                at += 1
            states[k], position = _pull(states[k], edges[at], edges[at + 1] - edges[at], words, position)
            r = radius[index]
            symbol = at - edge_start[index] - r
            if symbol > r:
                states[k], position, symbol = _pull_escape(states[k], r, words, position)
            if position > end_position or abs(symbol) > MAX_SYMBOL:
                return end_position + 1, coded
            symbols[i] = symbol
    return position, coded
