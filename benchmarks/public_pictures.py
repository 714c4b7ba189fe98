"""Other projects' test pictures through compress, info and decompress, against a second reader.

    python benchmarks/public_pictures.py suites/* --most 40 --json docs/results/public-pictures.json \
        --page docs/results/public-pictures.md --from python-pillow/Pillow@4e5f09f533 ...

Each folder is a suite: every picture in it, or --most of them, evenly spread. It needs `pip install 'pyvips[binary]'
opencv-python-headless imagecodecs pillow-heif pillow-jxl-plugin`. Pictures beyond 4 megapixels are left out for time.
"""

import argparse
import contextlib
import io
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rdcodec.cli.main import main
from rdcodec.codec.container import read_header
from rdcodec.codec.image import READ_SUFFIXES
from rdcodec.codec.picture import Picture
from rdcodec.codec.picture_reader import read_picture
from rdcodec.codec.sections import picture_of

MAX_PIXELS = 4_000_000
MODEL, QUALITY = "J", "90"
_OTHERS = ".jfif .jpe .dib .hif .mpo .apng .pam .pcx .psd .sgi .rgb .dds .qoi .icns .cur .j2k .jpf"
OTHERS = frozenset(_OTHERS.split())
LONGEST_S = 120
# Of the reading against the second reader: YCbCr to RGB, and 16 bits to 8, may round otherwise.
MEAN_LEVELS, FAR_LEVELS, FAR_SHARE = 1.5, 12, 0.02
# Of the decoded picture against what was read, in the mean over blocks of 32 x 32: the codec is lossy.
BLOCK, BLOCK_LEVELS = 32, 12
# Differences that were looked into by hand; the others are open.
JUDGED = {
    "pal8os2-hs.bmp": "rdc reads what pal8.bmp shows, as it should",
    "rgb32bfdef.bmp": "rdc reads what rgb32.bmp shows, as it should",
    "rgb16faketrns.bmp": "5 bits scaled to 8 by another rounding",
    "Info_X1_R5_G5_B5_Top_Down.bmp": "5 bits scaled to 8 by another rounding",
    "rgb16-565.bmp": "5 bits scaled to 8 by another rounding",
    "tiff_tiled_cmyk_jpeg.tif": "CMYK without a profile: libvips has one of its own, rdc says so",
    "jpg-cmyk-1.jpg": "CMYK without a profile: libvips has one of its own, rdc says so",
    "ref.png": "libvips does not turn a PNG by its EXIF",
    "Tless0.tiff": "loss of the codec",
    "fox.profile2.12bpc.yuv420.monochrome.avif": "grey of limited range: rdc expands it, as libavif; libvips does not",
    "abc_color_irot_alpha_NOirot.avif": "the rotation is of the colours alone, by an old encoder's mistake: rdc turns "
    "both, as libavif and browsers do",
    "extended_pixi.avif": "4 x 4 pixels of 4:2:0: rdc has libavif's values; libvips does not interpolate chroma",
    "alpha_triangles/input.jxl": "9 bits a sample, which the other reader leaves unscaled: rdc's alpha is right",
}
LINE = re.compile(r"  note: |rdc: |[^\n]*\.rdc  |[^\n]*  dec [\d.]+ s")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    """What became of a picture."""

    suite: str
    file: str
    outcome: str  # coded, refused, failed
    words: str  # notes, or why
    reader: str | None = None  # which second reader read it
    compared: str = ""  # same, other: WORDS, or empty
    chatter: str = ""  # on standard error, not ours


@contextlib.contextmanager
def heard() -> Iterator[list[str]]:
    """All that reaches standard error, also from libraries."""
    words: list[str] = []
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield words
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            words.append(file.read().decode(errors="replace"))


def try_picture(suite: str, file: str, path: Path, folder: Path) -> Outcome:
    """One picture, all the way."""
    signal.alarm(LONGEST_S)
    coded, back = folder / "coded.rdc", folder / "back.png"
    for old in (coded, back):
        old.unlink(missing_ok=True)
    limit = ["--max-pixels", str(MAX_PIXELS)]
    with heard() as words, contextlib.redirect_stdout(io.StringIO()):
        code = main(["compress", str(path), "-o", str(coded), "-m", MODEL, "-q", QUALITY, *limit])
        done = (
            []
            if code
            else [main(["info", str(coded), "--check", "--json"]), main(["decompress", str(coded), "-o", str(back)])]
        )
    said = words[0].replace(f"{path}: ", "").replace(f"{folder}/", "")
    chatter = " / ".join(line for line in said.splitlines() if not LINE.match(line))
    if any(done):
        return Outcome(suite, file, "failed", f"after compress: {said}", chatter=chatter)
    if code:
        why = next((line for line in said.splitlines() if line.startswith("rdc: ")), said).removeprefix("rdc: ")
        foreign = code not in (3, 4) or "unexpected" in why
        return Outcome(suite, file, "failed" if foreign else "refused", why, chatter=chatter)
    notes = ", ".join(re.findall(r"^  note: (.*)$", said, re.MULTILINE))
    name, compared = compare(path, coded, back)
    return Outcome(suite, file, "coded", notes, name, compared, chatter)


