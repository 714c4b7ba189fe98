"""The page of `rdc web` and what it is made of, in Chromium and in Firefox."""

import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser import CHROMIUM, DRIVER, FIREFOX, Browser, Chromium, browser, firefox, served
from promise import check_pixels
from rdcodec.cli.main import main
from rdcodec.codec import api
from rdcodec.codec.pipeline import Codec, load
from rdcodec.models.weights import read_weights, released

pytestmark = [
    pytest.mark.skipif("J.6" not in released(), reason="weights of J are not in this checkout"),
    pytest.mark.xdist_group("page"),  # the browser starts once
]
GOLDEN = Path(__file__).parent / "golden" / "Golden-pixels.1.safetensors"
ASTRONAUT = Path(__file__).parents[1] / "src" / "rdcodec" / "data" / "astronaut.png"
README = Path(__file__).parents[1] / "web" / "README.md"
TAB, ENTER, LEFT, RIGHT, HOME, UP = "\ue004", "\ue007", "\ue012", "\ue014", "\ue011", "\ue013"
DONE = "document.getElementById('status').textContent.includes('bytes')"
FAILED = "!document.getElementById('error').hidden"
WORDS = "return document.getElementById('error').textContent;"
PIXELS = "const hex = (a) => { let t = ''; for (const b of a) t += String.fromCharCode(b); return btoa(t); };"

DAMAGED = """const api = await import('./index.js'), { pack, unpack } = await import('./container.js');
let seed = given[1];
const random = () => { seed ^= seed << 13; seed ^= seed >>> 17; seed ^= seed << 5; return (seed >>> 0) / 2 ** 32; };
const good = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0)), { header, stream } = unpack(good);
const decode = (data) => api.decode(data, { weights: 'weights/' });
const expected = String((await decode(good)).data), words = new Set();
let decoded = 0;
for (let k = 0; k < given[2]; k++) {
  const wrong = (k % 2 ? stream : good).slice();
  for (let left = 1 + Math.floor(random() * 3); left > 0; left--)
    wrong[Math.floor(random() * wrong.length)] ^= 1 << Math.floor(random() * 8);
  const cut = k % 5 ? wrong : wrong.slice(0, Math.floor(random() * wrong.length));
  const damaged = k % 2 ? pack(header, cut) : cut; // every other one with right checksums around it
  await decode(damaged).then(() => decoded++, (error) => words.add(`${error.name}: ${error.message}`));
  if (String((await decode(good)).data) !== expected) throw new Error(`after ${k}: another picture`);
}
return [[...words], decoded];"""


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.slow)])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    is_here, opened_by = {
        "chromium": (CHROMIUM and DRIVER, browser),
        "firefox": (FIREFOX, firefox),
    }[request.param]
    if not is_here:
        pytest.skip(f"no {request.param}, or not its driver")
    command = (sys.executable, "-u", "-m", "rdcodec", "web", "--port", "0")
    with served(*command) as (address, _), opened_by(tmp_path_factory.mktemp("browser")) as opened:
        opened.open(address)
        yield opened, address


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(ASTRONAUT) as image:
        return np.asarray(image.convert("RGB"))[:300, 150:343]


def bytes_of(text: str) -> bytes:
    return base64.b64decode(text)


def test_decode_and_encode(page: tuple[Browser, str], photo: np.ndarray) -> None:
    """Both ways, with alpha and profile: symbols exactly, pixels as promised."""
    window, _ = page
    codec = load("J.6")
    alpha = np.linspace(0, 255, photo.shape[1]).astype(np.uint8)[None].repeat(len(photo), 0)
    data = api.compress(np.dstack([photo, alpha]), model="J", quality=40)
    found = window.run(
        f"""{PIXELS} const api = await import('./index.js');
        const data = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
        const image = await api.decode(data, {{ weights: 'weights/' }});
        const coded = await api.encode(image, {{ weights: 'weights/', model: 'J', quality: 40 }});
        const {{ hasAlpha, tag, quality }} = api.info(coded);
        return [hex(image.data), hex(coded), hasAlpha, tag, quality];""",
        base64.b64encode(data).decode(),
    )
    assert found[2:] == [True, "J.6", 40]
    got = np.frombuffer(bytes_of(found[0]), np.uint8).reshape(*photo.shape[:2], 4)
    expected = api.decompress(data)
    check_pixels(got.tobytes(), expected, read_weights(released()["J.4"]))
    assert (got[..., 3] == expected[..., 3]).all()
    again = api.decompress(bytes_of(found[1]))
    assert (again[..., 3] == alpha).all()
    ours = codec.decompress(codec.compress(got[..., :3], 40))
    errors = [np.mean((got[..., :3].astype(float) - other) ** 2) for other in (again[..., :3], ours)]
    assert errors[0] < 1.02 * errors[1] + 0.1


