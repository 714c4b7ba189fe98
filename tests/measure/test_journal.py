"""An interrupted measurement goes on where it stood, and never with rows of another."""

from pathlib import Path

import pytest

from made_up import metrics
from rdcodec.errors import RdcError, UsageError
from rdcodec.measure.journal import Journal
from rdcodec.measure.rd import Row

ROWS = [
    Row("a.png", 4, 3, 10.0, 99, metrics(31.123456789, 33.0, 0.98765432109), 0.5, None),
    Row("b.png", 4, 3, None, 7, metrics(float("inf"), float("inf"), None), None, None),
]
SUBJECT = {"codec": "c", "tag": "1"}


def test_rows_come_back_to_the_last_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.json", SUBJECT)
    assert journal.rows == []
    for row in ROWS:
        journal.add(row)
    journal.close()
    again = Journal(tmp_path / "r.json", SUBJECT)
    assert again.rows == ROWS
    again.remove()
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_cut_short_is_dropped_and_the_file_mended(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.json", SUBJECT)
    for row in ROWS:
        journal.add(row)
    journal.close()
    path = tmp_path / "r.json.partial"
    path.write_text(path.read_text()[:-20])
    again = Journal(tmp_path / "r.json", SUBJECT)
    assert again.rows == ROWS[:1]
    again.add(ROWS[1])
    again.close()
    assert Journal(tmp_path / "r.json", SUBJECT).rows == ROWS


def test_nothing_is_left_where_nothing_was_measured(tmp_path: Path) -> None:
    Journal(tmp_path / "r.json", SUBJECT).close()
    assert list(tmp_path.iterdir()) == []


def test_rows_of_another_subject_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.json", SUBJECT)
    journal.add(ROWS[0])
    journal.close()
    before = journal.path.read_text()
    with pytest.raises(UsageError, match=r"r\.json\.partial: holds rows of another tag: remove it"):
        Journal(tmp_path / "r.json", {**SUBJECT, "tag": "2"})
    assert journal.path.read_text() == before
    for text in ("[]\n", "noise\n", '{"codec": "c", "tag": "1"}\n{"image": 1}\n'):
        journal.path.write_text(text)
        with pytest.raises(UsageError, match="remove it"):
            Journal(tmp_path / "r.json", SUBJECT)
    with pytest.raises(RdcError, match="cannot be written"):
        Journal(tmp_path / "none" / "r.json", SUBJECT)
