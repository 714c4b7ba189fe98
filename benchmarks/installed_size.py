"""What `pip install` of the wheel puts into an empty environment, package by package.

    python benchmarks/installed_size.py DIST/rdcodec-*.whl --json docs/results/installed-size.json

Megabytes are of 10^6 bytes and count files, compiled modules among them, not the blocks that a file system gives them.
pip and what was there before are not counted.
"""

import argparse
import json
import subprocess
import tempfile
import venv
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from rdcodec.measure.machine import machine


def sizes(packages: Path) -> dict[str, int]:
    """Bytes of each package in a folder of them."""
    found = {}
    for package in distributions(path=[str(packages)]):
        files = [Path(str(package.locate_file(file))) for file in package.files or []]
        found[f"{package.name} {package.version}"] = sum(file.stat().st_size for file in files if file.is_file())
    return found


def measure(wheel: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder, with_pip=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        before = sizes(packages)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", wheel], check=True, stderr=subprocess.DEVNULL)
        after = sizes(packages)
        weights = sum(path.stat().st_size for path in packages.glob("rdcodec/weights/*.safetensors"))
        compiled = sum(
            path.stat().st_size
            for path in packages.rglob("__pycache__/*.pyc")
            if path.relative_to(packages).parts[0] not in ("pip", "setuptools", "pkg_resources", "__pycache__")
        )
    added = {name: size for name, size in after.items() if name not in before}
    in_mb = {name: round(size / 1e6, 2) for name, size in sorted(added.items(), key=lambda item: -item[1])}
    return {
        "wheel_mb": round(wheel.stat().st_size / 1e6, 1),
        "installed_mb": round(sum(added.values()) / 1e6, 1),
        "weights_mb": round(weights / 1e6, 1),
        "compiled_modules_mb": round(compiled / 1e6, 1),
        "packages_mb": in_mb,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    record = measure(arguments.wheel.absolute()) | {"machine": machine()}
    print(json.dumps(record, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
