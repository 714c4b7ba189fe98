"""Weights files: what goes in comes out, hashes follow what they are of, and nothing damaged is believed."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from rdcodec.cli.main import main
from rdcodec.codec.pipeline import Codec
from rdcodec.errors import NeedsModel, RdcError
from rdcodec.export.tables import build_gaussian_tables
from rdcodec.models.base import ImageModel
from rdcodec.models.config import ModelConfig
from rdcodec.models.entropy.checkerboard import CheckerboardModel
from rdcodec.models.state import raw_of, stored
from rdcodec.models.transforms.light import LightAnalysis
from rdcodec.models.weights import (
    FILE_NAME,
    FORMAT,
    PACKAGED,
    Weights,
    find_weights,
    read_weights,
    released,
    save_weights,
    weight_folders,
    weights_sha256,
)
from rdcodec.training.plan import plan_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tiny_run: Path) -> Weights:
    return read_weights(tiny_run / FILE_NAME)


def test_round_trip(weights: Weights, tmp_path: Path) -> None:
    save_weights(tmp_path / "copy.safetensors", weights)
    copy = read_weights(tmp_path / "copy.safetensors")
    assert (copy.tag, copy.config) == (weights.tag, weights.config)
    assert copy.state.keys() == weights.state.keys()
    assert all(torch.equal(copy.state[name], tensor) for name, tensor in weights.state.items())
    assert copy.entropy.keys() == weights.entropy.keys()
    for name, array in weights.entropy.items():
        np.testing.assert_array_equal(copy.entropy[name], array, strict=True)
    assert copy.tables.hash() == weights.tables.hash()
    assert (copy.entropy_hash, copy.synthesis_hash) == (weights.entropy_hash, weights.synthesis_hash)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.safetensors"]


def test_in_pieces_it_is_the_same(weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them small enough, none of them weights by itself."""
    path, most = tmp_path / "Tiny.0.safetensors", 20_000
    save_weights(path, weights, most)
    pieces = sorted(tmp_path.iterdir())
    largest = max(tensor.nbytes for tensor in weights.state.values())
    assert len(pieces) > 2 and all(piece.stat().st_size < max(most, largest) + 10_000 for piece in pieces)
    copy = read_weights(path)
    assert copy.state.keys() == weights.state.keys() and (copy.tag, copy.config) == (weights.tag, weights.config)
    assert all(torch.equal(copy.state[name], tensor) for name, tensor in weights.state.items())
    assert (copy.entropy_hash, copy.tables.hash()) == (weights.entropy_hash, weights.tables.hash())
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(tmp_path))
    assert [found for found in released().values() if found.parent == tmp_path] == [path]


def test_every_piece_is_needed_and_counted(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "Tiny.0.safetensors"
    save_weights(path, weights, 20_000)
    second = tmp_path / "Tiny.0.piece-2.safetensors"
    data, whole = second.read_bytes(), weights_sha256(path)
    second.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert weights_sha256(path) != whole
    second.write_bytes(data[:100])
    with pytest.raises(NeedsModel, match=r"piece-2\.safetensors: damaged"):
        read_weights(path)
    save_file({}, second, {"format": FORMAT, "tag": "Tiny.1"})
    with pytest.raises(NeedsModel, match=r"a piece of the weights Tiny\.1, not of Tiny\.0"):
        read_weights(path)
    second.unlink()
    with pytest.raises(NeedsModel, match=r"piece-2\.safetensors: no such"):
        read_weights(path)


@pytest.mark.parametrize("pieces", ["0", "-1", "x", "1e9", "100"])
def test_a_number_of_pieces_that_is_none(weights: Weights, tmp_path: Path, pieces: str) -> None:
    path = tmp_path / "Tiny.0.safetensors"
    metadata = {"format": FORMAT, "tag": weights.tag, "config": weights.config.model_dump_json(), "pieces": pieces}
    save_file({}, path, metadata)
    with pytest.raises(NeedsModel, match="pieces"):
        read_weights(path)


def test_what_is_kept_for_decoding_decodes_the_same_and_encodes_nothing(
    weights: Weights, photo: NDArray[np.uint8], tmp_path: Path
) -> None:
    save_weights(tmp_path / "whole.safetensors", weights)
    save_weights(tmp_path / "kept.safetensors", weights.for_decoding())
    whole, kept = (Codec(read_weights(tmp_path / f"{name}.safetensors"), CPU) for name in ("whole", "kept"))
    assert kept.hashes == whole.hashes and kept.info.tag == whole.info.tag
    data = whole.compress(photo, 40)
    np.testing.assert_array_equal(kept.decompress(data), whole.decompress(data))
    with pytest.raises(NeedsModel, match="kept to decode"):
        kept.compress(photo, 40)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("kept", "whole")]
    assert sizes[0] < 0.7 * sizes[1]


