"""The whole data path: what is decoded is what the encoder promised, and nothing damaged becomes a picture."""

import math
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rdcodec
from rdcodec.codec import pipeline
from rdcodec.codec.container import SINGLE_RATE, pack, read_header, unpack
from rdcodec.codec.pipeline import Codec, Encoded, codec_for, load
from rdcodec.errors import BadInput, NeedsModel, RdcError, UsageError
from rdcodec.models.state import raw_of
from rdcodec.models.weights import FILE_NAME, read_weights, save_weights

Picture = NDArray[np.uint8]
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def tiny(tiny_run: Path) -> Codec:
    """Random weights that keep the coder busy."""
    return load(tiny_run)


@pytest.fixture(scope="session")
def fair(fair_run: Path) -> Codec:
    """A transform codec: its rate and distortion behave as those of trained weights."""
    return load(fair_run)


@pytest.fixture(scope="session")
def coded(tiny: Codec, photo: Picture) -> Encoded:
    return tiny.encode(photo[:100, :130], 50)


def of_size(photo: Picture, height: int, width: int) -> Picture:
    """The photograph, mirrored over and over until it has that size."""
    return np.pad(photo, ((0, max(0, height - 192)), (0, max(0, width - 256)), (0, 0)), "symmetric")[:height, :width]


# What comes back


def test_the_tiny_model_keeps_the_coder_busy(tiny: Codec, photo: Picture) -> None:
    encoded = tiny.encode(photo)
    symbols, indexes = np.concatenate(encoded.symbols), np.concatenate(encoded.indexes)
    assert np.mean(symbols != 0) > 0.25
    assert len(np.unique(indexes)) > 64
    assert 0 < np.mean(indexes < tiny.tables.skip_below) < 0.5
    assert np.sum(np.abs(symbols) > tiny.tables.radius[indexes]) > 100


@pytest.mark.parametrize("quality", [0, 0.1, 37.3, 100])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (16, 64), (1, 300), (257, 1), (427, 640)], ids=str)
def test_decoding_gives_what_the_encoder_promised(
    tiny: Codec, photo: Picture, size: tuple[int, int], quality: float
) -> None:
    image = of_size(photo, *size)
    encoded = tiny.encode(image, quality)
    assert encoded.reconstruction.shape == image.shape and encoded.reconstruction.dtype == np.uint8
    np.testing.assert_array_equal(tiny.decompress(encoded.data), encoded.reconstruction)
    header, stream = unpack(encoded.data)
    assert (header.width, header.height, header.quality) == (size[1], size[0], round(10 * quality))
    y_hat = tiny.decode_latents(header, stream)
    np.testing.assert_array_equal(y_hat, encoded.y_hat)
    assert tiny.compress(image, quality) == encoded.data


def test_a_large_picture(tiny: Codec, photo: Picture) -> None:
    encoded = tiny.encode(of_size(photo, 2000, 3000), 30)
    np.testing.assert_array_equal(tiny.decompress(encoded.data), encoded.reconstruction)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000), st.integers(0, 2**32))
