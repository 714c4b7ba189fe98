"""The codec for web pages (`web/`, built into src/rdcodec/web): the same symbols, pixels as promised."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from browser import CHROMIUM, DRIVER, browser
from promise import check_pixels
from rdcodec.codec import flat
from rdcodec.codec.container import unpack
from rdcodec.codec.pipeline import Codec, load
from rdcodec.models.for_pages import PARTS, part_of
from rdcodec.models.weights import newest_tag, read_weights, released, save_weights

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
BUILT = ROOT / "src" / "rdcodec" / "web"
GOLDEN = ROOT / "tests" / "golden"
NODE = shutil.which("node")
TSC = WEB / "node_modules" / ".bin" / "tsc"
needs_node = pytest.mark.skipif(NODE is None, reason="no node to run JavaScript")


def node(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run([str(NODE), *arguments], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    return done.stdout


def test_the_module_is_the_one_that_was_hashed() -> None:
    module = (BUILT / "rdc.wasm").read_bytes()
    assert hashlib.sha256(module).hexdigest() == (BUILT / "rdc.wasm.sha256").read_text().split()[0]
    assert len(module) < 400_000


@needs_node
def test_the_core_in_node() -> None:
    node("--test", WEB / "tests" / "codec.test.mjs")


@needs_node
def test_png_files(tmp_path: Path) -> None:
    """Exact samples with alpha, and the profile, read by another program."""
    from PIL import Image

    samples = np.random.default_rng(3).integers(0, 256, (5, 7, 4), np.uint8)
    profile = bytes(range(256)) * 3
    (tmp_path / "samples").write_bytes(samples.tobytes())
    (tmp_path / "profile").write_bytes(profile)
    script = """const { readFileSync, writeFileSync } = await import("node:fs");
    const { png } = await import(process.argv[1]);
    const bytes = (name) => new Uint8Array(readFileSync(`${process.argv[2]}/${name}`));
    const image = { width: 7, height: 5, data: bytes("samples") };
    writeFileSync(`${process.argv[2]}/with.png`, await png(image, bytes("profile")));
    writeFileSync(`${process.argv[2]}/without.png`, await png(image));"""
    node("--input-type=module", "-e", script, (BUILT / "png.js").as_uri(), tmp_path)
    for name, expected in (("with", profile), ("without", None)):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert (np.asarray(image) == samples).all() and image.mode == "RGBA"
            assert image.info.get("icc_profile") == expected


@needs_node
@pytest.mark.slow
def test_ten_thousand_damaged_files() -> None:
    node("--test", WEB / "tests" / "codec.test.mjs", RDCODEC_MUTATIONS="10000")


def both_ways(
    weights: Path, files: dict[str, bytes], pixels: list[np.ndarray], folder: Path, parts: Sequence[Path] = ()
) -> None:
    """Files decode in node as here, whole and in strips, and what node codes decodes here as there.

    parts: of the weights, where node does not read them whole.
    """
    kept = read_weights(weights)
    codec = Codec(kept)
    cases: dict[str, object] = {"web": str(BUILT), "weights": [str(part) for part in parts or [weights]]}
    for name, data in files.items():
        (folder / f"{name}.rdc").write_bytes(data)
    for number, picture in enumerate(pixels):
        (folder / f"{number}.rgb").write_bytes(picture.tobytes())
    cases |= {"files": list(files), "pictures": [picture.shape[:2] for picture in pixels], "quality": 40}
    (folder / "cases.json").write_text(json.dumps(cases))
    node(WEB / "tests" / "both_ways.mjs", folder)
    for name, data in files.items():
        check_pixels((folder / f"{name}.rgb").read_bytes(), codec.decompress(data), kept)
    for number, picture in enumerate(pixels):
        coded = (folder / f"{number}.rdc").read_bytes()
        assert unpack(coded)[0].quality == 400
        decoded = codec.decompress(coded)
        check_pixels((folder / f"{number}.decoded").read_bytes(), decoded, kept)
        ours = codec.compress(picture, 40)
        assert abs(len(coded) - len(ours)) <= 8 + len(ours) // 100
        errors = [np.mean((picture.astype(float) - other) ** 2) for other in (decoded, codec.decompress(ours))]
        assert errors[0] <= 1.02 * errors[1] + 0.1


def astronaut() -> np.ndarray:
    from PIL import Image

    with Image.open(ROOT / "src" / "rdcodec" / "data" / "astronaut.png") as image:
        return np.asarray(image.convert("RGB"))


@needs_node
@pytest.mark.parametrize("tag", ["Golden.1", "Golden-pixels.1", "Golden-three.1"])
def test_golden_files_both_ways(tag: str, tmp_path: Path) -> None:
    """Node has the weights as pages fetch them."""
    names = ("one-pixel", "small", "odd", "lowest", "highest", "flat", "noise", "sections")
    if kind := tag.removesuffix(".1").partition("-")[2]:
        names = tuple(f"{kind}-{name}" for name in ("one-pixel", "odd", "lowest", "highest", "extremes"))
    rng = np.random.default_rng(5)
    pixels = [rng.integers(0, 256, size, np.uint8) for size in ((1, 1, 3), (40, 23, 3))]
    files = {name: (GOLDEN / f"{name}.rdc").read_bytes() for name in names}
    weights = GOLDEN / f"{tag}.safetensors"
    files["high"] = Codec(read_weights(weights)).compress(astronaut()[:400, 200:217], 60)  # drawn in strips
    parts = [tmp_path / part for part in PARTS]
    for part in parts:
        part.write_bytes(part_of(weights, part.name))
    both_ways(weights, files, pixels, tmp_path, parts)


@needs_node
def test_integers_of_a_synthesis_that_are_altered_are_refused(tmp_path: Path) -> None:
    """A layer's that are missing, one too many, shifts with which sums could overflow; not those that are right."""
    weights = read_weights(GOLDEN / "Golden-pixels.1.safetensors")
    name = "shifts.enter"
    made = [
        weights.pixels,
        {key: array for key, array in weights.pixels.items() if key != name},
        weights.pixels | {name: np.append(weights.pixels[name], weights.pixels[name][:1])},
        weights.pixels | {name: weights.pixels[name] + np.int8(8)},
    ]
    paths = [tmp_path / f"{number}.safetensors" for number in range(len(made))]
    for path, pixels in zip(paths, made, strict=True):
        save_weights(path, replace(weights, pixels=pixels))
    script = """const { readFileSync } = await import("node:fs");
    const [web, ...paths] = process.argv.slice(1), told = [];
    const { Codec } = await import(`${web}/codec.js`), { Weights } = await import(`${web}/weights.js`);
    const module = new WebAssembly.Module(readFileSync(new URL(`${web}/rdc.wasm`)));
    for (const path of paths) {
      const codec = new Codec(module, await Weights.read(new Uint8Array(readFileSync(path))));
      try { codec.core.warm(); told.push("right"); } catch (error) { told.push(`${error.name}: ${error.message}`); }
    }
    console.log(JSON.stringify(told));"""
    told = json.loads(node("--input-type=module", "-e", script, BUILT.as_uri(), *paths))
    misfit = "NeedsModel: weights Golden-pixels.1 do not fit their model: fetch them again"
    assert told == ["right", misfit, misfit, misfit]