def test_nothing_starts_from_what_only_decodes(weights: Weights, tiny_model: ImageModel, tmp_path: Path) -> None:
    kept = weights.for_decoding()
    with pytest.raises(NeedsModel, match="kept to decode"):
        kept.fill(tiny_model)
    save_weights(tmp_path / "kept.safetensors", kept)
    with pytest.raises(NeedsModel, match="kept to decode"):
        plan_of("J", "short", [], 0, tmp_path / "kept.safetensors")


def test_half_an_encoder_is_no_decoder(weights: Weights) -> None:
    state = {name: tensor for name, tensor in weights.state.items() if not name.startswith("entropy.")}
    with pytest.raises(NeedsModel, match="do not fit"):
        replace(weights, raw=raw_of(state)).build()


def test_a_built_model_has_the_stored_values(weights: Weights, tiny_model: ImageModel) -> None:
    built = weights.build()
    assert not built.training
    for name, parameter in built.named_parameters():
        assert parameter.dtype == torch.float32 and not parameter.requires_grad
        assert torch.equal(parameter, weights.state[name].float())
    for name, tensor in tiny_model.state_dict().items():
        torch.testing.assert_close(weights.state[name].float(), tensor, rtol=2**-8, atol=0)


def test_what_sets_steps_and_the_linear_path_is_stored_exactly(tiny_model: ImageModel) -> None:
    state = stored(tiny_model)
    exact = {name for name, tensor in state.items() if tensor.dtype == torch.float32}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.bfloat16}
    assert exact == {
        "analysis.shortcut.weight",
        "synthesis.shortcut.weight",
        "synthesis.tint.values",
        "log_gain.values",
        "entropy.log_scale.values",
        "entropy.hyper_shift.values",
        "entropy.factorized_prior.log_scale.values",
    }
    assert all(torch.equal(state[name], tiny_model.state_dict()[name]) for name in exact)


# Hashes


def with_state(weights: Weights, name: str) -> Weights:
    """The same weights with one number of one tensor changed by the least that can be."""
    tensor = weights.state[name].clone()
    flat = tensor.view(-1).view(torch.uint8)
    flat[0] ^= 1
    return replace(weights, raw=raw_of({**weights.state, name: tensor}))


def test_synthesis_hash_follows_what_makes_pixels(weights: Weights) -> None:
    for name in weights.state:
        changed = with_state(weights, name)
        relevant = name.startswith(("synthesis.", "log_gain."))
        assert (changed.synthesis_hash != weights.synthesis_hash) == relevant, name
        assert changed.entropy_hash == weights.entropy_hash, name


def test_entropy_hash_follows_every_integer(weights: Weights) -> None:
    for name, array in weights.entropy.items():
        other = array.copy()
        other.reshape(-1)[-1] ^= 1
        changed = replace(weights, entropy={**weights.entropy, name: other})
        assert changed.entropy_hash != weights.entropy_hash, name
        assert changed.synthesis_hash == weights.synthesis_hash, name


def test_hashes_see_names_and_shapes(weights: Weights) -> None:
    """The same bytes under another name or in another shape are other weights."""
    (first, array), *rest = weights.entropy.items()
    renamed = replace(weights, entropy={**dict(rest), f"{first}x": array})
    flat = replace(weights, entropy={**dict(rest), first: array.reshape(-1, 1)})
    assert len({w.entropy_hash for w in (weights, renamed, flat)}) == 3


