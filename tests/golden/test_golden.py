"""Format version 1 is frozen: its files decode to the same integers for ever, in this decoder and in a second one."""

import ast
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from make import MODELS, encode_latents, sums
from make import RELEASED as FILES_OF_RELEASED

import second_decoder
from rdcodec.codec import container
from rdcodec.codec.container import SINGLE_RATE, Header, Section, pack, read_header, unpack
from rdcodec.codec.engine import Latents
from rdcodec.codec.pipeline import Codec, load
from rdcodec.codec.rans import Decoder
from rdcodec.codec.sections import picture_of
from rdcodec.codec.torch_engine import _Decoder
from rdcodec.errors import BadInput
from rdcodec.exact.fixed import MEAN_ONE
from rdcodec.models.entropy.integer import Part
from rdcodec.models.weights import read_weights, released

FOLDER = Path(__file__).parent
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
TINY = [name for name, record in GOLDEN.items() if record["tag"] in MODELS]
RELEASED = {  # hashes of tables, entropy model, synthesis
    "G.1": "4d10f704 f5743154 eeb5f072",
    "H.1": "9a510bcb 6b9fff17 463831ea",
    "H.2": "9a510bcb b87beb68 042f388f",
    "H.3": "86f9c552 b87beb68 042f388f",
    "H.4": "076404ed 892b59e0 3038fcde",
    "H.5": "41393b2f 4b68dcad bdf7070f",
    "H.6": "24d19f0c 06e6785f 647bfc60",
    "I.1": "9a510bcb 1b37bf60 cd166843",
    "I.2": "9a510bcb 9627582b 8b45ad19",
    "I.3": "9a510bcb f3143db5 39b0e242",
    "I.4": "71a3111f f3143db5 39b0e242",
    "I.5": "e6302fc3 bc6e3181 c15fab75",
    "I.6": "fdd6ac76 63198a0f 71f4765c",
    "I.7": "b911e4ea d951a6fe d470c687",
    "J.1": "9a510bcb 74e3bb4d d2845222",
    "J.2": "9a510bcb 8f45a936 91dcb648",
    "J.3": "9da8be5b 8f45a936 91dcb648",
    "J.4": "6a69f8fd 9e6ad850 490db771",
    "J.5": "10ddd7fd 3a9d1d8b 5714a0a6",
    "J.6": "164c3008 b9fba75f 81f309d7",
}
PACKAGED = FOLDER.parents[1] / "src" / "rdcodec" / "weights"
EARLIER = pytest.mark.skipif(not (FOLDER.parents[1] / "weights").is_dir(), reason="needs a checkout with weights/")
PAPER = ("Golden-hyperprior.1", "Golden-charm.1")


def weights_of(tag: str) -> Path:
    return FOLDER / f"{tag}.safetensors"


@cache
def golden(tag: str) -> Codec:
    return Codec(read_weights(weights_of(tag)), torch.device("cpu"))


@cache
def second(tag: str) -> second_decoder.Weights:
    return second_decoder.read_weights(weights_of(tag).read_bytes())


def names_of(tag: str) -> list[str]:
    return [name for name, record in GOLDEN.items() if record["tag"] == tag]


def read(name: str) -> tuple[Header, bytes, bytes]:
    data = (FOLDER / f"{name}.rdc").read_bytes()
    return (*unpack(data), data)


class Reader(_Decoder):
    """Keeps indexes, means, and the latents of each pass before anything is predicted of what rounding took."""

    def z(self, indexes: torch.Tensor) -> torch.Tensor:
        self.indexes, self.means, self.latents = [indexes.flatten().numpy()], [], []
        return super().z(indexes)

    def y(self, part: Part, mean: torch.Tensor, indexes: torch.Tensor) -> torch.Tensor:
        symbols = super().y(part, mean, indexes)
        self.indexes.append(indexes.flatten().numpy())
        self.means.append(mean.flatten().numpy())
        self.latents.append(symbols + mean / MEAN_ONE)
        return symbols


def decoded(codec: Codec, name: str) -> tuple[Reader, Latents]:
    """What the file gives in torch, and y_hat by the codec's own engine."""
    header, stream, _ = read(name)
    y_hat = codec.decode_latents(header, stream)  # every check that users get
    reader = Reader(Decoder(stream, codec.tables))
    again = codec.torch.entropy.code(y_hat.shape[0], y_hat.shape[1], header.quality, reader)
    np.testing.assert_array_equal(again[0].permute(1, 2, 0).numpy(), y_hat)
    return reader, y_hat


