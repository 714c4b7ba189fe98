"""What a command works through: the files that its arguments name, where results go, what is passed over or refused."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rdcodec.cli.io import STREAM, is_remote, place, refuse_existing
from rdcodec.errors import BadInput, RdcError, UsageError

THERE = "there already"
FOLDER = "folder"


@dataclass(frozen=True)
class Item:
    """One input and where its result goes; None is stdin, stdout."""

    source: Path | None
    target: Path | None

    @property
    def source_name(self) -> str:
        return "standard input" if self.source is None else str(self.source)

    @property
    def target_name(self) -> str:
        return "standard output" if self.target is None else str(self.target)


@dataclass
class Found:
    """The files that arguments name: those in folders by their suffix."""

    files: list[tuple[Path | None, Path]] = field(default_factory=list)  # and their place below the argument
    refused: list[tuple[str, RdcError]] = field(default_factory=list)  # inputs by name
    passed_over: Counter[str] = field(default_factory=Counter)  # by kind


@dataclass(frozen=True)
class Batch:
    """Everything that is to be done, and what is not."""

    items: Sequence[Item]
    refused: Sequence[tuple[str, RdcError]]
    passed_over: Counter[str]
    several: bool  # more than one input was asked for

    @property
    def names(self) -> list[str]:
        """Of the inputs, the refused ones first."""
        return [name for name, _ in self.refused] + [item.source_name for item in self.items]


def find(inputs: Sequence[str], suffixes: frozenset[str], recursive: bool = False, output: str | None = None) -> Found:
    """The files that the arguments name; a folder stands for those in it with one of the suffixes.

    `recursive` looks into folders of folders too, but for that of the output. UsageError for '-' among others.
    """
    if STREAM in inputs and len(inputs) > 1:
        raise UsageError("'-' (standard input) must be the only input")
    found = Found()
    for text in inputs:
        path = place(text)
        if text == STREAM:
            found.files.append((None, path))
        elif path.is_dir():
            before = len(found.files), len(found.refused)
            _look_into(path, path, suffixes, recursive, output, found)
            if (len(found.files), len(found.refused)) == before:
                hint = "; -r looks into its folders" if found.passed_over[FOLDER] and not recursive else ""
                words = f"{path}: holds no {' '.join(sorted(suffixes))} file{hint}"
                found.refused.append((text, BadInput(words)))
        else:
            found.files.append((path, Path(path.name)))
    return found


def plan(
    inputs: Sequence[str],
    output: str | None,
    read_suffixes: frozenset[str],
    suffix: str,
    *,
    recursive: bool = False,
    keep_suffix: bool | None = None,
    skip_existing: bool = False,
) -> Batch:
    """Pair every input with its output, and refuse what cannot be meant before any work is done.

    Without `output`, a result lies beside its input under the new `suffix`, which with `keep_suffix` comes after the
    old one (None: a command without that choice). For several inputs `output` is a folder, and below it lie the
    folders that were found. `find` says what the inputs may be. RdcError if there is nothing to do but refuse one.
    """
    several = len(inputs) > 1 or place(inputs[0]).is_dir()
    if several and output == STREAM:
        raise UsageError("several inputs cannot go to one standard output: give a folder with -o")
    if several and output and place(output).exists() and not place(output).is_dir():
        raise UsageError(f"{output}: is a file, but several inputs need a folder")
    found = find(inputs, read_suffixes, recursive, output)
    pairs: dict[tuple[str, str], Item] = {}  # a file that is named twice is done once
    for source, below in found.files:
        named = below.with_name(below.name + suffix) if keep_suffix else below.with_suffix(suffix)
        item = Item(source, _target(source, named, output, several))
        pairs.setdefault((_real(item.source), _real(item.target)), item)
    hint = "rename it, or give --keep-suffix" if keep_suffix is False else "rename it"
    items = list(_without_clashes(list(pairs.values()), found.refused, hint))
    if skip_existing:
        asked = len(items)
        items = [item for item in items if item.target is None or not item.target.is_file()]
        found.passed_over[THERE] += asked - len(items)
    if not items and len(found.refused) == 1:
        raise found.refused[0][1]
    return Batch(items, found.refused, +found.passed_over, several)


def without_existing(found: Batch, force: bool) -> Batch:
    """The same, but items that would overwrite a file are refused already, unless forced. UsageError for streams."""
    items: list[Item] = []
    refused = list(found.refused)
    for item in found.items:
        if item.source is None or item.target is None or not item.source.is_file():
            raise UsageError(f"{item.source_name}: a cluster needs files, not streams")
        try:
            refuse_existing(item.target, force)
            items.append(item)
        except RdcError as error:
            refused.append((item.source_name, error))
    return replace(found, items=items, refused=refused)


def _look_into(
    folder: Path, top: Path, suffixes: frozenset[str], recursive: bool, output: str | None, found: Found
) -> None:
    try:
        entries = sorted(folder.iterdir(), key=str)
    except OSError as error:
        found.refused.append((str(folder), RdcError(f"{folder}: cannot be read: {error.strerror}")))
        return
    for entry in entries:
        if entry.is_dir():
            if not recursive or entry.is_symlink():  # which might lead round in circles
                found.passed_over[FOLDER if not entry.is_symlink() else "link to a folder"] += 1
            elif output is None or _real(entry) != _real(place(output)):
                _look_into(entry, top, suffixes, recursive, output, found)
        elif entry.name.startswith("._"):  # what macOS keeps beside a.jpg on other systems' disks as ._a.jpg
            found.passed_over["metadata of macOS"] += 1
        elif entry.suffix.lower() in suffixes and entry.is_file():
            found.files.append((entry, _below(entry, top)))
        else:
            found.passed_over[_kind(entry)] += 1


def _below(entry: Path, top: Path) -> Path:
    if is_remote(entry):  # the path that a URL ends with
        return Path(entry.path).relative_to(top.path)  # type: ignore[attr-defined]
    return entry.relative_to(top)


def _kind(path: Path) -> str:
    if not path.exists():
        return "broken link"
    if not path.is_file():
        return "pipe or device"
    return path.suffix.lower() or "without a suffix"


def _target(source: Path | None, named: Path, output: str | None, several: bool) -> Path | None:
    """Where the result of an input goes; `named` is its place with the suffix of results."""
    if output == STREAM or (source is None and output is None):
        return None
    if source is None:
        return place(str(output))
    if output is None:
        if source.exists() and not source.is_file():
            raise UsageError(f"{source}: has no place for a file next to it: name a file with -o")
        return source.with_name(named.name)
    there = place(output)
    folder = several or output.endswith(("/", os.sep)) or there.is_dir()
    return there / named.as_posix() if folder else there


def _without_clashes(items: Sequence[Item], refused: list[tuple[str, RdcError]], hint: str) -> Iterator[Item]:
    """The items whose output is no input and nobody else's; the others are refused."""
    sources = {_real(item.source) for item in items if item.source is not None}
    writers: dict[str, list[Item]] = {}
    for item in items:
        writers.setdefault(_real(item.target), []).append(item)
    for item in items:
        others = [other for other in writers[_real(item.target)] if other is not item]
        if item.target is None:
            yield item
        elif _real(item.target) in sources:
            words = f"{item.target}: is an input too: choose another output with -o"
            refused.append((item.source_name, UsageError(words)))
        elif others:
            names = ", ".join(other.source_name for other in others)
            words = f"{item.source_name}: would become {item.target}, as would {names}: {hint}"
            refused.append((item.source_name, UsageError(words)))
        else:
            yield item


def _real(path: Path | None) -> str:
    if path is None:
        return STREAM
    return str(path) if is_remote(path) else os.path.realpath(path)