def test_a_synthesis_on_integers_makes_the_pixels_of_the_core(page: tuple[Browser, str], photo: np.ndarray) -> None:
    """Of its own files as of the core's; the picture is high enough for helpers to draw strips of it."""
    window, _ = page
    weights = read_weights(GOLDEN)
    codec = Codec(weights)
    data = codec.compress(photo, 40.3)
    decoded, coded, again = window.run(
        f"""{PIXELS} const api = await import('./index.js');
        const [data, weights] = given.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
        const image = await api.decode(data, {{ weights }}), {{ quality, tag }} = api.info(data);
        const coded = await api.encode(image, {{ weights, quality, model: tag }});
        return [hex(image.data), hex(coded), hex((await api.decode(coded, {{ weights }})).data)];""",
        *(base64.b64encode(part).decode() for part in (data, GOLDEN.read_bytes())),
    )
    for file, rgba in ((data, bytes_of(decoded)), (bytes_of(coded), bytes_of(again))):
        check_pixels(np.frombuffer(rgba, np.uint8).reshape(-1, 4)[:, :3].tobytes(), codec.decompress(file), weights)


def test_errors_in_words(page: tuple[Browser, str]) -> None:
    window, _ = page
    told = window.run(
        """const api = await import('./index.js');
        const tell = (promise) => promise.then(() => 'no error', (e) => `${e.name}: ${e.message}`);
        const good = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
        const bad = good.slice(); bad[bad.length - 9] ^= 1;
        const weights = 'weights/', square = { width: 2, height: 2, data: new Uint8ClampedArray(16) };
        return [
          await tell(api.decode(bad, { weights })),
          await tell(api.decode(new Uint8Array(9), { weights })),
          await tell(api.decode(good, { weights, maxPixels: 4 })),
          await tell(api.decode(good, { weights: 'elsewhere/' })),
          await tell(api.encode(new ImageData(2, 2), { weights, model: 'Z' })),
          await tell(api.encode({ ...square, colorSpace: 'display-p3' }, { weights })),
          (await api.decode(good, { weights })).width,
        ];""",
        base64.b64encode(api.compress(np.zeros((5, 7, 3), np.uint8), model="J")).decode(),
    )
    for words, expected in zip(
        told,
        (
            "BadInput: damaged",
            "BadInput: not an",
            "BadInput: 7 × 5 pixels",
            "NeedsModel: weights could",
            "NeedsModel: no w",
            "RdcError: samples in another colour space",
        ),
        strict=False,
    ):
        assert words.startswith(expected)
    assert told[-1] == 7
    assert all("elsewhere" in line for line in window.complaints())  # the 404 that was asked for


def test_the_element(page: tuple[Browser, str]) -> None:
    """Width and height first, alt for readers, and the slot where a picture cannot be shown."""
    window, _ = page
    found = window.run(
        """await import('./element.js');
        const show = (src) => new Promise((done) => {
          const made = document.createElement('rdc-img');
          made.innerHTML = '<b>instead</b>';
          for (const name of ['load', 'error']) made.addEventListener(name, () => done([name, made]));
          made.setAttribute('alt', 'a square');
          made.setAttribute('src', src);
          document.body.prepend(made);
        });
        const [first, image] = await show('data:application/octet-stream;base64,' + given[0]);
        const canvas = image.shadowRoot.querySelector('canvas');
        const [second, broken] = await show('style.css');
        const slot = getComputedStyle(broken.shadowRoot.querySelector('slot')).display;
        const seen = [first, canvas.width, canvas.height, canvas.getAttribute('aria-label'), second, slot];
        image.remove(); broken.remove();
        return seen;""",
        base64.b64encode(api.compress(np.zeros((5, 7, 3), np.uint8), model="J")).decode(),
    )
    assert found == ["load", 7, 5, "a square", "error", "block"]


