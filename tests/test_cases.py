"""Every awkward picture of cases.py comes to what is expected of it, in its true colours; the page says the same."""

import re
from pathlib import Path

import numpy as np
import pytest

from cases import cases, decode, outcome, page, psnr_db

LEAST_DB = 27  # of quality 90 on these pictures, or on their 4:2:0; wrong colours give 10 to 20


@pytest.mark.parametrize("name", cases())
def test_a_case_comes_to_what_is_expected(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    result = outcome(name, tmp_path)
    assert result.words.startswith(case.found or case.expected)
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert all(re.match(r"coded\.rdc  |  note: |rdc: ", line) for line in lines) and lines, "nothing raw from a library"
    psnr = psnr_db(name, result)
    assert psnr is None or psnr > LEAST_DB
    if result.coded is None:
        assert [path.name for path in tmp_path.iterdir()] == [name]
        return
    alpha = decode(result.coded).alpha
    assert (alpha is None) == (case.alpha is None)
    assert case.alpha is None or np.array_equal(alpha, case.alpha)


def test_the_page_is_what_the_command_writes() -> None:
    path = Path(__file__).parents[1] / "docs" / "results" / "cases.md"
    assert path.read_text() == page(), "python tests/cases.py docs/results/cases.md writes it anew"
