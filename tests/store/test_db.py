"""The store keeps whole results, once each, whoever writes, is killed, or comes with another file."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rdcodec.errors import BadInput, RdcError
from rdcodec.store import db
from rdcodec.store.db import MIGRATIONS, Store
from rdcodec.store.records import Provenance, Result

WRITER = """
import sys
from pathlib import Path
from rdcodec.store.db import Store
from rdcodec.store.records import Provenance, Result

path, name, batch, batches = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Store(path) as store:
    for start in range(0, batch * batches, batch):
        store.add(
            Result("quality", name, "1", {"bpp": 1.0 + n, "psnr_db": 30.0}, Provenance("test"))
            for n in range(start, start + batch)
        )
        print(start, flush=True)
"""


def result(number: float = 1.0, codec: str = "x") -> Result:
    return Result("quality", codec, "1", {"bpp": number, "psnr_db": 30.0}, Provenance("test"), "photos", number)


def writer(path: Path, name: str, batch: int, batches: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WRITER, str(path), name, str(batch), str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_what_goes_in_comes_out_once_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    rows = ({"image": "1.png", "bpp": 2.5, "ms_ssim": None},)
    first = Result("speed", "I", "I.1", {"device": "cpu", "coded": True}, Provenance("rdcodec", machine={"cores": 2}))
    second = Result("quality", "I", "I.1", {"bpp": 2.5}, Provenance("rdcodec"), "kodak", 10.0, rows)
    with Store(path) as store:
        assert store.add([first, second]) == 2
        assert store.add([second, first, result()]) == 1
    with Store(path, write=False) as store:
        assert store.query() == [first, second, result()]
        assert store.query(kind="speed") == [first] and store.query(codec="I", dataset="kodak") == [second]
        assert store.query(codec="none") == []


def test_a_refused_result_takes_all_of_its_call_with_it(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        with pytest.raises(ValueError, match="JSON"):
            store.add([result(), result(float("nan"))])
        assert store.query() == []


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    writers = [writer(path, name, batch, 1000 // batch) for name, batch in (("one", 10), ("two", 50))]
    assert [process.wait() for process in writers] == [0, 0]
    for process in writers:
        assert process.stdout
        process.stdout.close()
    with Store(path, write=False) as store:
        for name in ("one", "two"):
            assert [r.values["bpp"] for r in store.query(codec=name)] == [1.0 + n for n in range(1000)]


def test_programs_that_make_the_store_at_once_all_find_it(tmp_path: Path) -> None:
    """A file that is being made between two questions about it is no foreign database."""

    def make(path: Path) -> int:
        with Store(path) as store:
            return store.add([result()])

    with ThreadPoolExecutor(4) as pool:
        for number in range(40):
            assert sum(pool.map(make, [tmp_path / f"{number}.sqlite"] * 4)) == 1


def test_a_killed_writer_leaves_whole_transactions(tmp_path: Path) -> None:
    path, batch = tmp_path / "a.sqlite", 500
    process = writer(path, "x", batch, 100_000)
    assert process.stdout
    for _ in range(3):
        process.stdout.readline()
    time.sleep(0.003)  # somewhere in the next
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Store(path, write=False) as store:
        found = store.query()
        assert len(found) >= 3 * batch and len(found) % batch == 0
        assert [r.values["bpp"] for r in found] == [1.0 + n for n in range(len(found))]
    with Store(path) as store:
        assert store.add([result(0.5, "after")]) == 1


def test_an_older_store_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"
    with monkeypatch.context() as older:
        older.setattr(db, "MIGRATIONS", MIGRATIONS[:1])
        with Store(path) as store:
            store.add([result()])
    with Store(path) as store:
        assert store.query() == [result()] and store.add([result()]) == 0
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert database.execute("SELECT name FROM sqlite_master WHERE name = 'results_by_kind'").fetchone()
    database.close()


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"
    with Store(path) as store:
        store.add([result()])
    with monkeypatch.context() as newer:
        newer.setattr(db, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE results (again)"))
        with pytest.raises(RdcError, match="already exists"):
            Store(path)
        newer.setattr(db, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE more (x)"))
        Store(path).__exit__(None, None, None)
    with pytest.raises(BadInput, match="newer rdcodec"):
        Store(path)


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, foreign = tmp_path / "text.sqlite", tmp_path / "foreign.sqlite"
    text.write_text("no database, but long enough to be one " * 10)
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    before = text.read_bytes(), foreign.read_bytes()
    with pytest.raises(BadInput, match=r"text.sqlite: file is not a database"):
        Store(text)
    with pytest.raises(BadInput, match=r"foreign.sqlite: a database, but no results store"):
        Store(foreign)
    assert (text.read_bytes(), foreign.read_bytes()) == before
    with pytest.raises(RdcError, match="is a folder"):
        Store(tmp_path)
    with pytest.raises(RdcError, match=r"none.sqlite: no such store"):
        Store(tmp_path / "none.sqlite", write=False)
    with pytest.raises(RdcError, match="unable to open"):
        Store(tmp_path / "nowhere" / "a.sqlite")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["foreign.sqlite", "text.sqlite"]


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    with Store(tmp_path / "a.sqlite") as store:
        store.add([result()])
        store._database.execute("PRAGMA query_only = 1")
        with pytest.raises(RdcError, match=r"a.sqlite: .*readonly.*can be written"):
            store.add([result(2.0)])
        assert store.query() == [result()]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_reading_leaves_the_file_as_it_is(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a #?%20.sqlite"
    with Store(path) as store:
        store.add([result()])
        store._database.execute(f"PRAGMA journal_mode = {mode}")  # WAL: as 0.1.0 left it
    before = path.read_bytes()
    with Store(path, write=False) as store:
        assert store.query() == [result()]
        with pytest.raises(RdcError, match="readonly"):
            store.add([result(2.0)])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_an_older_store_is_read_without_bringing_it_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.sqlite"
    with monkeypatch.context() as older:
        older.setattr(db, "MIGRATIONS", MIGRATIONS[:1])
        with Store(path) as store:
            store.add([result()])
    with Store(path, write=False) as store:
        assert store.query() == [result()]
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
    database.close()
    empty = tmp_path / "empty.sqlite"
    empty.touch()
    with pytest.raises(BadInput, match=r"empty.sqlite: an empty database"):
        Store(empty, write=False)


def test_ids_survive_the_store_where_a_setting_is_a_whole_number(tmp_path: Path) -> None:
    given = Result("quality", "I", "I.1", {"bpp": 1, "psnr_db": 30.0}, Provenance("test"), "photos", 50)
    with Store(tmp_path / "a.sqlite") as store:
        assert store.add([given]) == 1
        (kept,) = store.query()
        assert kept.id == given.id and store.add([kept]) == 0
