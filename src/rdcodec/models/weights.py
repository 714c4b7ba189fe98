"""Weights on disk: one safetensors file per released tag, with all that a decoder needs.

The file holds the float networks (bfloat16, the linear shortcuts and rate vectors float32), under `exact.` the
integers that encoder and decoder run the entropy model with, under `tables.` the entropy tables, under `pixels.` the
powers of two by which the floats of a light synthesis become the integers that it runs on, and in its metadata the
configuration of the model, the tag, and where known the training computation behind it. Two hashes tell decoders
whether a file was coded with these weights: of what decides symbols, and of what makes pixels of them.
Of tags that have a successor only what decodes is kept (`for_decoding`: integers, tables, synthesis), and in weights/
of a checkout: the package has the newest, and fetches others (fetch.py).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, deserialize, safe_open

from rdcodec.errors import NeedsModel, UsageError
from rdcodec.exact.chain import Arrays
from rdcodec.exact.tables import LEVELS, Tables
from rdcodec.models.config import CONFIGS, ModelConfig, config_names, load_config
from rdcodec.models.elsewhere import elsewhere, user_folder
from rdcodec.models.records import parse_record
from rdcodec.system import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from rdcodec.models.base import ImageModel, PixelDecoder
    from rdcodec.models.entropy.integer import IntegerForm

FORMAT = "rdcodec-weights-1"
FILE_NAME = "weights.safetensors"  # in a run folder
MOST_PIECES = 99
UNRELEASED = 0  # the number of a tag that was never released
PACKAGED = Path(__file__).parents[1] / "weights"
INTEGERS = ("exact.", "tables.", "pixels.")
DECODING = ("synthesis.", "log_gain.")  # of the float networks, what a decoder runs
TAG = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9-]{0,47})\.(?P<number>0|[1-9][0-9]{0,8})")  # a file can hold no other

# How a file names the types that it may hold; NumPy knows no bfloat16, whose bits are kept instead.
BFLOAT16 = np.dtype(np.uint16)
KINDS: dict[str, np.dtype[Any]] = {
    **{"BF16": BFLOAT16, "F32": np.dtype(np.float32), "U16": np.dtype(np.uint16), "I32": np.dtype(np.int32)},
    **{"I64": np.dtype(np.int64), "I16": np.dtype(np.int16), "I8": np.dtype(np.int8)},
}


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    raw: the float networks by the names of their parameters, float32 or the bits of bfloat16 as uint16.
    pixels: steps and shifts of an integer synthesis (`transforms/structure.py`), int8; empty: it runs on floats.
    eflop: training computation behind it in 10^18 FLOPs, that of weights it started from included; None: not known.
    """

    tag: str
    config: ModelConfig
    raw: Arrays
    entropy: Arrays
    tables: Tables
    eflop: float | None = None
    pixels: Arrays = field(default_factory=dict)

    @cached_property
    def entropy_hash(self) -> bytes:
        """First 4 bytes of SHA-256 over the integers that decide table indexes and means."""
        return _hash(self.entropy)

    @cached_property
    def synthesis_hash(self) -> bytes:
        """First 4 bytes of SHA-256 over the gains and the synthesis transform, its steps and shifts among it."""
        parts = {n: array for n, array in self.raw.items() if n.startswith(DECODING)}
        parts |= {f"pixels.{name}": array for name, array in self.pixels.items()}
        return _hash({name: np.ascontiguousarray(array).view(np.uint8) for name, array in parts.items()})

    @cached_property
    def state(self) -> "dict[str, Tensor]":
        """The float networks as torch has them."""
        from rdcodec.models.state import tensors_of

        return tensors_of(self.raw)

    def floats(self, part: str) -> dict[str, NDArray[np.float32]]:
        """The parameters of a network, float32, without the start of their names."""
        return {name.removeprefix(part): in_float32(array) for name, array in self.raw.items() if name.startswith(part)}

    @property
    def parameters(self) -> int:
        """How many numbers the float networks have."""
        return sum(array.size for array in self.raw.values())

    @cached_property
    def decodes_only(self) -> bool:
        """Whether the networks that only an encoder runs are left out."""
        return bool(self.raw) and all(name.startswith(DECODING) for name in self.raw)

    def for_decoding(self) -> "Weights":
        """These weights without what only an encoder runs: less than half as large, the same tag and hashes."""
        return replace(self, raw={name: array for name, array in self.raw.items() if name.startswith(DECODING)})

    def build(self) -> "ImageModel":
        """The model with these weights, float32, in evaluation mode.

        NeedsModel if they do not fit together, or are for decoding only.
        """
        from rdcodec.models import state

        if self.decodes_only:
            raise no_encoder(self.tag)
        return state.build_model(self)

    def build_decoder(self) -> "PixelDecoder":
        """What makes pixels of decoded latents, float32, in evaluation mode. NeedsModel if it does not fit."""
        from rdcodec.models import state

        return state.build_decoder(self.for_decoding())

    def integers(self) -> dict[str, Arrays]:
        """What a file holds besides floats, by the starts of the names there."""
        return {"exact": self.entropy, "tables": self.tables.to_arrays(), "pixels": self.pixels}

    def fill(self, model: "ImageModel") -> None:
        """Copy the float networks into a model. NeedsModel if it has another configuration, or some are left out."""
        if self.decodes_only:
            raise no_encoder(self.tag)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in self.state.items()})
        except RuntimeError:
            raise self.misfit() from None

    def misfit(self) -> NeedsModel:
        """The error of arrays that their configuration does not ask for."""
        return NeedsModel(f"weights {self.tag} do not fit their model: take those of its configuration")

    def check_tables(self) -> None:
        """NeedsModel unless the tables have as many rows as the entropy model asks for."""
        if len(self.tables.radius) != (rows := LEVELS + self.config.entropy.free_rows):
            raise NeedsModel(f"weights {self.tag} need tables of {rows} rows: fetch or export them again")

    def build_entropy(self) -> "IntegerForm":
        """The entropy model on integers.

        NeedsModel for arrays or tables that do not fit the configuration, UsageError for a model without integer form.
        """
        entropy = self.config.entropy
        form = entropy.integer_form()
        if form is None:
            raise UsageError(
                f"a {entropy.kind} model of this kind has no integer form: it can be trained, not code files"
            )
        self.check_tables()
        return form(entropy, self.config.latent_channels, self.entropy)


