"""Photographs and batches: what is read, what is held out, and that a sample depends on its number alone."""

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rdcodec.errors import BadInput, RdcError, UsageError
from rdcodec.training import data
from rdcodec.training.data import (
    HOLD_OUT,
    Batch,
    BatchMaker,
    CardPhoto,
    CodedPhoto,
    Crops,
    Photo,
    Photos,
    Room,
    decoded,
    first_few,
    held,
    is_held_out,
    load_photos,
)
from rdcodec.training.sources import expand_braces

CPU = torch.device("cpu")


def ramp(height: int, width: int) -> Photo:
    """Red is the row, green the column, blue a constant."""
    row, column = np.mgrid[:height, :width]
    return Photo("ramp", np.stack([row % 256, column % 256, np.full_like(row, 77)], -1).astype(np.uint8))


def maker(seed: int = 0, stratified: bool = False, **options: float) -> BatchMaker:
    crops = Crops([ramp(250, 256), ramp(256, 200)], **options)
    return BatchMaker(crops, seed, latent_channels=6, hyper_channels=2, stratified=stratified)


def parts(batch: Batch) -> tuple[torch.Tensor, ...]:
    return batch.x, batch.quality, batch.noise.y, batch.noise.z


# Batches


@given(st.integers(0, 10**9), st.lists(st.integers(0, 1000), min_size=1, max_size=5), st.randoms())
@settings(max_examples=30)
def test_a_sample_depends_on_seed_step_and_index_alone(step: int, indexes: list[int], random: object) -> None:
    """Not on the samples it is asked with, nor on any generator outside."""
    together = parts(maker().batch(step, 64, indexes, 1001))
    np.random.seed(step % 2**32)
    torch.manual_seed(step)
    for place, index in enumerate(indexes):
        alone = parts(maker().batch(step, 64, [index], 1001))
        assert all(torch.equal(a[0], b[place]) for a, b in zip(alone, together, strict=True))


def test_seed_step_and_index_each_make_a_difference() -> None:
    samples = [
        maker(seed).batch(step, 64, [index], 2) for seed, step, index in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    ]
    for part in zip(*(parts(sample) for sample in samples), strict=True):
        for n, one in enumerate(part):
            assert not any(torch.equal(one, other) for other in part[:n])


def test_shapes_and_ranges() -> None:
    batch = maker().batch(3, 128, range(5), 5)
    assert batch.x.shape == (5, 3, 128, 128) and batch.x.is_contiguous(memory_format=torch.channels_last)
    assert batch.noise.y.shape == (5, 6, 8, 8) and batch.noise.z.shape == (5, 2, 2, 2)
    assert {part.dtype for part in parts(batch)} == {torch.float32}
    assert batch.x.min() >= 0 and batch.x.max() <= 255
    noise = torch.cat([n.flatten() for n in batch.noise])
    assert -0.5 <= noise.min() < -0.45 and 0.45 < noise.max() <= 0.5
    quality = maker().batch(0, 64, range(100), 100).quality
    assert 0 <= quality.min() < 10 and 90 < quality.max() <= 100


def test_stratified_qualities_lie_one_in_each_part_of_the_scale() -> None:
    """Also where several processes share the batch; the crops stay the same."""
    plain = maker().batch(7, 64, range(20), 20)
    halves = [maker(stratified=True).batch(7, 64, range(rank, 20, 2), 20) for rank in (0, 1)]
    quality = torch.stack([half.quality for half in halves], 1).flatten()
    assert torch.equal((quality / 5).floor(), torch.arange(20.0))
    assert torch.equal(halves[1].x, plain.x[1::2]) and not torch.equal(quality, plain.quality)


def test_crops_are_windows_turned_in_every_way() -> None:
    """Of the unscaled ones: red and green change by one along one axis each, blue nowhere."""
    row, column = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    found = set()
    for crop in maker(down_scaled=0).batch(0, 64, range(64), 64).x.long():
        turn = [(int(c[1, 0] - c[0, 0]), int(c[0, 1] - c[0, 0])) for c in crop]
        for channel, (down, right) in zip(crop, turn, strict=True):
            assert torch.equal(channel, channel[0, 0] + down * row + right * column)
        found.add(tuple(turn))
    straight = {((a, 0), (0, b), (0, 0)) for a in (-1, 1) for b in (-1, 1)}
    transposed = {((0, a), (b, 0), (0, 0)) for a in (-1, 1) for b in (-1, 1)}
    assert found == straight | transposed


def test_some_crops_are_scaled_down() -> None:
    """By up to a factor of two, so that red changes by up to two levels a pixel."""
    x = maker().batch(0, 64, range(200), 200).x
    rise = torch.stack([c[:, 10:-10, 10:-10].diff(dim=axis).abs().mean((1, 2)) for c in x[:, :2] for axis in (1, 2)])
    largest = rise.reshape(200, 2, 2).amax((1, 2))
    scaled = largest > 1.02
    assert 0.15 < scaled.float().mean() < 0.35
    assert largest.max() < 2.05


