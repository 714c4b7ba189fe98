"""Kodak through the module for pages, both ways, against the core of this machine: symbols and pixels. Writes JSON.

Usage: web_kodak.py HOST FOLDER OUTPUT QUALITIES MODEL [MODEL ...], as in `web_kodak.py firefox kodak out.json 10,40 I`.
HOST: chromium (with chromedriver), firefox, or wasmtime (the package of that name). At each quality the host decodes
the file that the core coded, and the core decodes the file that the host coded. Pixels are compared of the core's
files; of weights whose synthesis runs on integers, one that is another ends the run. OUTPUT keeps the other models that
it has, and is written after each picture. `web_speed.py` measures speeds.
"""

import base64
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser, browser, firefox, served
from native_check import Wasm, of_encoder, of_file, of_picture, of_weights, packed
from rdcodec.codec.container import Header, pack, unpack
from rdcodec.codec.engine import set_threads
from rdcodec.codec.pipeline import Codec, load
from rdcodec.models.weights import read_weights, released

Pixels = NDArray[np.uint8]
WASM = Path(__file__).parents[1] / "src" / "rdcodec" / "web" / "rdc.wasm"
WHAT = "files of the core decoded by the module for pages, and its files decoded by the core"
TOLD = """const api = await import('./index.js');
const text = (bytes) => { let t = ''; for (const b of bytes) t += String.fromCharCode(b); return btoa(t); };
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const weights = 'weights/';
"""
DECODE = TOLD + "return text((await api.decode(bytes(given[0]), { weights })).data);"
ENCODE = """const [width, height, model, quality] = given.slice(1);
const image = new ImageData(new Uint8ClampedArray(bytes(given[0]).buffer), width, height);
return text(await api.encode(image, { weights, model, quality }));"""


class Host(Protocol):
    """Something that runs the module."""

    name: str

    def decode(self, codec: Codec, data: bytes) -> Pixels: ...
    def encode(self, codec: Codec, pixels: Pixels, quality: int) -> bytes: ...


class Page:
    """The page of `rdc web`, in a browser."""

    def __init__(self, window: Browser) -> None:
        self.window = window
        self.name: str = window.run("return navigator.userAgent;")

    def decode(self, codec: Codec, data: bytes) -> Pixels:
        height, width = sides(data)
        found = base64.b64decode(self.window.run(DECODE, text(data)))
        return np.frombuffer(found, np.uint8).reshape(height, width, 4)[..., :3]

    def encode(self, codec: Codec, pixels: Pixels, quality: int) -> bytes:
        height, width = pixels.shape[:2]
        rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        coded = self.window.run(TOLD + ENCODE, text(rgba.tobytes()), width, height, codec.info.tag, quality)
        return base64.b64decode(coded)


class Wasmtime:
    """The module alone, under wasmtime; what a page's script does of the rest is done by the package."""

    name = f"wasmtime {version('wasmtime')}"

    def __init__(self, folder: Path) -> None:
        self.module = Wasm(WASM, folder)
        self.module.call("_initialize")
        self.models: dict[str, int] = {}

    def model(self, codec: Codec) -> int:
        tag = codec.info.tag
        if tag not in self.models:
            weights = read_weights(released()[tag])
            arrays = of_weights(weights) | of_encoder(weights)
            self.models[tag] = self.module.call("rdc_model", *self.module.put(packed(arrays)))
        return self.models[tag]

    def decode(self, codec: Codec, data: bytes) -> Pixels:
        height, width = sides(data)
        model, arrays = self.model(codec), of_file(read_weights(released()[codec.info.tag]), codec, data)
        with self.given(packed(arrays)) as told:
            picture = self.module.call("rdc_decode", model, height, width, *told)
        found = np.frombuffer(self.module.get(picture, 3 * height * width), np.uint8).reshape(height, width, 3)
        self.module.call("rdc_free", picture)
        return found

    def encode(self, codec: Codec, pixels: Pixels, quality: int) -> bytes:
        model, weights = self.model(codec), read_weights(released()[codec.info.tag])
        height, width = sides = pixels.shape[:2]
        with self.given(pixels.tobytes()) as (image, _):
            y = self.module.call("rdc_analyse", model, image, *sides)
        with self.given(packed(of_picture(weights, codec, 10 * quality))) as told:
            coded = self.module.call("rdc_encode", model, y, y, *sides, *told)
        length, crc = np.frombuffer(self.module.get(coded, 8), np.uint32)
        stream = self.module.get(coded + 8, int(length))
        for address in (y, coded):
            self.module.call("rdc_free", address)
        hashes = (codec.tables.hash(), *codec.hashes)
        return pack(Header(codec.info.tag, width, height, 10 * quality, *hashes, int(crc), ()), stream)

    @contextmanager
    def given(self, data: bytes) -> Iterator[tuple[int, int]]:
        told = self.module.put(data)
        yield told
        self.module.call("rdc_free", told[0])


