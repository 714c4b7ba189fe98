"""The picture files of folders, zip files and tar files: names and bytes, one after the other, nothing unpacked."""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from rdcodec.errors import UsageError

SUFFIXES = {".avif", ".png", ".jpg", ".jpeg", ".webp", ".ppm", ".tif", ".tiff"}
TAR = re.compile(r"\.(tar(\.\w+)?|tgz)$", re.IGNORECASE)
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")

File = tuple[str, bytes]  # name and content; no content where it cannot be read, which is no picture either


def open_sources(sources: Sequence[Path]) -> list[Iterator[File]]:
    """The pictures of each source, read when they are asked for; UsageError, before any is read, if one is not there.

    Braces stand for several files as in a shell: shard-{000..007}.tar, {cats,dogs}.zip.
    """
    return [_reader(path)(path) for source in sources for path in expand_braces(source)]


def expand_braces(source: Path) -> Iterator[Path]:
    """The paths that a pattern stands for; a file whose name has braces is itself."""
    braces = None if source.exists() else BRACES.search(str(source))
    if braces is None:
        yield source
        return
    before, after = str(source)[: braces.start()], str(source)[braces.end() :]
    for part in _alternatives(*braces.groups()):
        yield from expand_braces(Path(before + part + after))


def _alternatives(first: str | None, last: str | None, words: str | None) -> Iterator[str]:
    if first is None or last is None:
        yield from (words or "").split(",")
    else:
        yield from (f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1))


def _reader(source: Path) -> Callable[[Path], Iterator[File]]:
    if source.is_dir():
        return _of_folder
    if TAR.search(source.name) and source.is_file():
        return _of_tar
    if zipfile.is_zipfile(source):
        return _of_zip
    raise UsageError(f"{source}: neither a folder nor a zip or tar file of pictures")


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _of_folder(source: Path) -> Iterator[File]:
    """The pictures anywhere below, and those of the archives that lie there: a folder of shards is one source."""
    for path in sorted(source.rglob("*")):
        if _is_picture(path.name):
            yield str(path.relative_to(source)), _content(path.read_bytes) if path.is_file() else b""
        elif _is_archive(path):
            yield from _reader(path)(path)


def _is_archive(path: Path) -> bool:
    return path.is_file() and bool(
        TAR.search(path.name) or (path.suffix.lower() == ".zip" and zipfile.is_zipfile(path))
    )


def _of_zip(source: Path) -> Iterator[File]:
    try:
        with zipfile.ZipFile(source) as archive:
            for name in sorted(filter(_is_picture, archive.namelist())):
                yield name, _content(partial(archive.read, name))
    except (OSError, zipfile.BadZipFile) as error:
        yield f"the rest of {source.name} ({error})", b""


def _content(read: Callable[[], bytes]) -> bytes:
    """Nothing for a folder with a picture's name, a damaged or locked entry."""
    try:
        return read()
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError):
        return b""


def _of_tar(source: Path) -> Iterator[File]:
    """In one pass, as compressed ones need. Damage ends it: nothing tells where the next file begins."""
    try:
        with tarfile.open(source, "r|*", tarinfo=_Header) as archive:
            for member in archive:
                if _is_picture(member.name) and not member.isdir():
                    file = archive.extractfile(member) if member.isfile() else None  # no link can be followed
                    yield str(PurePosixPath(member.name)), file.read() if file else b""
    except (OSError, tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        yield f"the rest of {source.name} ({error})", b""


class _Header(tarfile.TarInfo):
    """A header that is damaged or cut off is an error, where tarfile would see the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):  # the mark at the end of a whole archive
                raise
            raise tarfile.ReadError(str(error)) from error