def test_crops_come_from_photographs_that_are_large_enough() -> None:
    photos = [ramp(64, 300), Photo("large", np.full((128, 128, 3), 9, np.uint8))]
    x = BatchMaker(Crops(photos), 0, 2, 2).batch(0, 128, range(8), 8).x
    assert (x == 9).all()
    with pytest.raises(UsageError, match="192 pixels"):
        BatchMaker(Crops(photos), 0, 2, 2).batch(0, 192, [0], 1)


# Photographs


@pytest.mark.parametrize("stratified", [False, True])
def test_photographs_on_a_card_give_the_same_batches(mixed: Path, stratified: bool) -> None:
    """Bit for bit where the card is this CPU, past damaged ones, whichever step comes first; each is moved once."""
    photos = load_photos([mixed]).train
    on_card = [CardPhoto(photo, CPU) for photo in photos]
    crops = [Crops(these) for these in (photos, on_card)]
    plain, other = (BatchMaker(each, 3, 6, 2, stratified) for each in crops)
    for step in (7, 0, 1, 7):
        one, two = (made.batch(step, 128, range(6), 6) for made in (plain, other))
        assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(parts(one), parts(two), strict=True))
    assert crops[1].damaged == crops[0].damaged != set()
    whole = [photo for index, photo in enumerate(on_card) if index not in crops[1].damaged]
    assert all(photo.pixels is photo.pixels for photo in whole)


@pytest.mark.parametrize("free", [0, 1])
def test_photographs_lie_on_a_card_where_they_fit(
    picture_folder: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """In a quarter of what is free, so that the network fits beside them."""
    photos = load_photos([picture_folder])
    size = 4 * sum(3 * photo.height * photo.width for photo in photos.train)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size + 8 * free - 4, 10 * size))
    found = held(photos, torch.device("cuda", 0))
    assert [isinstance(photo, CardPhoto) for photo in found] == [bool(free)] * len(photos.train)
    assert [photo.side for photo in found] == [photo.side for photo in photos.train]
    assert held(photos, CPU) is photos.train


def test_what_lies_on_the_card_already_is_not_sent_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device without numbers stands for a card."""
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda part: pinned.append(part) or part)
    batch, card = maker().batch(0, 64, range(2), 2), torch.device("meta")
    moved = batch._replace(x=batch.x.to(card)).to(card)
    assert all(part.device == card for part in parts(moved))
    assert [part.shape for part in pinned] == [part.shape for part in parts(batch)[1:]]
    assert len(pinned) == 3 and not any(part is batch.x for part in pinned)


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
    assert len(train) == 9 and len(validation) == 1 and {"grey.PNG", "cut.png"} <= set(train)
    assert any(name.startswith("below") for name in train)
    assert all(is_held_out(name) for name in validation) and not any(map(is_held_out, train))
    assert unreadable == ["damaged.jpg", "folder.png"]
    said: list[str] = []
    whole = decoded(photos.train + photos.validation, said.append)
    assert len(whole) == 9 and said == ["skipped: cut.png: damaged picture"]
    for photo in whole:
        with Image.open(mixed / photo.name) as picture:
            np.testing.assert_array_equal(photo.pixels, np.array(picture.convert("RGB")))
    assert photos.megapixels == pytest.approx(sum(p.height * p.width for p in photos.train) / 1e6)


def test_nothing_is_decoded_before_it_is_needed(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of photographs would pass before the first step."""
    seen: list[str] = []
    decode = data._decode

    def counting(name: str, content: bytes) -> np.ndarray:
        seen.append(name)
        return decode(name, content)

    monkeypatch.setattr(data, "_decode", counting)
    photos = load_photos([picture_folder])
    assert photos.megapixels > 0 and not seen
    BatchMaker(Crops(photos.train), 0, 2, 2).batch(0, 64, [0], 1)
    assert len(seen) == 1


def test_a_photograph_that_turns_out_to_be_damaged(mixed: Path) -> None:
    """Another takes its place, the same one whenever the step is made; it is named once."""
    said: list[str] = []
    photos = load_photos([mixed])
    crops = [Crops(photos.train, say=said.append) for _ in range(2)]
    crops[1].damaged.update(n for n, photo in enumerate(photos.train) if photo.name == "cut.png")
    first, second = (BatchMaker(each, 0, 2, 2).batch(0, 64, range(64), 64).x for each in crops)
    assert torch.equal(first, second) and said == ["skipped: cut.png: damaged picture"]