def test_the_element_drops_what_it_was_asked_for_before(page: tuple[Browser, str]) -> None:
    """A slow picture that comes when another is asked for, or none, is not shown."""
    window, _ = page
    found = window.run(
        """const api = await import('./index.js');
        await import('./element.js');
        const data = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0)), real = window.fetch, made = [];
        let answer;
        window.fetch = (url, options) =>
          url === 'slow' ? new Promise((done) => { answer = () => done(new Response(data)); }) : real(url, options);
        try {
          for (const next of ['other', undefined]) {
            const image = document.createElement('rdc-img');
            image.addEventListener('load', () => made.push('load'));
            image.setAttribute('src', 'slow');
            answer = undefined;
            document.body.prepend(image);
            while (!answer) await new Promise((done) => setTimeout(done, 10));
            image.style.display = 'none'; // what comes next is not seen, so it does not load
            if (next) image.setAttribute('src', next);
            else image.removeAttribute('src');
            answer();
            await new Promise((done) => setTimeout(done, 100));
            await api.decode(data, { weights: 'weights/' }); // the worker has done all that it was asked before
            made.push(image.shadowRoot.querySelector('canvas').width === 7);
            image.remove();
          }
        } finally {
          window.fetch = real;
        }
        return made;""",
        base64.b64encode(api.compress(np.zeros((5, 7, 3), np.uint8), model="J")).decode(),
    )
    assert found == [False, False]


NAMED = {"button", "combobox", "group", "image", "link", "progressbar", "region", "slider", "spinbutton", "table"}


def tree(window: Chromium) -> list[tuple[str, str, dict[str, Any]]]:
    """What a screen reader is given: role, name and properties of each node."""
    nodes = window.devtools("Accessibility.getFullAXTree")["nodes"]
    return [
        (
            node["role"]["value"],
            node.get("name", {}).get("value", ""),
            {entry["name"]: entry["value"].get("value") for entry in node.get("properties", [])},
        )
        for node in nodes
        if not node["ignored"]
    ]


def test_what_a_screen_reader_is_given(page: tuple[Browser, str], tmp_path: Path) -> None:
    """Each control with role and name, the split in words; progress and errors are announced."""
    window, address = page
    if not isinstance(window, Chromium):
        pytest.skip("only Chromium tells its accessibility tree")
    window.open(address)
    window.run(
        """window.said = [];
        const note = () => said.push(document.getElementById('status').textContent);
        new MutationObserver(note).observe(document.getElementById('status'), { childList: true, subtree: true });
        document.getElementById('model').value = 'J'; document.getElementById('sample').click();"""
    )
    window.wait(DONE)
    window.run("document.getElementById('progress').hidden = false;")
    nodes = tree(window)
    assert {role for role, _, _ in nodes} >= NAMED
    assert [(role, name) for role, name, _ in nodes if role in NAMED and not name.strip()] == []
    assert ("slider", "Left: original. Right: rdcodec J.6. Move where they meet:") in [node[:2] for node in nodes]
    split = window.run("return document.getElementById('split').getAttribute('aria-valuetext');")
    assert split == "50 % original, the rest rdcodec J.6"
    assert [told["live"] for role, _, told in nodes if role == "status" and told.get("live")] == ["polite"]
    said = window.run("return window.said;")
    assert any(words.startswith("Compressing sample.png") for words in said) and "bytes" in said[-1]
    (tmp_path / "bad.rdc").write_bytes(b"nothing")
    window.choose("#file", tmp_path / "bad.rdc")
    window.wait(FAILED)
    (alert,) = [told for role, _, told in tree(window) if role == "alert"]
    assert alert["live"] == "assertive" and "no picture" in window.run(WORDS)


