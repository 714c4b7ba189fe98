"""Every awkward picture of cases.py comes to what is expected of it, in its true colours; the page says the same."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import rdcodec
from cases import PROFILES, cases, decode, outcome, page, psnr_db, row
from rdcodec.codec.container import read_header
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import read_picture
from rdcodec.codec.picture_writer import encode_picture
from rdcodec.codec.sections import picture_of, sections_of
from rdcodec.errors import BadInput, NeedsModel

PAGE = Path(__file__).parents[1] / "docs" / "results" / "cases.md"
ANEW = "python tests/cases.py docs/results/cases.md writes it anew"
LEAST_DB = 27  # of quality 90 on these pictures, or on their 4:2:0; wrong colours give 10 to 20


@pytest.mark.parametrize("name", cases())
def test_a_case_comes_to_what_is_expected(name: str, tmp_path: Path) -> None:
    case = cases()[name]
    result = outcome(name, tmp_path)
    assert result.words.startswith(case.found or case.expected)
    assert row(name, result) in PAGE.read_text().splitlines(), ANEW
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    assert all(re.match(r"coded\.rdc  |  note: |rdc: ", line) for line in lines) and lines, "nothing raw from a library"
    if result.coded is None:
        assert [path.name for path in tmp_path.iterdir()] == [name]
        return
    decoded = decode(result.coded)
    assert case.truth is None or psnr_db(case.truth, decoded) > LEAST_DB
    assert (decoded.alpha is None) == (case.alpha is None)
    assert case.alpha is None or np.array_equal(decoded.alpha, case.alpha)


@pytest.mark.parametrize("name", ["p3", "adobergb", "brg"])
def test_a_photograph_keeps_its_colours_with_any_profile(name: str) -> None:
    """Against the same photograph in sRGB: as good if converted, nearly as good with its profile kept."""
    with Image.open(Path(rdcodec.__file__).parent / "data" / "astronaut.png") as image:
        photo = image.convert("RGB").crop((100, 0, 356, 256))
    true, icc, codec = np.asarray(photo), PROFILES[name], rdcodec.load("J")
    profiles = [ImageCms.ImageCmsProfile(io.BytesIO(data)) for data in (PROFILES["srgb"], icc)]
    stored = ImageCms.profileToProfile(photo, *profiles, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    assert stored is not None

    def coded_db(picture: Picture) -> float:
        data = codec.compress(picture.pixels, 70, sections=sections_of(picture))
        back = picture_of(codec.decompress(data), read_header(data).header.sections)
        assert back.icc == picture.icc
        return float(10 * np.log10(255**2 / np.mean((back.in_srgb().pixels.astype(float) - true) ** 2)))

    in_srgb, wide = coded_db(Picture(true)), Picture(np.asarray(stored), icc=icc)
    assert coded_db(wide.in_srgb()) > in_srgb - 0.1
    # The quality is raised for a profile. Profiles that are dropped cost 4 to 20 dB.
    assert coded_db(wide) > in_srgb - 0.15


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it skips
@pytest.mark.parametrize("seed", range(4))
def test_hurt_cases_are_read_or_refused_in_one_line(seed: int) -> None:
    """Bytes changed, cut out or put in: no exception but ours, whatever is allowed."""
    rng, files = np.random.default_rng(seed), [case.data for case in cases().values() if len(case.data) > 100]
    for _ in range(60):
        data = bytearray(files[rng.integers(len(files))])
        for _ in range(3):
            at = int(rng.integers(min(len(data), 600)))
            change = rng.integers(0, 256, rng.integers(8), dtype=np.uint8).tobytes()
            data[at : at + int(rng.integers(8))] = change
        for allow_damaged in (False, True):
            try:
                picture = read_picture(bytes(data), 1_000_000, allow_damaged=allow_damaged)
            except (BadInput, NeedsModel) as error:
                assert "\n" not in str(error)
            else:
                assert encode_picture(picture, "tiff")


def test_the_page_has_a_row_for_each_case() -> None:
    """Each row is compared with what becomes of its case above."""
    text = PAGE.read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in rows] == list(cases()), ANEW
    assert text == page(rows), ANEW