def test_reading_says_how_far_it_is(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "TELL_SECONDS", -1.0)
    said: list[str] = []
    load_photos([picture_folder], said.append)
    assert said == [f"{n} picture files read" for n in range(1, 9)]


def test_a_zip_file_is_as_good_as_its_folder(mixed: Path, tmp_path: Path) -> None:
    archive = zipped(mixed, tmp_path / "pictures.zip")
    folder, zip_file = load_photos([mixed]), load_photos([archive])
    assert names(folder)[:2] == names(zip_file)[:2]
    assert names(zip_file)[2] == ["damaged.jpg"]
    order = [[photo.name for photo in photos.train] for photos in (folder, zip_file)]
    assert order[0] == order[1]
    both = load_photos([mixed, archive])
    assert len(both.train) == 2 * len(folder.train)


def test_a_folder_of_shards_is_all_of_them(mixed: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    (shards / "second").mkdir(parents=True)
    zipped(mixed, shards / "first.zip")
    with tarfile.open(shards / "second" / "more.tar", "w") as archive:
        archive.add(mixed / "grey.PNG", "other.png")
    (shards / "notes.zip").write_text("no archive")
    train, validation, _ = names(load_photos([shards]))
    assert train == sorted([*names(load_photos([mixed]))[0], "other.png"]) and len(validation) == 1


def test_a_damaged_entry_of_a_zip_file(mixed: Path, tmp_path: Path) -> None:
    archive = zipped(mixed, tmp_path / "pictures.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"grey.PNG") + 100  # inside its stored bytes
    data[at] ^= 0xFF
    archive.write_bytes(data)
    photos = load_photos([archive])
    assert "grey.PNG" in photos.unreadable and len(photos.train) == 8


@pytest.mark.parametrize(
    ("name", "content"), [("pictures.zip", None), ("pictures.zip", b"not a zip file"), ("pictures.tar", None)]
)
def test_a_source_that_is_none(tmp_path: Path, name: str, content: bytes | None) -> None:
    source = tmp_path / name
    if content:
        source.write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}: neither a folder nor a zip or tar file"):
        load_photos([source])


def test_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match="no readable picture of 256 pixels"):
        load_photos([tmp_path])


def test_nothing_but_what_is_held_out(picture_folder: Path, tmp_path: Path) -> None:
    (held,) = (path for path in picture_folder.iterdir() if is_held_out(path.name))
    shutil.copy(held, tmp_path)
    with pytest.raises(BadInput, match=rf"{held.name}: held out for validation"):
        load_photos([tmp_path])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe in a folder, as POSIX has it")
def test_a_pipe_among_the_pictures_is_not_waited_for(picture_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    read = Path.read_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: read(path) if path.is_file() else pytest.fail("would wait"))
        assert load_photos([picture_folder, tmp_path]).unreadable == ["pipe.png"]


def test_a_damaged_zip_file(mixed: Path, tmp_path: Path) -> None:
    """Its table of contents, at the end."""
    archive = zipped(mixed, tmp_path / "pictures.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02")] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(BadInput, match=r"unreadable: the rest of pictures\.zip \(Bad magic number"):
        load_photos([archive])


# Tar files


