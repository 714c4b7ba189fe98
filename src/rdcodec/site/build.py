"""The whole site as files: data for the scripts, pages, assets, documents."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

from rdcodec.errors import NeedsModel
from rdcodec.metrics import CURVES
from rdcodec.site.data.board import Board, Codec, Pictures, Standing
from rdcodec.site.data.machines import Speed
from rdcodec.site.pages.documents import Document, read_documents
from rdcodec.site.pages.render import Pages, script_json
from rdcodec.site.pictures import Shots

ASSETS = Path(__file__).parent / "assets"
EVALUATED = "files by rdc eval"
REFERENCE_POINTS = 40
PLACES, DIGITS = re.compile(rb' (?:d|x|y)="[^"]*"|translate\([^)]*\)'), re.compile(rb"(\.\d\d)\d+")
LETTERS = re.compile(
    rb'<!-- (?P<text>[^\n]*?) -->\s*<g(?P<style> style="[^"]*")?'
    rb' transform="(?P<place>translate\([^)]*\)(?: rotate\([^)]*\))?)'
    rb' scale\((?P<size>[\d.]+) -(?P=size)\)">\s*(?:<defs>.*?</defs>\s*)?(?P<uses>(?:<use [^>]*/>\s*)+)</g>',
    re.DOTALL,
)
SIGNS, F_WIDTH = re.compile("ffi|ffl|ff|fi|fl|."), 35.2
"""The font's ligatures and single letters; hundredths of an em to the next letter of a ligature."""
FIRST, ADVANCES = re.compile(rb'(<use xlink:href="[^"]*")/>'), re.compile(rb"translate\(([-\d.]+)")
STYLES = re.compile(rb' style="[^"]*"')
STEPS = re.compile(rb"\s*([MLCQz])\s*")
ASIDES, INDENTS = (
    re.compile(rb"<!-- .*? -->|<!DOCTYPE.*?>|<[?]xml.*?>|<metadata>.*?</metadata>|(?<=<g) id=\"[^\"]*\"", re.DOTALL),
    re.compile(rb"\s*\n\s*"),
)


