"""What programs call: whatever can be meant by a picture or a file works, and all else is an RdcError."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

import rdcodec
from rdcodec.errors import BadInput, NeedsModel, RdcError, UsageError

Picture = NDArray[np.uint8]


@pytest.fixture(scope="session")
def folder(photo: Picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photo.png and what it is as a file, photo.rdc."""
    folder = tmp_path_factory.mktemp("api")
    Image.fromarray(photo).save(folder / "photo.png")
    (folder / "photo.rdc").write_bytes(rdcodec.compress(photo))
    return folder


def opaque(pixels: Picture) -> Picture:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


class Tensor:
    """An array of some other library."""

    def __init__(self, pixels: Picture) -> None:
        self.pixels = pixels

    def __array__(self, dtype: object = None, copy: object = None) -> Picture:
        return self.pixels


SOURCES: dict[str, Callable[[Picture, Path], Any]] = {
    "array": lambda pixels, path: pixels,
    "RGBA array": lambda pixels, path: opaque(pixels),
    "a view": lambda pixels, path: np.asfortranarray(pixels),
    "another library's array": lambda pixels, path: Tensor(pixels),
    "PIL": lambda pixels, path: Image.fromarray(pixels),
    "lazy PIL": lambda pixels, path: Image.open(path),
    "path": lambda pixels, path: path,
    "text": lambda pixels, path: str(path),
    "bytes": lambda pixels, path: path.read_bytes(),
    "bytearray": lambda pixels, path: bytearray(path.read_bytes()),
    "memoryview": lambda pixels, path: memoryview(path.read_bytes()),
    "file": lambda pixels, path: path.open("rb"),
    "BytesIO": lambda pixels, path: io.BytesIO(path.read_bytes()),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_picture_in_any_form_is_the_same_file(kind: str, folder: Path, photo: Picture) -> None:
    source = SOURCES[kind](photo, folder / "photo.png")
    assert rdcodec.compress(source) == (folder / "photo.rdc").read_bytes()


@pytest.mark.parametrize("kind", ["(H, W)", "(H, W, 1)", "PIL"])
def test_grey_comes_back_grey(kind: str, photo: Picture) -> None:
    grey = photo[..., 1].copy()
    data = rdcodec.compress({"(H, W)": grey, "(H, W, 1)": grey[..., None], "PIL": Image.fromarray(grey)}[kind])
    back = rdcodec.decompress(data)
    assert back.shape == grey.shape and rdcodec.info(data).grey
    same = rdcodec.decompress(rdcodec.compress(grey[..., None].repeat(3, 2)))
    assert np.abs(back.astype(int) - same[..., 1]).max() <= 4


@pytest.mark.parametrize("kind", ["array", "PIL", "PNG"])
def test_alpha_comes_back_exactly(kind: str, photo: Picture) -> None:
    rgba = np.dstack([photo, photo[..., 0]])
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    data = rdcodec.compress({"array": rgba, "PIL": Image.fromarray(rgba), "PNG": file.getvalue()}[kind])
    back = rdcodec.decompress(data)
    assert back.shape == rgba.shape and rdcodec.info(data).transparent
    np.testing.assert_array_equal(back[..., 3], rgba[..., 3])


@pytest.mark.parametrize("mode", ["P", "RGB", "RGBX", "YCbCr"])
def test_pil_modes(mode: str, photo: Picture) -> None:
    image = Image.fromarray(photo[:40, :50]).convert(mode)
    assert rdcodec.compress(image) == rdcodec.compress(np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "PA", "RGBA", "RGBa", "CMYK", "I;16"])
def test_other_pil_modes_are_coded_too(mode: str) -> None:
    data = rdcodec.compress(Image.new(mode, (20, 10)))
    assert rdcodec.decompress(data).shape[:2] == (10, 20)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_pil_picture_is_coded_as_its_file_is(format: str, photo: Picture) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "upright"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"lossless": True} if format == "WEBP" else {}
    Image.fromarray(photo[:40, :50]).save(file, format, exif=exif, icc_profile=profile, **options)
    data = rdcodec.compress(Image.open(file))
    assert data == rdcodec.compress(file.getvalue())
    info = rdcodec.info(data)
    assert (info.width, info.height, info.icc) == (40, 50, profile)
    assert info.exif is not None and b"upright" in info.exif


def test_what_has_to_change_is_logged(photo: Picture, caplog: pytest.LogCaptureFixture) -> None:
    deep = photo[:20, :20].astype(np.uint16) * 257
    assert rdcodec.compress(deep) == rdcodec.compress(photo[:20, :20])
    assert [(record.name, record.levelname) for record in caplog.records] == [("rdcodec", "WARNING")]
    assert "16 bits" in caplog.text


