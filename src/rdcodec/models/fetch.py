"""Bring released weights that the package does not have from a server that the user names.

The package pins size and SHA-256 of every file (elsewhere.py), so that it does not matter who serves them.
"""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from rdcodec.errors import NeedsModel, RdcError, UsageError
from rdcodec.models.elsewhere import Pinned, elsewhere, pin, user_folder
from rdcodec.models.weights import newest_tag, released
from rdcodec.system import put_in_place

ADDRESS = "RDCODEC_WEIGHTS_URL"
TIMEOUT_S = 30.0  # without a byte
ATTEMPTS = 4  # in a row that bring nothing new
PAUSE_S = 1.0  # before another attempt
CHUNK = 1 << 18

Advance = Callable[[int], None]


def find_tag(model: str) -> str:
    """The tag, here or elsewhere, of a tag or a name, whose newest it is. NeedsModel if there is none."""
    known = released().keys() | elsewhere().keys()
    tag = model if model in known else newest_tag(model, known)
    if tag is None:
        there = ", ".join(sorted(elsewhere()))
        raise NeedsModel(f"no weights of {model} are known that could be fetched (there are: {there}); check the name")
    return tag


def get_weights(tag: str, advance: Advance = lambda count: None) -> Path:
    """The weights file of a tag that `find_tag` gave, fetched where it is not here; errors and `advance` as `fetch`."""
    return released().get(tag) or fetch(tag, advance)


def fetch(tag: str, advance: Advance = lambda count: None) -> Path:
    """Bring the files of a tag of `elsewhere` into the user's folder; returns the path of the first.

    Each is there whole or not at all. What an earlier call brought of it is not asked for again. advance: told the
    bytes that are there, as they come; a negative number where some have to come again. UsageError without an address
    in RDCODEC_WEIGHTS_URL. NeedsModel where it does not have the file, or another. RdcError if the server cannot be
    reached or stops; then what came is kept. OSError if it cannot be written. Of several processes one fetches.
    """
    base = _address(tag)
    folder = user_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for file in reversed(elsewhere()[tag]):  # the first last: it names the others
        path = folder / file.name
        with FileLock(folder / f".{file.name}.lock"):
            if path.is_file() and pin(path) == file:
                advance(file.size)
                continue
            partial = folder / f".{file.name}.partial"
            _bring(f"{base}/{file.name}", file, partial, advance)
            put_in_place(partial, path)
    return path


def _address(tag: str) -> str:
    base = os.environ.get(ADDRESS, "").rstrip("/")
    if not base:
        raise UsageError(f"{tag} is fetched from where you say: set {ADDRESS} to the address of a folder that has it")
    if not base.startswith(("https://", "http://")):
        raise UsageError(f"{ADDRESS}={base}: give an address that starts with https:// or http://")
    return base


def _bring(url: str, file: Pinned, partial: Path, advance: Advance) -> None:
    """Let `partial` have the bytes of `file`."""
    best = have = _size(partial)
    advance(have)
    idle = 0
    while have < file.size:
        problem = _go_on(url, file.size, partial, advance)
        have = _size(partial)
        idle = 0 if have > best else idle + 1
        best = max(best, have)
        if idle == ATTEMPTS:
            got = f"{have / 1e6:.1f} of {file.size / 1e6:.1f} MB are here"
            raise RdcError(f"{url}: {problem}; {got}: give the same command again to go on")
        if idle:
            time.sleep(PAUSE_S)
    if have > file.size or pin(partial).sha256 != file.sha256:
        partial.unlink()
        raise NeedsModel(f"{url}: other bytes than the weights of that name, and not kept: check {ADDRESS}")


def _go_on(url: str, size: int, partial: Path, advance: Advance) -> str:
    """Append what the server gives now, up to `size`; returns why it was not more."""
    have = _size(partial)
    wanted = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "rdcodec", **wanted})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            start, total = _place(response)
            if total not in (None, size):
                raise NeedsModel(f"{url}: {total} bytes, but the weights of that name have {size}: check {ADDRESS}")
            if start != have:  # a server without ranges begins again
                partial.unlink(missing_ok=True)
                advance(-have)
                have = 0
            while start == have < size and (chunk := response.read(min(CHUNK, size - have))):
                _append(partial, chunk)
                start = have = have + len(chunk)
                advance(len(chunk))
    except urllib.error.HTTPError as error:
        kind = RdcError if error.code >= 500 else NeedsModel
        raise kind(f"{url}: the server says {error.code} {error.reason}: check {ADDRESS}") from None
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except TimeoutError:
        return f"nothing came for {TIMEOUT_S:g} s"
    except (ConnectionError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    return "the connection was cut off"


def _place(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where in the file an answer begins, and the size of the file where it says so."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if not match:
        return 0, None
    return int(match[1]), int(match[2]) if match[2].isdecimal() else None


def _append(path: Path, chunk: bytes) -> None:
    with path.open("ab") as out:
        out.write(chunk)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
