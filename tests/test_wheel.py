"""The wheel alone, beside nothing but what it says it needs, compresses and decodes a photograph."""

import os
import re
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement

from rdcodec.models.weights import released

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip")
OFFLINE = ("--quiet", "--no-index", "--disable-pip-version-check")


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RDCODEC", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def needed(requirement: Requirement, found: dict[str, frozenset[str]]) -> None:
    """Adds to `found` the packages, each with its extras, that a requirement brings with it."""
    name, before = re.sub("[-_.]+", "-", requirement.name).lower(), frozenset[str]()
    if name in found:
        before = found[name]
        if requirement.extras <= before:
            return
    found[name] = before | requirement.extras
    for line in distribution(name).requires or []:
        further = Requirement(line)
        if not further.marker or any(further.marker.evaluate({"extra": extra}) for extra in ("", *found[name])):
            needed(further, found)


def link(name: str, folder: Path) -> None:
    """Puts an installed package into another environment's folder of packages."""
    package = distribution(name)
    for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
        if not (folder / top).exists():
            (folder / top).symlink_to(PurePath(package.locate_file(top)))


@pytest.mark.skipif("I.7" not in released(), reason="weights of I are not in this checkout")
def test_wheel_works_alone(tmp_path: Path) -> None:
    built = tmp_path / "dist"
    run(*PIP, "wheel", *OFFLINE, "--no-deps", "--no-build-isolation", "--wheel-dir", built, ROOT, cwd=tmp_path)
    (wheel,) = built.glob("rdcodec-*.whl")
    assert wheel.stat().st_size < 40_000_000  # package indexes take 100 MB

    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    run(*PIP, "--python", python, "install", *OFFLINE, "--no-deps", wheel, cwd=tmp_path)
    found: dict[str, frozenset[str]] = {}
    (metadata,) = packages.glob("rdcodec-*.dist-info/METADATA")
    for line in re.findall("^Requires-Dist: (.*)$", metadata.read_text(encoding="utf-8"), re.MULTILINE):
        if "extra ==" not in line:
            needed(Requirement(line), found)
    assert not {"torch", "numba", "pytest"} & found.keys()
    for name in found:
        link(name, packages)
    run(*PIP, "--python", python, "check", "--disable-pip-version-check", cwd=tmp_path)

    run(python, "-c", "import rdcodec; assert 'env' in rdcodec.__file__, rdcodec.__file__", cwd=tmp_path)
    photo = ROOT / "src" / "rdcodec" / "data" / "astronaut.png"
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    rdc = tmp_path / "env" / "bin" / "rdc"
    run(rdc, "compress", "photo.png", "-q", "50", "--verify", cwd=tmp_path)
    run(rdc, "decompress", "photo.rdc", "-o", "decoded.png", cwd=tmp_path)
    assert (tmp_path / "photo.rdc").stat().st_size < photo.stat().st_size / 5
    shown = run(rdc, "compare", "photo.rdc", "photo.png", "--json", cwd=tmp_path)
    assert '"psnr_db"' in shown
