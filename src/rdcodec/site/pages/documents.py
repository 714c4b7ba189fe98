"""Markdown documents as pages: the links between them, their sections for the search, their pictures."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

SKIPPED = ("images",)
GROUPS = {"": "Guides", "adr": "Decisions", "results": "Results"}


@dataclass(frozen=True)
class Document:
    """A page of a folder of documents. address: from the root of the site; body: HTML.

    files: what it shows, from the root of the site, and where that lies. sections: for the search.
    """

    address: str
    title: str
    lead: str
    body: str
    group: str
    files: Mapping[str, Path]
    sections: tuple[Mapping[str, str], ...]


def read_documents(folder: Path) -> list[Document]:
    """Every Markdown page of a folder and its folders, in the order of groups and titles."""
    pages = sorted(path for path in folder.rglob("*.md") if not set(path.relative_to(folder).parts) & set(SKIPPED))
    known = {path.relative_to(folder).as_posix() for path in pages}
    found = [_document(folder, path.relative_to(folder).as_posix(), known) for path in pages]
    order = list(GROUPS.values())
    return sorted(found, key=lambda d: (order.index(d.group) if d.group in order else len(order), d.address))


def _document(folder: Path, name: str, known: set[str]) -> Document:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
    tokens = parser.parse((folder / name).read_text(encoding="utf-8"))
    files: dict[str, Path] = {}
    _place_links(tokens, folder, name, known, files)
    headings = _number_headings(tokens)
    title = next((text for level, _, text in headings if level == 1), PurePosixPath(name).stem)
    address = _address(name)
    body = str(parser.renderer.render(tokens, parser.options, {}))
    body = re.sub(r'<(h[23]) id="([^"]+)">(.*?)</\1>', _with_anchor, body)
    texts = list(_texts(tokens))
    sections = tuple(
        {
            "page": title,
            "heading": heading,
            "url": f"../{address}#{anchor}" if anchor else f"../{address}",
            "text": text,
        }
        for anchor, heading, text in _sections(tokens, title)
    )
    group = GROUPS.get(
        PurePosixPath(name).parent.as_posix().replace(".", ""), PurePosixPath(name).parent.name.capitalize()
    )
    lead = next((text for text in texts if len(text) > 30), "")
    return Document(address, title, _shortened(lead, 120), body, group, files, sections)


def _address(name: str) -> str:
    return f"docs/{PurePosixPath(name).with_suffix('.html').as_posix()}"


def _with_anchor(match: re.Match[str]) -> str:
    tag, anchor, text = match.groups()
    return (
        f'<{tag} id="{anchor}">{text}<a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a></{tag}>'
    )


def _place_links(tokens: list[Any], folder: Path, name: str, known: set[str], files: dict[str, Path]) -> None:
    """Links between documents lead to pages, pictures come along, and what else is linked is named without a link."""
    for token in _all(tokens):
        if token.type == "image":
            source = str(token.attrs["src"])
            place = normpath((PurePosixPath(name).parent / source).as_posix())
            if "://" not in source and (folder / place).is_file():
                files[f"docs/{place}"] = folder / place
            token.attrs["loading"] = "lazy"
        elif token.type == "link_open":
            target, _, anchor = str(token.attrs["href"]).partition("#")
            place = normpath((PurePosixPath(name).parent / target).as_posix())
            if not target or "://" in target or target.startswith("mailto:"):
                continue
            if place in known:
                new = PurePosixPath(target).with_suffix(".html").as_posix()
                token.attrs["href"] = f"{new}#{anchor}" if anchor else new
            else:
                token.tag = "span"
                token.attrs = {"title": place.removeprefix("../")}
    for token in _all(tokens):
        if token.type == "inline":
            _close_spans(token.children or [])


def _close_spans(children: list[Any]) -> None:
    opened: list[str] = []
    for child in children:
        if child.type == "link_open":
            opened.append(child.tag)
        elif child.type == "link_close":
            child.tag = opened.pop()


def _number_headings(tokens: list[Any]) -> list[tuple[int, str, str]]:
    """Give every heading an id, distinct on the page; level, id and text of each."""
    found: list[tuple[int, str, str]] = []
    taken: dict[str, int] = {}
    for token, inline in itertools.pairwise(tokens):
        if token.type != "heading_open":
            continue
        text = _text(inline)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") or "section"
        taken[anchor] = taken.get(anchor, 0) + 1
        if taken[anchor] > 1:
            anchor += f"-{taken[anchor] - 1}"
        token.attrs["id"] = anchor
        found.append((int(token.tag[1]), anchor, text))
    return found


def _sections(tokens: list[Any], title: str) -> Iterator[tuple[str, str, str]]:
    """Id, heading and text of every section."""
    parts: list[str] = []
    anchor, heading = "", title
    for index, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag in ("h2", "h3"):
            yield anchor, heading, " ".join(parts)
            anchor, heading, parts = str(token.attrs["id"]), _text(tokens[index + 1]), []
        elif token.type == "inline" and tokens[index - 1].type != "heading_open":
            parts.append(_text(token))
        elif token.type == "fence":
            parts.append(" ".join(token.content.split()))
    yield anchor, heading, " ".join(parts)


def _texts(tokens: list[Any]) -> Iterator[str]:
    for before, token in itertools.pairwise(tokens):
        if before.type == "paragraph_open" and token.type == "inline":
            yield _text(token)


def _text(inline: Any) -> str:
    """Without marks."""
    pieces = (" " if child.type == "softbreak" else child.content for child in inline.children or [])
    return "".join(pieces).strip()


def _all(tokens: list[Any]) -> Iterator[Any]:
    for token in tokens:
        yield token
        yield from _all(token.children or [])


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most].rsplit(" ", 1)[0] + " …"
