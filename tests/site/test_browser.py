"""The site in Chromium, from file://: no page complains, and a reader's choices work and stay in the link."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CHROMIUM, DRIVER, Browser, browser
from rdcodec.site.build import site_files
from rdcodec.site.data.board import read_board

pytestmark = [
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no chromium, or no chromedriver"),
    pytest.mark.xdist_group("site in a browser"),  # which starts once
]
pytest.importorskip("jinja2")
pytest.importorskip("markdown_it")
RESULTS = Path(__file__).parents[2] / "docs" / "results"
NAMES = "return [...document.querySelectorAll('#board td.name a')].map((a) => a.textContent);"
HEAD = "document.querySelector('[data-sort=kflops]')"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from rdcodec.measure.reading import read_results

    folder = tmp_path_factory.mktemp("site")
    results = [
        result
        for name in ("kodak-I", "clic-I", "clic-x265_444", "speed-kodak")
        if (RESULTS / f"{name}.json").is_file()
        for result in read_results(RESULTS / f"{name}.json")
    ]
    docs = RESULTS.parent
    for address, content in site_files(read_board(results), docs if docs.is_dir() else None, None, "a stamp"):
        path = folder / address
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def test_no_page_complains_or_is_too_wide(site: Path, window: Browser) -> None:
    codecs, machines = (sorted((site / folder).glob("*.html")) for folder in ("codecs", "machines"))
    some = [
        *sorted(site.glob("*.html")),
        *codecs[:: len(codecs) // 5],
        *machines,
        *sorted((site / "docs").glob("*.html")),
    ]
    for path in some:
        window.open(path.as_uri())
        for width in (360, 1440):
            window.devtools(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
            )
            wide = window.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth;")
            assert wide <= 0, f"{path.name}: {wide} pixels too wide on {width}"
        assert window.complaints() == [], path.name


def test_sorting_is_kept_in_the_link(site: Path, window: Browser) -> None:
    address = (site / "index.html").as_uri()
    window.open("about:blank")
    window.open(address)
    before = window.run(NAMES)
    window.run(f"{HEAD}.focus(); {HEAD}.click();")
    after = window.run(NAMES)
    assert sorted(before) == sorted(after) and before != after
    assert window.run(f"return [document.activeElement === {HEAD}, {HEAD}.closest('th').ariaSort];") == [
        True,
        "ascending",
    ]
    link = window.run("return location.href;")
    assert "sort=kflops" in link
    window.open("about:blank")
    window.open(link)
    assert window.run(NAMES) == after


def test_intervals_that_overlap_are_ties(site: Path, window: Browser) -> None:
    window.open("about:blank")
    window.open((site / "index.html").as_uri())
    found = window.run(
        "const column = { key: 'bd', better: 'low', value: (row) => row.bd, text: (value) => value.toFixed(1) };"
        "const rows = [[-9, -10, -8], [-8.5, -9, -7], [3, 2, 4], [5, null, null], [5.01, null, null], [null]];"
        "return Bench.ranks(rows.map(([bd, bd_low, bd_high]) => ({ bd, bd_low, bd_high })), column, '');"
    )
    assert found == ["1=", "1=", "3", "4=", "4=", ""]


def test_the_fastest_way_of_a_machine_is_of_one_picture_size(site: Path, window: Browser) -> None:
    """CLIC's larger pictures count where nothing else was timed, or where they are asked for."""
    window.open("about:blank")
    window.open((site / "index.html").as_uri())
    found = window.run(
        "const speed = Bench.COLUMNS.find((one) => one.key === 'netdecode').value;"
        "const clic = { machine: 'm', way: 'CLIC', netdecode: 9, clic: true };"
        "const both = { codec: { speeds: [clic, { machine: 'm', way: 'Kodak', netdecode: 3 }] } };"
        "return [speed(both, 'm'), speed(both, 'm|CLIC'), speed({ codec: { speeds: [clic] } }, 'm')];"
    )
    assert found == [3, 9, 9]


def test_filters_and_columns(site: Path, window: Browser) -> None:
    window.open("about:blank")
    window.open((site / "index.html").as_uri() + "#find=paper&columns=kflops")
    names = window.run(NAMES)
    assert names and all("paper" in name for name in names)
    assert window.run("return [...document.querySelectorAll('[data-sort]')].map((b) => b.dataset.sort);") == [
        "name",
        "kflops",
    ]
    window.run("document.querySelector('[data-kind=paper]').click();")
    assert window.run(NAMES) == []
    assert window.run("return document.activeElement.dataset.kind;") == "paper"
    window.run("location.hash = '';")
    window.wait("document.querySelectorAll('#board td.name a').length > 5", 10)


def test_the_keyboard_alone(site: Path, window: Browser) -> None:
    """Tab reaches the skip link first, then Enter on a heading sorts."""
    window.open("about:blank")
    window.open((site / "index.html").as_uri())

    def press(key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            window.devtools(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )

    press("Tab", 9)
    assert window.run("return document.activeElement.className;") == "skip"
    window.run(f"{HEAD}.focus();")
    press("Enter", 13, "\r")
    assert "sort=kflops" in window.run("return location.hash;")


def test_search_finds_a_document(site: Path, window: Browser) -> None:
    window.open((site / "docs" / "index.html").as_uri())
    window.run(
        "const box = document.querySelector('input[type=search]'); box.value = 'rANS';"
        "box.dispatchEvent(new Event('input', { bubbles: true }));"
    )
    window.wait("[...document.querySelectorAll('main a')].some((a) => a.href.includes('format.html#'))", 10)
