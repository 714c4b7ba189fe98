"""Weights as pages fetch them: what a decoder needs, and what an encoder needs besides, a file each."""

import json
import struct
from pathlib import Path
from typing import Any

from rdcodec.errors import NeedsModel
from rdcodec.models.weights import DECODING, INTEGERS

ENCODING = ("analysis.", "entropy.hyper_analysis.", "entropy.hyper_shift.")
PARTS = {"decoder": (*DECODING, *INTEGERS), "encoder": ENCODING}


def part_of(path: Path, part: str) -> bytes:
    """A part of a weights file, as safetensors with the same tag and bytes: "decoder" or "encoder".

    NeedsModel for weights that have no such part, or lie in pieces.
    """
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    chosen = {name: entry for name, entry in header.items() if name.startswith(PARTS[part])}
    if not chosen or "pieces" in metadata:
        raise NeedsModel(f"{path}: no {part} for pages in these weights")
    told: dict[str, Any] = {"__metadata__": {key: metadata[key] for key in sorted(metadata)}}
    arrays: list[bytes] = []
    at = 0
    for name, entry in sorted(chosen.items()):
        start, end = entry["data_offsets"]
        arrays.append(data[8 + length + start : 8 + length + end])
        told[name] = {**entry, "data_offsets": [at, at := at + end - start]}
    text = json.dumps(told, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(arrays)
