"""The wheel alone, in an empty environment outside the checkout, compresses and decodes a photograph."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from rdcodec.models.weights import released

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "RDCODEC", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


@pytest.mark.skipif("I.3" not in released(), reason="weights of I are not in this checkout")
def test_wheel_works_alone(tmp_path: Path) -> None:
    built = tmp_path / "dist"
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, ROOT, cwd=tmp_path)
    (wheel,) = built.glob("rdcodec-*.whl")
    assert wheel.stat().st_size < 40_000_000  # package indexes take 100 MB
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt")
    run(python, *install, wheel, cwd=tmp_path)
    run(python, "-c", "import rdcodec; assert 'env' in rdcodec.__file__, rdcodec.__file__", cwd=tmp_path)
    photo = ROOT / "src" / "rdcodec" / "data" / "astronaut.png"
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    rdc = tmp_path / "env" / "bin" / "rdc"
    run(rdc, "compress", "photo.png", "-q", "50", "--verify", cwd=tmp_path)
    run(rdc, "decompress", "photo.rdc", "-o", "decoded.png", cwd=tmp_path)
    assert (tmp_path / "photo.rdc").stat().st_size < photo.stat().st_size / 5
    shown = run(rdc, "compare", "photo.rdc", "photo.png", "--json", cwd=tmp_path)
    assert '"psnr_db"' in shown
