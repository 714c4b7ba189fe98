"""The plug-in keeps Pillow's own conventions."""

import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

import rdcodec
import rdcodec.pillow
from rdcodec.codec import api
from rdcodec.codec.container import read_header

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def path(photo: Picture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pillow") / "photo.rdc"
    path.write_bytes(rdcodec.compress(photo))
    return path


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(api, "decompress", fail)


class NoSeek(io.RawIOBase):
    """A stream, as of a socket."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self.data.readinto(buffer)


OPENED: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "name of bytes": lambda path: str(path).encode(),
    "file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "stream": lambda path: NoSeek(path.read_bytes()),
}


@pytest.mark.parametrize("kind", OPENED)
def test_open_gives_size_and_mode_and_load_the_pixels(kind: str, path: Path) -> None:
    with Image.open(OPENED[kind](path)) as image:
        assert (image.format, image.mode, image.size) == ("RDC", "RGB", (256, 192))
        assert image.get_format_mimetype() == "image/x-rdc"
        np.testing.assert_array_equal(np.asarray(image), rdcodec.decompress(path))


def test_a_file_is_told_by_its_content(path: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.png").write_bytes(path.read_bytes())
    assert Image.open(tmp_path / "wrong.png").format == "RDC"


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
def test_a_file_that_comes_in_parts(path: Path, chunk: int) -> None:
    data = path.read_bytes()
    parser = ImageFile.Parser()
    for start in range(0, len(data), chunk):
        parser.feed(data[start : start + chunk])
    image = parser.close()
    np.testing.assert_array_equal(np.asarray(image), rdcodec.decompress(data))


@pytest.mark.usefixtures("no_decoding")
def test_opening_and_verifying_decode_nothing(path: Path) -> None:
    image = Image.open(path)
    assert image.size == (256, 192)
    image.verify()
    with pytest.raises(AssertionError, match="decoded"):
        Image.open(path).load()


def test_load_decodes_once_and_lets_the_file_go(path: Path) -> None:
    image = Image.open(path)
    file = image.fp  # type: ignore[attr-defined]
    image.load()
    first = np.asarray(image)
    assert file.closed
    image.load()
    np.testing.assert_array_equal(np.asarray(image), first)
    given = path.open("rb")
    Image.open(given).load()
    assert not given.closed, "who opened it closes it"


def test_close_and_with(path: Path) -> None:
    with Image.open(path) as image:
        file = image.fp  # type: ignore[attr-defined]
    assert file.closed
    image = Image.open(path)
    file = image.fp  # type: ignore[attr-defined]
    image.close()
    assert file.closed


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_lazy_picture_is_pickled(path: Path, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(Image.open(path), protocol))
    np.testing.assert_array_equal(np.asarray(again), rdcodec.decompress(path))


def test_pillows_operations(path: Path) -> None:
    whole = Image.fromarray(rdcodec.decompress(path))
    image = Image.open(path)
    image.thumbnail((64, 64))
    assert image.size == (64, 48)
    whole.thumbnail((64, 64))
    np.testing.assert_array_equal(np.asarray(image), np.asarray(whole))
    whole = Image.fromarray(rdcodec.decompress(path))
    assert Image.open(path).copy() == whole.copy()
    assert Image.open(path).crop((3, 4, 50, 60)).tobytes() == whole.crop((3, 4, 50, 60)).tobytes()
    assert Image.open(path).convert("L").tobytes() == whole.convert("L").tobytes()
    assert Image.open(path).resize((10, 10)).tobytes() == whole.resize((10, 10)).tobytes()
    image = Image.open(path)
    assert image.tell() == 0
    image.seek(0)
    with pytest.raises(EOFError):
        image.seek(1)
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)


def test_save_and_its_options(photo: Picture, tmp_path: Path) -> None:
    image = Image.fromarray(photo)
    image.save(tmp_path / "a.rdc")
    assert (tmp_path / "a.rdc").read_bytes() == rdcodec.compress(photo)
    memory = io.BytesIO()
    image.save(memory, "rdc", quality=20, model="J")
    assert memory.getvalue() == rdcodec.compress(photo, model="J", quality=20)
    header = read_header(memory.getvalue()).header
    assert header.tag.startswith("J.") and header.quality == 200
    Image.open(memory).save(tmp_path / "b.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png")), rdcodec.decompress(memory.getvalue()))


def test_more_effort_is_passed_on(photo: Picture, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    small = photo[:32, :32]
    Image.fromarray(small).save(tmp_path / "a.rdc", effort=2)
    assert (tmp_path / "a.rdc").read_bytes() == rdcodec.compress(small, effort=2)


def test_a_lazy_picture_is_saved_over_its_own_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.rdc").write_bytes(path.read_bytes())
    Image.open(tmp_path / "a.rdc").save(tmp_path / "a.rdc", quality=10)
    assert read_header((tmp_path / "a.rdc").read_bytes()).header.quality == 100


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_the_mode_comes_back(mode: str, photo: Picture) -> None:
    """Known before decoding, the same after it; alpha exactly."""
    image = Image.fromarray(np.dstack([photo, photo[..., 0]])).convert(mode)
    file = io.BytesIO()
    image.save(file, "RDC")
    back = Image.open(file)
    assert (back.mode, back.size) == (mode, image.size)
    back.load()
    assert back.mode == mode and np.asarray(back).shape == np.asarray(image).shape
    if mode.endswith("A"):
        assert back.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert pickle.loads(pickle.dumps(Image.open(file))).mode == mode


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.usefixtures("no_decoding")
def test_metadata_is_there_without_decoding(photo: Picture, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "described"
    Image.fromarray(photo).save(tmp_path / "a.rdc", exif=exif, icc_profile=PROFILE, xmp=b"<x:xmpmeta/>")
    image = Image.open(tmp_path / "a.rdc")
    assert (image.info["icc_profile"], image.info["xmp"]) == (PROFILE, b"<x:xmpmeta/>")
    assert image.getexif()[0x010E] == "described"
    image.verify()


def test_the_profile_is_kept_and_exif_is_saved_if_given(photo: Picture, tmp_path: Path) -> None:
    """As with JPEG; what is given turns the picture, and then says that it is upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for given in (exif, exif.tobytes()):
        Image.fromarray(photo).save(tmp_path / "a.rdc", exif=given)
        image = Image.open(tmp_path / "a.rdc")
        assert image.size == (192, 256) and image.getexif()[0x0112] == 1
    Image.fromarray(photo).save(tmp_path / "a.png", exif=exif, icc_profile=PROFILE)
    Image.open(tmp_path / "a.png").save(tmp_path / "a.rdc")
    image = Image.open(tmp_path / "a.rdc")
    assert image.size == (256, 192) and image.info == {"icc_profile": PROFILE}
    Image.open(tmp_path / "a.png").save(tmp_path / "a.rdc", icc_profile=None)
    assert Image.open(tmp_path / "a.rdc").info == {}


@pytest.mark.parametrize(
    ("options", "error"),
    [({"quality": 101}, ValueError), ({"effort": "most"}, ValueError), ({"model": "Nobody"}, OSError)],
)
def test_a_save_that_fails_leaves_no_file(
    photo: Picture, tmp_path: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Image.fromarray(photo).save(tmp_path / "a.rdc", **options)
    with pytest.raises(OSError, match="PIL picture"):
        Image.new("F", (4, 4)).save(tmp_path / "a.rdc")
    assert list(tmp_path.iterdir()) == []


def test_damage_is_an_oserror(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    with pytest.raises(UnidentifiedImageError, match="cut off in the header"):
        Image.open(io.BytesIO(data[:20]))
    hurt = bytearray(data)
    hurt[-1] ^= 1
    for wrong in (data[:-1], bytes(hurt)):
        image = Image.open(io.BytesIO(wrong))
        assert image.size == (256, 192)
        with pytest.raises(OSError, match=r"cut off|damaged"):
            image.load()
        with pytest.raises(OSError, match=r"cut off|damaged"):
            Image.open(io.BytesIO(wrong)).verify()
    (tmp_path / "a.rdc").write_bytes(data[:20])
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.rdc")


def test_pillows_limit_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)


@pytest.mark.parametrize("words", ["import rdcodec.pillow", "import rdcodec; rdcodec.register_pillow()"])
def test_either_way_registers(path: Path, words: str) -> None:
    script = f"""
from PIL import Image
try:
    Image.open({str(path)!r})
    raise SystemExit("known before")
except OSError:
    pass
{words}
rdcodec.register_pillow()
assert Image.open({str(path)!r}).size == (256, 192)
assert Image.registered_extensions()[".rdc"] == "RDC" and Image.ID.count("RDC") == 1
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
