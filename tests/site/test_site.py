"""The site as files: its data, its links, what `rdc site` refuses."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from rdcodec.cli.main import main
from rdcodec.measure.uncertainty import Interval
from rdcodec.site.build import _lean, board_record, site_files
from rdcodec.site.data.board import Board, conflicts_of, read_board
from rdcodec.store.files import dump_results
from rdcodec.store.records import Provenance, Result

pytest.importorskip("jinja2")
pytest.importorskip("markdown_it")
pytestmark = pytest.mark.xdist_group("site")  # which is made once
ROOT = Path(__file__).parents[2]
CURVE = [(10, 0.1, 28.0), (30, 0.25, 31.0), (50, 0.5, 34.0), (70, 1.0, 37.0)]
MACHINE = {"cpu": "A <CPU>", "cores": 2, "isa": ["avx2"]}
PICTURES = [f"picture{index}.png" for index in range(6)]


def quality(codec: str, factor: float) -> list[Result]:
    """A curve of a codec that needs `factor` as many bytes, on six pictures."""
    source = Provenance("rdcodec", "2026-01-01T00:00:00+00:00", "rdc eval", machine=MACHINE, dataset_sha256="ab" * 32)
    return [
        Result(
            kind="quality",
            codec=codec,
            tag=f"{codec}, version 1",
            dataset="six pictures",
            setting=setting,
            values={"bpp": bpp * factor, "psnr_db": db, "ms_ssim": None, "enc_s": 0.5, "dec_s": 0.25},
            provenance=source,
            rows=tuple(
                {"image": name, "width": 1000, "height": 1000, "bpp": bpp * factor, "psnr_db": db} for name in PICTURES
            ),
        )
        for setting, bpp, db in CURVE
    ]


THREE = [*quality("jpeg", 1.2), *quality("Mine", 0.4), *quality("webp", 1.0)]
RESULTS = [*quality("BPG 4:4:4", 1.0), *quality("Mine </script>", 0.8)]


@pytest.fixture(scope="module")
def board() -> Board:
    return read_board(RESULTS, published=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of made-up results beside the published ones, with the documents of this checkout."""
    folder = tmp_path_factory.mktemp("site")
    docs = ROOT / "docs"
    for address, content in site_files(read_board(RESULTS), docs if docs.is_dir() else None, None, "a stamp"):
        path = folder / address
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), f"{address}: written twice"
        path.write_bytes(content)
    return folder


def test_a_codec_stands_where_its_bytes_put_it(board: Board) -> None:
    mine = next(codec for codec in board.codecs if codec.codec.startswith("Mine"))
    (standing,) = mine.standings
    assert standing.bd_rate == pytest.approx(-20, abs=0.01) and standing.evidence == "file"
    assert standing.rate_at_point == pytest.approx(-20, abs=0.01)
    assert isinstance(standing.bd_interval, Interval)
    assert (standing.bd_interval.low, standing.bd_interval.high) == pytest.approx((-20, -20))
    (speed,) = mine.speeds
    assert (speed.decode, speed.encode) == (4.0, 2.0)  # a megapixel in 0.25 and 0.5 s
    assert [pictures.reference for pictures in board.pictures] == ["BPG 4:4:4"]


def test_speeds_on_clic_are_ways_of_their_own_and_files_come_before_networks() -> None:
    """Later networks alone do not take the place of whole files, nor CLIC's pictures that of Kodak's."""

    def timed(pictures: str, decode: float | None, networks: float, when: str) -> Result:
        values = {"threads": 2, "dtype": "fp32", "decode_mpx_per_s": decode, "decode_networks_mpx_per_s": networks}
        provenance = Provenance("rdcodec", created_utc=when, machine={"cpu": "A CPU", "cores": 2})
        return Result("speed", "Mine", THREE[0].tag, values, provenance, pictures)

    runs = [
        timed("kodak, 1 picture", 3.0, 4.0, "2026-01-01"),
        timed("kodak, 1 picture", None, 5.0, "2026-01-02"),
        timed("clic, 1 picture", 1.0, 2.0, "2026-01-03"),
    ]
    codecs = read_board([*THREE, *runs]).codecs
    mine = next(codec for codec in codecs if codec.codec == "Mine")
    found = {speed.way: (speed.decode, speed.networks_decode, speed.clic) for speed in mine.speeds}
    kodak, clic = (3.0, 4.0, False), (1.0, 2.0, True)
    assert (found["2 threads, torch fp32"], found["2 threads, torch fp32, CLIC"]) == (kodak, clic)
    paper = next(codec for codec in codecs if codec.by == "paper")
    assert sorted(speed.way for speed in paper.speeds if speed.clic) == 2 * ["without entropy coding, CLIC"]


def test_rates_by_a_metric_of_the_eye_are_against_what_was_measured_by_it() -> None:
    """A third of the bits at equal SSIMULACRA 2; a codec without that metric has no figure, and is no reference."""
    shown = [replace(r, values={**r.values, "ssimulacra2": 2 * float(r.values["psnr_db"] or 0)}) for r in THREE[:8]]
    board = read_board([*shown, *THREE[8:]], published=False)
    assert [pictures.eye_reference for pictures in board.pictures] == ["JPEG 4:2:0 optimised (Pillow)"]
    found = {codec.codec: codec.standings[0].bd_rate_eye for codec in board.codecs}
    assert found == {"jpeg": 0.0, "Mine": pytest.approx(-66.67, abs=0.01), "webp": None}
    (row,) = (row for row in board_record(board)["rows"] if row.get("bdeye"))
    assert row["bdeye"] == found["Mine"]