def test_what_a_screen_reader_is_given_of_the_element(page: tuple[Browser, str]) -> None:
    """As of <img>: its words, also where it fails; nothing of decoration."""
    window, address = page
    if not isinstance(window, Chromium):
        pytest.skip("only Chromium tells its accessibility tree")
    window.open(address)
    window.run(
        """await import('./element.js');
        for (const [src, alt] of [[given[0], 'a square'], [given[0], ''], ['style.css', 'not there']]) {
          const made = document.createElement('rdc-img');
          made.setAttribute('alt', alt);
          made.setAttribute('src', src);
          const done = new Promise((done) => ['load', 'error'].forEach((name) => made.addEventListener(name, done)));
          document.body.prepend(made);
          await done;
        }""",
        "data:application/octet-stream;base64,"
        + base64.b64encode(api.compress(np.zeros((5, 7, 3), np.uint8), model="J")).decode(),
    )
    nodes = [(role, name) for role, name, _ in tree(window)]
    assert [name for role, name in nodes if role == "image"] == ["a square"]
    assert ("StaticText", "not there") in nodes


def test_the_page(page: tuple[Browser, str], photo: np.ndarray, tmp_path: Path) -> None:
    """A photograph is compressed beside others, a file is shown, damage is told; all of it without a server too."""
    with served(sys.executable, "-u", "-m", "rdcodec", "web", "--port", "0") as (address, server):
        window, _ = page
        window.open(address)
        Image.fromarray(photo).save(tmp_path / "photo.png")
        window.run("document.getElementById('model').value = 'J';")
        window.choose("#file", tmp_path / "photo.png")
        window.wait(DONE)
        rows = window.run("return [...document.querySelectorAll('#rows tr')].map((row) => row.innerText.split('\\t'));")
        assert [row[0] for row in rows[:1]] == ["rdcodec J.6"]
        assert all(int(row[1].replace(",", "")) <= int(rows[0][1].replace(",", "")) for row in rows)
        assert float(rows[0][3]) > 25
        data = api.compress(photo, model="J", quality=30)
        (tmp_path / "good.rdc").write_bytes(data)
        (tmp_path / "bad.rdc").write_bytes(data[:-3])
        window.choose("#file", tmp_path / "bad.rdc")
        window.wait(FAILED)
        assert "cut off" in window.run(WORDS)
        window.run("await navigator.serviceWorker.ready;")
        assert window.complaints() == []

        server.terminate()
        server.wait(10)
        window.open(address)
        window.choose("#file", tmp_path / "good.rdc")
        window.wait(f"{DONE} || {FAILED}")
        assert window.run(WORDS) == ""
        assert window.run("return document.getElementById('right-side').width;") == photo.shape[1]


