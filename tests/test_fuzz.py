"""Damaged files by the thousand: the first of `benchmarks/fuzz.py`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import fuzz

FILES = 1000


@pytest.mark.usefixtures("unlimited_clock")
def test_damaged_files_end_in_a_picture_or_an_error() -> None:
    counts = fuzz.fuzz(fuzz.golden_codec(), range(FILES))
    assert len(counts) > 12, "the files are to reach all of the decoder"
    assert 0 < counts["decoded"] < sum(counts.values()) / 5


@pytest.fixture
def unlimited_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test measures time: a machine may be busy."""
    monkeypatch.setattr(fuzz, "PAUSE_S", 1e9)


def test_the_sequence_is_the_same_every_time() -> None:
    codec = fuzz.golden_codec()
    corpus = fuzz.read_corpus(codec)
    assert [fuzz.damaged(corpus, n) for n in range(60)] == [fuzz.damaged(corpus, n) for n in range(60)]


def test_a_wrong_end_names_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: object) -> None:
        raise IndexError("out of bounds")

    codec = fuzz.golden_codec()
    monkeypatch.setattr(codec, "decompress", crash)
    with pytest.raises(AssertionError, match="file 7: IndexError: out of bounds"):
        fuzz.fuzz(codec, [7])
