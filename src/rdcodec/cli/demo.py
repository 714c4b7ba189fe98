"""demo: one photograph through the codec and back, beside JPEG and WebP at the same size."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from rdcodec.cli import io, pool
from rdcodec.errors import RdcError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from rdcodec.codec.image import Pixels
    from rdcodec.codec.pipeline import Codec
    from rdcodec.measure.anchors import Anchor

QUALITIES = (25.0, 50.0)  # the last is drawn and kept: at the first, JPEG is near its floor
RIVALS = ("webp", "jpeg")
REPEATS = 3
CROPS = ((180, 60), (125, 365))  # left, top: the face, and the patch on the suit
CROP, ZOOM = 128, 3
FILES = ("original.png", "astronaut.rdc", "decoded.png", "comparison.png")


@dataclass(frozen=True)
class Entry:
    """One codec's version of the picture."""

    label: str
    data: bytes
    decoded: "Pixels"
    psnr_db: float
    enc_s: float
    dec_s: float

    @property
    def pixels(self) -> int:
        """True pixels of the picture."""
        return self.decoded.size // 3

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * len(self.data) / self.pixels


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the files.")] = Path("demo"),
    model: Annotated[str, typer.Option("-m", "--model", metavar="MODEL", help="Name, tag or run folder (./I).")] = "I",
    threads: io.Threads = 0,
    force: io.Force = False,
    verbose: io.Verbose = 0,
) -> None:
    """Compress and decompress a photograph, and compare with JPEG and WebP files no larger.

    Needs no network and less than a minute. Writes the pictures and a comparison.

    Example: [bold]rdc demo -o demo[/bold]
    """
    for name in FILES:
        io.refuse_existing(output / name, force)
    import rdcodec
    from rdcodec.codec.image import encode_image, read_image
    from rdcodec.measure.anchors import ANCHORS

    pool.set_threads(threads)
    photo = (resources.files("rdcodec") / "data" / "astronaut.png").read_bytes()
    image = read_image(photo, name="astronaut.png")
    codec = rdcodec.load(model)
    groups: list[list[Entry]] = []
    for quality in QUALITIES:
        ours = measure_codec(codec, image, quality)
        groups.append([ours])
        for name in RIVALS:
            with contextlib.suppress(RdcError):  # its smallest file is larger than ours
                groups[-1].append(measure_rival(ANCHORS[name], image, len(ours.data)))

    drawn = groups[-1]
    contents = (
        photo,
        drawn[0].data,
        encode_image(drawn[0].decoded, "png"),
        encode_image(draw(image, drawn), "png"),
    )
    for name, content in zip(FILES, contents, strict=True):
        io.write_output(output / name, content, force)
    _show(groups, image)
    io.say(f"{output / 'astronaut.rdc'} is the file, {output / 'comparison.png'} the picture to look at")


def measure_codec(codec: "Codec", image: "Pixels", quality: float) -> Entry:
    """Our codec at one quality, timed after a first run."""
    data = codec.compress(image, quality)
    return _measure(
        f"rdcodec {codec.info.name} q{quality:g}",
        image,
        lambda: codec.compress(image, quality),
        lambda: codec.decompress(data),
    )


def measure_rival(anchor: "Anchor", image: "Pixels", file_bytes: int) -> Entry:
    """A classical codec at the best setting whose file is no larger; RdcError if it has none."""
    from rdcodec.measure.anchors import at_file_bytes

    setting, data = at_file_bytes(anchor, image, file_bytes)
    name = {"jpeg": "JPEG", "webp": "WebP"}.get(anchor.name, anchor.name)
    return _measure(f"{name} {setting}", image, lambda: anchor.encode(image, setting), lambda: anchor.decode(data))


def draw(image: "Pixels", entries: Sequence[Entry]) -> "Pixels":
    """Original and entries side by side, uint8 (H, W, 3): whole, then two magnified parts, labels on top."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    side, gap, head = CROP * ZOOM, 12, 58
    labels = [("original", f"{image.shape[1]}x{image.shape[0]}, 24 bpp")]
    labels += [(e.label, f"{len(e.data)} B, {e.bpp:.3f} bpp, {e.psnr_db:.2f} dB") for e in entries]
    pictures = [Image.fromarray(picture) for picture in (image, *(e.decoded for e in entries))]
    rows = 1 + len(CROPS)
    sheet = Image.new("RGB", (len(pictures) * (side + gap) + gap, head + rows * (side + gap)), (250, 250, 250))
    pen = ImageDraw.Draw(sheet)
    for column, ((title, note), picture) in enumerate(zip(labels, pictures, strict=True)):
        x = gap + column * (side + gap)
        pen.text((x, 8), title, fill=(20, 20, 20), font=ImageFont.load_default(22))
        pen.text((x, 36), note, fill=(90, 90, 90), font=ImageFont.load_default(15))
        for row, part in enumerate(_parts(picture, side)):
            sheet.paste(part, (x, head + row * (side + gap)))
    return np.asarray(sheet)


def _parts(picture: "PillowImage.Image", side: int) -> "list[PillowImage.Image]":
    """The whole picture made to fit, then the crops, enlarged without smoothing."""
    from PIL import Image

    crops = [picture.crop((left, top, left + CROP, top + CROP)) for left, top in CROPS]
    whole = picture.resize((side, side), Image.Resampling.LANCZOS)
    return [whole, *(crop.resize((side, side), Image.Resampling.NEAREST) for crop in crops)]


def _measure(label: str, image: "Pixels", encode: Callable[[], bytes], decode: Callable[[], "Pixels"]) -> Entry:
    from rdcodec.metrics import psnr_db

    data, decoded = encode(), decode()  # the first run fills caches
    enc_s, dec_s = (median(_seconds(call) for _ in range(REPEATS)) for call in (encode, decode))
    return Entry(label, data, decoded, psnr_db(image, decoded), enc_s, dec_s)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _show(groups: Sequence[Sequence[Entry]], image: "Pixels") -> None:
    table = io.table("codec", ">file bytes", ">bpp", ">PSNR dB", ">enc MP/s", ">dec MP/s")
    for group in groups:
        table.add_section()
        for entry in group:
            speeds = (entry.pixels / 1e6 / seconds for seconds in (entry.enc_s, entry.dec_s))
            table.add_row(
                entry.label,
                str(len(entry.data)),
                f"{entry.bpp:.3f}",
                f"{entry.psnr_db:.2f}",
                *(f"{speed:.1f}" for speed in speeds),
            )
    io.show(table, title=f"A photograph of {image.shape[1]}x{image.shape[0]}; rivals have no larger files")
