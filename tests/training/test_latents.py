"""Latents that are made once: windows of what the analysis gives, from photographs that are large enough and whole."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rdcodec.errors import UsageError
from rdcodec.models.base import ImageModel
from rdcodec.models.config import ModelConfig
from rdcodec.training import latents
from rdcodec.training.data import CARD_SHARE, Photo, fits_on_card, load_photos
from rdcodec.training.latents import Latents

CPU = torch.device("cpu")


@pytest.fixture
def model(tiny_config: ModelConfig) -> ImageModel:
    torch.manual_seed(0)
    return ImageModel(tiny_config)


def photo(height: int, width: int, name: str = "a photograph") -> Photo:
    return Photo(name, np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8))


def drawn(source: Latents, size: int, count: int) -> list[torch.Tensor]:
    source.prepare()
    return [source.draw(np.random.default_rng(n), size) for n in range(count)]


def test_windows_are_parts_of_what_the_analysis_gives(model: ImageModel) -> None:
    """Each place of a tile comes, and nothing else; a generator in the same state draws the same."""
    picture = photo(130, 200)
    x = torch.from_numpy(picture.pixels[:128, :192].copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        (y,) = model.analysis(x)
    places = {(top, left): y[:, top : top + 4, left : left + 4] for top in range(5) for left in range(9)}
    found = set()
    windows = drawn(Latents(model, [picture], 64, 1, print), 64, 300)
    for window in windows:
        found.add(next(at for at, part in places.items() if torch.allclose(part, window, rtol=1e-4, atol=1e-4)))
    assert found == set(places)
    assert all(map(torch.equal, drawn(Latents(model, [picture], 64, 1, print), 64, 300), windows))


def test_tiles_share_out_a_large_photograph(model: ImageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left over is used where a window fits into it."""
    monkeypatch.setattr(latents, "TILE", 256)
    seen: list[tuple[int, ...]] = []
    model.analysis.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    drawn(Latents(model, [photo(300, 400), photo(500, 256)], 128, 1, print), 128, 1)
    assert seen == [(256, 256), (256, 128), (256, 256), (192, 256)]


def test_they_are_made_once(model: ImageModel) -> None:
    calls: list[int] = []
    model.analysis.register_forward_hook(lambda *_: calls.append(1))
    source = Latents(model, [photo(64, 64), photo(64, 128)], 64, 1, print)
    assert not calls
    drawn(source, 64, 9)
    assert len(calls) == 2


def test_damaged_and_small_photographs_are_left_out(
    model: ImageModel, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = next(path for path in sorted(picture_folder.iterdir()) if path.suffix == ".png")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    said: list[str] = []
    damaged = load_photos([tmp_path]).train
    assert len(drawn(Latents(model, [*damaged, photo(64, 300), photo(256, 256)], 256, 1, said.append), 256, 3)) == 3
    assert said == ["skipped: cut.png: damaged picture"]
    with pytest.raises(UsageError, match="no photograph that is whole has 256 pixels a side"):
        drawn(Latents(model, [photo(64, 300)], 256, 1, print), 256, 1)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_does_not_fit_into_memory_is_said(
    model: ImageModel, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of a machine share it."""
    of_one = 4 * model.config.latent_channels * 4 * 4
    gib = 2.5 * processes * of_one / (latents.KEPT_SHARE * 2**30)
    monkeypatch.setattr(latents, "machine", lambda: {"memory_gib": gib})
    said: list[str] = []
    source = Latents(model, [photo(64, 64)] * 5, 64, processes, said.append)
    drawn(source, 64, 2)
    assert said == ["latents of 2 photographs fit into memory; 3 are left out"]
    assert len(source._tiles) == 2


def test_they_lie_on_a_card_together_or_not_at_all(model: ImageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch cannot be made of both. Memory of the machine does not limit what lies on a card."""
    size = 5 * 4 * model.config.latent_channels * 4 * 4
    free = int(size / CARD_SHARE)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, free))
    card = torch.device("cuda")
    source = Latents(model, [photo(64, 64)] * 5, 64, 1, print)
    assert source._bytes() == size
    assert fits_on_card(card, size) and not fits_on_card(card, size + 1) and not fits_on_card(CPU, 1)
    monkeypatch.setattr(latents, "machine", lambda: {"memory_gib": 2.5 * size / 5 / (latents.KEPT_SHARE * 2**30)})
    monkeypatch.setattr(latents, "fits_on_card", lambda device, size: True)
    drawn(source, 64, 1)
    assert len(source._tiles) == 5


def test_it_says_how_far_it_is(model: ImageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "TELL_SECONDS", -1.0)
    said: list[str] = []
    drawn(Latents(model, [photo(64, 64)] * 2, 64, 1, said.append), 64, 1)
    assert said == ["latents of 1 of 2 photographs made", "latents of 2 of 2 photographs made"]
