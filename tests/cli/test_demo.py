"""demo: its files are what its table says."""

from pathlib import Path

import numpy as np

import rdcodec
from conftest import Rdc, listing
from rdcodec.codec.image import read_image

FILES = ["astronaut.rdc", "comparison.png", "decoded.png", "original.png"]


def test_demo_writes_what_it_says(rdc: Rdc, work: Path) -> None:
    done = rdc("demo", "-o", "out")
    assert done.code == 0, done.err
    assert listing(work / "out") == FILES
    original, decoded = (read_image(Path("out", f"{name}.png")) for name in ("original", "decoded"))
    data = Path("out/astronaut.rdc").read_bytes()
    assert original.shape == decoded.shape == (512, 512, 3)
    assert np.array_equal(decoded, rdcodec.decompress(data))
    rows = [line.split() for line in done.out.splitlines()]
    assert ["rdcodec", "I", "q50", str(len(data))] in [row[:4] for row in rows]
    sizes = {"rdcodec": 0, "WebP": 0, "JPEG": 0}
    for row in rows:  # a rival's file is never larger than ours above it
        if row and row[0] == "rdcodec":
            sizes["rdcodec"] = int(row[3])
        elif row and row[0] in sizes:
            assert int(row[2]) <= sizes["rdcodec"]
    sheet = read_image(Path("out/comparison.png"))
    assert sheet.shape[0] > 1000 and sheet.shape[1] > 700


def test_demo_overwrites_only_with_force(rdc: Rdc, work: Path) -> None:
    Path("out").mkdir()
    Path("out/decoded.png").write_text("precious")
    done = rdc("demo", "-o", "out")
    assert done.code == 2 and "decoded.png" in done.message
    assert listing(work / "out") == ["decoded.png"]
    assert rdc("demo", "-o", "out", "--force").code == 0
    assert listing(work / "out") == FILES
