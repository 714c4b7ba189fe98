"""Photographs and batches: what is read, what is held out, and that a sample depends on its number alone."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rdcodec.errors import BadInput, UsageError
from rdcodec.training.data import HOLD_OUT, Batch, BatchMaker, Photo, Photos, is_held_out, load_photos


def ramp(height: int, width: int) -> Photo:
    """Red is the row, green the column, blue a constant."""
    row, column = np.mgrid[:height, :width]
    return Photo("ramp", np.stack([row % 256, column % 256, np.full_like(row, 77)], -1).astype(np.uint8))


def maker(seed: int = 0, **options: float) -> BatchMaker:
    return BatchMaker([ramp(250, 256), ramp(256, 200)], seed, latent_channels=6, hyper_channels=2, **options)


def parts(batch: Batch) -> tuple[torch.Tensor, ...]:
    return batch.x, batch.quality, batch.noise.y, batch.noise.z


# Batches


@given(st.integers(0, 10**9), st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.randoms())
@settings(max_examples=30, deadline=None)
def test_a_sample_depends_on_seed_step_and_index_alone(step: int, indexes: list[int], random: object) -> None:
    """Not on the samples it is asked with, nor on any generator outside."""
    together = parts(maker().batch(step, 64, indexes))
    np.random.seed(step % 2**32)
    torch.manual_seed(step)
    for place, index in enumerate(indexes):
        alone = parts(maker().batch(step, 64, [index]))
        assert all(torch.equal(a[0], b[place]) for a, b in zip(alone, together, strict=True))


def test_seed_step_and_index_each_make_a_difference() -> None:
    samples = [
        maker(seed).batch(step, 64, [index]) for seed, step, index in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    for part in zip(*(parts(sample) for sample in samples), strict=True):
        for n, one in enumerate(part):
            assert not any(torch.equal(one, other) for other in part[:n])


def test_shapes_and_ranges() -> None:
    batch = maker().batch(3, 128, range(5))
    assert batch.x.shape == (5, 3, 128, 128) and batch.x.is_contiguous(memory_format=torch.channels_last)
    assert batch.noise.y.shape == (5, 6, 8, 8) and batch.noise.z.shape == (5, 2, 2, 2)
    assert {part.dtype for part in parts(batch)} == {torch.float32}
    assert batch.x.min() >= 0 and batch.x.max() <= 255
    noise = torch.cat([n.flatten() for n in batch.noise])
    assert -0.5 <= noise.min() < -0.45 and 0.45 < noise.max() <= 0.5
    quality = maker().batch(0, 64, range(100)).quality
    assert 0 <= quality.min() < 10 and 90 < quality.max() <= 100


def test_crops_are_windows_turned_in_every_way() -> None:
    """Of the unscaled ones: red and green change by one along one axis each, blue nowhere."""
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    found = set()
    for crop in maker(down_scaled=0).batch(0, 64, range(64)).x.long():
        turn = [(int(c[1, 0] - c[0, 0]), int(c[0, 1] - c[0, 0])) for c in crop]
        for channel, (down, right) in zip(crop, turn, strict=True):
            assert torch.equal(channel, channel[0, 0] + down * row + right * column)
        found.add(tuple(turn))
    straight = {((a, 0), (0, b), (0, 0)) for a in (-1, 1) for b in (-1, 1)}
    transposed = {((0, a), (b, 0), (0, 0)) for a in (-1, 1) for b in (-1, 1)}
    assert found == straight | transposed


def test_some_crops_are_scaled_down() -> None:
    """By up to a factor of two, so that red changes by up to two levels a pixel."""
    x = maker().batch(0, 64, range(200)).x
    rise = torch.stack([c[:, 10:-10, 10:-10].diff(dim=axis).abs().mean((1, 2)) for c in x[:, :2] for axis in (1, 2)])
    largest = rise.reshape(200, 2, 2).amax((1, 2))
    scaled = largest > 1.02
    assert 0.15 < scaled.float().mean() < 0.35
    assert largest.max() < 2.05


def test_crops_come_from_photographs_that_are_large_enough() -> None:
    photos = [ramp(64, 300), Photo("large", np.full((128, 128, 3), 9, np.uint8))]
    x = BatchMaker(photos, 0, 2, 2).batch(0, 128, range(8)).x
    assert (x == 9).all()
    with pytest.raises(UsageError, match="192 pixels"):
        BatchMaker(photos, 0, 2, 2).batch(0, 192, [0])


# Photographs


def test_hold_out_is_a_hash_of_the_file_name() -> None:
    names = [f"photo-{n}.jpg" for n in range(4000)]
    held_out = [name for name in names if is_held_out(name)]
    assert 0.7 * 4000 / HOLD_OUT < len(held_out) < 1.4 * 4000 / HOLD_OUT
    assert held_out[:3] == ["photo-27.jpg", "photo-44.jpg", "photo-95.jpg"]  # for ever: models were chosen on them
    for name in names[:100]:
        assert is_held_out(name) == is_held_out(f"some/folder/{name}")


@pytest.fixture
def mixed(tmp_path: Path, picture_folder: Path) -> Path:
    """The pictures, one below, and what cannot be trained on."""
    folder = tmp_path / "mixed"
    (folder / "below").mkdir(parents=True)
    for n, path in enumerate(sorted(picture_folder.iterdir())):
        target = folder / "below" if n == 0 else folder
        (target / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (400, 255)).save(folder / "small.png")
    Image.new("L", (256, 256), 200).save(folder / "grey.PNG")
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    whole = (folder / "grey.PNG").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture")
    (folder / "folder.png").mkdir()
    return folder


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target


def names(photos: Photos) -> tuple[list[str], list[str], list[str]]:
    return (
        sorted(photo.name for photo in photos.train),
        sorted(photo.name for photo in photos.validation),
        sorted(photos.unreadable),
    )


def test_a_folder(mixed: Path, picture_folder: Path) -> None:
    photos = load_photos([mixed])
    train, validation, unreadable = names(photos)
    assert len(train) == 8 and len(validation) == 1 and "grey.PNG" in train
    assert any(name.startswith("below") for name in train)
    assert all(is_held_out(name) for name in validation) and not any(map(is_held_out, train))
    assert unreadable == ["cut.png", "damaged.jpg", "folder.png"]
    for photo in photos.train + photos.validation:
        with Image.open(mixed / photo.name) as picture:
            np.testing.assert_array_equal(photo.pixels, np.array(picture.convert("RGB")))
    assert photos.megapixels == pytest.approx(sum(p.pixels.shape[0] * p.pixels.shape[1] for p in photos.train) / 1e6)


def test_a_zip_file_is_as_good_as_its_folder(mixed: Path, tmp_path: Path) -> None:
    archive = zipped(mixed, tmp_path / "pictures.zip")
    folder, zip_file = load_photos([mixed]), load_photos([archive])
    assert names(folder)[:2] == names(zip_file)[:2]
    assert names(zip_file)[2] == ["cut.png", "damaged.jpg"]
    order = [[photo.name for photo in photos.train] for photos in (folder, zip_file)]
    assert order[0] == order[1]
    both = load_photos([mixed, archive])
    assert len(both.train) == 2 * len(folder.train)


def test_a_damaged_entry_of_a_zip_file(mixed: Path, tmp_path: Path) -> None:
    archive = zipped(mixed, tmp_path / "pictures.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"grey.PNG") + 100  # inside its stored bytes
    data[at] ^= 0xFF
    archive.write_bytes(data)
    photos = load_photos([archive])
    assert "grey.PNG" in photos.unreadable and len(photos.train) == 7


@pytest.mark.parametrize("content", [None, b"not a zip file"])
def test_a_source_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    source = tmp_path / "pictures.zip"
    if content:
        source.write_bytes(content)
    with pytest.raises(UsageError, match=r"pictures\.zip: neither a folder nor a zip file"):
        load_photos([source])


def test_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match="no readable picture of 256 pixels"):
        load_photos([tmp_path])
