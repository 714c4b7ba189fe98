"""Feed damaged files to the decoder: each must end in a picture or in one of its own errors.

    python benchmarks/fuzz.py [--files 100000] [--first 0] [--json docs/results/fuzz.json]

File n of the sequence is a function of n alone: --first goes on where a run ended, and one failure can be repeated.
Half of them and more have all their checksums made right again, so that what lies behind these is reached. Pictures
are of few pixels, so that a hundred thousand take minutes.

With a core that was built with -DRDC_SANITIZE=address,undefined in place of the usual one, and with both libraries
loaded first, any access out of bounds and any undefined arithmetic ends the run:

    LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)" \\
        ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \\
        python benchmarks/fuzz.py --json docs/results/fuzz-sanitized.json
"""

import argparse
import contextlib
import json
import re
import resource
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rdcodec import _native
from rdcodec.codec import engine
from rdcodec.codec.container import SINGLE_RATE, Header, Section, pack, read_header, unpack
from rdcodec.codec.crc import crc32c
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import RdcError
from rdcodec.measure.machine import machine
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


def seconds_of(codec: Codec, data: bytes) -> float:
    """Processor time of one decoding, whatever it ends in: a busy machine is not the file's doing."""
    begin = time.process_time()
    with contextlib.suppress(RdcError):
        codec.decompress(data, MAX_PIXELS)
    return time.process_time() - begin


def check_speed(codec: Codec, data: bytes) -> None:
    """AssertionError if a file takes far longer, time and again, than a sound one of the size that it announces."""
    header = read_header(data, MAX_PIXELS).header
    sound = seconds_of(codec, codec.compress(np.full((header.height, header.width, 3), 100, np.uint8), 50))
    seconds = min(seconds_of(codec, data) for _ in range(5))
    assert seconds <= SLOWEST * sound + PAUSE_S, f"{seconds:.2f} s, a sound file of that size takes {sound:.2f} s"


def outcome(codec: Codec, data: bytes) -> str:
    """What decoding ended in: "decoded", or the error and the beginning of its message. AssertionError if wrong."""
    begin = time.process_time()
    try:
        image = codec.decompress(data, MAX_PIXELS)
    except RdcError as error:
        assert "\n" not in str(error), f"an error of more than one line: {error}"
        result = f"{type(error).__name__}: {kind_of(str(error))}"
    else:
        header = read_header(data).header
        assert image.shape == (header.height, header.width, 3), f"decoded to {image.shape}"
        result = "decoded"
    if time.process_time() - begin > PAUSE_S:
        check_speed(codec, data)
    return result


def kind_of(message: str) -> str:
    """A message without what belongs to one file."""
    words = re.sub(r"'.*'|\d+x\d+|-?\d+|with other weights.*", "*", message)
    return words.rpartition(":")[0] or words


def fuzz(codec: Codec, numbers: Iterable[int]) -> Counter[str]:
    """How often each outcome came. AssertionError that names the file for any other end."""
    corpus = read_corpus(codec)
    counts: Counter[str] = Counter()
    for number in numbers:
        try:
            counts[outcome(codec, damaged(corpus, number))] += 1
        except Exception as error:
            raise AssertionError(f"file {number}: {type(error).__name__}: {error}") from error
    return counts


def sanitizers() -> list[str]:
    """Those that the core was compiled with."""
    core = Path(_native.__file__).read_bytes()
    return [name for name, mark in (("address", b"__asan_"), ("undefined", b"__ubsan_")) if mark in core]


def golden_codec() -> Codec:
    """The tiny model of the golden files."""
    return Codec(read_weights(GOLDEN / "Golden.1.safetensors"), "cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    codec = golden_codec()
    engine.set_threads(1)
    noise = np.random.default_rng(0).integers(0, 256, (200, 100, 3), np.uint8)
    codec.decompress(codec.compress(noise, 100))  # what is compiled and kept once is not the files' doing
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: Counter[str] = Counter()
    begin, end = arguments.first, arguments.first + arguments.files
    started = time.perf_counter()
    for number in range(begin, end, 1000):
        counts += fuzz(codec, range(number, min(number + 1000, end)))
        seconds = time.perf_counter() - started
        print(f"{sum(counts.values())} files, {seconds:.0f} s, {len(counts)} outcomes", flush=True)
        peak_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1000
        record = {
            "files": sum(counts.values()),
            "first": begin,
            "max_pixels": MAX_PIXELS,
            "sanitizers": sanitizers(),
            "seconds": round(seconds),
            "peak_memory_added_mb": round(peak_mb, 1),
            "outcomes": dict(counts.most_common()),
            "machine": machine(),
        }
        if arguments.json:
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