def compare(path: Path, coded: Path, back: Path) -> tuple[str | None, str]:
    """The second reader's name, and whether picture, file and what comes back are the same."""
    with heard():
        read = read_picture(path)
        header = read_header(coded.read_bytes(), MAX_PIXELS).header
        held, decoded = picture_of(np.zeros((*read.pixels.shape[:2], 3), np.uint8), header.sections), read_picture(back)
        name, others = second(path)
    for what in ("icc", "exif", "xmp", "grey"):
        if getattr(held, what) != getattr(read, what):
            return name, f"other: {what} in the file"
    if decoded.icc != read.icc or decoded.grey != read.grey:
        return name, "other: profile or grey of the decoded picture"
    if not same_alpha(decoded.alpha, read.alpha):
        return name, "other: alpha of the decoded picture"
    far = block_difference(decoded.pixels, read.pixels)
    if far > BLOCK_LEVELS:
        return name, f"other: decoded picture, {far:.0f} levels in a block"
    if name is None:
        return None, ""
    answers = [difference(read, other) for other in others]
    return name, "same" if None in answers else f"other: {answers[0]}"


def block_difference(a: Pixels, b: Pixels) -> float:
    """Largest difference of the means over blocks."""
    if a.shape != b.shape:
        return 999.0
    rows, columns = a.shape[0] // BLOCK, a.shape[1] // BLOCK
    if not rows or not columns:  # too small for a mean to say anything of a lossy codec
        return 0.0
    height, width = rows * BLOCK, columns * BLOCK
    delta = (a.astype(float) - b)[:height, :width].reshape(rows, height // rows, columns, width // columns, 3)
    return float(np.abs(delta.mean((1, 3))).max())


def same_alpha(a: Pixels | None, b: Pixels | None) -> bool:
    return (a is None) == (b is None) and (a is None or b is None or np.array_equal(a, b))


@dataclass(frozen=True)
class Second:
    """What another reader made of a file."""

    pixels: Pixels  # (H, W, 3)
    alpha: Pixels | None
    icc: bytes | None
    srgb: bool  # whether it is converted


def difference(read: Picture, other: Second) -> str | None:
    """What differs, in words; None where nothing does."""
    if read.pixels.shape != other.pixels.shape:
        return f"sides {read.pixels.shape[:2]}, {other.pixels.shape[:2]}"
    alpha = None if other.alpha is None or other.alpha.min() == 255 else other.alpha
    if (alpha is None) != (read.alpha is None):
        return "alpha"
    if alpha is not None and read.alpha is not None and np.abs(alpha.astype(int) - read.alpha).max() > 1:
        return "alpha values"
    pixels = read.in_srgb().pixels if other.srgb else read.pixels
    delta = np.abs(pixels.astype(int) - other.pixels)
    if alpha is not None:
        delta = delta * (alpha[..., None] > 0)
    if delta.mean() > MEAN_LEVELS or (delta > FAR_LEVELS).mean() > FAR_SHARE:
        return f"{delta.mean():.1f} levels in the mean, {delta.max()} at most"
    return None


def second(path: Path) -> tuple[str | None, list[Second]]:
    """A second reader's name and its readings: as stored, and in sRGB."""
    for reader in (by_vips, by_imagecodecs, by_opencv):
        try:
            found = reader(path)
        except Exception:  # a reader that fails is none
            continue
        if found:
            return reader.__name__.removeprefix("by_"), found
    return None, []


def by_vips(path: Path) -> list[Second]:
    import pyvips

    whole = pyvips.Image.new_from_file(str(path)).autorot()
    icc = whole.get("icc-profile-data") if whole.get_typeof("icc-profile-data") else None
    views = []
    if icc:
        with contextlib.suppress(pyvips.Error):
            converted = whole.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True)
            views.append((converted, True))
    views.append((whole.colourspace("srgb"), whole.interpretation == "cmyk"))
    found = []
    for view, srgb in views:
        array = view.cast("uchar").numpy()
        array = array[..., None] if array.ndim == 2 else array
        colours = array[..., :1].repeat(3, 2) if array.shape[2] < 3 else array[..., :3]
        alpha = array[..., -1] if array.shape[2] in (2, 4) else None
        found.append(Second(colours, alpha, icc, srgb))
    return found


def by_imagecodecs(path: Path) -> list[Second]:
    import imagecodecs

    if path.suffix.lower() not in (".jxl", ".jp2", ".j2k", ".qoi"):
        return []
    return _of_array(np.asarray(imagecodecs.imread(str(path))))


def by_opencv(path: Path) -> list[Second]:
    import cv2

    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if array is None:
        return []
    if array.ndim == 3:
        array = array[..., [2, 1, 0, *range(3, array.shape[2])]]
    if array.dtype == np.uint16 and path.suffix.lower() in (".tif", ".tiff"):  # 12 bits come shifted to 16
        array = np.rint(array / 257).astype(np.uint8)
    return _of_array(array)


