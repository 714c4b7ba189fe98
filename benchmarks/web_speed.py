"""Speed of the module for pages in a browser, beside the core of this machine in the same run. Writes JSON.

Usage: web_speed.py BROWSER FOLDER OUTPUT MODEL [MODEL ...], as in `web_speed.py chromium kodak out.json J I H`, with
nothing else running. BROWSER: chromium (with chromedriver) or firefox. Speeds are medians over the pictures of a folder
at quality 50, each the best of three; those of the core on one core of the processor. Before them, a picture is shown
from an empty cache.
"""

import base64
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser, browser, firefox
from rdcodec.cli.web import Handler
from rdcodec.codec.engine import set_threads
from rdcodec.codec.pipeline import Codec, load
from rdcodec.measure.machine import machine

QUALITY, TIMES = 50, 3
SCRIPT = """const api = await import('./index.js'), { Codec } = await import('./codec.js');
const { Weights } = await import('./weights.js');
const [data, tag, quality, times] = given;
const file = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), weights = 'weights/';
const best = async (work) => {
  let least = Infinity;
  for (let i = 0; i < times; i++) least = Math.min(least, await work());
  return least;
};
const bytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
const part = (name) => bytes(`weights/${tag}.${name}.safetensors`);
const alone = (window.alone ??= {})[tag] ??= new Codec(
  await WebAssembly.compile(await bytes('rdc.wasm')), await Weights.read(await part('decoder'), await part('encoder')));
const { image } = await api.decodeTimed(file, { weights });
const timed = async (work) => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};
return [
  await best(async () => (await api.decodeTimed(file, { weights })).seconds),
  await best(() => timed(() => alone.decode(file))),
  await best(async () => (await api.encodeTimed(image, { weights, model: tag, quality })).seconds),
];"""
FIRST = """const api = await import('./index.js');
const file = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
const image = await api.decode(file, { weights: 'weights/' });
document.body.append(Object.assign(document.createElement('canvas'), { width: image.width, height: image.height }));
document.body.lastChild.getContext('2d').putImageData(image, 0, 0);
return performance.now() / 1000;"""


class Counting(Handler):
    """Counts the bytes of bodies by the kind of file."""

    sent: dict[str, int] = {}  # noqa: RUF012

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length":
            kind = self.path.rpartition(".")[2] if "." in self.path else "html"
            self.sent[kind] = self.sent.get(kind, 0) + int(value)
        super().send_header(keyword, value)


def main() -> None:
    name, folder, output, *models = sys.argv[1:]
    open_window = {"chromium": browser, "firefox": firefox}[name]
    paths = sorted(Path(folder).glob("*.png"))
    set_threads(1)
    results: dict[str, Any] = {}
    told: dict[str, Any] = {"what": "speed in a browser beside the core, and a first picture from an empty cache"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for model in models:
            with tempfile.TemporaryDirectory() as temporary, open_window(Path(temporary)) as window:
                address = f"http://localhost:{server.server_address[1]}/"
                codec = load(model)
                first = first_picture(codec, window, address, paths[0])
                told |= {"browser": window.run("return navigator.userAgent;"), "processor": machine()["cpu"]}
                told |= {"cores": window.run("return navigator.hardwareConcurrency;"), "quality": QUALITY}
                results[model] = {"tag": codec.info.tag, **measured(codec, window, paths), "first_picture": first}
                Path(output).write_text(
                    json.dumps({**told, "pictures": len(paths), "models": results}, indent=1) + "\n"
                )
        server.shutdown()


def first_picture(codec: Codec, window: Browser, address: str, path: Path) -> dict[str, Any]:
    """Seconds from the start of the page to its first picture, and bytes by kind of file."""
    file = text(codec.compress(pixels_of(path), QUALITY))
    Counting.sent.clear()
    window.open(address)
    seconds = window.run(FIRST, file)
    return {"seconds": round(seconds, 2), "bytes": dict(Counting.sent), "bytes_in_all": sum(Counting.sent.values())}


def measured(codec: Codec, window: Browser, paths: list[Path]) -> dict[str, float]:
    rows = []
    for path in paths:
        pixels = pixels_of(path)
        data = codec.compress(pixels, QUALITY)
        page, alone, encode = window.run(SCRIPT, text(data), codec.info.tag, QUALITY, TIMES)
        core = best(partial(codec.decompress, data)), best(partial(codec.compress, pixels, QUALITY))
        rows.append(np.array([page, alone, encode, *core]) / (pixels.size / 3e6))
        print(path.name, rows[-1].round(2), file=sys.stderr, flush=True)
    page, alone, encode, core, core_encode = (statistics.median(row[k] for row in rows) for k in range(5))
    return {
        "decode_mp_s": round(1 / page, 2),
        "decode_one_thread_mp_s": round(1 / alone, 2),
        "encode_mp_s": round(1 / encode, 2),
        "core_decode_mp_s": round(1 / core, 2),
        "core_encode_mp_s": round(1 / core_encode, 2),
        "one_thread_over_core": round(alone / core, 2),
        "gain_of_helpers": round(alone / page, 2),
    }


def best(work: Callable[[], object]) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return min(once() for _ in range(TIMES))


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()