@needs_node
@pytest.mark.parametrize("name", ["I", "J"])
def test_released_weights_both_ways(name: str, tmp_path: Path) -> None:
    weights = newest(name)
    photo = astronaut()[100:297, 150:361]
    codec = Codec(read_weights(weights))
    files = {f"q{quality}": codec.compress(photo, quality) for quality in (0, 33.3, 80)}
    both_ways(weights, files, [photo], tmp_path)


def newest(name: str) -> Path:
    tag = newest_tag(name, released())
    if tag is None:
        pytest.skip(f"weights of {name} are not in this checkout")
    return released()[tag]


def flat_pictures() -> list[np.ndarray]:
    """Of one colour; a page; a frame, a dot and a block that nine samples take for a flat one; too few flat blocks."""
    page = np.full((170, 250, 3), 255, np.uint8)
    page[60:100:8, 70:180:3] = 0
    framed = np.full((160, 160, 3), (200, 200, 90), np.uint8)
    framed[:, :16] = 10
    framed[70, 70] = 0
    few = np.random.default_rng(0).integers(0, 256, (320, 320, 3)).astype(np.uint8)
    few[:48, :48] = 255
    return [
        np.full((75, 50, 3), (64, 64, 64), np.uint8),
        np.full((33, 40, 3), (255, 0, 0), np.uint8),
        page,
        framed,
        few,
    ]