def site_files(
    board: Board, documents: Path | None, shots: Shots | None, stamp: str, web: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Address and content of every file of the site, one at a time.

    documents: a folder of Markdown pages, None for none; stamp: when and with what it was made; web: the codec's
    own page is going to stand in the folder web. Raises NeedsModel where
    a library of the extra `site` is missing.
    """
    try:
        read = read_documents(documents) if documents else []
        pages = Pages(board, read, shots.values if shots else None, stamp, web)
    except ModuleNotFoundError as error:
        raise NeedsModel(f"the site needs {error.name}, which is not installed: pip install 'rdcodec[site]'") from error
    yield from _assets()
    yield "data/board.js", f"const BOARD = {script_json(board_record(board))};\n".encode()
    for pictures in board.pictures:
        name, points = script_json(pictures.slug), script_json(curves_record(board, pictures.slug))
        yield f"data/curves/{pictures.slug}.js", f"CURVES[{name}] = {points};\n".encode()
    yield "index.html", pages.leaderboard()
    for name, title in (
        ("frontier", "The frontier"),
        ("ranks", "Rank against rank"),
        ("curves", "Rate and distortion"),
    ):
        yield f"{name}.html", pages.plain(name, title)
    references = _references(board)
    for codec in board.codecs:
        yield f"codecs/{codec.slug}.html", pages.codec(codec, references)
    yield "machines.html", pages.machines()
    for machine in board.machines:
        yield f"machines/{machine.slug}.html", pages.machine(machine)
    if shots:
        yield "pictures.html", pages.pictures()
        yield from shots.files.items()
    yield from _documents(pages, read)


def _assets() -> Iterator[tuple[str, bytes]]:
    for path in sorted(ASSETS.rglob("*")):
        if path.is_file():
            yield f"assets/{path.relative_to(ASSETS).as_posix()}", path.read_bytes()


def _documents(pages: Pages, documents: Sequence[Document]) -> Iterator[tuple[str, bytes]]:
    if not documents:
        return
    yield "docs/index.html", pages.document_list()
    sections = [section for document in documents for section in document.sections]
    yield "data/sections.js", f"const SECTIONS = {script_json(sections)};\n".encode()
    files: dict[str, Path] = {}
    for document in documents:
        yield document.address, pages.document(document)
        files |= document.files
    for address, path in files.items():
        content = path.read_bytes()
        yield address, _lean(content) if path.suffix == ".svg" else content


def _lean(svg: bytes) -> bytes:
    """A figure in fewer bytes, the same to see: letters as text in place of outlines, places to a hundredth of a point,
    no indents and comments."""
    short = _with_text(svg)
    short = PLACES.sub(lambda places: STEPS.sub(rb"\1", DIGITS.sub(rb"\1", places[0])), short)
    short = STYLES.sub(lambda style: style[0].replace(b": ", b":").replace(b"; ", b";"), short)
    short = short.replace(b"xlink:href", b"href")
    return INDENTS.sub(b"\n", ASIDES.sub(b"", short)).strip()


def _with_text(svg: bytes) -> bytes:
    """A figure of matplotlib whose letters are text, each at its place, so that any font of a browser fits.

    A figure with other letters (formulas) stays as it is.
    """
    texted = LETTERS.sub(_text, svg)
    if b'"#DejaVu' in texted:
        return svg
    font = b"text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:100px}</style>"
    return texted.replace(b"</style>", font, 1)


def _text(match: re.Match[bytes]) -> bytes:
    said, style, place, size, uses = match["text"], match["style"] or b"", match["place"], match["size"], match["uses"]
    letters = unescape(said.decode())
    signs = SIGNS.findall(letters)
    places = [float(x) for x in ADVANCES.findall(FIRST.sub(rb'\1 transform="translate(0 0)"/>', uses))]
    if len(places) != len(signs):
        return match[0]
    places = [x + F_WIDTH * index for x, sign in zip(places, signs, strict=True) for index in range(len(sign))]
    bold = b' font-weight="700"' if b"-Bold-" in uses else b""
    x = " ".join(f"{place:.0f}" for place in places).encode()
    return b'<text%s%s transform="%s scale(%s)" x="%s">%s</text>' % (
        style,
        bold,
        place,
        size,
        x,
        escape(letters).encode(),
    )


def board_record(board: Board) -> dict[str, Any]:
    """What the scripts know of codecs, standings, machines and metrics."""
    rows = [_row(index, standing) for index, codec in enumerate(board.codecs) for standing in codec.standings]
    return {
        "codecs": [_codec(codec) for codec in board.codecs],
        "rows": [row for row in rows if row],
        "sets": [_set(pictures) for pictures in board.pictures],
        "machines": [{"slug": m.slug, "name": m.name} for m in board.machines],
        "metrics": [{"key": key, "title": m.title.strip(), "unit": m.unit} for key, m in CURVES.items()],
    }


def curves_record(board: Board, pictures: str) -> dict[str, Any]:
    """The points of every codec on a set of pictures, by the codec's slug."""
    return {
        codec.slug: [_known(point) for point in standing.points]
        for codec in board.codecs
        for standing in codec.standings
        if standing.points and standing.pictures == pictures
    }


def _set(pictures: Pictures) -> dict[str, Any]:
    names = {"name": pictures.name, "reference": pictures.reference, "eye": pictures.eye_reference}
    return {"slug": pictures.slug, **names, "count": pictures.count}


def _row(index: int, standing: Standing) -> dict[str, Any]:
    interval = standing.bd_interval
    return _known(
        {
            "codec": index,
            "set": standing.pictures,
            "rate": standing.rate_at_point,
            "bd": standing.bd_rate,
            "bd_low": round(interval.low, 2) if interval else None,
            "bd_high": round(interval.high, 2) if interval else None,
            "bd_pictures": interval.pictures if interval else None,
            "bdms": standing.bd_rate_ms_ssim,
            "bdeye": standing.bd_rate_eye,
            "evidence": standing.evidence,
            "conflicts": len(standing.conflicts) or None,
        }
    )


def _codec(codec: Codec) -> dict[str, Any]:
    known = _known(
        {
            "kflops": codec.kflops_per_px,
            "encflops": codec.encoder_kflops_per_px,
            "params": codec.parameters,
            "training": codec.training_eflop,
        }
    )
    words = {"slug": codec.slug, "name": codec.name, "codec": codec.codec, "tag": codec.tag, "by": codec.by}
    more = {"licence": codec.licence, "source": codec.source, "exact": codec.exact}
    return {**words, **more, **known, "speeds": [_speed(speed) for speed in codec.speeds]}


def _speed(speed: Speed) -> dict[str, Any]:
    return _known(
        {
            "machine": speed.machine,
            "way": speed.way,
            "evaluated": True if speed.way == EVALUATED else None,
            "clic": speed.clic or None,
            "decode": speed.decode,
            "encode": speed.encode,
            "netdecode": speed.networks_decode,
            "netencode": speed.networks_encode,
            "memory": speed.memory_mib,
        }
    )


def _references(board: Board) -> dict[str, list[dict[str, Any]]]:
    """Points of the curve that rates on each set of pictures are against."""
    names = {pictures.slug: pictures.reference for pictures in board.pictures}
    found: dict[str, list[dict[str, Any]]] = {}
    for codec in board.codecs:
        for standing in codec.standings:
            if codec.name == names[standing.pictures] and standing.points:
                step = max(1, len(standing.points) // REFERENCE_POINTS)
                points = [{"bpp": p["bpp"], "psnr": p.get("psnr")} for p in standing.points[::step]]
                found.setdefault(standing.pictures, points)
    return found


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
