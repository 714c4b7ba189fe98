"""A picture to sections of a file and back."""

import numpy as np
import pytest
from numpy.typing import NDArray

import rdcodec
from rdcodec.codec import colour, sections
from rdcodec.codec.container import ALPHA, EXIF, GREY, ICC, XMP, Section, read_header
from rdcodec.codec.picture import Picture
from rdcodec.codec.sections import picture_of, sections_of
from rdcodec.errors import BadInput

PIXELS = np.random.default_rng(1).integers(0, 256, (13, 21, 3), dtype=np.uint8)
NOISE = np.random.default_rng(2).integers(0, 256, (13, 21), dtype=np.uint8)
EXIF_BYTES = b"II*\0\x08\0\0\0\1\0\x0f\1\2\0\4\0\0\0rdc\0\0\0\0\0"
WHOLE = Picture(PIXELS, NOISE, True, colour.of_code_points(12, 13), EXIF_BYTES, b"<x/>")


def same(a: Picture, b: Picture) -> bool:
    return (
        (a.grey, a.icc, a.exif, a.xmp) == (b.grey, b.icc, b.exif, b.xmp)
        and np.array_equal(a.pixels, b.pixels)
        and (a.alpha is b.alpha is None or np.array_equal(a.alpha, b.alpha))
    )


def test_a_whole_picture_goes_through_sections() -> None:
    found = sections_of(WHOLE)
    assert [section.id for section in found] == [ICC, EXIF, XMP, GREY, ALPHA]
    assert same(picture_of(PIXELS, found), WHOLE)
    assert sections_of(Picture(PIXELS)) == () and same(picture_of(PIXELS, ()), Picture(PIXELS))


@pytest.mark.parametrize(
    "alpha",
    [NOISE, np.zeros((13, 21), np.uint8), np.zeros((1, 1), np.uint8), np.tri(300, 20, dtype=np.uint8) * 255],
    ids=["noise", "nothing", "pixel", "edge"],
)
def test_alpha_is_exact_in_tiles_of_any_size(alpha: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.zeros((*alpha.shape, 3), np.uint8)
    whole = sections_of(Picture(pixels, alpha))
    assert np.array_equal(picture_of(pixels, whole).alpha, alpha)
    monkeypatch.setattr(sections, "TILE", 8)
    parts = sections_of(Picture(pixels, alpha))
    assert np.array_equal(picture_of(pixels, parts).alpha, alpha)


def test_alpha_wider_than_a_webp_file_can_be() -> None:
    alpha = np.arange(2 * 16_390, dtype=np.uint32).reshape(2, 16_390).astype(np.uint8)
    pixels = np.zeros((*alpha.shape, 3), np.uint8)
    assert np.array_equal(picture_of(pixels, sections_of(Picture(pixels, alpha))).alpha, alpha)


def test_a_larger_picture_than_announced_is_refused_before_it_is_decompressed() -> None:
    bomb = np.zeros((16_000, 16_000), np.uint8)  # a few hundred bytes of WebP
    (section,) = sections_of(Picture(np.empty((0, 0, 3), np.uint8), bomb))
    assert len(section.payload) < 10_000
    with pytest.raises(BadInput, match="transparency is not as it was coded"):
        picture_of(PIXELS, [section])


def test_every_byte_of_alpha_changed_is_refused_or_decodes() -> None:
    (section,) = sections_of(Picture(PIXELS, NOISE))
    refused = 0
    for at in range(len(section.payload)):
        hurt = bytearray(section.payload)
        hurt[at] ^= 1 << at % 8
        try:
            alpha = picture_of(PIXELS, [Section(ALPHA, bytes(hurt))]).alpha
        except BadInput:
            refused += 1
        else:
            assert alpha is not None and alpha.shape == NOISE.shape
    assert refused > 20


def test_what_cannot_be_used_is_dropped_with_a_note() -> None:
    grey_profile = Section(ICC, b"of a later version")
    large = Section(XMP, bytes(sections.metadata.MAX_BYTES + 1))
    back = picture_of(PIXELS, [grey_profile, Section(EXIF, b"garbage"), large, Section(99, b"?")])
    assert same(back, Picture(PIXELS))
    assert [note.split(" ")[0] for note in back.notes] == ["section", "the", "EXIF"]


def test_the_first_of_several_counts() -> None:
    assert picture_of(PIXELS, [Section(XMP, b"first"), Section(XMP, b"second")]).xmp == b"first"


def test_files_carry_sections_and_targets_count_them() -> None:
    codec = rdcodec.load("J")
    carried = sections_of(WHOLE)
    data = codec.compress(PIXELS, sections=carried)
    header = read_header(data).header
    plain = codec.compress(PIXELS, header.quality / 10)  # which a profile may have raised
    assert header.sections == carried
    assert np.array_equal(codec.decompress(data), codec.decompress(plain))
    size = len(data) + 20
    coded = codec.encode_target(PIXELS, file_bytes=size, sections=carried)
    assert len(coded.data) <= size and read_header(coded.data).header.sections == carried
    assert rdcodec.decompress(data).shape == (13, 21, 4)
