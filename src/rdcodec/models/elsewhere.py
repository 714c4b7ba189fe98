"""Released weights that the package does not have: what their files are, and where they are kept once fetched."""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).parents[1] / "weights" / "elsewhere.json"  # by scripts/weights_table.py


@dataclass(frozen=True)
class Pinned:
    """A file of released weights: what its bytes have to be."""

    name: str
    size: int
    sha256: str

    @property
    def tag(self) -> str:
        """Of I.1.safetensors and of I.1.piece-2.safetensors: I.1."""
        return re.sub(r"(\.piece-\d+)?\.safetensors$", "", self.name)


def pin(path: Path) -> Pinned:
    """What a file is now."""
    with path.open("rb") as file:
        return Pinned(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@cache
def elsewhere() -> dict[str, tuple[Pinned, ...]]:
    """The files of each released tag that the package does not have, the first piece first."""
    found: dict[str, list[Pinned]] = {}
    for name, known in json.loads(TABLE.read_text(encoding="utf-8")).items():
        file = Pinned(name, known["bytes"], known["sha256"])
        found.setdefault(file.tag, []).append(file)
    return {tag: tuple(sorted(files, key=lambda file: (len(file.name), file.name))) for tag, files in found.items()}


def user_folder() -> Path:
    """Where fetched weights are kept: a folder of this user, by the custom of the system."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", ""))
        if not base.is_absolute():
            base = home / ".local" / "share"
    return base / "rdcodec" / "weights"