def test_the_page_can_be_written_as_files(tmp_path: Path) -> None:
    assert main(["web", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").is_file() and (tmp_path / "weights" / "J.6.encoder.safetensors").is_file()


def test_the_sample(page: tuple[Browser, str]) -> None:
    """A photograph for those who have none at hand, coded and beside the browser's own encoders."""
    window, address = page
    window.open(address)
    window.run("document.getElementById('model').value = 'J'; document.getElementById('sample').click();")
    window.wait(DONE)
    rows = window.run(
        "return [...document.querySelectorAll('#rows th, #rows td:first-child')].map((c) => c.textContent);"
    )
    assert rows[0].startswith("rdcodec J.") and "JPEG" in rows


@pytest.mark.slow
def test_damaged_files_leave_the_worker_as_it_was(page: tuple[Browser, str], photo: np.ndarray) -> None:
    """Each is an error in words of the worker, which goes on with the good file."""
    window, address = page
    window.open(address)
    data = api.compress(photo[:48, :64], model="J", quality=50)
    count = int(os.environ.get("RDCODEC_MUTATIONS", "1000"))
    words: set[str] = set()
    decoded = 0
    for seed in range(0, count, 250):
        found, more = window.run(DAMAGED, base64.b64encode(data).decode(), seed + 1, min(250, count - seed))
        words.update(found)
        decoded += more
    assert decoded <= count // 1000  # bits that cancel one another
    assert all(line.startswith("BadInput: ") for line in words), words
    assert any("the coded stream is damaged" in line for line in words)
    assert window.complaints() == []


def with_profile(photo: np.ndarray) -> tuple[bytes, bytes]:
    """A file with a colour profile, and that profile."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(photo)
    picture.info["icc_profile"] = profile
    return api.compress(picture, model="J", quality=40), profile


def test_the_example_of_the_readme(page: tuple[Browser, str], photo: np.ndarray) -> None:
    """As it stands there, but for where the module and the photograph are."""
    window, address = page
    window.open(address)
    example = README.read_text().split("```ts\n")[1].split("```")[0]
    names = example.split("import ")[1].split(" from")[0]
    example = example.split(";\n", 1)[1].replace('"photo.rdc"', "given[0]")
    data, profile = with_profile(photo)
    found = window.run(
        f"""{PIXELS} const {names} = await import('./index.js'); {example}
        return [width, height, hex(icc), hex(image.icc), image.width, hex(again), info(again).tag];""",
        f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}",
    )
    assert found[:2] == [photo.shape[1], photo.shape[0]] and found[4] == photo.shape[1]
    assert bytes_of(found[2]) == bytes_of(found[3]) == profile
    assert api.decompress(bytes_of(found[5])).shape == photo.shape
    assert found[6].startswith("I.")


def test_a_saved_png_has_samples_and_profile(page: tuple[Browser, str], photo: np.ndarray, tmp_path: Path) -> None:
    window, address = page
    window.open(address)
    data, profile = with_profile(photo)
    (tmp_path / "profiled.rdc").write_bytes(data)
    window.choose("#file", tmp_path / "profiled.rdc")
    window.wait(DONE)
    window.run("document.getElementById('save-png').click();")
    saved = tmp_path / "saved.png"
    saved.write_bytes(window.saved("profiled.png"))
    with Image.open(saved) as image:
        assert image.info["icc_profile"] == profile
        rgb = np.asarray(image)[..., :3]
    check_pixels(rgb.tobytes(), api.decompress(data), read_weights(released()["J.4"]))


def test_with_the_keyboard_alone(page: tuple[Browser, str]) -> None:
    """From the first control to the last: all that the page can do, each control with a name."""
    window, address = page
    window.open(address)
    window.run("document.getElementById('model').value = 'J';")

    def tab(name: str) -> None:
        window.press(TAB)
        assert window.run("return document.activeElement.id;") == name
        ring = window.run("const style = getComputedStyle(document.activeElement); return style.outlineStyle;")
        assert ring == "solid" or name == "file"  # its label has the ring
        assert window.run(
            "const at = document.activeElement;"
            "return Boolean(at.labels?.[0]?.innerText.trim() || at.ariaLabel || at.innerText.trim());"
        )

    tab("file")
    assert window.run("return getComputedStyle(document.querySelector('label[for=file]')).outlineStyle;") == "solid"
    tab("sample")
    window.press(ENTER)
    window.wait(DONE)
    first = told(window)
    tab("model")
    tab("quality")
    window.press(LEFT)
    window.wait(f"{DONE} && document.getElementById('status').textContent !== {first!r}")
    assert "quality 49" in told(window)
    tab("size")
    window.press("6", ENTER)
    window.wait(f"{DONE} && !document.getElementById('status').textContent.includes('quality 49')")
    tab("left")
    window.press("W")
    assert window.run("return document.getElementById('left-side').ariaLabel;") == "WebP"
    tab("zoom")
    window.press("4")
    assert window.run("return document.getElementById('zoom').value;") == "4"
    tab("save-rdc")
    window.press(ENTER)
    assert len(window.saved("sample.rdc")) <= 6000
    tab("save-png")
    window.press(ENTER)
    assert window.saved("sample.png")[1:4] == b"PNG"
    tab("scroll")
    before = window.run("return document.getElementById('scroll').scrollTop;")
    window.press(UP, UP, UP)
    window.wait(f"document.getElementById('scroll').scrollTop < {before}")
    tab("split")
    window.press(HOME, RIGHT)
    assert window.run("return document.getElementById('left-side').style.clipPath;").startswith("inset(0px 99.5%")
    assert window.run("return document.getElementById('split').ariaValueText;").startswith("0.5 % WebP")


def told(window: Browser) -> str:
    """What a screen reader was told last."""
    assert window.run("return document.getElementById('status').ariaLive;") == "polite"
    return str(window.run("return document.getElementById('status').textContent;"))