FILES = [kind for kind in SOURCES if "array" not in kind and "PIL" not in kind and kind != "a view"]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_in_any_form_is_decoded_and_described(kind: str, folder: Path, photo: Picture) -> None:
    data = (folder / "photo.rdc").read_bytes()
    decoded = rdcodec.decompress(SOURCES[kind](photo, folder / "photo.rdc"))
    np.testing.assert_array_equal(decoded, rdcodec.load("I").decompress(data))
    assert decoded.shape == photo.shape
    info = rdcodec.info(SOURCES[kind](photo, folder / "photo.rdc"))
    assert (info.width, info.height, info.quality, info.file_bytes) == (256, 192, 50, len(data))
    assert info.bpp == 8 * len(data) / (256 * 192) and info.model.startswith("I.")


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: None,
        lambda folder: 5,
        lambda folder: [[1, 2], [3, 4]],
        lambda folder: object(),
        lambda folder: io.StringIO("text"),
        lambda folder: (folder / "photo.png").open("r", encoding="latin-1"),
        lambda folder: closed(folder / "photo.png"),
        lambda folder: (folder / "write-only").open("wb"),
        lambda folder: folder,
        lambda folder: folder / "missing.png",
        lambda folder: "missing\0.png",
        lambda folder: "",
        lambda folder: b"",
        lambda folder: b"neither a picture nor a file",
        lambda folder: bytearray(100),
        lambda folder: np.zeros((4, 4, 3), np.float32),
        lambda folder: np.zeros((4, 4), bool),
        lambda folder: np.zeros((4, 4, 2), np.uint8),
        lambda folder: np.zeros((3, 4, 5), np.uint8),
        lambda folder: np.zeros((2, 4, 4, 3), np.uint8),
        lambda folder: np.zeros((0, 4, 3), np.uint8),
        lambda folder: np.array(["a", None], object),
        lambda folder: Image.new("F", (4, 4)),
        lambda folder: Image.new("LAB", (4, 4)),
        lambda folder: Image.new("RGB", (0, 4)),
        lambda folder: broken(folder / "photo.png"),
    ],
)
@pytest.mark.parametrize("call", [rdcodec.compress, rdcodec.decompress, rdcodec.info])
def test_what_cannot_be_meant_is_an_error_of_ours(
    call: Callable[[Any], Any], make: Callable[[Path], Any], folder: Path
) -> None:
    with pytest.raises(RdcError) as caught:
        call(make(folder))
    assert str(caught.value) and "\n" not in str(caught.value)


def closed(path: Path) -> Any:
    file = path.open("rb")
    file.close()
    return file


def broken(path: Path) -> Image.Image:
    """A lazy picture whose file is cut off."""
    return Image.open(io.BytesIO(path.read_bytes()[:3000]))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"quality": "high"}, UsageError),
        ({"quality": None, "effort": "high"}, UsageError),
        ({"quality": [50]}, UsageError),
        ({"quality": np.array([1, 2])}, UsageError),
        ({"quality": math.nan}, UsageError),
        ({"quality": 1j}, UsageError),
        ({"effort": 1.5}, UsageError),
        ({"effort": 2.0}, UsageError),
        ({"effort": None}, UsageError),
        ({"effort": 0}, UsageError),
        ({"model": 5}, UsageError),
        ({"model": None}, UsageError),
        ({"model": b"I"}, UsageError),
        ({"model": ""}, NeedsModel),
        ({"max_pixels": "many"}, UsageError),
        ({"max_pixels": None}, UsageError),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, Any], error: type[RdcError], photo: Picture) -> None:
    with pytest.raises(error):
        rdcodec.compress(photo[:16, :16], **options)


def test_a_codec_says_what_it_takes(photo: Picture) -> None:
    codec = rdcodec.load("I")
    data = codec.compress(photo[:16, :16])
    np.testing.assert_array_equal(codec.decompress(memoryview(data)), codec.decompress(data))  # type: ignore[arg-type]
    calls: list[Callable[[], object]] = [
        lambda: codec.compress(Image.fromarray(photo)),  # type: ignore[arg-type]
        lambda: codec.decompress(None),  # type: ignore[arg-type]
        lambda: codec.decompress("photo.rdc"),  # type: ignore[arg-type]
        lambda: codec.encode_target(photo, bpp="small"),  # type: ignore[arg-type]
        lambda: rdcodec.load("I", engine="fast"),
        lambda: rdcodec.load("I", device=5),  # type: ignore[arg-type]
        lambda: rdcodec.decompress(data, max_pixels="many"),  # type: ignore[arg-type]
        lambda: rdcodec.set_threads(-1),
        lambda: rdcodec.set_threads("all"),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(UsageError):
            call()


def test_errors_name_the_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.rdc").write_bytes((folder / "photo.rdc").read_bytes()[:-1])
    for call in (rdcodec.decompress, rdcodec.compress):
        with pytest.raises(BadInput, match=r"a\.rdc: "):
            call(tmp_path / "a.rdc")
    with pytest.raises(RdcError, match=r"none\.rdc: cannot be read"):
        rdcodec.info("none.rdc")


def test_max_pixels_is_for_files(folder: Path, photo: Picture) -> None:
    limit = photo.shape[0] * photo.shape[1]
    for source in (folder / "photo.png", (folder / "photo.png").read_bytes()):
        assert rdcodec.compress(source, max_pixels=limit)
        with pytest.raises(BadInput, match="more than"):
            rdcodec.compress(source, max_pixels=limit - 1)
    with pytest.raises(BadInput, match="more than"):
        rdcodec.decompress(folder / "photo.rdc", max_pixels=limit - 1)
    assert rdcodec.compress(photo, max_pixels=1) == rdcodec.compress(Image.fromarray(photo), max_pixels=1)


def test_no_number_of_threads_is_what_torch_had_before(threads: Callable[[int], None]) -> None:
    before = torch.get_num_threads()
    for count in (before + 2, before + 1):
        rdcodec.set_threads(count)
        assert torch.get_num_threads() == count
    rdcodec.set_threads(0)
    assert torch.get_num_threads() == before
