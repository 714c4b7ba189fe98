"""Format version 1 is frozen: its files decode to the same integers for ever, in this decoder and in a second one."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from make import encode_latents, sums

import second_decoder
from rdcodec.codec.container import Header, read_header, unpack
from rdcodec.codec.pipeline import Codec, _Decoder, load
from rdcodec.codec.rans import Decoder
from rdcodec.errors import BadInput
from rdcodec.models.weights import read_weights, released

FOLDER = Path(__file__).parent
GOLDEN = json.loads((FOLDER / "golden.json").read_text())
TINY = [name for name, record in GOLDEN.items() if record["tag"] == "Golden.1"]
WEIGHTS = FOLDER / "Golden.1.safetensors"


@pytest.fixture(scope="module")
def golden() -> Codec:
    return Codec(read_weights(WEIGHTS), torch.device("cpu"))


@pytest.fixture(scope="module")
def second() -> second_decoder.Weights:
    return second_decoder.read_weights(WEIGHTS.read_bytes())


def read(name: str) -> tuple[Header, bytes, bytes]:
    data = (FOLDER / f"{name}.rdc").read_bytes()
    return (*unpack(data), data)


def decoded(codec: Codec, name: str) -> tuple[list[np.ndarray], torch.Tensor]:
    """Symbols of z and of each pass of y, and y_hat."""
    header, stream, _ = read(name)
    y_hat = codec.decode_latents(header, stream)  # every check that users get
    coder = _Decoder(Decoder(stream, codec.tables))
    codec.entropy.code(*y_hat.shape[2:], header.quality, coder)
    return coder.symbols, y_hat


@pytest.mark.parametrize("name", TINY)
def test_golden_files_decode_to_the_recorded_integers(golden: Codec, name: str) -> None:
    symbols, y_hat = decoded(golden, name)
    assert sums(np.concatenate(symbols), y_hat).items() <= GOLDEN[name].items()


@pytest.mark.parametrize("name", TINY)
def test_coding_the_latents_again_gives_the_same_file(golden: Codec, name: str) -> None:
    """Coder, tables and integer networks of the encoder are the recorded ones too; the analysis is free to change."""
    header, _, data = read(name)
    (z, *_), y_hat = decoded(golden, name)
    rows, columns = (-(-side // 4) for side in y_hat.shape[2:])
    z_hat = torch.from_numpy(z).float().reshape(rows, columns, -1).permute(2, 0, 1)[None]
    assert encode_latents(golden, y_hat, z_hat, header)[0] == data


@pytest.mark.parametrize("name", TINY)
def test_the_second_decoder_finds_the_same_integers(second: second_decoder.Weights, name: str) -> None:
    found = second_decoder.decode((FOLDER / f"{name}.rdc").read_bytes(), second)
    y_hat = torch.from_numpy(found.y_hat).permute(2, 0, 1)[None] / 64
    assert sums(found.symbols, y_hat).items() <= GOLDEN[name].items()


@pytest.mark.skipif("I.1" not in released(), reason="weights of I are not in this checkout")
def test_a_file_of_a_released_tag_decodes_for_ever() -> None:
    codec = load("I.1")
    symbols, y_hat = decoded(codec, "released-I.1")
    assert sums(np.concatenate(symbols), y_hat).items() <= GOLDEN["released-I.1"].items()
    second = second_decoder.read_weights(released()["I.1"].read_bytes())
    found = second_decoder.decode((FOLDER / "released-I.1.rdc").read_bytes(), second)
    assert np.array_equal(found.symbols, np.concatenate(symbols))


def test_the_golden_files_reach_the_corners_of_the_format(golden: Codec) -> None:
    headers = [read(name)[0] for name in TINY]
    assert {(1, 1), (15, 17), (64, 64), (130, 70)} <= {(header.width, header.height) for header in headers}
    assert {0, 1000} <= {header.quality for header in headers}
    assert any(header.sections for header in headers)
    symbols = np.concatenate([part for name in TINY for part in decoded(golden, name)[0]])
    assert symbols.min() == -32767 and symbols.max() == 32767 and len(np.unique(symbols)) > 100


# The second decoder stands on its own


def test_the_second_decoder_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(second_decoder.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - {"numpy"} <= sys.stdlib_module_names


def test_the_second_decoder_runs_where_rdcodec_and_torch_are_not() -> None:
    program = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['rdcodec', 'torch', 'safetensors', 'numba']));"
        "path = sys.argv[1]; del sys.argv[0]; runpy.run_path(path, run_name='__main__')"
    )
    files = [str(FOLDER / f"{name}.rdc") for name in TINY]
    command = [sys.executable, "-c", program, second_decoder.__file__, str(WEIGHTS), *files]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        found = json.loads(line)
        assert found.items() <= {**GOLDEN[Path(found["file"]).stem], "file": found["file"]}.items()
    assert len(done.stdout.splitlines()) == len(TINY)


def test_the_second_decoder_refuses_what_the_page_says(second: second_decoder.Weights) -> None:
    """Every byte of a file changed, and every length of it: both decoders refuse."""
    data = (FOLDER / "small.rdc").read_bytes()
    damaged = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    for bad in [*damaged, *(data[:end] for end in range(len(data))), data + b"\0"]:
        with pytest.raises(second_decoder.Refused):
            second_decoder.decode(bad, second)
        with pytest.raises(BadInput):
            unpack(bad)


def test_released_files_name_their_weights() -> None:
    for name, record in GOLDEN.items():
        data = (FOLDER / f"{name}.rdc").read_bytes()
        assert (read_header(data).header.tag, len(data)) == (record["tag"], record["bytes"])
