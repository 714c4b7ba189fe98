"""Kodak in Chromium against the core of this machine: symbols, pixels, speed. Writes JSON.

Usage: web_kodak.py FOLDER OUTPUT QUALITIES [MODEL ...], as in `web_kodak.py kodak out.json 10,40,85 I J`, with chromium
and chromedriver. Every file of the core is decoded in the page, and at the middle quality coded there again.
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

SCRIPT = """const api = await import('./index.js');
const text = (bytes) => { let t = ''; for (const b of bytes) t += String.fromCharCode(b); return btoa(t); };
const data = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
const { image, seconds } = await api.decodeTimed(data, { weights: 'weights/' });
const options = { weights: 'weights/', model: given[1], quality: given[2] };
const coded = given[3] ? await api.encodeTimed(image, options) : undefined;
return [text(image.data), seconds, coded && text(coded.data), coded?.seconds];"""


def main() -> None:
    folder, output, listed, *models = sys.argv[1:]
    qualities = [int(quality) for quality in listed.split(",")]
    set_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        command = (sys.executable, "-u", "-m", "rdcodec", "web", "--port", "0")
        with served(*command) as (address, _), browser(Path(temporary)) as window:
            window.open(address)
            agent = window.run("return navigator.userAgent;")
            told = {
                "what": "files of the core decoded in Chromium, and its files decoded by the core",
                "browser": agent,
            }
            results = {}
            for name in models:
                results[name] = measured(load(name), window, sorted(Path(folder).glob("*.png")), qualities)
                found = {**told, "qualities": qualities, "models": results}
                Path(output).write_text(json.dumps(found, indent=1) + "\n")


def measured(codec: Codec, window: Browser, paths: list[Path], qualities: list[int]) -> dict[str, Any]:
    """Over all pictures and qualities. What the page decodes it codes again, for the core to decode."""
    off, beyond, samples, mismatches = 0, 0, 0, 0
    ours: list[float] = []
    theirs: list[float] = []
    encode: list[float] = []
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        analysed = codec.analyse(pixels)
        for quality in qualities:
            data = codec.code(analysed, quality).data
            start = time.perf_counter()
            expected = codec.decompress(data)
            ours.append(time.perf_counter() - start)
            try:
                again = quality == qualities[len(qualities) // 2]
                found = window.run(SCRIPT, base64.b64encode(data).decode(), codec.info.tag, quality, again)
                if again:
                    codec.decompress(base64.b64decode(found[2]))  # as the page, compares the checksum of the symbols
                    encode.append(found[3])
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
        print(path.name, len(ours), mismatches, file=sys.stderr, flush=True)
    megapixels = pixels.size / 3e6
    page, core = statistics.median(theirs), statistics.median(ours)
    return {
        "tag": codec.info.tag,
        "files_of_core": len(ours),
        "files_of_page": len(encode),
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
