"""A second decoder of `.rdc` files, to integers: written from docs/format.md alone, in Python and NumPy.

It shares nothing with rdcodec, so that a file means what the page says and not what one program does. It is as plain
as can be, and slow: up to two minutes for a photograph. It gives pixels where weights define them on integers.

    python tests/second_decoder.py WEIGHTS FILE...      SHA-256 of symbols, y_hat and pixels, a JSON line for each file
"""

import hashlib
import json
import math
import re
import struct
import sys
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U16": "<u2", "F32": "<f4"}
WIDTHS = {**{kind: int(code[2]) for kind, code in KINDS.items()}, "BF16": 2}


class Refused(Exception):
    """A file that must not be decoded."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(what)


# Weights


@dataclass
class Weights:
    """What of a weights file decides integers, and its three hashes."""

    tag: str
    config: dict[str, Any]
    exact: dict[str, Array]
    rows: list[list[int]]  # of the entropy tables: first slots of the columns
    skip_below: int
    hashes: bytes  # tables, entropy, synthesis
    floats: dict[str, Array]  # gains and synthesis, float64
    pixels: dict[str, Array]  # steps and shifts; none: the synthesis is float


def read_weights(data: bytes) -> Weights:
    (size,) = struct.unpack("<Q", data[:8])
    entries = json.loads(data[8 : 8 + size])
    metadata = entries.pop("__metadata__")
    exact: dict[str, Array] = {}
    tables: dict[str, Array] = {}
    synthesis: dict[str, Array] = {}
    floats: dict[str, Array] = {}
    pixels: dict[str, Array] = {}
    for name, entry in entries.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        raw, shape = data[begin:end], tuple(entry["shape"])
        prefix, _, rest = name.partition(".")
        if prefix in ("exact", "tables"):
            array = np.frombuffer(raw, KINDS[entry["dtype"]]).reshape(shape)
            (exact if prefix == "exact" else tables)[rest] = array
        elif prefix in ("synthesis", "log_gain", "pixels"):
            wide = (*shape[:-1], shape[-1] * WIDTHS[entry["dtype"]])
            synthesis[name] = np.frombuffer(raw, np.uint8).reshape(wide)
            if prefix == "pixels":
                pixels[rest] = np.frombuffer(raw, "<i1").astype(np.int64)
            else:
                floats[name] = floats_of(raw, entry["dtype"]).reshape(shape)
    skip_below = int(tables["skip_below"][0])
    head = struct.pack("<2i", len(tables["radius"]), skip_below)
    tables_hash = hashlib.sha256(head + tables["radius"].tobytes() + tables["cdf"].tobytes()).digest()[:4]
    rows, start = [], 0
    for radius in tables["radius"].tolist():
        rows.append(tables["cdf"][start : start + 2 * radius + 2].tolist())
        start += 2 * radius + 2
    config, hashes = json.loads(metadata["config"]), tables_hash + array_hash(exact) + array_hash(synthesis)
    return Weights(metadata["tag"], config, exact, rows, skip_below, hashes, floats, pixels)


def floats_of(raw: bytes, kind: str) -> Array:
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    return np.frombuffer(raw, "<f4").astype(np.float64)


def array_hash(arrays: dict[str, Array]) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()[:4]


# File


@dataclass
class File:
    tag: str
    width: int
    height: int
    tenths: int
    hashes: bytes
    symbols_crc: int
    stream: bytes
    sections: dict[int, bytes]  # the first of each id
    alpha: list[bytes]  # WebP files, tile by tile; none: opaque


def make_crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ CRC_TABLE[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF


class Bytes:
    """The fields of a file, from its front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        require(self.at + count <= len(self.data), "ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        value = 0
        for place in range(5):
            byte = self.number(1)
            value += byte % 128 << 7 * place
            if byte < 128:
                require(value < 2**32 and (byte > 0 or place == 0), "varint")
                return value
        raise Refused("varint")


def read_file(data: bytes, max_pixels: int = 100_000_000) -> File:
    source = Bytes(data)
    require(source.take(4) == bytes.fromhex("8A524443"), "magic")
    require(source.number(1) == 1, "version")
    tag = source.take(source.number(1)).decode("latin-1")
    require(re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,47}\.(0|[1-9][0-9]{0,8})", tag) is not None, "tag")
    width, height, tenths = source.varint(), source.varint(), source.number(2)
    require(1 <= width <= 2**24 and 1 <= height <= 2**24, "size")
    require(tenths <= 1000 or tenths == 0xFFFF, "quality")
    hashes, symbols_crc = source.take(12), source.number(4)
    stream_bytes, stream_crc, sections = source.varint(), source.number(4), source.number(1)
    head = data[: source.at]
    require(source.number(4) == crc32c(head), "CRC of the header")
    require(width * height <= max_pixels, "pixels")
    found: dict[int, bytes] = {}
    for _ in range(sections):
        begin = source.at
        number, length = source.number(1), source.varint()
        start = data[begin : source.at]
        crc, payload = source.number(4), source.take(length)
        require(crc == crc32c(start + payload), "CRC of a section")
        require(number <= 128, "critical section")
        found.setdefault(number, payload)
    stream = data[source.at :]
    require(len(stream) == stream_bytes and crc32c(stream) == stream_crc, "stream")
    alpha = tiles(found[128], width, height) if 128 in found else []
    return File(tag, width, height, tenths, hashes, symbols_crc, stream, found, alpha)


def tiles(payload: bytes, width: int, height: int) -> list[bytes]:
    """The WebP files of the transparency, their sizes checked; decompressing them is WebP's business."""
    source, found = Bytes(payload), []
    for top in range(0, height, 16383):
        for left in range(0, width, 16383):
            begin = source.at
            require(source.take(4) == b"RIFF", "tile")
            size = source.number(4)
            require(source.take(8) == b"WEBPVP8L", "tile")
            chunk = source.number(4)
            require(chunk >= 5 and size == 12 + chunk + chunk % 2, "length of a tile")
            require(source.number(1) == 0x2F, "tile")
            bits = source.number(4)
            sides = bits % 16384 + 1, bits // 16384 % 16384 + 1
            require(sides == (min(16383, width - left), min(16383, height - top)), "size of a tile")
            source.take(size - 17)
            found.append(payload[begin : source.at])
    require(source.at == len(payload), "tiles")
    return found


# Stream


class Stream:
    """Symbols in their order, from the row of each."""

    def __init__(self, data: bytes, weights: Weights) -> None:
        require(len(data) >= 16 and len(data) % 2 == 0, "length of the stream")
        self.rows, self.skip_below = weights.rows, weights.skip_below
        self.states = list(struct.unpack("<4I", data[:16]))
        require(min(self.states) >= 65536, "state at the beginning")
        self.words = struct.unpack(f"<{(len(data) - 16) // 2}H", data[16:])
        self.used = self.coded = 0
        self.symbols: list[int] = []

    def symbol(self, index: int) -> int:
        symbol = 0
        if index >= self.skip_below:
            row, k = self.rows[index], self.coded % 4
            self.coded += 1
            radius = len(row) // 2 - 1
            column = self.take(k, row)
            symbol = column - radius
            if column == 2 * radius + 1:
                negative, e = divmod(self.take(k, range(0, 65536, 2048)), 16)
                symbol = radius + 2**e + self.take(k, range(0, 65536, 2 ** (16 - e)))
                symbol = -symbol if negative else symbol
            require(abs(symbol) <= 32767, "symbol")
        self.symbols.append(symbol)
        return symbol

    def take(self, k: int, row: "list[int] | range") -> int:
        slot = self.states[k] % 65536
        column = bisect_right(row, slot) - 1
        start = row[column]
        end = row[column + 1] if column + 1 < len(row) else 65536
        self.states[k] = (end - start) * (self.states[k] // 65536) + slot - start
        if self.states[k] < 65536:
            require(self.used < len(self.words), "word behind the end")
            self.states[k] = self.states[k] * 65536 + self.words[self.used]
            self.used += 1
        return column

    def finish(self) -> None:
        require(self.used == len(self.words) and self.states == [65536] * 4, "end of the stream")


# Networks: arrays are (channels, rows, columns) of int64


def clamp(x: Array, bound: int) -> Array:
    return np.clip(x, -bound, bound)


def parts(arrays: dict[str, Array], name: str) -> tuple[Array, Array, Array]:
    """weight; bias and shift (outputs, 1, 1)."""
    weight, bias, shift = (arrays[f"{name}.{part}"].astype(np.int64) for part in ("weight", "bias", "shift"))
    return weight, bias[:, None, None], shift[:, None, None]


def shifted(total: Array, shift: Array) -> Array:
    return total << np.maximum(-shift, 0) >> np.maximum(shift, 0)


def quotients(x: Array, arrays: dict[str, Array], name: str, stride: int = 1) -> Array:
    """A layer before its clamp."""
    weight, bias, shift = parts(arrays, name)
    if stride == 2:  # transposed: the kernel turned, over the input with zeros between
        spread = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]), np.int64)
        spread[:, ::2, ::2] = x
        x, weight = spread, weight.swapaxes(0, 1)[:, :, ::-1, ::-1]
    kernel, (height, width) = weight.shape[2], x.shape[1:]
    padded = np.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    total = np.tile(bias, (1, height, width))
    for row in range(kernel):
        for column in range(kernel):
            window = padded[:, row : row + height, column : column + width]
            taps = weight[:, :, row, column]
            if taps.shape[1] == len(x):
                total = total + np.tensordot(taps, window, 1)
            else:  # each channel by itself
                total = total + taps[:, :, None] * np.repeat(window, len(taps) // len(x), 0)
    return shifted(total, shift)


def layer(x: Array, arrays: dict[str, Array], name: str) -> Array:
    return np.clip(quotients(x, arrays, name), 0, 511)


def last(x: Array, arrays: dict[str, Array], name: str, bound: int = 32767) -> Array:
    return clamp(quotients(x, arrays, name), bound)


def chain(x: Array, arrays: dict[str, Array], name: str, count: int, bound: int = 32767) -> Array:
    """Layers 0, 2, 4, ... with ReLUs between."""
    for place in range(count - 1):
        x = layer(x, arrays, f"{name}.{2 * place}")
    return last(x, arrays, f"{name}.{2 * count - 2}", bound)


def shuffle(x: Array, side: int = 2) -> Array:
    channels, height, width = x.shape
    split = x.reshape(channels // side**2, side, side, height, width)
    return split.transpose(0, 3, 1, 4, 2).reshape(channels // side**2, side * height, side * width)


def read_all(indexes: Array, stream: Stream) -> Array:
    channels, height, width = indexes.shape
    symbols = [stream.symbol(index) for index in indexes.transpose(1, 2, 0).ravel().tolist()]
    return np.array(symbols, np.int64).reshape(height, width, channels).transpose(2, 0, 1)


# The checkerboard model


def interpolated(anchors: Array, tenths: int) -> Array:
    position = 7 * tenths
    row = min(position // 1000, 6)
    part = position - 1000 * row
    return (anchors[row] * (1000 - part) + anchors[row + 1] * part) // 1000


def levels_at(anchors: Array, tenths: int) -> Array:
    return interpolated(clamp(anchors.astype(np.int64), 16384), tenths)


def mirrored(x: Array) -> Array:
    """One row and one column more, where the page wants them."""
    if x.shape[1] > 1 and x.shape[1] % 4:
        x = np.concatenate([x, x[:, -2:-1]], 1)
    if x.shape[2] > 1 and x.shape[2] % 4:
        x = np.concatenate([x, x[:, :, -2:-1]], 2)
    return x


def coded_by(passes: int, shape: tuple[int, ...]) -> list[Array]:
    """Which elements each pass codes, one array of bools for a pass."""
    channel, row, column = np.indices(shape, sparse=True)
    even = (channel + row + column) % 2 == 0
    quarter = even & ((channel // 2 + row) % 2 == 0)
    return [quarter, even & ~quarter, ~even] if passes == 3 else [even, ~even]


def read_pass(coded: Array, outputs: Array, level: Array, stream: Stream) -> Array:
    """The elements of a pass in steps of 1/64, 0 at the others."""
    means, log_scales = np.split(outputs, 2)
    indexes = np.clip((log_scales + level[:, None, None] + 8) // 16, 0, 127)
    elements = np.zeros_like(means)
    for row, column, channel in np.argwhere(coded.transpose(1, 2, 0)).tolist():
        symbol = stream.symbol(int(indexes[channel, row, column]))
        elements[channel, row, column] = 64 * symbol + means[channel, row, column]
    return elements


def decode_checkerboard(file: File, weights: Weights, stream: Stream) -> Array:
    require(file.tenths <= 1000, "quality of a model of one rate")
    height, width = math.ceil(file.height / 16), math.ceil(file.width / 16)
    exact = weights.exact

    prior = np.clip((levels_at(exact["prior_level"], file.tenths) + 8) // 16, 0, 127)
    z = read_all(np.tile(prior[:, None, None], (1, math.ceil(height / 4), math.ceil(width / 4))), stream)
    x = clamp(z, 127)
    for name in ("0", "2"):
        x = layer(x, exact, f"hyper_synthesis.{name}")
    for names in (("5", "7"), ("10",)):
        x = shuffle(x)
        for name in names:
            x = layer(x, exact, f"hyper_synthesis.{name}")
    features = x[:, :height, :width]

    level = levels_at(exact["level"], file.tenths)
    passes = 3 if weights.config["entropy"].get("passes") == 3 else 2
    require(passes == 2 or len(level) % 4 == 0, "channels of a model of three passes")
    coded = coded_by(passes, (len(level), height, width))
    y = read_pass(coded[0], chain(features, exact, "first", 2), level, stream)
    for place in range(1, passes):
        context, network = ("context", "second") if place == passes - 1 else ("middle_context", "middle")
        seen = mirrored(clamp((y + 2) // 4, 4095))
        x = np.concatenate([features, layer(seen, exact, f"{context}.0")[:, :height, :width]])
        y = y + read_pass(coded[place], chain(x, exact, network, 3), level, stream)
    return y


# The hyperprior and charm models


def hyper_features(file: File, weights: Weights, stream: Stream, bounds: dict[str, int]) -> Array:
    """Reads z; what hyper_synthesis makes of it, clamped to the bound of its kind."""
    single = weights.config.get("lmbda") is not None
    require((file.tenths == 0xFFFF) == single, "quality of a model of one rate")
    rows = np.arange(128, len(weights.rows))[:, None, None]
    z = clamp(read_all(np.tile(rows, (1, math.ceil(file.height / 64), math.ceil(file.width / 64))), stream), 511)
    config = weights.config["entropy"]["hyper_synthesis"]
    synthesis = {"conv": conv_synthesis, "swin": swin_synthesis}[config["kind"]]
    return synthesis(z, weights.exact, config, bounds[config["kind"]])


def conv_synthesis(x: Array, arrays: dict[str, Array], config: dict[str, Any], bound: int) -> Array:
    end = len(config["strides"]) - 1
    for place, stride in enumerate(config["strides"]):
        x = quotients(x, arrays, f"hyper_synthesis.{2 * place}", stride)
        if place == end and not config["ends_active"]:
            return clamp(x, bound)
        if config["activation"] == "leaky_relu":
            x = clamp(np.where(x < 0, (41 * np.maximum(x, -65536) + 2048) // 4096, x), 511)
        else:
            x = np.clip(x, 0, 511)
    return x


def read_slice(means: Array, levels: Array, stream: Stream) -> Array:
    """Elements in steps of 1/64."""
    return 64 * read_all(np.clip((levels + 8) // 16, 0, 127), stream) + means


def decode_hyperprior(file: File, weights: Weights, stream: Stream) -> Array:
    x = hyper_features(file, weights, stream, {"conv": 32767, "swin": 8191})
    if weights.config["entropy"]["hyper_synthesis"]["kind"] == "swin":
        x = last(x, weights.exact, "parameters.0")
    means, levels = np.split(x, 2)
    return read_slice(means, levels, stream)


def shares(features: Array, config: dict[str, Any]) -> list[tuple[Array, Array]]:
    """What each slice owns for its means, and for its scales."""
    slices = config["slices"]
    if config["reduction"]:
        return [(part, part) for part in np.split(features, len(slices))]
    halves = np.split(features, 2)
    if not config["own_channels"]:
        return [(halves[0], halves[1])] * len(slices)
    edges = np.cumsum(slices)[:-1]
    return list(zip(np.split(halves[0], edges), np.split(halves[1], edges), strict=True))


def decode_charm(file: File, weights: Weights, stream: Stream) -> Array:
    exact, config = weights.exact, weights.config["entropy"]
    count = len(config["kernels"])
    features = hyper_features(file, weights, stream, {"conv": 511, "swin": 511})
    if config["reduction"]:
        features = last(features, exact, "reduce.0", 511)
    elements: list[Array] = []
    inputs: list[Array] = []
    for s, (of_means, of_scales) in enumerate(shares(features, config)):
        name, earlier = f"slices.{s}", inputs[: config["max_support"]]
        reach = exact[f"{name}.reach"].astype(np.int64)[:, None, None]
        seen = np.concatenate([of_means, *earlier])
        means = chain(seen, exact, f"{name}.mean", count)
        levels = chain(np.concatenate([of_scales, *earlier]), exact, f"{name}.scale", count)
        e = read_slice(means, levels, stream)
        seen = np.concatenate([seen, np.clip((e + 2) // 4, -reach, reach)])
        r = exact["tanh"].astype(np.int64)[255 + chain(seen, exact, f"{name}.lrp", count, 255)]
        merged = np.concatenate([clamp(e, 32767), r])
        elements.append(last(merged, exact, f"{name}.merge.0") if config["merge_kernel"] else e + r)
        inputs.append(np.clip((elements[-1] + 2) // 4, -reach, reach))
    return np.concatenate(elements)


# Swin hyper-synthesis


def affine(x: Array, arrays: dict[str, Array], name: str, bound: int) -> Array:
    weight, bias, shift = parts(arrays, name)
    total = np.tensordot(weight, x, 1) if weight.ndim == 2 else weight[:, None, None] * x
    return clamp(shifted(total + bias, shift), bound)


def norm(x: Array, e: Array) -> Array:
    n, total = len(x), x.sum(0)
    root = np.vectorize(math.isqrt, [np.int64])(n * (x * x).sum(0) - total * total + e)
    return clamp(((n * x - total) * (2**40 // root) + 2**31) // 2**32, 4095)


def windows(side: int, window: int, offset: int) -> list[Array]:
    """Rows, or columns, that see each other."""
    numbers = (np.arange(side) - offset) // window
    return [np.flatnonzero(numbers == number) for number in np.unique(numbers)]


def attention(qkv: Array, arrays: dict[str, Array], name: str, config: dict[str, Any], offset: int) -> Array:
    bias, shift = (arrays[f"{name}.scores.{part}"].astype(np.int64) for part in ("bias", "shift"))
    exponent = arrays["hyper_synthesis.exponent"].astype(np.int64)
    window, heads = config["window"], len(shift)
    mixture = np.empty_like(qkv[: len(qkv) // 3])
    for rows in windows(qkv.shape[1], window, offset):
        for columns in windows(qkv.shape[2], window, offset):
            query, key, value = qkv[:, rows][:, :, columns].reshape(3, heads, config["head_channels"], -1)
            r, c = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
            j = (r[:, None] - r + window - 1) * (2 * window - 1) + c[:, None] - c + window - 1
            scores = shifted(query.swapaxes(1, 2) @ key + bias[:, j], shift[:, None, None])
            e = exponent[np.minimum(scores.max(2, keepdims=True) - scores, 1535)]
            share = (e * (2**40 // e.sum(2, keepdims=True)) + 2**27) // 2**28
            mixed = (value @ share.swapaxes(1, 2) + 2048) // 4096
            mixture[:, rows[:, None], columns] = mixed.reshape(-1, len(rows), len(columns))
    return mixture


def swin_block(x: Array, arrays: dict[str, Array], name: str, config: dict[str, Any], offset: int) -> Array:
    bound = min(511, math.isqrt(2**23 // config["head_channels"]))
    qkv = affine(norm(x, arrays[f"{name}.norm1"]), arrays, f"{name}.qkv", bound)
    mixture = clamp(attention(qkv, arrays, name, config, offset), bound)
    x = clamp(x + affine(mixture, arrays, f"{name}.project", 65535), 65535)
    up = np.clip(affine(norm(x, arrays[f"{name}.norm2"]), arrays, f"{name}.up", 2048), -2048, 2047)
    gelu = arrays[f"{name}.gelu"].astype(np.int64)[up + 2048]
    return clamp(x + affine(gelu, arrays, f"{name}.down", 65535), 65535)


def swin_synthesis(x: Array, arrays: dict[str, Array], config: dict[str, Any], bound: int) -> Array:
    x = affine(x, arrays, "hyper_synthesis.enter", 65535)
    place = 1
    for stage, depth in enumerate(config["depths"]):
        if stage > 0:
            name = f"hyper_synthesis.{place}"
            x = norm(affine(x, arrays, f"{name}.expand", 65535), arrays[f"{name}.norm"])
            x = affine(x, arrays, f"{name}.scale", 65535)
            x = shuffle(x.reshape(4, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape))
            place += 1
        for block in range(depth):
            offset = config["window"] // 2 if block % 2 else 0
            x = swin_block(x, arrays, f"hyper_synthesis.{place}", config, offset)
            place += 1
    return shuffle(affine(x, arrays, f"hyper_synthesis.{place}.leave", bound))


# Pixels: the light synthesis on integers


def pixel_layer(x: Array, weights: Weights, name: str, takes: Array, gives: Array, unit: int = 0) -> Array:
    """A layer before its clamp. takes, gives: steps of its inputs and outputs."""
    weight, shift = weights.floats[f"synthesis.{name}.weight"], weights.pixels[f"shifts.{name}"]
    bias = weights.floats.get(f"synthesis.{name}.bias", np.full(len(weight), 118.0))
    of_inputs = takes[:, None] if weight.shape[2:] == (3, 3) else takes
    powers = unit + of_inputs - gives[:, None] + shift[:, None]
    whole = np.rint(np.ldexp(weight.reshape(len(weight), -1), powers.astype(np.int32)))
    biases = np.rint(np.ldexp(bias, (max(unit, 0) - gives + shift).astype(np.int32))) + 2**shift // 2
    kernel = weight.shape[2:] or (1, 1)
    integers = {"weight": whole.reshape(*weight.shape[:2], *kernel), "bias": biases, "shift": shift}
    return quotients(x, {f"{name}.{part}": array for part, array in integers.items()}, name)


def blocks(x: Array, weights: Weights, trunk: dict[str, Any], first: int, steps: Array) -> Array:
    hidden = trunk.get("hidden") or [1] * trunk["blocks"]  # how wide does not matter here, but for 0
    for place in range(trunk["blocks"]):
        start = f"trunk.{first + place}"
        layers = ["mix.0", "mix.2", "mix.4"]
        for names in (layers, ["feed_forward.0", "feed_forward.2"] if hidden[place] else []):
            inner, takes = x, steps
            for name in (f"{start}.{part}" for part in names[:-1]):
                gives = weights.pixels[f"steps.{name}"]
                inner, takes = np.clip(pixel_layer(inner, weights, name, takes, gives), 0, 4095), gives
            if names:
                x = clamp(x + pixel_layer(inner, weights, f"{start}.{names[-1]}", takes, steps), 32767)
    return x


def latents_of(y_hat: Array, log_gain: Array, tenths: int) -> Array:
    """y_hat in steps of 1/64 of a quantisation step -> steps of 1/8 of a level."""
    e = -interpolated(np.rint(log_gain * 94548.4621996991).astype(np.int64), tenths)
    p = np.full_like(e, 2**30)
    for k in range(1, 17):
        root = round(2 ** (30 + 2.0**-k))
        p = np.where(e >> 16 - k & 1, (p * root + 2**29) // 2**30, p)
    shift = np.clip(33 - (e >> 16), 1, 62)
    return rounded(y_hat, p, shift)


def rounded(x: Array, factor: Array, shift: Array) -> Array:
    product = x * factor[:, None, None] + (1 << shift - 1)[:, None, None]
    return clamp(product >> shift[:, None, None], 32767)


def draw(y_hat: Array, file: File, weights: Weights) -> Array:
    """y_hat (channels, rows, columns) in steps of 1/64 -> uint8 (height, width, 3)."""
    trunks, floats = weights.config["synthesis"], weights.floats
    entered, deep, wide = (weights.pixels[f"steps.{name}"] for name in ("entered", "deep", "wide"))
    latents = latents_of(y_hat, floats["log_gain.values"], file.tenths)
    of_latents, of_samples = np.full(len(latents), -3), np.full(768, -6)

    x = clamp(pixel_layer(latents, weights, "enter", of_latents, entered, -6), 32767)
    tints = np.rint((1 + floats["synthesis.tint.values"]) * 2**20).astype(np.int64)
    x = rounded(x, interpolated(tints, file.tenths), 20 + deep - entered)
    x = blocks(x, weights, trunks["stride16"], 0, deep)
    place = trunks["stride16"]["blocks"]
    x = shuffle(clamp(pixel_layer(x, weights, f"trunk.{place}", deep, np.repeat(wide, 4)), 32767))
    x = blocks(x, weights, trunks["stride8"], place + 2, wide)
    place += 2 + trunks["stride8"]["blocks"]
    last = clamp(pixel_layer(x, weights, f"trunk.{place}", wide, of_samples[:192], 5), 32767)
    linear = clamp(pixel_layer(latents, weights, "shortcut", of_latents, of_samples), 32767)
    samples = np.clip((shuffle(linear, 16) + shuffle(last, 8) + 32) // 64, 0, 255)
    return samples[:, : file.height, : file.width].transpose(1, 2, 0).astype(np.uint8)


MODELS = {"checkerboard": decode_checkerboard, "hyperprior": decode_hyperprior, "charm": decode_charm}


@dataclass
class Decoded:
    """symbols (n,) int16 in coding order; y_hat (rows, columns, M) int32 in steps of 1/64.

    pixels: uint8 (height, width, 3), where the weights define them on integers.
    """

    symbols: Array
    y_hat: Array
    pixels: Array | None


def decode(data: bytes, weights: Weights, max_pixels: int = 100_000_000) -> Decoded:
    """Refused for what the page wants refused."""
    file = read_file(data, max_pixels)
    require((file.tag, file.hashes) == (weights.tag, weights.hashes), "other weights")
    stream = Stream(file.stream, weights)
    y_hat = MODELS[weights.config["entropy"]["kind"]](file, weights, stream)
    stream.finish()
    symbols = np.array(stream.symbols, "<i2")
    require(crc32c(symbols.tobytes()) == file.symbols_crc, "CRC of the symbols")
    pixels = draw(y_hat, file, weights) if weights.pixels else None
    return Decoded(symbols, y_hat.transpose(1, 2, 0).astype("<i4"), pixels)


def main() -> None:
    weights = read_weights(Path(sys.argv[1]).read_bytes())
    for name in sys.argv[2:]:
        decoded = decode(Path(name).read_bytes(), weights)
        parts = {"symbols": decoded.symbols, "y_hat": decoded.y_hat, "pixels": decoded.pixels}
        sums = {part: hashlib.sha256(array.tobytes()).hexdigest() for part, array in parts.items() if array is not None}
        sys.stdout.write(json.dumps({"file": Path(name).name, **sums}) + "\n")


if __name__ == "__main__":
    main()
