"""Leave of released weights only what decodes: for tags that have a successor, so that the package stays small.

    python scripts/keep_decoder.py src/rdcodec/weights/I.1.safetensors ...

Tag and hashes stay: files made with these weights decode as before.
"""

import sys
from pathlib import Path

from rdcodec.models.weights import read_weights, save_weights

for path in map(Path, sys.argv[1:]):
    pieces = list(path.parent.glob(f"{path.stem}.piece-*{path.suffix}"))
    weights, size = read_weights(path), sum(file.stat().st_size for file in (path, *pieces))
    save_weights(path, weights.for_decoding())
    for piece in pieces:
        piece.unlink()
    print(f"{path.name}: {size / 1e6:.1f} MB, now {path.stat().st_size / 1e6:.1f} MB")