@needs_node
def test_flat_areas_are_those_of_the_command_line(tmp_path: Path) -> None:
    """The same blocks, and the same errors of a decoded picture."""
    noise = np.random.default_rng(1)
    told = []
    for number, picture in enumerate(flat_pictures()):
        decoded = np.clip(picture.astype(int) + noise.integers(-9, 9, picture.shape), 0, 255).astype(np.uint8)
        for name, samples in (("picture", picture), ("decoded", decoded)):
            (tmp_path / f"{name}{number}").write_bytes(samples.tobytes())
        found = flat.find(picture)
        columns = -(-picture.shape[1] // 16)
        places = [] if found is None else (found.rows * columns + found.columns).tolist()
        off = None if found is None else [round(part, 6) for part in flat.off(found, decoded)]
        told.append([places, off])
    script = """const { readFileSync } = await import("node:fs");
    const flat = await import(process.argv[1]), told = [];
    for (const [number, [height, width]] of JSON.parse(process.argv[3]).entries()) {
      const of = (name) => ({ width, height, perPixel: 3, data: readFileSync(`${process.argv[2]}/${name}${number}`) });
      const found = flat.find(of("picture"));
      const off = found && flat.off(found, of("decoded")).map((part) => Math.round(part * 1e6) / 1e6);
      told.push([[...(found?.places ?? [])], off ?? null]);
    }
    console.log(JSON.stringify(told));"""
    sides = json.dumps([picture.shape[:2] for picture in flat_pictures()])
    found = json.loads(node("--input-type=module", "-e", script, (BUILT / "flat.js").as_uri(), tmp_path, sides))
    assert [bool(places) for places, _ in told] == [True, True, True, True, False]
    assert found == told


@needs_node
def test_flat_areas_are_given_up_when_the_command_line_does() -> None:
    cases = list(itertools.product((-1, 0.5, 1, 3), (1, 9), (5, 6, 11, 12, 23, 24), (0, 3), (399, 400)))
    script = """const { isEnough } = await import(process.argv[1]), cases = JSON.parse(process.argv[2]);
    console.log(JSON.stringify(cases.map(([seen, most, ...rest]) => isEnough([seen, most, 0], ...rest))));"""
    found = json.loads(node("--input-type=module", "-e", script, (BUILT / "flat.js").as_uri(), json.dumps(cases)))
    assert found == [flat.is_enough(flat.Off(seen, most, 0), *rest) for seen, most, *rest in cases]


@needs_node
def test_flat_areas_are_corrected_as_by_the_command_line(tmp_path: Path) -> None:
    """To a grey level as near as it comes there; mostly the files have the same bytes."""
    codec, pictures, gains = load("J"), flat_pictures()[:4], 0
    both_ways(released()[codec.info.tag], {}, pictures, tmp_path)
    for number, picture in enumerate(pictures):
        found = flat.find(picture)
        assert found is not None
        here = flat.off(found, codec.encode(picture, 40).reconstruction)
        there = flat.off(found, codec.decompress((tmp_path / f"{number}.rdc").read_bytes()))
        plain = codec.analyse(picture)
        object.__setattr__(plain, "flats", None)
        before = flat.off(found, codec.code(plain, 40).reconstruction)
        assert abs(there.largest - here.largest) <= 1 and there <= before
        gains += there < before
    assert gains


@pytest.mark.slow
@pytest.mark.skipif(not TSC.exists(), reason="no TypeScript: npm install in web/")
def test_what_is_built_is_of_these_sources(tmp_path: Path) -> None:
    subprocess.run([TSC, "-p", WEB, "--outDir", tmp_path], check=True)
    for path in tmp_path.glob("*.js"):
        assert path.read_text() == (BUILT / path.name).read_text(), f"{path.name}: run `make web`"


@pytest.mark.slow
def test_the_module_is_of_these_sources(tmp_path: Path) -> None:
    """Byte for byte where the compiler is the same version; another's has to behave alike."""
    pytest.importorskip("ziglang", reason="the package ziglang is the compiler")
    pytest.importorskip("wasmtime", reason="the package wasmtime runs WebAssembly")
    from test_native import check_decoder

    environment = {"ZIG_GLOBAL_CACHE_DIR": str(tmp_path.parent.parent / "zig"), **os.environ}
    built = tmp_path / "rdc.wasm"
    subprocess.run([ROOT / "native" / "wasm.sh", sys.executable, built], check=True, env=environment)
    check_decoder(built)
    told, *compiler = (BUILT / "rdc.wasm.sha256").read_text().split()
    again, *here = (tmp_path / "rdc.wasm.sha256").read_text().split()
    assert compiler != here or again == told, "run `make web`"


@pytest.mark.slow
@pytest.mark.skipif(not TSC.exists() or not CHROMIUM or not DRIVER, reason="no TypeScript in web/, or no chromium")
def test_the_package_in_a_project_of_vite(tmp_path: Path) -> None:
    """`npm pack` installed in an empty project with the examples of its README; a photograph decoded there."""
    tag = max((tag for tag in released() if tag.startswith("I.")), default=None)
    if tag is None:
        pytest.skip("weights of I are not in this checkout")
    packed = subprocess.run(
        ["npm", "pack", "--silent", "--pack-destination", tmp_path], cwd=WEB, capture_output=True, text=True, check=True
    ).stdout.split()[-1]
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "empty", "private": true, "type": "module"}')
    install = ["npm", "install", "--no-audit", "--no-fund", f"../{packed}", "vite@7"]
    if subprocess.run(install, cwd=project, capture_output=True).returncode:
        pytest.skip("vite cannot be installed here")
    script, element = (
        part.split("\n", 1)[1].split("```")[0] for part in (WEB / "README.md").read_text().split("```")[1::2]
    )
    (project / "main.ts").write_text(
        f"{script}\nObject.assign(window, {{ found: [width, height, icc, Array.from(image.data), again.length] }});\n"
    )
    (project / "index.html").write_text(f'<!doctype html><script type="module" src="main.ts"></script>{element}')
    options = ("--noEmit", "--strict", "--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler")
    subprocess.run([TSC, *options, "main.ts"], cwd=project, check=True)
    (project / "vite.config.js").write_text('export default { build: { target: "es2022" } };\n')
    (project / "public" / "weights").mkdir(parents=True)
    for part in ("decoder", "encoder"):
        (project / "public" / "weights" / f"{tag}.{part}.safetensors").write_bytes(part_of(released()[tag], part))
    codec = load(tag)
    data = codec.compress(astronaut(), 60)
    (project / "public" / "photo.rdc").write_bytes(data)
    subprocess.run(["npx", "vite", "build"], cwd=project, capture_output=True, check=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(project / "dist"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser(tmp_path) as window:
        Thread(target=server.serve_forever, daemon=True).start()
        window.open(f"http://localhost:{server.server_address[1]}/")
        window.wait("window.found", 60)
        found = window.run("return window.found;")
        window.wait("document.querySelector('rdc-img').shadowRoot?.querySelector('canvas').width === 512")
        server.shutdown()
    assert found[:3] == [512, 512, None] and found[4] > 1000
    got = bytes(np.array(found[3], np.uint8).reshape(-1, 4)[:, :3])
    check_pixels(got, codec.decompress(data), read_weights(released()[tag]))
