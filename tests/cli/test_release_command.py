"""`rdc release` of a tag that is released already: the same networks but for idle channels, tables of their own."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from conftest import Rdc
from rdcodec.models.weights import read_weights


def test_a_tag_is_fitted_again(
    rdc: Rdc, work: Path, weights: Path, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = work / "shelf"
    shelf.mkdir()
    shutil.copy(weights / "I.999.safetensors", shelf)
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(shelf))
    arguments = ("release", "I.999", "I.1000", "--data", picture_folder, "-o", shelf)
    done = rdc(*arguments)
    assert done.code == 3 and "I.999.md" in done.message and not (shelf / "I.1000.safetensors").exists()
    (shelf / "I.999.md").write_text("# I.999\n", encoding="utf-8")
    done = rdc(*arguments)
    assert done.code == 0 and (shelf / "I.1000.md").is_file()
    old, new = (read_weights(shelf / f"{tag}.safetensors") for tag in ("I.999", "I.1000"))
    shortcut = "synthesis.shortcut.weight"  # never narrower, whichever channels of random networks are always zero
    assert np.array_equal(new.raw[shortcut], old.raw[shortcut]) and new.tables.hash() != old.tables.hash()


def test_a_tag_needs_photographs(rdc: Rdc, work: Path) -> None:
    done = rdc("release", "I.999", "I.1000", "-o", work / "shelf")
    assert done.code == 2 and "--data" in done.message and not (work / "shelf").exists()


def test_a_tag_that_is_not_here(rdc: Rdc, work: Path, picture_folder: Path) -> None:
    done = rdc("release", "I.998", "I.1000", "--data", picture_folder, "-o", work / "shelf")
    assert done.code == 4 and not (work / "shelf").exists()