def tarred(folder: Path, target: Path, prefix: str = "") -> Path:
    """As WebDataset has them: a text beside each picture. In no order."""
    with tarfile.open(target, "w:gz" if target.suffix in (".gz", ".tgz") else "w") as archive:
        for path in sorted(folder.rglob("*"), key=lambda path: path.name[::-1]):
            if path.is_file():
                name = prefix + str(path.relative_to(folder))
                archive.add(path, name)
                _add(archive, f"{name.rpartition('.')[0]}.json", b"{}")
    return target


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def assert_same(ours: Photos, theirs: Photos) -> None:
    for a, b in ((ours.train, theirs.train), (ours.validation, theirs.validation)):
        assert [photo.name for photo in a] == [photo.name for photo in b]
        for one, other in zip(decoded(a), decoded(b), strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("name", ["pictures.tar", "pictures.tar.gz", "PICTURES.TGZ"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_tar_file_is_as_good_as_its_folder(mixed: Path, tmp_path: Path, name: str, prefix: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    archive = tarred(mixed, tmp_path / name, prefix)
    photos = load_photos([archive])
    assert_same(photos, load_photos([mixed]))
    assert photos.unreadable == ["damaged.jpg"]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, archive])  # nothing was unpacked


def test_members_that_point_elsewhere_are_harmless(picture_folder: Path, tmp_path: Path) -> None:
    picture = next(picture_folder.iterdir()).read_bytes()
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / "pictures.tar"
    with tarfile.open(source, "w") as archive:
        for name in ("../x.png", "/rdcodec-test/y.png", "link.png", "hard.png", "folder.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            if name.startswith(("l", "h", "f")):
                kinds = {"link.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE, "folder.png": tarfile.DIRTYPE}
                member.type, member.linkname, member.size = kinds[name], "/etc/passwd", 0
            archive.addfile(member, io.BytesIO(picture))
    photos = load_photos([source])
    assert sorted(photo.name for photo in photos.train + photos.validation) == ["../x.png", "/rdcodec-test/y.png"]
    assert photos.unreadable == ["link.png", "hard.png"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "pictures.tar"]
    assert not Path("/rdcodec-test").exists()


def offsets(archive: Path) -> list[tuple[int, int]]:
    """Where the header and the content of each picture begin."""
    with tarfile.open(archive) as opened:
        return [(m.offset, m.offset_data) for m in opened if m.name.endswith(".png")]


@pytest.mark.parametrize("damage", ["in a picture", "in a header", "between members", "of a header"])
def test_a_damaged_tar_file_gives_what_comes_before(picture_folder: Path, tmp_path: Path, damage: str) -> None:
    archive = tarred(picture_folder, tmp_path / "shard.tar")
    content = bytearray(archive.read_bytes())
    header, pixels = offsets(archive)[5]
    if damage == "of a header":
        content[header + 5] ^= 0xFF
    else:
        del content[{"in a picture": pixels + 1000, "in a header": header + 100, "between members": header}[damage] :]
    archive.write_bytes(content)
    photos = load_photos([archive, picture_folder])
    assert len(photos.train + photos.validation) == 5 + 8
    (name,) = photos.unreadable
    assert name.startswith("the rest of shard.tar (")


@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_compressed_tar_file(picture_folder: Path, tmp_path: Path, cut: bool) -> None:
    plain = tarred(picture_folder, tmp_path / "shard.tar")
    content = bytearray(gzip.compress(plain.read_bytes(), 1))
    middle = len(content) // 2
    content[middle : len(content) if cut else middle + 100] = b"" if cut else bytes(100)
    (tmp_path / "shard.tar.gz").write_bytes(content)
    photos = load_photos([tmp_path / "shard.tar.gz"])
    assert 0 < len(photos.train) < 7
    assert photos.unreadable[-1].startswith("the rest of shard.tar.gz (")


@pytest.mark.parametrize("content", [b"", b"no tar file at all" * 100])
def test_what_is_no_tar_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shard.tar").write_bytes(content)
    with pytest.raises(BadInput, match=r"no readable picture.*unreadable: the rest of shard\.tar"):
        load_photos([tmp_path / "shard.tar"])


def test_braces_stand_for_several_files(picture_folder: Path, tmp_path: Path) -> None:
    for n, path in enumerate(sorted(picture_folder.iterdir())):
        with tarfile.open(tmp_path / f"shard-{n:03}.tar", "w") as archive:
            archive.add(path, path.name)
    (tmp_path / "a{1..3}b.tar").mkdir()
    photos = load_photos([tmp_path / "shard-{000..007}.tar"])
    assert names(photos) == names(load_photos([picture_folder]))
    with pytest.raises(UsageError, match=r"shard-008\.tar: neither"):
        load_photos([tmp_path / "shard-{000..999999999}.tar"])
    assert list(expand_braces(tmp_path / "a{1..3}b.tar")) == [tmp_path / "a{1..3}b.tar"]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("{8..11}.tar", ["8.tar", "9.tar", "10.tar", "11.tar"]),
        ("{08..10}.tar", ["08.tar", "09.tar", "10.tar"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{one}.tar", ["{one}.tar"]),
    ],
)
def test_braces(pattern: str, paths: list[str]) -> None:
    assert [str(path) for path in expand_braces(Path(pattern))] == [str(Path(path)) for path in paths]


# Memory and messages


def test_what_is_decoded_is_kept_while_there_is_room(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in sorted(picture_folder.iterdir())[:3]}
    sizes = [np.array(Image.open(io.BytesIO(content)).convert("RGB")).nbytes for content in files.values()]
    room = Room(sizes[0] + sizes[1])
    photos = [CodedPhoto(name, content, room) for name, content in files.items()]
    for photo in photos:
        assert (photo.height, photo.width) == photo.pixels.shape[:2]
        np.testing.assert_array_equal(photo.pixels, photo.pixels)
    assert [photo.pixels is photo.pixels for photo in photos] == [True, True, False]


def test_no_memory_for_a_picture_is_no_damage(picture_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def look(file: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", look)
    with pytest.raises(RdcError, match="out of memory while reading photographs: give fewer sources"):
        load_photos([picture_folder])


def test_a_list_for_a_message() -> None:
    assert first_few([]) == ""
    assert first_few(list("abcde")) == "a, b, c, d, e"
    assert first_few(list("abcdefg")) == "a, b, c, d, e and 2 more"
