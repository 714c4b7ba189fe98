"""The service of docs/services.md runs, and answers errors as the page says."""

import importlib.util
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import rdcodec

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("httpx", reason="httpx, which FastAPI's test client needs, is not installed")
from fastapi.testclient import TestClient

EXAMPLE = Path(__file__).parents[2] / "examples" / "service.py"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def service() -> ModuleType:
    spec = importlib.util.spec_from_file_location("service", EXAMPLE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(service: ModuleType) -> Any:
    with TestClient(service.app) as client:
        yield client
    rdcodec.set_threads(0)


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", icc_profile=PROFILE)
    return file.getvalue()


def test_there_and_back(client: Any, photo: NDArray[np.uint8]) -> None:
    data = png(np.dstack([photo, photo[..., 0]]))
    coded = client.post("/compress", params={"quality": 30}, content=data, headers={"Content-Type": "image/png"})
    assert coded.status_code == 200 and coded.headers["content-type"] == "image/x-rdc"
    assert coded.content == rdcodec.compress(data, quality=30)
    back = client.post("/decompress", content=coded.content)
    assert back.status_code == 200 and back.headers["content-type"] == "image/png"
    image = Image.open(io.BytesIO(back.content))
    assert image.info["icc_profile"] == PROFILE
    np.testing.assert_array_equal(np.asarray(image), rdcodec.decompress(coded.content))


def test_requests_at_the_same_time_get_their_own_pictures(client: Any, photo: NDArray[np.uint8]) -> None:
    pictures = [png(np.roll(photo[:64, :64], turn, 1)) for turn in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: client.post("/compress", content=data).content, pictures))
    assert answers == [rdcodec.compress(data) for data in pictures]


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("/compress", b"no picture", 422, "not a picture"),
        ("/compress", b"", 422, "empty"),
        ("/compress?quality=101", png(np.zeros((8, 8, 3), np.uint8)), 400, "quality"),
        ("/decompress", b"no file", 422, "not an .rdc file"),
        ("/decompress", rdcodec.compress(np.zeros((8, 8, 3), np.uint8))[:-1], 422, "cut off"),
    ],
)
def test_errors_are_a_line_for_the_client(client: Any, path: str, content: bytes, status: int, words: str) -> None:
    answer = client.post(path, content=content)
    assert answer.status_code == status and words in answer.json()["detail"]


def test_limits(client: Any, service: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(np.zeros((40, 40, 3), np.uint8))
    coded = rdcodec.compress(data)
    monkeypatch.setattr(service, "MAX_PIXELS", 1599)
    assert client.post("/compress", content=data).status_code == 422
    assert client.post("/decompress", content=coded).status_code == 422
    monkeypatch.setattr(service, "MAX_BYTES", len(data) - 1)
    assert client.post("/compress", content=data).status_code == 413