def test_a_classical_codec_is_one_row_by_its_key_and_by_its_label() -> None:
    one = [replace(r, tag="JPEG, a version; 305 bytes for plain grey") for r in quality("jpeg", 1.0)[:3]]
    two = [replace(r, tag="JPEG, a version") for r in quality("JPEG 4:2:0 optimised (Pillow)", 1.0)[3:]]
    (codec,) = read_board([*one, *two], published=False).codecs
    assert codec.name == "JPEG 4:2:0 optimised (Pillow)" and len(codec.standings[0].points) == 4


def test_measurements_that_differ_are_shown_as_such() -> None:
    assert conflicts_of(RESULTS) == {}
    found = conflicts_of([*RESULTS, *quality("BPG 4:4:4", 1.01)])
    assert [key[0] for key in found] == ["BPG 4:4:4"]
    assert "2 measurements: 0.1000 to 0.1010 bpp" in next(iter(found.values()))[0]


def test_the_published_have_costs() -> None:
    codecs = read_board(RESULTS).codecs
    paper = next(codec for codec in codecs if codec.by == "paper" and codec.codec == "A")
    assert paper.kflops_per_px == pytest.approx(1076.4, abs=0.5) and paper.speeds
    assert sum(codec.by == "published" and codec.kflops_per_px is not None for codec in codecs) >= 10


def test_the_scripts_data_is_json(site: Path) -> None:
    for name in ("board", "curves/kodak", "curves/six-pictures"):
        text = (site / "data" / f"{name}.js").read_text(encoding="utf-8")
        assert "</script" not in text
        assert json.loads(text.partition(" = ")[2].rstrip().removesuffix(";"))
    assert len({path.name for path in (site / "codecs").iterdir()}) == len(list((site / "codecs").iterdir()))


class Links(HTMLParser):
    """What a page refers to, and the ids it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {key: value for key, value in attributes if value is not None}
        if "id" in known:
            self.ids.append(known["id"])
        address = known.get("href") if tag in ("a", "link") else known.get("src")
        if address is not None:
            (self.links if tag == "a" else self.loads).append(address)


def pages(site: Path) -> Iterator[tuple[Path, Links]]:
    for path in sorted(site.rglob("*.html")):
        yield path, Links(path.read_text(encoding="utf-8"))


def test_no_link_is_dead_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = dict(pages(site))
    assert len(found) > 100
    dead = []
    for path, page in found.items():
        assert len(page.ids) == len(set(page.ids)), f"{path}: an id twice"
        assert [address for address in page.loads if re.match(r"(\w+:)?//", address)] == []
        for address in (*page.links, *page.loads):
            if re.match(r"[a-z]+:", address):
                continue
            name, anchor = urldefrag(address)
            target = (path.parent / unquote(name)).resolve() if name else path
            if not target.is_file() or (
                anchor and target in found and "=" not in anchor and anchor not in found[target].ids
            ):
                dead.append(f"{path.relative_to(site)}: {address}")
    assert dead == []
    for path in (site / "assets").glob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:\w+:)?//", path.read_text(encoding="utf-8"))


def test_it_is_small(site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 4_500_000


LETTER = '<use xlink:href="#DejaVuSans{}"{}/>'


def test_letters_of_figures_become_text() -> None:
    def figure(said: str, uses: str) -> bytes:
        letters = f'<g style="fill: #444444" transform="translate(1 2) scale(0.09 -0.09)">\n{uses}</g>'
        return f"<svg><style>*{{}}</style><g>\n<!-- {said} -->\n{letters}</g></svg>".encode()

    two = LETTER.format("-Bold-1", "") + LETTER.format("-Bold-2", ' transform="translate(63.625 0)"')
    text = _lean(figure("&amp;: fi", two + LETTER.format("-Bold-3", ' transform="translate(95 0)"')))
    assert b"<use" in text  # four signs, three letters: left as it is
    text = _lean(figure("a: fi", two + two))
    assert text.endswith(
        b'<text style="fill:#444444" font-weight="700" transform="translate(1 2) scale(0.09)"'
        b' x="0 64 0 64 99">a: fi</text></g></svg>'
    )


def test_vendored_files_have_their_licences() -> None:
    folder = ROOT / "src" / "rdcodec" / "site" / "assets" / "vendor"
    text = (folder / "LICENSES.txt").read_text(encoding="utf-8")
    assert [path.name for path in folder.iterdir() if path.suffix != ".txt" and path.name not in text] == []


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, out = tmp_path / "results.json", tmp_path / "out"
    results.write_text(dump_results(RESULTS), encoding="utf-8")
    docs = tmp_path / "docs"
    docs.mkdir()
    asked = ["site", str(results), "-o", str(out), "--docs", str(docs), "--no-published"]
    assert main(asked) == 0
    assert (out / "index.html").is_file()
    assert main(asked) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*asked, "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["site", "nothing.json"], 2, "name a folder with -o"),
        (["site", "-o", "out"], 2, "give result files"),
        (["site", "nothing.json", "-o", "out"], 1, "nothing.json"),
        (["site", "empty.json", "-o", "out"], 3, "holds no result of quality or speed"),
        (["site", "damaged.json", "-o", "out"], 3, "results[0].values.bpp"),
        (["site", "empty.json", "-o", "mine"], 2, "is not empty: name an empty one"),
    ],
)
def test_what_it_refuses(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RDC_STORE", raising=False)
    Path("empty.json").write_text(dump_results([]), encoding="utf-8")
    Path("damaged.json").write_text(dump_results(RESULTS).replace('"bpp": 0.1', '"bpp": "x"', 1), encoding="utf-8")
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years", encoding="utf-8")
    assert main([*arguments, *(["--force"] if "mine" in arguments else [])]) == code
    assert words in capsys.readouterr().err
    assert not Path("out").exists() and Path("mine/thesis.txt").read_text(encoding="utf-8") == "years"