def in_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """What float32 or the bits of bfloat16 stand for."""
    if array.dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def no_encoder(tag: str) -> NeedsModel:
    """The error where only a decoder's networks are here."""
    name = tag.rpartition(".")[0]
    return NeedsModel(f"weights {tag} are kept to decode files: take {name}, the newest ones, to encode or to train")


def _hash(arrays: Arrays) -> bytes:
    """First 4 bytes of SHA-256 over "name dtype shape" lines, each followed by the array's little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()[:4]


def save_weights(path: Path, weights: Weights, most: int | None = None) -> None:
    """Write a weights file, whole or not at all.

    most: bytes of tensors in a file; what is beyond them follows in pieces beside it, TAG.piece-2.safetensors and on.
    """
    from rdcodec.models.state import packed

    arrays = weights.raw | {
        f"{kind}.{name}": array for kind, integers in weights.integers().items() for name, array in integers.items()
    }
    metadata = {"format": FORMAT, "tag": weights.tag, "config": weights.config.model_dump_json()}
    if weights.eflop is not None:
        metadata["eflop"] = repr(weights.eflop)
    groups = _groups(arrays, most)
    if len(groups) > 1:
        metadata["pieces"] = str(len(groups))
    # The first last: it names the others.
    for number, group in reversed(list(enumerate(groups, 1))):
        said = metadata if number == 1 else {"format": FORMAT, "tag": weights.tag}
        write_whole(_piece(path, number), packed(group, weights.raw.keys(), said))


def _groups(arrays: Arrays, most: int | None) -> list[Arrays]:
    """The arrays in order, as many in each group as fit; one that is too large has a group to itself."""
    groups: list[Arrays] = [{}]
    size = 0
    for name, array in arrays.items():
        if most is not None and groups[-1] and size + array.nbytes > most:
            groups.append({})
            size = 0
        groups[-1][name] = array
        size += array.nbytes
    return groups


def _piece(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}.piece-{number}{path.suffix}")


def read_weights(path: Path) -> Weights:
    """Read a weights file and its pieces; NeedsModel if one is missing, damaged, or of another format."""
    metadata, arrays = _read(path)
    tag, config = _identity(metadata, path)
    for piece in _further_pieces(path, metadata):
        of_piece, more = _read(piece)
        if of_piece.get("tag") != tag:
            raise NeedsModel(f"{piece}: a piece of the weights {of_piece.get('tag')}, not of {tag}; fetch it again")
        arrays |= more
    entropy, tables, pixels = (_under(arrays, kind) for kind in INTEGERS)
    raw = {name: array for name, array in arrays.items() if not name.startswith(INTEGERS)}
    if any(array.dtype not in (BFLOAT16, np.float32) for array in raw.values()):
        raise NeedsModel(f"{path}: networks that are no floats; fetch the weights again")
    return Weights(tag, config, raw, entropy, Tables.from_arrays(tables), _eflop(metadata, path), pixels)


def read_config(path: Path) -> ModelConfig:
    """The configuration of a weights file, without its arrays. NeedsModel as `read_weights`."""
    return _identity(_read_metadata(path), path)[1]


def weights_sha256(path: Path) -> str:
    """Of the bytes of a weights file and its pieces, one after the other. NeedsModel as `read_weights`."""
    files = [path, *_further_pieces(path, _read(path)[0])]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _further_pieces(path: Path, metadata: dict[str, str]) -> list[Path]:
    count = metadata.get("pieces", "1")
    if not (count.isdecimal() and 1 <= int(count) <= MOST_PIECES):
        raise NeedsModel(f"{path}: damaged weights ({count!r} pieces); fetch them again")
    return [_piece(path, number) for number in range(2, int(count) + 1)]


def _read(path: Path) -> tuple[dict[str, str], Arrays]:
    """Metadata and arrays of one file."""
    metadata = _read_metadata(path)
    with _damage_told(path):
        found: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    if unknown := sorted({array["dtype"] for _, array in found} - KINDS.keys()):
        raise NeedsModel(f"{path}: numbers of type {unknown[0]}, which no weights have; fetch them again")
    arrays = {}
    for name, array in found:
        kind = KINDS[array["dtype"]].newbyteorder("<")
        arrays[name] = (
            np.frombuffer(array["data"], kind).astype(kind.newbyteorder("="), copy=False).reshape(array["shape"])
        )
    return metadata, arrays


def _read_metadata(path: Path) -> dict[str, str]:
    with _damage_told(path), safe_open(path, framework="numpy") as file:
        metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise NeedsModel(f"{path}: not weights of this version of rdcodec")
    return metadata


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NeedsModel(f"{path}: no such weights file") from None
    except (OSError, SafetensorError) as error:
        raise NeedsModel(f"{path}: damaged weights ({error}); fetch them again") from None


def _identity(metadata: dict[str, Any], path: Path) -> tuple[str, ModelConfig]:
    """Tag and configuration."""
    try:
        config = parse_record(ModelConfig, json.loads(metadata["config"]), "its configuration")
        tag: str = metadata["tag"]
    except (KeyError, ValueError, RecursionError, UsageError) as error:
        raise NeedsModel(f"{path}: damaged or newer weights ({error}); fetch them again") from None
    if not TAG.fullmatch(tag):
        raise NeedsModel(f"{path}: {tag!r} is not a tag such as I.1; fetch the weights again")
    if TAG.fullmatch(path.stem) and path.stem != tag:  # files name the weights that they need by tag
        raise NeedsModel(f"{path}: holds the weights {tag}; name it {tag}{path.suffix}")
    return tag, config


def _eflop(metadata: dict[str, Any], path: Path) -> float | None:
    try:
        return float(metadata["eflop"]) if "eflop" in metadata else None
    except ValueError:
        raise NeedsModel(f"{path}: training computation that is no number; fetch the weights again") from None


def _under(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def weight_folders() -> list[Path]:
    """Where weights are looked for: RDCODEC_WEIGHTS (folders as in PATH), the package, a checkout, what was fetched."""
    named = [Path(folder) for folder in os.environ.get("RDCODEC_WEIGHTS", "").split(os.pathsep) if folder]
    return [*named, PACKAGED, Path(__file__).parents[3] / "weights", user_folder()]


def released() -> dict[str, Path]:
    """Every weights file at hand, by tag."""
    found: dict[str, Path] = {}
    for folder in weight_folders():
        for path in sorted(folder.glob("*.safetensors")):
            if TAG.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    return found


def find_weights(model: str | Path) -> Path:
    """The weights file of a name ("I": the newest tag), a tag ("I.3"), or a run folder: a Path, or text with a slash.

    Raises NeedsModel that says what there is; UsageError for what is neither text nor a Path.
    """
    if not isinstance(model, str | Path):
        raise UsageError(f"a model is text such as I, or the Path of a run folder, not {type(model).__name__}")
    if isinstance(model, Path) or is_folder(model):
        path = Path(model) / FILE_NAME
        if path.is_file():
            return path
        if Path(model).is_file():
            raise NeedsModel(f"{model}: a file; give the run folder that it is in, or the name or tag of weights")
        raise NeedsModel(
            f"{model}: no {FILE_NAME} in this folder; make one with `rdc train CONFIG --steps 0 -o {model}`"
        )
    tags = released()
    if model in tags:
        return tags[model]
    if newest := newest_tag(model, tags):
        return tags[newest]
    raise NeedsModel(_missing(model, tags))


def newest_tag(name: str, tags: Iterable[str]) -> str | None:
    """I.3 of I.1, I.2, I.3 and others; None if there is no tag of that name."""
    return max((tag for tag in tags if tag.rpartition(".")[0] == name), key=_number, default=None)


def find_model(model: str) -> tuple[ModelConfig, Path | None]:
    """Configuration of a name, tag, run folder or TOML file, and the weights file where there is one.

    Raises NeedsModel for an unknown one, UsageError for a TOML file that is none.
    """
    try:
        path = find_weights(model)
    except NeedsModel:
        return find_config(model), None
    return read_config(path), path


def find_config(model: str) -> ModelConfig:
    """Configuration of a name of the package, a TOML file, or else as `find_model`, whose errors it raises."""
    if model in config_names():
        return load_config(CONFIGS / f"{model}.toml")
    if model.endswith(".toml"):
        return load_config(Path(model))
    return read_config(find_weights(model))


def _number(tag: str) -> int:
    return int(tag.rpartition(".")[2])


def _missing(model: str, tags: Iterable[str]) -> str:
    here = ", ".join(sorted(tags)) or "none"
    name = model.rpartition(".")[0] if TAG.fullmatch(model) else model
    folder = f"; for the folder write .{os.sep}{model}" if Path(model).is_dir() else ""
    if model in elsewhere() or newest_tag(model, elsewhere()):
        return f"no weights of {model} are here (there are: {here}); `rdc models --get {model}` fetches them{folder}"
    if name in config_names():
        or_train = "" if TAG.fullmatch(model) else ", or train it"
        where = f"look in weights/ of a checkout and name that folder in RDCODEC_WEIGHTS{or_train}"
        return f"no weights of {model} are here (there are: {here}); {where}{folder}"
    return f"no model {model}{folder}; known are {', '.join(config_names())} (with weights: {here})"


def is_folder(model: str) -> bool:
    """Whether a model argument means a folder: it has a separator, so that no folder takes the place of a model."""
    return any(separator in model for separator in (os.sep, os.altsep) if separator)
