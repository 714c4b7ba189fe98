"""A picture with all that a `.rdc` file can hold. `picture_reader.py` reads one, `picture_writer.py` writes it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from rdcodec.codec import colour
from rdcodec.errors import BadInput, UsageError

Pixels = NDArray[np.uint8]

MAX_PIXELS = 100_000_000
MAX_SIDE = 1 << 24  # the container's limit


@dataclass(frozen=True)
class Picture:
    """A picture upright, as read or to be written. Arrays are shared, not copied: do not write to them."""

    pixels: Pixels  # (H, W, 3); equal channels if the picture was grey when read
    alpha: Pixels | None = None  # (H, W), 0 transparent, not multiplied into the pixels; None: opaque
    grey: bool = False
    icc: bytes | None = None  # the profile of the pixels; None: sRGB
    exif: bytes | None = None  # a TIFF structure, without "Exif\0\0"; its orientation is 1
    xmp: bytes | None = None
    notes: tuple[str, ...] = ()  # what reading changed, each a clause for the person

    @property
    def array(self) -> Pixels:
        """uint8 (H, W) if grey and opaque, (H, W, 3), or (H, W, 4) with alpha."""
        if self.alpha is not None:
            return np.dstack([self.pixels, self.alpha])
        return luma(self.pixels) if self.grey else self.pixels

    def stripped(self) -> "Picture":
        """Without EXIF and XMP."""
        return replace(self, exif=None, xmp=None)

    def in_srgb(self) -> "Picture":
        """Converted by its profile, which is then gone. What sRGB cannot show is clipped."""
        if self.icc is None:
            return self
        pixels = shown(self.pixels, self.icc)
        if self.grey:
            pixels = luma(pixels)[..., None].repeat(3, 2)
        return replace(self, pixels=pixels, icc=None)

    def on(self, background: str) -> "Picture":
        """Flattened onto a colour: a name or #rrggbb, in the picture's own space. UsageError for no colour."""
        red, green, blue = check_colour(background)
        if self.alpha is None:
            return self
        colours = np.array([red, green, blue], np.float32)
        share = self.alpha[..., None] / np.float32(255)
        mixed = self.pixels * share + colours * (1 - share)
        grey = self.grey and red == green == blue
        return replace(self, pixels=np.rint(mixed).astype(np.uint8), alpha=None, grey=grey)


def check_colour(text: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour's name or #rrggbb; UsageError for what is none."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UsageError(f"{text!r} is not a colour: write white or #ffffff") from None
    return red, green, blue


def shown(pixels: Pixels, icc: bytes) -> Pixels:
    """Samples (H, W, 3) of a profile in sRGB; of one of grey by their luma."""
    return colour.to_srgb(luma(pixels) if colour.space(icc) == "GRAY" else pixels, icc)


def luma(pixels: Pixels) -> Pixels:
    """uint8 (H, W, 3) to grey (H, W), by Rec. 601 weights in 16 bits as Pillow has them."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def check_size(width: int, height: int, max_pixels: int) -> None:
    """BadInput for a picture without pixels or beyond the limits."""
    if width < 1 or height < 1:
        raise BadInput(f"has no pixels ({width}x{height})")
    if max(width, height) > MAX_SIDE:
        raise BadInput(f"{width}x{height} is more than {MAX_SIDE} pixels along a side: crop it first")
    if width * height > max_pixels:
        raise BadInput(f"{width}x{height} is more than {max_pixels} pixels: raise --max-pixels if you trust it")
