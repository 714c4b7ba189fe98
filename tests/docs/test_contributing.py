"""What CONTRIBUTING.md says where to find is there."""

import re
from pathlib import Path

import rdcodec

PACKAGE = Path(rdcodec.__file__).parent
PAGE = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_registry_is_where_the_page_says() -> None:
    named = re.findall(r"`([A-Z_]{4,})` (?:in|of)\s+`([\w/]+\.py)`", PAGE)
    assert {"FIGURES", "ANCHORS", "METRICS", "QUANTISERS"} <= {name for name, _ in named}
    for name, file in named:
        assert re.search(rf"^{name}\b", (PACKAGE / file).read_text(encoding="utf-8"), re.M), f"{name} in {file}"


def test_every_file_of_the_package_is_there() -> None:
    files = re.findall(r"`((?:\w+/)+\w+\.py)`", PAGE)
    assert [file for file in files if not any((root / file).exists() for root in (PACKAGE, PACKAGE.parents[1]))] == []
