"""Kodak in Chromium and under node against the core of this machine: symbols, pixels, speed. Writes JSON.

Usage: web_kodak.py FOLDER OUTPUT [MODEL ...], with node, chromium and chromedriver.
"""

import base64
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser, browser, served
from rdcodec.codec.engine import set_threads
from rdcodec.codec.pipeline import Codec, load

QUALITIES = (10, 25, 40, 55, 70, 85)
SCRIPT = """const api = await import('./index.js');
const text = (bytes) => { let t = ''; for (const b of bytes) t += String.fromCharCode(b); return btoa(t); };
const data = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
const { image, seconds } = await api.decodeTimed(data, { weights: 'weights/' });
const coded = await api.encodeTimed(image, { weights: 'weights/', model: given[1], quality: given[2] });
return [text(image.data), seconds, text(coded.data), coded.seconds];"""


def main() -> None:
    folder, output, *models = sys.argv[1:]
    set_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        command = (sys.executable, "-u", "-m", "rdcodec", "web", "--port", "0")
        with served(*command) as (address, _), browser(Path(temporary)) as window:
            window.open(address)
            agent = window.run("return navigator.userAgent;")
            results = {name: measured(load(name), window, sorted(Path(folder).glob("*.png"))) for name in models}
    told = {"what": "files of the core decoded in Chromium, and its files decoded by the core", "browser": agent}
    Path(output).write_text(json.dumps({**told, "qualities": QUALITIES, "models": results}, indent=1) + "\n")


def measured(codec: Codec, window: Browser, paths: list[Path]) -> dict[str, Any]:
    """Over all pictures and qualities. What the page decodes it codes again, for the core to decode."""
    off, beyond, samples, mismatches = 0, 0, 0, 0
    ours: list[float] = []
    theirs: list[float] = []
    encode: list[float] = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        analysed = codec.analyse(pixels)
        for quality in QUALITIES:
            data = codec.code(analysed, quality).data
            start = time.perf_counter()
            expected = codec.decompress(data)
            ours.append(time.perf_counter() - start)
            try:
                found = window.run(SCRIPT, base64.b64encode(data).decode(), codec.info.tag, quality)
                codec.decompress(base64.b64decode(found[2]))  # both compare the checksum of the symbols
            except Exception as error:
                print(path.name, quality, error, file=sys.stderr)
                mismatches += 1
                continue
            got = np.frombuffer(base64.b64decode(found[0]), np.uint8).reshape(*pixels.shape[:2], 4)[..., :3]
            difference = np.abs(got.astype(int) - expected)
            off, beyond, samples = (
                max(off, int(difference.max())),
                beyond + int((difference > 1).sum()),
                samples + got.size,
            )
            theirs.append(found[1])
            encode.append(found[3])
    megapixels = pixels.size / 3e6
    page, core = statistics.median(theirs), statistics.median(ours)
    return {
        "tag": codec.info.tag,
        "files_each_way": len(ours),
        "mismatches": mismatches,
        "most_off": off,
        "share_beyond_1": beyond / samples,
        "page_decode_mp_s": round(megapixels / page, 2),
        "page_encode_mp_s": round(megapixels / statistics.median(encode), 2),
        "core_decode_mp_s": round(megapixels / core, 2),
        "page_over_core": round(page / core, 2),
    }


if __name__ == "__main__":
    main()
