"""What the base installation does, and what it says of the rest: here torch cannot be found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import command

HIDING = """
import sys
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name="torch")
sys.meta_path.insert(0, Hiding())
from rdcodec.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def rdc(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = command()["env"]
    return subprocess.run(
        [sys.executable, "-c", HIDING, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_files_are_coded_decoded_and_compared(coded: Path) -> None:
    for arguments in (
        ("compress", "photo.png", "-o", "other.rdc", "--verify"),
        ("compress", "photo.png", "-o", "small.rdc", "--target-size", "700B"),
        ("info", "other.rdc"),
        ("decompress", "other.rdc", "-o", "other.png"),
        ("compare", "other.rdc", "photo.png"),
    ):
        done = rdc(*arguments)
        assert done.returncode == 0, done.stderr


def test_models_are_listed_with_what_they_compute() -> None:
    done = rdc("models", "--json")
    records = {record["name"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0 and set(records) > {"A", "H", "I", "J"}
    assert records["I"]["kflops_per_px"] == 20.3 and all(record["parameters"] for record in records.values())


@pytest.mark.parametrize(
    "arguments",
    [
        ("compress", "photo.png", "-o", "new", "--effort", "2"),
        ("compress", "photo.png", "-o", "new", "-m", "G.1"),
        ("flops", "I"),
        ("bench", "I"),
        ("train", "J", "--steps", "0", "-o", "new"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_torch_says_so_in_a_line(coded: Path, arguments: tuple[str, ...]) -> None:
    done = rdc(*arguments)
    assert done.returncode == 4, done.stderr
    assert done.stderr.count("\n") == 1 and "rdcodec[train]" in done.stderr
    assert not Path("new").exists() and not list(Path().glob(".rdc-*"))
