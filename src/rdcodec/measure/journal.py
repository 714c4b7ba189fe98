"""Rows of a measurement that is under way, so that an interrupted one goes on where it stood.

The file is JSON lines: first what is measured, then a row each. A line that was cut off when the process died is
dropped, and its row measured again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rdcodec.errors import RdcError, UsageError
from rdcodec.measure.rd import Row

SUFFIX = ".partial"


class Journal:
    """Finished rows in RESULT.partial beside a result file, written as they come.

    subject: what is measured, JSON types: codec, tag, data set, machine. `rows` are those of an interrupted run of
    the same subject. Raises UsageError where the file holds another subject, RdcError if it cannot be written.
    """

    def __init__(self, result: Path, subject: Mapping[str, Any]) -> None:
        self.path = result.with_name(result.name + SUFFIX)
        self.rows: list[Row] = []
        head = json.dumps(subject, sort_keys=True)
        try:
            kept = _whole_lines(self.path)
            if kept and kept[0] != head:
                raise UsageError(f"{self.path}: holds rows of {_difference(kept[0], head)}: remove it to start afresh")
            self.rows = [Row.from_record(json.loads(line)) for line in kept[1:]]
            text = "".join(line + "\n" for line in kept or [head])
            self.path.write_text(text, encoding="utf-8")
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise RdcError(f"{self.path}: cannot be written: {error.strerror}; choose another -o") from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"{self.path}: not rows of a measurement ({error}); remove it to start afresh") from error

    def add(self, row: Row) -> None:
        """Write a row through to the file."""
        self._file.write(json.dumps(row.record(), allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Leave the rows for the next run; without any, leave nothing."""
        self._file.close()
        if self.path.exists() and len(_whole_lines(self.path)) <= 1:
            self.path.unlink()

    def remove(self) -> None:
        """The result is written: the rows are no longer needed."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    *whole, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return whole


def _difference(old: str, new: str) -> str:
    """Which part of the subject is another, in words."""
    before, after = json.loads(old), json.loads(new)
    if not isinstance(before, dict):
        raise ValueError("its first line says nothing")
    return "another " + ", ".join(key for key in after if before.get(key) != after[key])
