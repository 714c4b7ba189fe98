"""The page of `rdc web` and what it is made of, in Chromium."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import CHROMIUM, DRIVER, Browser, browser, served
from rdcodec.cli.main import main
from rdcodec.codec import api
from rdcodec.codec.pipeline import load
from rdcodec.models.weights import released

pytestmark = [
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no chromium, or no chromedriver"),
    pytest.mark.skipif("J.3" not in released(), reason="weights of J are not in this checkout"),
]
ASTRONAUT = Path(__file__).parents[1] / "src" / "rdcodec" / "data" / "astronaut.png"
DONE = "document.getElementById('status').textContent.includes('bytes')"
FAILED = "!document.getElementById('error').hidden"
WORDS = "return document.getElementById('error').textContent;"
PIXELS = "const hex = (a) => { let t = ''; for (const b of a) t += String.fromCharCode(b); return btoa(t); };"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    command = (sys.executable, "-u", "-m", "rdcodec", "web", "--port", "0")
    with served(*command) as (address, _), browser(tmp_path_factory.mktemp("chromium")) as opened:
        opened.open(address)
        yield opened, address


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(ASTRONAUT) as image:
        return np.asarray(image.convert("RGB"))[60:207, 150:343]


def bytes_of(text: str) -> bytes:
    return base64.b64decode(text)


def test_decode_and_encode(page: tuple[Browser, str], photo: np.ndarray) -> None:
    """Both ways, with alpha and profile: symbols exactly, pixels within the promise."""
    window, _ = page
    codec = load("J.3")
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
    assert found[2:] == [True, "J.3", 40]
    got = np.frombuffer(bytes_of(found[0]), np.uint8).reshape(*photo.shape[:2], 4)
    expected = api.decompress(data)
    off = np.abs(got.astype(int) - expected)
    assert off.max() <= 2 and np.mean(off > 1) <= 0.001 and not off[..., 3].any()
    again = api.decompress(bytes_of(found[1]))
    assert (again[..., 3] == alpha).all()
    ours = codec.decompress(codec.compress(got[..., :3], 40))
    errors = [np.mean((got[..., :3].astype(float) - other) ** 2) for other in (again[..., :3], ours)]
    assert errors[0] < 1.02 * errors[1] + 0.1


def test_errors_in_words(page: tuple[Browser, str]) -> None:
    window, _ = page
    told = window.run(
        """const api = await import('./index.js');
        const tell = (promise) => promise.then(() => 'no error', (e) => `${e.name}: ${e.message}`);
        const good = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));
        const bad = good.slice(); bad[bad.length - 9] ^= 1;
        const weights = 'weights/';
        return [
          await tell(api.decode(bad, { weights })),
          await tell(api.decode(new Uint8Array(9), { weights })),
          await tell(api.decode(good, { weights, maxPixels: 4 })),
          await tell(api.decode(good, { weights: 'elsewhere/' })),
          await tell(api.encode(new ImageData(2, 2), { weights, model: 'Z' })),
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
        assert [row[0] for row in rows[:1]] == ["rdcodec J.3"]
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
    assert (tmp_path / "index.html").is_file() and (tmp_path / "weights" / "J.3.encoder.safetensors").is_file()


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
