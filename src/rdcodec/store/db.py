"""The results store: one SQLite file that several programs may write at once.

Every `add` is one transaction, so that a writer that is killed leaves whole results or none. Results are never
changed or removed; the same result added again is not kept twice.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rdcodec.errors import BadInput, RdcError
from rdcodec.store.files import result_from_dict
from rdcodec.store.records import Result

APPLICATION_ID = 0x72646353  # "rdcS", in the header of the file: a store, and no other program's database
BUSY_SECONDS = 60.0

MIGRATIONS = (
    """
    CREATE TABLE results (
        position INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        codec TEXT NOT NULL,
        dataset TEXT NOT NULL,
        record TEXT NOT NULL
    )
    """,
    "CREATE INDEX results_by_kind ON results (kind, codec, dataset)",
)
"""Append only: a store of version n has had the first n of these, each in one transaction."""


class Store:
    """A results store. path: the file, made where it is missing; None: in memory.

    write: whether results may be added; without it the file has to be there, is left as it is, and need not be
    writable. Use it in a `with` block, from one thread. Raises RdcError for a file that cannot be opened or written,
    BadInput for one that is no store or that a newer version made.
    """

    def __init__(self, path: Path | None, write: bool = True) -> None:
        self.name = "the store in memory" if path is None else str(path)
        if path is not None and not write and not path.is_file():
            raise RdcError(f"{path}: no such store; name one with --store, or fill it with `rdc results import`")
        if path is not None and path.is_dir():
            raise RdcError(f"{path}: is a folder; name the file of the store")
        with self._named_errors():
            place = ":memory:" if path is None else str(path) if write else _read_only(path)
            self._database = sqlite3.connect(place, timeout=BUSY_SECONDS, isolation_level=None, uri=not write)
        try:
            with self._named_errors():
                self._open(write)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def add(self, results: Iterable[Result]) -> int:
        """Keep results, all of them or none; returns how many were new."""
        rows = [(r.id, r.kind, r.codec, r.dataset, json.dumps(r.to_dict(), allow_nan=False)) for r in results]
        with self._named_errors(), self._transaction():
            before = self._database.total_changes
            insert = "INSERT OR IGNORE INTO results (id, kind, codec, dataset, record) VALUES (?, ?, ?, ?, ?)"
            self._database.executemany(insert, rows)
            return self._database.total_changes - before

    def query(self, *, kind: str | None = None, codec: str | None = None, dataset: str | None = None) -> list[Result]:
        """The results with these properties, in the order in which they came; None: any."""
        wanted = {"kind": kind, "codec": codec, "dataset": dataset}
        asked = {key: value for key, value in wanted.items() if value is not None}
        where = " AND ".join(f"{key} = :{key}" for key in asked) or "TRUE"
        with self._named_errors():
            found = self._database.execute(f"SELECT record FROM results WHERE {where} ORDER BY position", asked)
            return [result_from_dict(json.loads(record), self.name) for (record,) in found]

    def _open(self, write: bool) -> None:
        with self._transaction("BEGIN"):  # one view of the file, while another program may be making it
            version = self._version()
        if not write and not version:
            raise BadInput(f"{self.name}: an empty database; name a results store with --store")
        if not write:
            self._database.execute("PRAGMA query_only = 1")
        elif version < len(MIGRATIONS):
            self._migrate()

    def _version(self) -> int:
        """How many migrations the file has had. BadInput unless it is a store, or empty."""
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (application or version or tables):
            raise BadInput(f"{self.name}: a database, but no results store; name another file with --store")
        if version > len(MIGRATIONS):
            raise BadInput(f"{self.name}: a store of a newer rdcodec (version {version}); update this one")
        return int(version)

    def _migrate(self) -> None:
        for number, statement in enumerate(MIGRATIONS, start=1):
            with self._transaction():
                if self._version() < number:  # another program may have been faster
                    self._database.execute(statement)
                    self._database.execute(f"PRAGMA user_version = {number}")
                    self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        self._database.execute(begin)
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """SQLite's errors with the name of the store."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise RdcError(f"{self.name}: {error}; check that the file and its folder can be written") from error
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{self.name}: {error}; name a results store with --store") from error


def _read_only(path: Path) -> str:
    """SQLite's address of a file that is only read.

    Where it may be written, SQLite first takes back what a killed writer left unfinished. Stores of 0.1.0 have a log
    (WAL), for which SQLite wants to write in the folder even to read, unless it may take the file as unchanging.
    """
    path = path.resolve()
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return f"{path.as_uri()}?mode=rw"
    logged = path.with_name(path.name + "-wal").exists()
    return f"{path.as_uri()}?mode=ro" + ("" if logged else "&immutable=1")