def test_hashes_do_not_depend_on_order_or_layout(weights: Weights) -> None:
    turned = {
        name: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t
        for name, t in reversed(weights.state.items())
    }
    assert replace(weights, raw=raw_of(turned)).synthesis_hash == weights.synthesis_hash
    big_endian = {n: a.astype(a.dtype.newbyteorder(">")) for n, a in reversed(weights.entropy.items())}
    assert replace(weights, entropy=big_endian).entropy_hash == weights.entropy_hash


# Damaged, foreign, missing


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 5000, -1])
def test_a_file_cut_short(tiny_run: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / FILE_NAME).write_bytes((tiny_run / FILE_NAME).read_bytes()[:kept])
    with pytest.raises(NeedsModel, match=FILE_NAME):
        read_weights(tmp_path / FILE_NAME)


@pytest.mark.parametrize("content", [b"weights", b"\xff" * 64, b"PK\x03\x04" + bytes(200)])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(NeedsModel, match="damaged weights"):
        read_weights(tmp_path / FILE_NAME)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NeedsModel, match="no such weights file"):
        read_weights(tmp_path / FILE_NAME)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(NeedsModel):
        read_weights(tmp_path)


def rewritten(
    source: Path,
    target: Path,
    metadata: dict[str, str | None],
    tensors: dict[str, torch.Tensor | None] | None = None,
) -> Path:
    """The weights file of a run with other metadata and tensors; None takes one away."""
    with safe_open(source / FILE_NAME, framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        old = file.metadata()
    present = {name: tensor for name, tensor in {**kept, **(tensors or {})}.items() if tensor is not None}
    new = {key: value for key, value in {**old, **metadata}.items() if value is not None}
    save_file(present, target / FILE_NAME, new)
    return target / FILE_NAME


@pytest.mark.parametrize(
    "metadata",
    [
        {"format": None},
        {"format": "rdcodec-weights-0"},
        {"config": None},
        {"config": "{"},
        {"config": "{}"},
        {"config": "[]"},
        {"tag": None},
        {"tag": "../../etc.1"},
        {"tag": "I"},
        {"tag": "I.01"},
        {"tag": "I" * 49 + ".1"},
        {"tag": "I." + "1" * 5000},
        {"config": "[" * 100_000},
        {"config": "9" * 5000},
    ],
    ids=lambda metadata: str(metadata)[:40],
)
def test_wrong_metadata(tiny_run: Path, tmp_path: Path, metadata: dict[str, str | None]) -> None:
    with pytest.raises(NeedsModel, match=FILE_NAME):
        read_weights(rewritten(tiny_run, tmp_path, metadata))


def test_a_file_that_bears_another_tag(weights: Weights, tmp_path: Path) -> None:
    """Coded files ask for weights by tag: a file of another one would be taken for them."""
    save_weights(tmp_path / "Tiny.7.safetensors", replace(weights, tag="Tiny.3"))
    with pytest.raises(NeedsModel, match=r"holds the weights Tiny\.3; name it Tiny\.3\.safetensors"):
        read_weights(tmp_path / "Tiny.7.safetensors")


def test_a_configuration_of_a_newer_version(tiny_run: Path, tmp_path: Path, weights: Weights) -> None:
    config = {**weights.config.model_dump(), "novelty": 1}
    with pytest.raises(NeedsModel, match="novelty"):
        read_weights(rewritten(tiny_run, tmp_path, {"config": json.dumps(config)}))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("log_gain.values", None),
        ("log_gain.values", torch.zeros(3, 3)),
        ("synthesis.extra", torch.zeros(1)),
        ("exact.level", None),
        ("exact.level", torch.zeros(8, 31, dtype=torch.int32)),
        ("exact.level", torch.zeros(8, 32, dtype=torch.int64)),
        ("exact.first.0.weight", None),
        ("exact.first.0.shift", torch.zeros(16, dtype=torch.int32)),
        ("exact.first.0.shift", torch.full((16,), 24, dtype=torch.int8)),
        ("exact.first.0.bias", torch.full((16,), (1 << 31) - 1, dtype=torch.int32)),
        ("exact.first.0.bias", torch.full((16,), -(1 << 31), dtype=torch.int32)),
        ("tables.cdf", None),
        ("tables.cdf", torch.zeros(10, dtype=torch.uint16)),
        ("tables.radius", torch.zeros(128)),
        ("tables.cdf", torch.zeros(9, dtype=torch.bfloat16)),
        ("exact.level", torch.zeros(8, 32, dtype=torch.bfloat16)),
        ("exact.level", torch.zeros((), dtype=torch.int32)),
        ("log_gain.values", torch.zeros(())),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tensor_is_missing_or_altered(tiny_run: Path, tmp_path: Path, name: str, tensor: torch.Tensor | None) -> None:
    with pytest.raises(NeedsModel):
        weights = read_weights(rewritten(tiny_run, tmp_path, {}, {name: tensor}))
        weights.build()
        weights.build_entropy()


@pytest.mark.parametrize(
    "trunk",
    [{"width": 2_000_000, "blocks": 1}, {"width": 10**15, "blocks": 1}, {"width": 16, "blocks": 10**9}],
    ids=str,
)
def test_a_configuration_that_asks_for_the_machine(
    tiny_run: Path, tmp_path: Path, weights: Weights, trunk: dict[str, int]
) -> None:
    """The first would take 32 TB, the last hours: the tensors at hand tell before anything is made."""
    config = weights.config.model_dump()
    config["synthesis"]["stride8"] = trunk
    with pytest.raises(NeedsModel):
        read_weights(rewritten(tiny_run, tmp_path, {"config": json.dumps(config)})).build()
    with pytest.raises(NeedsModel):
        read_weights(rewritten(tiny_run, tmp_path, {"config": json.dumps(config)})).build_decoder()


@pytest.mark.parametrize("side", ["analysis", "entropy"])
def test_what_is_not_decoded_is_not_built(
    weights: Weights, photo: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """An analysis of 6 GB that a small file asks for, of which it holds nothing; no encoder's network at all."""
    data = Codec(weights, CPU).compress(photo, 40)
    config = weights.config.model_dump()
    config["analysis"]["stride8"]["width"] = 40_000
    kept = replace(weights.for_decoding(), config=ModelConfig.model_validate(config))
    save_weights(tmp_path / "kept.safetensors", kept)

    def refuse(*arguments: object) -> None:
        raise AssertionError("built")

    monkeypatch.setattr({"analysis": LightAnalysis, "entropy": CheckerboardModel}[side], "__init__", refuse)
    codec = Codec(read_weights(tmp_path / "kept.safetensors"), CPU)
    assert codec.decompress(data).shape == photo.shape


def test_a_codec_of_whole_weights_decodes_without_its_encoder(
    weights: Weights, photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Codec(weights, CPU).compress(photo, 40)
    monkeypatch.delattr(LightAnalysis, "forward")
    monkeypatch.setattr(Weights, "build", None)
    assert Codec(weights, CPU).decompress(data).shape == photo.shape


def test_a_failed_write_leaves_the_old_file(
    weights: Weights, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"old")

    def full(*arguments: object, **options: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises((OSError, RdcError)):
        save_weights(path, weights)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


# Where weights are found


@pytest.fixture
def shelf(tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with two folders of weights, a before b."""
    for name in ("a/Tiny.2", "a/Tiny.9", "a/Other.1", "b/Tiny.9", "b/Tiny.10", "b/notes"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setenv("RDCODEC_WEIGHTS", f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_tag_is_taken_from_the_first_folder_that_has_it(shelf: Path) -> None:
    assert find_weights("Tiny.2") == shelf / "a" / "Tiny.2.safetensors"
    assert find_weights("Tiny.9") == shelf / "a" / "Tiny.9.safetensors"
    assert find_weights("Tiny.10") == shelf / "b" / "Tiny.10.safetensors"


def test_a_name_is_its_newest_tag_in_any_folder(shelf: Path) -> None:
    """10 is newer than 9, though not in the order of letters."""
    assert find_weights("Tiny") == shelf / "b" / "Tiny.10.safetensors"
    assert find_weights("Other") == shelf / "a" / "Other.1.safetensors"


def test_a_run_folder_is_itself(shelf: Path, tiny_run: Path) -> None:
    assert find_weights(str(tiny_run)) == tiny_run / FILE_NAME


def test_a_folder_named_as_a_model_does_not_take_its_place(shelf: Path) -> None:
    """It is meant where a separator is typed, or where a Path is given."""
    for name in ("Tiny", "Tiny.9"):
        (shelf / "here" / name).mkdir()
        (shelf / "here" / name / FILE_NAME).touch()
    assert find_weights("Tiny") == shelf / "b" / "Tiny.10.safetensors"
    assert find_weights("Tiny.9") == shelf / "a" / "Tiny.9.safetensors"
    for typed in ("./Tiny", "Tiny/", str(shelf / "here" / "Tiny"), Path("Tiny")):
        assert find_weights(typed).samefile(shelf / "here" / "Tiny" / FILE_NAME)


def test_named_folders_go_before_the_package(shelf: Path) -> None:
    assert weight_folders()[:2] == [shelf / "a", shelf / "b"]
    assert "notes" not in released()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Tiny.3", "no model Tiny.3.*Tiny.10"),
        ("Nobody", "no model Nobody; known are A, B, .* H, I, J, .*A-whole, .*Tiny.2"),
        ("H.7777", "no weights of H.7777 are here .* in weights/ of a checkout .* in RDCODEC_WEIGHTS$"),
        ("G", "no weights of G are here .*; `rdc models --get G` fetches them$"),
        ("A", "no weights of A are here .* in weights/ of a checkout .* in RDCODEC_WEIGHTS, or train it$"),
        ("runs/first", "no weights.safetensors in this folder; make one with `rdc train"),
        ("./file.safetensors", "a file; give the run folder that it is in"),
        ("mine", "no model mine; for the folder write ./mine; known are"),
        ("H", "no weights of H are here .*--get H` fetches them; for the folder write ./H"),
    ],
)
def test_unknown_models(shelf: Path, model: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdcodec.models.weights.weight_folders", lambda: [shelf / "a", shelf / "b"])
    for name in ("mine", "H"):
        Path(name).mkdir()
    Path("file.safetensors").touch()
    with pytest.raises(NeedsModel, match=message):
        find_weights(model)


def test_the_package_has_the_newest_weights_alone_and_whole() -> None:
    packaged = {path.stem: path for path in PACKAGED.glob("*.safetensors")}
    assert {tag.rpartition(".")[0] for tag in packaged} >= {"H", "I", "J"}
    assert {find_weights(tag.rpartition(".")[0]) for tag in packaged} == set(packaged.values())
    assert not any(read_weights(path).decodes_only for path in packaged.values())


def test_a_file_of_earlier_weights_says_how_to_fetch_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the package is installed."""
    monkeypatch.setattr("rdcodec.models.weights.weight_folders", lambda: [PACKAGED])
    coded = Path(__file__).parents[1] / "golden" / "released-I.1.rdc"
    assert main(["decompress", str(coded), "-o", str(tmp_path / "picture.png")]) == 4
    said = capsys.readouterr().err
    assert (
        "no weights of I.1 are here" in said and "`rdc models --get I.1` fetches them" in said and said.count("\n") == 1
    )
    assert not list(tmp_path.iterdir())


def test_without_a_setting_no_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RDCODEC_WEIGHTS", raising=False)
    unset = weight_folders()
    monkeypatch.setenv("RDCODEC_WEIGHTS", os.pathsep)
    assert weight_folders() == unset


def test_saved_format_is_this_versions(weights: Weights, tmp_path: Path) -> None:
    save_weights(tmp_path / "any.safetensors", replace(weights, tables=build_gaussian_tables(skip_below=0)))
    with safe_open(tmp_path / "any.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == FORMAT
    assert read_weights(tmp_path / "any.safetensors").tables.skip_below == 0
