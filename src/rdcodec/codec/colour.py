"""Colour: profiles read, made from numbers, and used. Conversions are LittleCMS's, by way of Pillow."""

import functools
import io
import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdcodec.errors import BadInput

if TYPE_CHECKING:
    from PIL import ImageCms  # imported where it is used: few pictures need it

HDR = "is HDR (PQ or HLG), which is not supported: convert it to an SDR picture first"
_PQ, _HLG = 16, 18  # transfer characteristics of ITU-T H.273
_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D65, _DCI, _D50 = (0.3127, 0.3290), (0.314, 0.351), (0.9642, 1.0, 0.8249)
_PRIMARIES = {  # H.273: x and y of red, green and blue; white
    1: (_SRGB, _D65),
    5: ((0.64, 0.33, 0.29, 0.60, 0.15, 0.06), _D65),
    6: ((0.63, 0.34, 0.31, 0.595, 0.155, 0.07), _D65),
    9: ((0.708, 0.292, 0.170, 0.797, 0.131, 0.046), _D65),
    11: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), _DCI),
    12: ((0.680, 0.320, 0.265, 0.690, 0.150, 0.060), _D65),
}
_CURVES = {1: None, 6: None, 13: None, 14: None, 15: None, 4: 2.2, 5: 2.8, 8: 1.0}  # exponent; None: that of sRGB
_UNSAID = (0, 2)  # H.273: reserved, unspecified


@functools.lru_cache(maxsize=4)
def space(icc: bytes | None) -> str | None:
    """The space that a profile is for: RGB, GRAY, CMYK, ...; None for what cannot be read or used."""
    if not icc:
        return None
    from PIL import ImageCms

    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        named: str = profile.profile.xcolor_space.strip()
        if mode := {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(named):
            ImageCms.buildTransform(profile, _srgb(), mode, "RGB")  # tags are read only now
    except (OSError, ImageCms.PyCMSError):
        return None
    return named or None


def is_hdr(icc: bytes) -> bool:
    """Whether a profile's own code points (tag cicp of ICC.1:2022) say PQ or HLG."""
    count = int.from_bytes(icc[128:132])
    for place in range(132, min(132 + 12 * count, len(icc) - 11), 12):
        if icc[place : place + 4] == b"cicp":
            start = int.from_bytes(icc[place + 4 : place + 8])
            return len(icc) > start + 9 and icc[start + 9] in (_PQ, _HLG)
    return False


def to_srgb(pixels: NDArray[np.uint8], icc: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 3), or (H, W) of a profile for grey, to sRGB (H, W, 3): relative colorimetric, black kept black."""
    return _converted(Image.fromarray(pixels), icc)


def from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[NDArray[np.uint8], str]:
    """CMYK to sRGB (H, W, 3), by the profile or without one by plain arithmetic; and what was done, in words."""
    if icc is None:
        return np.array(
            image.convert("RGB")
        ), "CMYK without a profile is converted by plain arithmetic: colours may be off"
    return _converted(image, icc), "CMYK is converted to sRGB by its profile"


def of_code_points(primaries: int, transfer: int) -> bytes | None:
    """A profile for code points of H.273; None for sRGB and what says nothing. BadInput for HDR and unknown ones."""
    if transfer in (_PQ, _HLG):
        raise BadInput(HDR)
    if primaries in _UNSAID and transfer in _UNSAID:
        return None
    primaries = 1 if primaries in _UNSAID else primaries
    transfer = 13 if transfer in _UNSAID else transfer
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise BadInput(f"has colour primaries {primaries} and transfer {transfer} of H.273, which are not supported")
    points, white = _PRIMARIES[primaries]
    if primaries == 1 and _CURVES[transfer] is None:
        return None
    return matrix_profile(points, white, _CURVES[transfer])


def of_nclx(head: bytes) -> bytes | None:
    """A profile for what the colour box of an AVIF or HEIC file says, as `of_code_points`."""
    place = head.find(b"colrnclx")
    if place < 0 or len(head) < place + 12:
        return None
    return of_code_points(*struct.unpack_from(">HH", head, place + 8))


def of_gamma(gamma: bytes | None, chromaticities: bytes | None) -> bytes | None:
    """A profile for PNG's gAMA and cHRM; None where they say sRGB, nothing, or nothing that can be."""
    exponent = None
    if gamma is not None and len(gamma) == 4 and (value := int.from_bytes(gamma)):
        exponent = None if abs(value - 45455) < 500 else 100_000 / value
    points, white = _SRGB, _D65
    if chromaticities is not None and len(chromaticities) == 32:
        x, y, *rest = (value / 100_000 for value in struct.unpack(">8i", chromaticities))
        points, white = tuple(rest), (x, y)
    if exponent is None and np.allclose((*points, *white), (*_SRGB, *_D65), atol=0.002):
        return None
    try:
        return matrix_profile(points, white, exponent)
    except (np.linalg.LinAlgError, ZeroDivisionError, struct.error):
        return None


def _converted(image: Image.Image, icc: bytes) -> NDArray[np.uint8]:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    converted = ImageCms.profileToProfile(image, profile, _srgb(), intent, "RGB", flags=flags)
    assert converted is not None
    return np.array(converted)


@functools.cache
def _srgb() -> "ImageCms.ImageCmsProfile":
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def matrix_profile(points: tuple[float, ...], white: tuple[float, float], exponent: float | None) -> bytes:
    """A matrix profile (ICC.1:2010, version 4.3) of primaries, white, and an exponent or the curve of sRGB."""
    matrix = _adapted(points, white)
    numbers = (exponent,) if exponent else (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curve = b"para\0\0\0\0" + struct.pack(">H2x", 0 if exponent else 3) + _fixed(*numbers)
    tags = {
        b"desc": _words("as the picture says in numbers"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50),
        b"cprt": _words("none"),
        b"rXYZ": b"XYZ \0\0\0\0" + _fixed(*matrix[:, 0]),
        b"gXYZ": b"XYZ \0\0\0\0" + _fixed(*matrix[:, 1]),
        b"bXYZ": b"XYZ \0\0\0\0" + _fixed(*matrix[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    start = 128 + 4 + 12 * len(tags)
    table, body, places = b"", b"", dict[bytes, int]()
    for tag, payload in tags.items():
        if payload not in places:
            places[payload] = start + len(body)
            body += payload + bytes(-len(payload) % 4)
        table += tag + struct.pack(">II", places[payload], len(payload))
    head = struct.pack(">I4xI", start + len(body), 0x04300000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(*_D50) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def _adapted(points: tuple[float, ...], white: tuple[float, float]) -> NDArray[np.float64]:
    """Columns XYZ of red, green and blue under D50, adapted by Bradford's method."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(points[::2], points[1::2], strict=True)]).T
    of_white = np.array([white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]])
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    gains = np.diag(bradford @ _D50 / (bradford @ of_white))
    adapted: NDArray[np.float64] = np.linalg.inv(bradford) @ gains @ bradford @ (xyz * np.linalg.solve(xyz, of_white))
    return adapted


def _fixed(*values: float) -> bytes:
    """Numbers as s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _words(text: str) -> bytes:
    """A text as multiLocalizedUnicode."""
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")
