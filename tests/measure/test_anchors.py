"""One law for every anchor: files decode to their shape, and grow and improve as the setting rises."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, features

from rdcodec.errors import NeedsModel, RdcError
from rdcodec.measure import anchors
from rdcodec.measure.anchors import ANCHORS, Anchor, at_file_bytes, shown_name
from rdcodec.measure.reading import builtin_curves, load_curve
from rdcodec.metrics import psnr_db

Picture = NDArray[np.uint8]


HALVED = {"jpeg", "jpeg_default", "mozjpeg", "webp", "webp_m4", "avif420", "avif_eye", "vvenc"}
PROGRAMS = {"cjxl", "mozjpeg", "bpg", "vvenc", "vtm"}


def _picture(height: int, width: int) -> Picture:
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


def _installed(anchor: Anchor) -> bool:
    try:
        return bool(anchor.version())
    except NeedsModel:
        return False


@pytest.fixture(params=list(ANCHORS))
def anchor(request: pytest.FixtureRequest) -> Anchor:
    """Each anchor whose tool is here."""
    found = ANCHORS[request.param]
    if not _installed(found):
        pytest.skip(f"{found.name}: its tool is not installed")
    return found


@pytest.mark.parametrize(("height", "width"), [(64, 96), (67, 93), (33, 32)])
def test_shape_and_type_come_back(anchor: Anchor, height: int, width: int) -> None:
    image = _picture(height, width)
    decoded = anchor.decode(anchor.encode(image, anchor.scale[-1]))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert psnr_db(image, decoded) > 30


def test_rate_and_quality_rise_with_the_setting(anchor: Anchor) -> None:
    image = _picture(224, 224)
    files = [anchor.encode(image, setting) for setting in anchor.settings]
    sizes = [len(data) for data in files]
    quality = [psnr_db(image, anchor.decode(data)) for data in files]
    assert sizes == sorted(set(sizes))
    assert quality == sorted(set(quality))


def test_settings_lie_on_the_scale(anchor: Anchor) -> None:
    assert set(anchor.settings) <= set(anchor.scale)
    assert len(anchor.settings) >= 8
    for end in (anchor.scale[0], anchor.scale[-1]):
        assert anchor.encode(_picture(32, 32), end)


def test_chroma_is_kept_where_the_name_says_so(anchor: Anchor) -> None:
    """One-pixel stripes of red and blue: gone in 4:2:0 at any quality, kept in 4:4:4."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2, 0] = stripes[:, 1::2, 2] = 200
    decoded = anchor.decode(anchor.encode(stripes, anchor.scale[-1]))
    assert (psnr_db(stripes, decoded) > 20) == (anchor.name not in HALVED)


def test_jpeg_file_is_420() -> None:
    picture = Image.open(io.BytesIO(ANCHORS["jpeg"].encode(_picture(32, 32), 50)))
    assert JpegImagePlugin.get_sampling(picture) == 2


def test_jpeg2000_file_has_the_colour_transform() -> None:
    data = ANCHORS["jpeg2000"].encode(_picture(32, 32), 100)
    coding_style = data.index(b"\xff\x52")  # ISO 15444-1, A.6.1: length, style, progression, layers, transform
    assert data[coding_style + 8] == 1


def test_version_names_library_and_wrapper(anchor: Anchor) -> None:
    assert any(character.isdigit() for character in anchor.version())
    assert anchor.name in PROGRAMS or "illow" in anchor.version()
    assert anchor.version() in anchor.tag() and anchor.summary in anchor.tag()


def test_picture_too_small_for_x265_is_refused() -> None:
    if not _installed(ANCHORS["x265_444"]):
        pytest.skip("x265_444: its tool is not installed")
    with pytest.raises(RdcError, match="31x40 is too small"):
        ANCHORS["x265_444"].encode(_picture(40, 31), 50)


def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(anchors, "import_module", no_module)
    for call in (ANCHORS["x265_444"].version, lambda: ANCHORS["x265_444"].encode(_picture(40, 40), 50)):
        with pytest.raises(NeedsModel, match="pip install"):
            call()


def test_missing_part_of_pillow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "version", lambda feature: None)
    with pytest.raises(NeedsModel, match="libavif"):
        ANCHORS["avif444"].version()


def _toy(sizes: list[int]) -> Anchor:
    """An anchor whose files have the sizes given."""
    return Anchor(
        name="toy",
        label="Toy",
        summary="",
        scale=range(10, 10 + len(sizes)),
        settings=(10,),
        encode=lambda image, setting: bytes(sizes[setting - 10]),
        decode=lambda data: np.zeros((1, 1, 3), np.uint8),
        version=lambda: "1",
    )


@pytest.mark.parametrize("sizes", [[5], [5, 8], [1, 2, 3, 5, 8, 13], [3, 3, 3, 9, 9]])
def test_largest_file_within_a_target(sizes: list[int]) -> None:
    image = np.zeros((1, 1, 3), np.uint8)
    for target in range(sizes[0], sizes[-1] + 2):
        setting, data = at_file_bytes(_toy(sizes), image, target)
        fitting = [index for index, size in enumerate(sizes) if size <= target]
        assert (setting, len(data)) == (10 + fitting[-1], sizes[fitting[-1]])


def test_target_that_no_setting_reaches() -> None:
    with pytest.raises(RdcError, match="toy: no setting gives 4 bytes"):
        at_file_bytes(_toy([5, 8]), np.zeros((1, 1, 3), np.uint8), 4)


def test_target_with_a_real_codec() -> None:
    image = _picture(64, 64)
    setting, data = at_file_bytes(ANCHORS["webp"], image, 600)
    assert data == ANCHORS["webp"].encode(image, setting)
    assert 300 < len(data) <= 600


def test_tables_call_a_codec_as_its_built_in_curve_is_called() -> None:
    """Labels differ, so that rows do, and a curve that comes with the package has the label of what made it."""
    labels = [anchor.label for anchor in ANCHORS.values()]
    assert len(set(labels)) == len(labels)
    local = {name: load_curve(name).name for name in builtin_curves() if name.startswith("kodak_")}
    assert local and set(local.values()) <= set(labels)
    assert shown_name("avif_eye") == "AVIF for the eye (libaom, Pillow)" and shown_name("mine") == "mine"
