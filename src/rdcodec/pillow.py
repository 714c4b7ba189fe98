"""A plug-in for Pillow: importing this module lets `Image.open` read `.rdc` files and `save` write them.

    image = Image.open("photo.rdc")  # size and mode; pixels are decoded when they are needed
    image.save("again.rdc", quality=50, model="I", effort=1, exif=image.info.get("exif"))

As with JPEG, EXIF and XMP are saved if given; the colour profile is that of the picture, or `icc_profile`. Pixels are
turned as EXIF says, which then says that they are upright. An error is an OSError, or a ValueError for an option that
cannot be meant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from rdcodec.codec import api
from rdcodec.codec.container import MAGIC, MAX_PIXELS, unpack
from rdcodec.codec.picture_reader import of_pillow
from rdcodec.codec.pipeline import load
from rdcodec.codec.sections import sections_of
from rdcodec.errors import RdcError, UsageError

FORMAT = "RDC"
MIME = "image/x-rdc"


class RdcImageFile(ImageFile.ImageFile):
    """An `.rdc` file, not decoded before its pixels are needed."""

    format = FORMAT
    format_description = "rdcodec"

    def _open(self) -> None:
        assert self.fp is not None
        self._data = self.fp.read()
        try:
            info = api.info(self._data)
        except RdcError as error:
            raise UnidentifiedImageError(str(error)) from error
        self._size = info.width, info.height
        self._mode = ("LA" if info.grey else "RGBA") if info.transparent else ("L" if info.grey else "RGB")
        metadata = {"icc_profile": info.icc, "exif": info.exif, "xmp": info.xmp}
        self.info.update({name: value for name, value in metadata.items() if value is not None})
        self.tile = [ImageFile._Tile("rdc", (0, 0, *self.size), 0, self.mode)]  # there while nothing is decoded

    def verify(self) -> None:
        """OSError unless every checksum holds; nothing is decoded."""
        with _pillows_errors():
            unpack(self._data, self._max_pixels)
        super().verify()

    def load(self) -> Any:  # Pillow names no type for access to pixels
        if self.tile:
            with _pillows_errors():
                pixels = api.decompress(self._data, self._max_pixels)
            self.im = Image.fromarray(pixels).convert(self.mode).im  # grey with alpha comes in four channels
            self.tile = []
            if self.fp and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Tells Pillow that nothing but `load` decodes this: its parser of parts would, and it maps raw files."""

    @property
    def _max_pixels(self) -> int:
        """Pillow has a limit of its own, and `Image.open` has heeded it."""
        return max(MAX_PIXELS, self.width * self.height)


def register_pillow() -> None:
    """Let Pillow open and save `.rdc` files. Once is enough; importing `rdcodec.pillow` does it too."""
    Image.register_open(FORMAT, RdcImageFile, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".rdc")
    Image.register_mime(FORMAT, MIME)


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    options = {name: image.encoderinfo[name] for name in ("quality", "effort") if name in image.encoderinfo}
    with _pillows_errors():
        codec = load(image.encoderinfo.get("model", "I"))
        picture = of_pillow(image, image.encoderinfo)
        file.write(codec.compress(picture.pixels, sections=sections_of(picture), **options))


@contextmanager
def _pillows_errors() -> Iterator[None]:
    """Errors as Pillow's own formats raise them."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error)) from error
    except RdcError as error:
        raise OSError(str(error)) from error


register_pillow()