@pytest.mark.parametrize("name", TINY)
def test_golden_files_decode_to_the_recorded_integers(name: str) -> None:
    reader, y_hat = decoded(golden(GOLDEN[name]["tag"]), name)
    assert sums(np.concatenate(reader.symbols), y_hat).items() <= GOLDEN[name].items()


@pytest.mark.parametrize("name", TINY)
def test_coding_the_latents_again_gives_the_same_file(name: str) -> None:
    """Coder, tables and integer networks of the encoder are the recorded ones too; the analysis is free to change."""
    header, _, data = read(name)
    codec = golden(header.tag)
    reader, y_hat = decoded(codec, name)
    rows, columns = (-(-side // 4) for side in y_hat.shape[:2])
    z_hat = reader.symbols[0].astype(np.float32).reshape(rows, columns, -1)
    y = y_hat if header.tag not in PAPER else torch.cat(reader.latents, -1).numpy()
    assert encode_latents(codec, y, z_hat, header)[0] == data


@pytest.mark.parametrize("name", TINY)
def test_the_second_decoder_finds_the_same_integers(name: str) -> None:
    found = second_decoder.decode((FOLDER / f"{name}.rdc").read_bytes(), second(GOLDEN[name]["tag"]))
    assert sums(found.symbols, found.y_hat / 64).items() <= GOLDEN[name].items()


@pytest.mark.parametrize("name", [name for name in TINY if "pixels" in GOLDEN[name]])
def test_golden_files_are_drawn_as_recorded(name: str) -> None:
    data, tag = (FOLDER / f"{name}.rdc").read_bytes(), GOLDEN[name]["tag"]
    pictures = [Codec(read_weights(weights_of(tag)), engine=engine).decompress(data) for engine in ("native", "torch")]
    pictures.append(second_decoder.decode(data, second(tag)).pixels)
    assert [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures] == 3 * [GOLDEN[name]["pixels"]]


@EARLIER
@pytest.mark.parametrize("tag", RELEASED)
def test_released_weights_never_change(tag: str) -> None:
    weights = read_weights(released()[tag])
    hashes = weights.tables.hash(), weights.entropy_hash, weights.synthesis_hash
    assert (weights.tag, " ".join(part.hex() for part in hashes)) == (tag, RELEASED[tag])


def needs(tag: str) -> list[pytest.MarkDecorator]:
    return [] if (PACKAGED / f"{tag}.safetensors").is_file() else [EARLIER]


@pytest.mark.parametrize("tag", [pytest.param(tag, marks=needs(tag)) for tag in FILES_OF_RELEASED])
def test_a_file_of_a_released_tag_decodes_for_ever(tag: str) -> None:
    codec, name = load(tag), f"released-{tag}"
    reader, y_hat = decoded(codec, name)
    symbols = np.concatenate(reader.symbols)
    assert sums(symbols, y_hat).items() <= GOLDEN[name].items()
    weights = second_decoder.read_weights(released()[tag].read_bytes())
    found = second_decoder.decode((FOLDER / f"{name}.rdc").read_bytes(), weights)
    assert np.array_equal(found.symbols, symbols)
    if found.pixels is not None:
        assert np.array_equal(found.pixels, codec.decompress((FOLDER / f"{name}.rdc").read_bytes()))
        assert hashlib.sha256(found.pixels.tobytes()).hexdigest() == GOLDEN[name]["pixels"]


SECTIONS = {"metadata": [1, 2, 3, 4], "alpha": [1, 2, 3, 128]}


@pytest.mark.parametrize("name", SECTIONS)
def test_both_decoders_find_the_same_sections(name: str) -> None:
    header, _, data = read(name)
    assert [section.id for section in header.sections] == SECTIONS[name]
    second = second_decoder.read_file(data)
    for section in header.sections:
        assert hashlib.sha256(section.payload).hexdigest() == GOLDEN[name][f"section {section.id}"]
        assert second.sections[section.id] == section.payload
    picture = picture_of(np.zeros((header.height, header.width, 3), np.uint8), header.sections)
    assert picture.icc and picture.exif and picture.xmp and picture.notes == ()
    assert picture.grey == (name == "metadata")
    if name == "alpha":
        expected = np.arange(header.height * header.width).reshape(header.height, header.width) ** 2 % 256
        assert np.array_equal(picture.alpha, expected)
        assert len(second.alpha) == 1 and second.alpha[0] == header.sections[-1].payload


def test_a_reader_that_knows_no_section_decodes_the_optional_ones_and_refuses_alpha(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the release before they were defined."""
    monkeypatch.setattr(container, "KNOWN_CRITICAL", frozenset())
    header, stream, _ = read("metadata")
    assert golden(header.tag).decode(header, stream).shape == (17, 15, 3)
    with pytest.raises(BadInput, match="section 128 is needed but unknown"):
        read("alpha")


def test_both_decoders_refuse_every_transparency_that_is_not_the_pages() -> None:
    header, stream, _ = read("alpha")
    payload = header.sections[-1].payload
    bad = [payload[:-1], payload + b"\0", payload * 2, b"", payload[:20], b"RIFX" + payload[4:]]
    bad += [payload[:21] + bytes([payload[21] ^ 1]) + payload[22:], payload.replace(b"VP8L", b"VP8 ")]
    for wrong in bad:
        data = pack(replace(header, sections=(Section(128, wrong),)), stream)
        with pytest.raises(second_decoder.Refused):
            second_decoder.read_file(data)
        with pytest.raises(BadInput, match="the transparency is not as it was coded"):
            picture_of(np.zeros((header.height, header.width, 3), np.uint8), unpack(data)[0].sections)


def test_the_golden_files_reach_the_corners_of_the_format() -> None:
    headers = [read(name)[0] for name in TINY]
    assert {(1, 1), (15, 17), (64, 64), (130, 70), (75, 197)} <= {(header.width, header.height) for header in headers}
    assert {0, 1000, SINGLE_RATE} <= {header.quality for header in headers}
    assert any(header.sections for header in headers)


@pytest.mark.parametrize("tag", MODELS)
def test_golden_files_hold_the_largest_symbols(tag: str) -> None:
    symbols = np.concatenate([part for name in names_of(tag) for part in decoded(golden(tag), name)[0].symbols])
    assert symbols.min() == -32767 and symbols.max() == 32767 and len(np.unique(symbols)) > 50


@pytest.mark.parametrize("tag", PAPER)
def test_golden_files_of_the_papers_kinds_use_every_row_of_their_tables(tag: str) -> None:
    """Of hyper-latents as of latents, with escapes, skipped positions, and means that are no whole steps."""
    codec = golden(tag)
    readers = [decoded(codec, name)[0] for name in names_of(tag) if "extremes" not in name]
    indexes = np.concatenate([part.astype(np.int64) for reader in readers for part in reader.indexes])
    symbols = np.concatenate([part for reader in readers for part in reader.symbols])
    means = np.concatenate([part for reader in readers for part in reader.means])
    assert set(indexes.tolist()) == set(range(len(codec.tables.radius)))
    assert np.sum(np.abs(symbols) > codec.tables.radius[indexes]) > 100
    assert np.mean(means % MEAN_ONE != 0) > 0.5


# The second decoder stands on its own


def test_the_second_decoder_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(second_decoder.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - {"numpy"} <= sys.stdlib_module_names


@pytest.mark.parametrize("tag", MODELS)
def test_the_second_decoder_runs_where_rdcodec_and_torch_are_not(tag: str) -> None:
    program = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['rdcodec', 'torch', 'safetensors', 'numba']));"
        "path = sys.argv[1]; del sys.argv[0]; runpy.run_path(path, run_name='__main__')"
    )
    names = names_of(tag)
    files = [str(FOLDER / f"{name}.rdc") for name in names]
    command = [sys.executable, "-c", program, second_decoder.__file__, str(weights_of(tag)), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        assert found.items() <= {**GOLDEN[Path(found["file"]).stem], "file": found["file"]}.items()
    assert len(done.stdout.splitlines()) == len(names)


def test_the_second_decoder_refuses_what_the_page_says() -> None:
    """Every byte of a file changed, and every length of it: both decoders refuse."""
    data = (FOLDER / "small.rdc").read_bytes()
    damaged = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    for bad in [*damaged, *(data[:end] for end in range(len(data))), data + b"\0"]:
        with pytest.raises(second_decoder.Refused):
            second_decoder.decode(bad, second("Golden.1"))
        with pytest.raises(BadInput):
            unpack(bad)


def test_released_files_name_their_weights() -> None:
    for name, record in GOLDEN.items():
        data = (FOLDER / f"{name}.rdc").read_bytes()
        assert (read_header(data).header.tag, len(data)) == (record["tag"], record["bytes"])
