"""The page of results and its tables are what `make results` writes from the result files beside them."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from rdcodec.cli.main import main
from rdcodec.models.weights import PACKAGED

ROOT = Path(__file__).parents[2]


def test_results_come_from_the_result_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / "Makefile").exists():
        pytest.skip("no checkout")
    told = subprocess.run(["make", "-n", "results"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = re.search(r"^\S*/rdc (report .*)$", told, re.MULTILINE)
    assert command, told
    words = shlex.split(command[1])
    at = words.index("--output")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("rdcodec.report.files.render", lambda figure, stem: {})  # pictures are not compared
    assert main([*words[:at], "--output", str(tmp_path)]) == 0
    kept = ROOT / words[at + 1]
    written = sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".md", ".csv", ".tex"))
    assert "results.md" in written and "table1-kodak.csv" in written
    changed = [name for name in written if (kept / name).read_text("utf-8") != (tmp_path / name).read_text("utf-8")]
    assert not changed, f"{changed}: run make results"


def test_tables_have_the_cost_of_the_weights_that_are_here() -> None:
    """What a decoder computes and what training cost, of the packaged tags."""
    path = ROOT / "docs" / "results" / "models.json"
    if not path.exists():
        pytest.skip("no checkout")
    kept = {(result["kind"], result["tag"]) for result in json.loads(path.read_text("utf-8"))["results"]}
    wanted = {(kind, file.stem) for kind in ("count", "training") for file in PACKAGED.glob("*.safetensors")}
    assert wanted and wanted <= kept
