"""Feed damaged files to the decoder: each must end in a picture or in one of its own errors.

    python benchmarks/fuzz.py [--files 100000] [--first 0] [--json docs/results/fuzz.json]

File n of the sequence is a function of n alone: --first goes on where a run ended, and one failure can be repeated.
Half of them and more have all their checksums made right again, so that what lies behind these is reached. Pictures
are small (--max-pixels), so that many fit into an hour; NUMBA_BOUNDSCHECK=1 checks every index of the compiled loops.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rdcodec.codec.container import SINGLE_RATE, Header, Section, pack, read_header, unpack
from rdcodec.codec.crc import crc32c
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import RdcError
from rdcodec.models.weights import read_weights

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
MAX_PIXELS = 20_000
SLOWEST = 10.0  # times a sound file of the announced size
PAUSE_S = 0.05  # what the machine may add to any of them
MEMORY = 4 << 30  # bytes of address space beyond those at the start


@dataclass(frozen=True)
class Corpus:
    """Sound files, unpacked."""

    headers: list[Header]
    streams: list[bytes]

    def pick(self, rng: np.random.Generator) -> tuple[Header, bytes]:
        at = int(rng.integers(len(self.headers)))
        return self.headers[at], self.streams[at]


def read_corpus(codec: Codec, folder: Path = GOLDEN) -> Corpus:
    """The golden files, and pictures of other sizes and qualities from the golden model."""
    found = [unpack(path.read_bytes()) for path in sorted(folder.glob("*.rdc"))]
    rng = np.random.default_rng(0)
    for height, width, quality in ((16, 16, 90.0), (33, 100, 10.0), (129, 1, 50.0), (100, 150, 99.9)):
        image = rng.integers(0, 256, (height, width, 3), np.uint8) // 2 + 40
        found.append(unpack(codec.compress(image, quality)))
    mine = [(header, stream) for header, stream in found if header.tag == codec.info.tag]
    return Corpus([header for header, _ in mine], [stream for _, stream in mine])


# Damage


def damaged(corpus: Corpus, number: int) -> bytes:
    """File `number` of the sequence."""
    rng = np.random.default_rng([2023, number])
    header, stream = corpus.pick(rng)
    kind = rng.integers(8)
    if kind == 0:  # bytes of the file, checksums as they come
        return hurt(pack(header, stream), corpus, rng)
    if kind == 1:  # the fields as bytes, all checksums right
        return resealed(hurt(pack(header, stream), corpus, rng))
    if kind in (2, 3, 4):
        return pack(header, hurt(stream, corpus, rng))
    if kind == 5:
        return pack(wrong_header(header, rng), stream)
    if kind == 6:
        return pack(wrong_header(header, rng), hurt(stream, corpus, rng))
    # The right symbols CRC for another stream: then nothing but the coder can tell.
    return pack(replace(header, symbols_crc=int(rng.integers(1 << 32))), corpus.pick(rng)[1])


def hurt(data: bytes, corpus: Corpus, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, cut, double, splice or replace bytes."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(changed) + 1))
        length = int(rng.integers(1, 9))
        kind = rng.integers(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[at : at + length] = rng.bytes(length)
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        elif kind == 5:
            other = pack(*corpus.pick(rng))
            changed[at:] = other[int(rng.integers(len(other))) :]
        else:
            changed[at : at + length] = bytes([int(rng.choice([0, 0x7F, 0x80, 0xFF]))]) * length
    return bytes(changed)


def wrong_header(header: Header, rng: np.random.Generator) -> Header:
    """One to three fields that are possible, and not those of the picture."""
    side = int(2 ** rng.uniform(0, 15))
    choices = (
        {"width": side},
        {"height": side},
        {"width": max(1, MAX_PIXELS // side), "height": side},
        {"width": 1 << 24, "height": 1},
        {"quality": int(rng.choice([0, 1, 500, 999, 1000, SINGLE_RATE]))},
        {"quality": int(rng.integers(1001))},
        {"tag": str(rng.choice(["Golden.2", "Golden.0", "I.1", "Nobody.999999999"]))},
        {"symbols_crc": int(rng.integers(1 << 32))},
        {"tables_hash": rng.bytes(4)},
        {"synthesis_hash": rng.bytes(4)},
        {"sections": tuple(Section(int(n), rng.bytes(int(n) % 50)) for n in rng.integers(0, 130, rng.integers(256)))},
    )
    for _ in range(int(rng.integers(1, 4))):
        header = replace(header, **choices[int(rng.integers(len(choices)))])
    return header


def resealed(data: bytes) -> bytes:
    """The same bytes with the checksums of header and stream right, as far as the fields can be found."""
    at = 6 + (data[5] if len(data) > 5 else 0)
    for _ in range(2):
        at = varint_end(data, at)
    at = varint_end(data, at + 18)  # quality, three hashes, CRC of the symbols; then the length of the stream
    end = at + 5  # CRC of the stream, number of sections
    if end + 4 > len(data):
        return data
    stream = data[end + 4 :]
    head = data[:at] + crc32c(stream).to_bytes(4, "little") + data[at + 4 : end]
    return head + crc32c(head).to_bytes(4, "little") + stream


def varint_end(data: bytes, at: int) -> int:
    while at < len(data) and data[at] & 0x80:
        at += 1
    return at + 1


# The run


class Clock:
    """How long a sound file of a size takes: the larger of two of flat pictures, so that most of it is fixed cost."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.seconds: dict[tuple[int, int], float] = {}

    def sound(self, height: int, width: int) -> float:
        size = -(-height // 16), -(-width // 16)
        if size not in self.seconds:
            data = self.codec.compress(np.full((height, width, 3), 100, np.uint8), 50)
            self.seconds[size] = min(self._once(data) for _ in range(2))
        return self.seconds[size]

    def _once(self, data: bytes) -> float:
        begin = time.perf_counter()
        self.codec.decompress(data)
        return time.perf_counter() - begin


def outcome(codec: Codec, clock: Clock, data: bytes) -> str:
    """What decoding ended in: "decoded", or error and the beginning of its message. AssertionError if too slow."""
    begin = time.perf_counter()
    try:
        image = codec.decompress(data, MAX_PIXELS)
    except RdcError as error:
        assert "\n" not in str(error), f"an error of more than one line: {error}"
        result = f"{type(error).__name__}: {category(str(error))}"
    else:
        header = read_header(data).header
        assert image.shape == (header.height, header.width, 3), f"decoded to {image.shape}"
        result = "decoded"
    seconds = time.perf_counter() - begin
    if seconds > PAUSE_S:
        header = read_header(data, MAX_PIXELS).header
        sound = clock.sound(header.height, header.width)
        again = clock._once_any(data) if seconds > SLOWEST * sound + PAUSE_S else 0.0
        assert again <= SLOWEST * sound + PAUSE_S, f"{again:.2f} s, a sound file of that size takes {sound:.2f} s"
    return result


def category(message: str) -> str:
    """The part of a message that does not depend on the file."""
    words = "".join(c for c in message if not c.isdigit()).split(":")
    return words[1].strip().split("(")[0].strip() if words[0] == "damaged" else words[0].split("(")[0].strip()[:60]


def main() -> None:
    pass


if __name__ == "__main__":
    main()