@contextmanager
def started(host: str) -> Iterator[Host]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if host == "wasmtime":
            yield Wasmtime(folder)
            return
        command = (sys.executable, "-u", "-m", "rdcodec", "web", "--port", "0")
        open_window = {"chromium": browser, "firefox": firefox}[host]
        with served(*command) as (address, _), open_window(folder) as window:
            window.open(address)
            yield Page(window)


def main() -> None:
    host, folder, output, listed, *models = sys.argv[1:]
    qualities = [int(quality) for quality in listed.split(",")]
    set_threads(1)
    results = json.loads(Path(output).read_text())["models"] if Path(output).exists() else {}
    with started(host) as runs:
        ran = {"host": runs.name, "module_sha256": WASM.with_suffix(".wasm.sha256").read_text().split()[0]}
        for name in models:
            for found in measured(load(name), runs, sorted(Path(folder).glob("*.png")), qualities):
                results[name] = ran | found
                Path(output).write_text(json.dumps({"what": WHAT, "models": results}, indent=1) + "\n")
            if read_weights(released()[found["tag"]]).pixels and found["different_pixels"]:
                sys.exit(f"{found['tag']}: {found['different_pixels']} pixels are not those that every machine makes")


def measured(codec: Codec, host: Host, paths: list[Path], qualities: list[int]) -> Iterator[dict[str, Any]]:
    """Over all qualities, both ways, and all pictures up to one after the other."""
    found = {"pictures": 0, "files_of_core": 0, "files_of_host": 0, "mismatches": 0, "most_off": 0}
    different, beyond, samples, ours, theirs = 0, 0, 0, 0, 0
    for path in paths:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        analysed = codec.analyse(pixels)
        found["pictures"] += 1
        for quality in qualities:
            coded = codec.code(analysed, quality)
            try:  # either compares the checksum of the symbols
                decoded = host.decode(codec, coded.data)
                data = host.encode(codec, pixels, quality)
                codec.decompress(data)
            except Exception as error:
                print(path.name, quality, error, file=sys.stderr)
                found["mismatches"] += 1
                continue
            off = np.abs(decoded.astype(int) - coded.reconstruction)
            found["most_off"] = max(found["most_off"], int(off.max()))
            found["files_of_core"] += 1
            found["files_of_host"] += 1
            different, beyond = different + int((off > 0).any(2).sum()), beyond + int((off > 1).sum())
            samples += off.size
            ours, theirs = ours + len(coded.data), theirs + len(data)
        print(path.name, found, file=sys.stderr, flush=True)
        yield {
            **{"tag": codec.info.tag, "qualities": qualities, **found},
            **{"pixels": samples // 3, "different_pixels": different},
            "share_beyond_1": beyond / max(samples, 1),
            "bytes_of_host_over_core": round(theirs / max(ours, 1), 6),
        }


def sides(data: bytes) -> tuple[int, int]:
    header, _ = unpack(data)
    return header.height, header.width


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


if __name__ == "__main__":
    main()