@settings(max_examples=20)
def test_any_size_any_quality_any_pixels(tiny: Codec, height: int, width: int, tenths: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    encoded = tiny.encode(image, tenths / 10)
    np.testing.assert_array_equal(tiny.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.parametrize("level", [0, 118, 255])
def test_flat_pictures(fair: Codec, level: int) -> None:
    encoded = fair.encode(np.full((40, 50, 3), level, np.uint8), 80)
    np.testing.assert_array_equal(fair.decompress(encoded.data), encoded.reconstruction)
    assert encoded.psnr_db > 25


def test_what_a_result_says_of_itself(fair: Codec, photo: Picture) -> None:
    encoded = fair.encode(photo, 42.04)
    assert encoded.quality == 42.0
    assert encoded.bpp == 8 * len(encoded.data) / (192 * 256)
    mse = np.mean((photo.astype(np.float64) - fair.decompress(encoded.data)) ** 2)
    assert encoded.psnr_db == pytest.approx(10 * math.log10(255**2 / mse), abs=1e-6)
    assert fair.encode(photo).quality == 50


@pytest.mark.parametrize("turn", [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2], np.array])
def test_the_layout_of_the_array_does_not_matter(
    tiny: Codec, coded: Encoded, photo: Picture, turn: Callable[[Picture], Picture]
) -> None:
    image = turn(photo[:100, :130])
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tiny.compress(image, 50) == coded.data
    assert tiny.compress(image[::-1, ::-1], 50) == tiny.compress(image[::-1, ::-1].copy(), 50)


def test_threads_do_not_change_the_file(
    tiny: Codec, coded: Encoded, photo: Picture, threads: Callable[[int], None]
) -> None:
    """The analysis may differ in its last bits; here no symbol sits on such an edge. Decoding never differs."""
    for count in (1, 2):
        threads(count)
        assert tiny.compress(photo[:100, :130], 50) == coded.data
        np.testing.assert_array_equal(tiny.decode_latents(*unpack(coded.data)), coded.y_hat)


# Rate and quality


@pytest.mark.parametrize("quality", [0, 10, 25, 40, 55, 70, 85, 100])
@pytest.mark.parametrize("size", [(192, 256), (100, 77)], ids=str)
def test_files_cost_what_the_model_estimates(
    fair: Codec, photo: Picture, size: tuple[int, int], quality: float
) -> None:
    encoded = fair.encode(of_size(photo, *size), quality)
    bits = 8 * len(encoded.data)
    assert bits <= 1.01 * encoded.estimate_bits + 600
    if quality >= 25:  # below, this untrained model has latents at scales that are not coded, but estimated
        assert bits >= 0.97 * encoded.estimate_bits


def test_rate_and_quality_rise_together(fair: Codec, photo: Picture) -> None:
    curve = [fair.encode(photo, q) for q in range(0, 101, 5)]
    for lower, higher in pairwise(curve):
        assert len(lower.data) < len(higher.data)
        assert lower.psnr_db < higher.psnr_db
    assert len(curve[-1].data) > 4 * len(curve[0].data)
    assert curve[-1].psnr_db > curve[0].psnr_db + 3.5


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The qualities that were tried."""
    tried: list[float] = []
    code = Codec.code

    def counting(self: Codec, analysed: pipeline.Analysed, quality: float, effort: int) -> Encoded:
        tried.append(quality)
        return code(self, analysed, quality, effort)

    monkeypatch.setattr(Codec, "code", counting)
    return tried


MOST_TRIALS = 12  # a bisection of the 1,001 qualities takes 10
PARTS = [0.02, 0.2, 0.45, 0.5, 0.77, 0.98]


@pytest.mark.parametrize("part", PARTS)
def test_target_size(fair: Codec, photo: Picture, calls: list[float], part: float) -> None:
    least, most = (len(fair.compress(photo, q)) for q in (0, 100))
    calls.clear()
    target = round(least + part * (most - least))
    encoded = fair.encode_target(photo, file_bytes=target)
    assert 0.99 * target <= len(encoded.data) <= target
    assert len(calls) <= MOST_TRIALS
    np.testing.assert_array_equal(fair.decompress(encoded.data), encoded.reconstruction)


@pytest.mark.parametrize("part", PARTS)
def test_target_bpp(fair: Codec, photo: Picture, calls: list[float], part: float) -> None:
    least, most = (fair.encode(photo, q).bpp for q in (0, 100))
    calls.clear()
    target = least * (most / least) ** part
    encoded = fair.encode_target(photo, bpp=target)
    assert 0.99 * target <= encoded.bpp <= target
    assert len(calls) <= MOST_TRIALS


@pytest.mark.parametrize("part", PARTS)
def test_target_psnr(fair: Codec, photo: Picture, calls: list[float], part: float) -> None:
    least, most = (fair.encode(photo, q).psnr_db for q in (0, 100))
    calls.clear()
    target = least + part * (most - least)
    encoded = fair.encode_target(photo, psnr_db=target)
    assert target <= encoded.psnr_db <= target + 0.05
    assert len(calls) <= MOST_TRIALS


def test_the_ends_of_the_range_are_reached(fair: Codec, photo: Picture, calls: list[float]) -> None:
    lowest, highest = fair.encode(photo, 0), fair.encode(photo, 100)
    calls.clear()
    assert fair.encode_target(photo, file_bytes=len(lowest.data)).data == lowest.data
    assert len(fair.encode_target(photo, file_bytes=len(highest.data)).data) > 0.99 * len(highest.data)
    assert fair.encode_target(photo, psnr_db=highest.psnr_db).psnr_db == highest.psnr_db
    assert len(calls) <= 3 * 8


def test_targets_out_of_reach_name_the_range(fair: Codec, photo: Picture, calls: list[float]) -> None:
    lowest, highest = fair.encode(photo, 0), fair.encode(photo, 100)
    calls.clear()
    with pytest.raises(RdcError, match=f"needs {len(lowest.data)} or more") as raised:
        fair.encode_target(photo, file_bytes=len(lowest.data) - 1)
    assert raised.value.exit_code == 1
    with pytest.raises(RdcError, match=f"0.01 bpp is out of reach.* {lowest.bpp:.6g}"):
        fair.encode_target(photo, bpp=0.01)
    with pytest.raises(RdcError, match=f"50 dB is out of reach.* {highest.psnr_db:.6g}"):
        fair.encode_target(photo, psnr_db=50)
    assert len(calls) <= 3 * 8


def test_a_target_that_every_quality_meets(fair: Codec, photo: Picture) -> None:
    assert fair.encode_target(photo, bpp=20).quality == 100
    assert fair.encode_target(photo, psnr_db=5).quality == 0


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"bpp": 0.3, "psnr_db": 30.0},
        {"bpp": 0.0},
        {"bpp": -1.0},
        {"file_bytes": 0},
        {"bpp": math.nan},
        {"psnr_db": math.nan},
    ],
    ids=str,
)
def test_impossible_targets(fair: Codec, photo: Picture, target: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        fair.encode_target(photo, **target)  # type: ignore[arg-type]


# Damage


def test_a_file_cut_off_anywhere(tiny: Codec, coded: Encoded) -> None:
    start = read_header(coded.data).stream_start
    ends = {*range(start + 20), *range(start, len(coded.data), 97), len(coded.data) - 1}
    for end in sorted(ends):
        with pytest.raises(BadInput):
            tiny.decompress(coded.data[:end])
    with pytest.raises(BadInput):
        tiny.decompress(coded.data + b"\0")


def test_every_byte_of_the_header_counts(tiny: Codec, coded: Encoded) -> None:
    for at in range(read_header(coded.data).stream_start):
        for bit in (0, 3, 7):
            with pytest.raises(BadInput):
                tiny.decompress(flipped(coded.data, at, bit))


def test_flipped_bits_of_the_stream(tiny: Codec, coded: Encoded) -> None:
    start = read_header(coded.data).stream_start
    for at, bit in places(len(coded.data) - start):
        with pytest.raises(BadInput, match="checksum of the stream"):
            tiny.decompress(flipped(coded.data, start + at, bit))


def test_a_forged_stream_is_not_decoded(tiny: Codec, coded: Encoded) -> None:
    """Checksums of the file made right again: then coder or CRC of the symbols tells."""
    header, stream = unpack(coded.data)
    forgeries = [flipped(stream, at, bit) for at, bit in places(len(stream))]
    forgeries += [b"", stream[:16], stream[:-2], stream[2:], stream + b"\0\0", stream[:-1], stream[::-1]]
    forgeries += [bytes(len(stream)), b"\xff" * len(stream), stream[:20] + stream[22:24] + stream[20:22] + stream[24:]]
    for forged in forgeries:
        with pytest.raises(BadInput):
            tiny.decompress(pack(header, forged))


@pytest.mark.parametrize(
    "change",
    [
        {"width": 30},
        {"width": 1300},
        {"height": 1},
        {"height": 2000},
        {"quality": 999},
        {"quality": 0},
        {"quality": SINGLE_RATE},
        {"symbols_crc": 1},
    ],
    ids=str,
)
def test_a_forged_header_is_not_decoded(tiny: Codec, coded: Encoded, change: dict[str, int]) -> None:
    header, stream = unpack(coded.data)
    with pytest.raises(BadInput):
        tiny.decompress(pack(replace(header, **change), stream))  # type: ignore[arg-type]


def test_symbols_are_checked_after_decoding(tiny: Codec, coded: Encoded) -> None:
    header, stream = unpack(coded.data)
    with pytest.raises(BadInput, match="decoded symbols"):
        tiny.decompress(pack(replace(header, symbols_crc=header.symbols_crc ^ 1), stream))


def test_pixels_are_limited_before_they_are_made(tiny: Codec, coded: Encoded) -> None:
    assert tiny.decompress(coded.data, max_pixels=13000).shape == (100, 130, 3)
    with pytest.raises(BadInput, match="--max-pixels"):
        tiny.decompress(coded.data, max_pixels=12999)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("model", "multiple"), [("Golden", 16), ("Golden-charm", 64)])
def test_the_limit_counts_what_padding_makes_of_a_thin_picture(
    model: str, multiple: int, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By header or array alone, before anything is allocated."""

    class Allocated(Exception):
        pass

    def allocate(*_: object) -> None:
        raise Allocated

    codec = Codec(read_weights(GOLDEN / f"{model}.1.safetensors"), torch.device("cpu"))
    monkeypatch.setattr(codec, "decode_latents", allocate)
    monkeypatch.setattr(codec.engine, "analyse", allocate)
    known = read_header((GOLDEN / "one-pixel.rdc").read_bytes()).header
    for length, limit, allowed in [
        (1 << 24, 100_000_000, False),
        (1 << 24, (multiple << 24) // 5 * 4 - 1, False),
        (1 << 24, (multiple << 24) // 5 * 4 + 9, True),
        (400_000, 100_000_000, True),
        (400_000, 400_000, False),
    ]:
        height, width = (length, 1) if turned else (1, length)
        image = np.broadcast_to(np.uint8(7), (height, width, 3))
        data = pack(replace(known, width=width, height=height), b"")
        for work in (partial(codec.decompress, data), partial(codec.encode, image)):
            with pytest.raises(Allocated if allowed else BadInput, match=None if allowed else "padded.*--max-pixels"):
                work(max_pixels=limit)


def test_ordinary_pictures_keep_their_limit(tiny: Codec) -> None:
    """Just below the default limit, and tiny ones below a tiny limit."""
    for height, width, limit in [(10_000, 10_000, 10**8), (5000, 20_000, 10**8), (1000, 1000, 10**6), (1, 1, 1)]:
        tiny._check_padding(height, width, limit)
    tiny.encode(np.zeros((1, 1, 3), np.uint8), max_pixels=1)


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def places(size: int) -> list[tuple[int, int]]:
    """64 bits of a stream, those of the first states among them."""
    rng = np.random.default_rng(0)
    return [(at, at % 8) for at in range(16)] + [(int(rng.integers(size)), int(rng.integers(8))) for _ in range(48)]


# Weights


def test_other_weights_do_not_decode(tiny: Codec, fair: Codec, coded: Encoded) -> None:
    with pytest.raises(NeedsModel, match=r"Tiny\.0"):
        fair.decompress(coded.data)


@pytest.mark.parametrize("field", ["tables_hash", "entropy_hash", "synthesis_hash"])
def test_each_hash_is_checked(tiny: Codec, coded: Encoded, field: str) -> None:
    header, stream = unpack(coded.data)
    with pytest.raises(NeedsModel):
        tiny.decompress(pack(replace(header, **{field: b"none"}), stream))  # type: ignore[arg-type]


def test_an_encoder_may_improve_under_the_same_tag(tiny: Codec, tiny_run: Path, photo: Picture) -> None:
    """Analysis and hyper-analysis belong to the encoder alone: whatever they do, the file decodes."""
    weights = read_weights(tiny_run / FILE_NAME)
    state = {
        name: 0.5 * tensor if name.startswith(("analysis.", "entropy.hyper_analysis.")) else tensor
        for name, tensor in weights.state.items()
    }
    encoded = Codec(replace(weights, raw=raw_of(state)), tiny.device).encode(photo)
    assert encoded.data != tiny.compress(photo)
    np.testing.assert_array_equal(tiny.decompress(encoded.data), encoded.reconstruction)


@pytest.fixture
def shelf(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of released weights, Tiny.1 and Tiny.2."""
    weights = read_weights(tiny_run / FILE_NAME)
    gains = {"log_gain.values": weights.state["log_gain.values"] - 1}
    for tag, state in ("Tiny.1", weights.state), ("Tiny.2", {**weights.state, **gains}):
        save_weights(tmp_path / f"{tag}.safetensors", replace(weights, tag=tag, raw=raw_of(state)))
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(tmp_path))
    return tmp_path


def test_the_two_lines_of_the_readme(shelf: Path, photo: Picture) -> None:
    data = rdcodec.compress(photo, model="Tiny", quality=30)
    encoded = rdcodec.load("Tiny").encode(photo, 30)
    assert data == encoded.data
    np.testing.assert_array_equal(rdcodec.decompress(data), encoded.reconstruction)


def test_a_file_is_decoded_by_the_weights_it_names(shelf: Path, photo: Picture) -> None:
    """Newer weights of the same name do not get in the way."""
    old = rdcodec.compress(photo, model="Tiny.1")
    assert read_header(old).header.tag == "Tiny.1"
    assert read_header(rdcodec.compress(photo, model="Tiny")).header.tag == "Tiny.2"
    np.testing.assert_array_equal(rdcodec.decompress(old), load("Tiny.1").decompress(old))
    with pytest.raises(NeedsModel, match=r"Tiny\.1"):
        load("Tiny.2").decompress(old)
    (shelf / "Tiny.1.safetensors").unlink()
    with pytest.raises(NeedsModel, match=r"Tiny\.1"):
        rdcodec.decompress(old)


def test_unreleased_weights_must_be_named(coded: Encoded, tiny_run: Path) -> None:
    header = read_header(coded.data).header
    with pytest.raises(NeedsModel, match="run folder"):
        rdcodec.decompress(coded.data)
    with pytest.raises(NeedsModel, match="run folder"):
        codec_for(header)
    np.testing.assert_array_equal(codec_for(header, tiny_run).decompress(coded.data), coded.reconstruction)


def test_a_model_without_weights_is_not_a_random_one(tmp_path: Path, photo: Picture) -> None:
    for model in ("Nobody", "Nobody.1", tmp_path / "run"):
        with pytest.raises(NeedsModel):
            rdcodec.compress(photo, model=model)


def test_a_run_that_went_on_is_read_again(tiny_run: Path, fair_run: Path, photo: Picture, tmp_path: Path) -> None:
    """Codecs are kept once loaded, but not beyond their weights."""
    shutil.copy(tiny_run / FILE_NAME, tmp_path / FILE_NAME)
    assert load(tmp_path) is load(tmp_path)
    before = load(tmp_path).hashes
    shutil.copy(fair_run / FILE_NAME, tmp_path / FILE_NAME)
    assert load(tmp_path).hashes != before


def test_devices(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert load(tiny_run, "auto").device == "cpu"
    with pytest.raises(UsageError, match="--device cpu"):
        load(tiny_run, "cuda")
    with pytest.raises(UsageError, match="auto, cpu or cuda"):
        load(tiny_run, "tpu")


# Calls that cannot be carried out


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3), bool),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda image: f"{image.dtype}-{image.shape}",
)
def test_not_a_picture(tiny: Codec, image: Picture) -> None:
    for call in (tiny.compress, tiny.analyse, lambda image: tiny.encode_target(image, bpp=1.0)):
        with pytest.raises(UsageError, match=r"uint8 \(height, width, 3\)"):
            call(image)


@pytest.mark.parametrize("quality", [-0.1, 100.1, math.nan, math.inf])
def test_quality_outside_its_scale(tiny: Codec, photo: Picture, quality: float) -> None:
    with pytest.raises(UsageError, match="quality"):
        tiny.compress(photo[:16, :16], quality)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(40), bytes(100)])
def test_not_a_file(tiny: Codec, data: bytes) -> None:
    for decompress in (tiny.decompress, rdcodec.decompress):
        with pytest.raises(BadInput, match=r"not an \.rdc file"):
            decompress(data)