def _of_array(array: NDArray[Any]) -> list[Second]:
    if array.dtype == np.uint16:
        array = array / 257 if array.max() > 4095 else array / (1023 / 255 if array.max() <= 1023 else 4095 / 255)
    array = np.rint(array).astype(np.uint8)
    array = array[..., None] if array.ndim == 2 else array
    colours = array[..., :1].repeat(3, 2) if array.shape[2] < 3 else array[..., :3]
    return [Second(colours, array[..., -1] if array.shape[2] in (2, 4) else None, None, False)]


def pictures(folder: Path, most: int | None) -> list[Path]:
    """Those of a suite, evenly spread if there are more than `most`."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in READ_SUFFIXES | OTHERS)
    if most is None or len(found) <= most:
        return found
    return [found[round(at)] for at in np.linspace(0, len(found) - 1, most)]


def too_large(path: Path) -> bool:
    """Whether the header announces more than `MAX_PIXELS`; False for what has none."""
    try:
        with heard(), Image.open(path) as image:
            return image.width * image.height > MAX_PIXELS
    except Exception:  # hostile files raise anything
        return False


def run(suites: Sequence[Path], most: int | None) -> list[Outcome]:
    """Outcomes in order. A process that a picture kills is started again."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as text:
        pool = ProcessPoolExecutor(1)
        for folder in suites:
            for path in pictures(folder, most):
                if too_large(path):
                    continue
                file = str(path.relative_to(folder))
                try:
                    found = pool.submit(try_picture, folder.name, file, path, Path(text)).result()
                except BrokenProcessPool:
                    pool = ProcessPoolExecutor(1)
                    found = Outcome(folder.name, file, "failed", "the process ended")
                except Exception as error:  # of a second reader, or a fault here
                    found = Outcome(folder.name, file, "failed", f"here: {type(error).__name__}: {error}")
                outcomes.append(found)
                if found.outcome == "failed" or found.compared.startswith("other") or found.chatter:
                    print(json.dumps(asdict(found)), flush=True)
        pool.shutdown()
    return outcomes


def page(outcomes: Sequence[Outcome], sources: Sequence[str]) -> str:
    """Markdown: suites, refusals and differences."""
    lines = [
        "# Other projects' test pictures",
        "",
        "Written by `benchmarks/public_pictures.py`. Each picture goes through "
        f"`rdc compress -m {MODEL} -q {QUALITY}`, `info --check` and `decompress`. What `rdc` reads is compared with "
        "libvips, else OpenCV or imagecodecs: it is the same if sides and alpha (to 1 level) agree, and colours to "
        f"{MEAN_LEVELS} levels in the mean with at most {FAR_SHARE:.0%} of the samples more than {FAR_LEVELS} off. "
        "Profile, EXIF, XMP, grey and alpha must come back identical, and the mean of each block of "
        f"{BLOCK} x {BLOCK} within {BLOCK_LEVELS} levels.",
        "",
        "| Suite | Pictures | Coded | Refused | Failed | Same | Not compared | Different |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for suite in [*dict.fromkeys(found.suite for found in outcomes), "all"]:
        of = [found for found in outcomes if suite in (found.suite, "all")]
        kinds = Counter(found.outcome for found in of)
        coded = [found.compared for found in of if found.outcome == "coded"]
        counts = [
            len(of),
            *(kinds[kind] for kind in ("coded", "refused", "failed")),
            coded.count("same"),
            coded.count(""),
        ]
        lines.append(f"| {suite} | " + " | ".join(map(str, [*counts, len(coded) - counts[-1] - counts[-2]])) + " |")
    lines += [
        "",
        "From: " + ", ".join(sources) + ".",
        "",
        "## Differences",
        "",
        "| File | Notes of `rdc` | Other reader | Difference | By hand |",
        "|---|---|---|---|---|",
    ]
    for found in outcomes:
        if found.compared.startswith("other"):
            words = found.compared.removeprefix("other: ")
            name = Path(found.file).name
            cells = (
                f"{found.suite}: {name}",
                found.words,
                found.reader or "",
                words,
                JUDGED.get(name) or JUDGED.get("/".join(Path(found.file).parts[-2:]), "open"),
            )
            lines.append(f"| {' | '.join(cells)} |")
    why = Counter(
        re.sub(r"\d+", "N", found.words.split(" (")[0].split(": ")[0]) for found in outcomes if found.outcome != "coded"
    )
    lines += ["", "## Refusals", "", "| Why | Pictures |", "|---|---|"]
    lines += [f"| {words} | {count} |" for words, count in why.most_common()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suites", type=Path, nargs="+")
    parser.add_argument("--most", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--from", dest="sources", nargs="*", default=[])
    arguments = parser.parse_args()
    start = time.time()
    result = run(arguments.suites, arguments.most)
    print(Counter(found.outcome for found in result), f"{time.time() - start:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(found) for found in result], indent=0))
    if arguments.page:
        arguments.page.write_text(page(result, arguments.sources))
