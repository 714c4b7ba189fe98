"""Anybody's codec as a subject of measurement: one of ours, an anchor, a Python object, a pair of commands."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from rdcodec.codec.image import Pixels
from rdcodec.errors import NeedsModel, RdcError, UsageError
from rdcodec.measure.anchors import ANCHORS, Anchor
from rdcodec.measure.rd import Coder
from rdcodec.measure.tools import CommandCodec

if TYPE_CHECKING:
    from rdcodec.codec.pipeline import Codec

PYTHON_CODEC = re.compile(r"(?P<module>.+\.py|[A-Za-z_][\w.]*):(?P<object>[A-Za-z_]\w*)")
"""`path/to/file.py:object` or `module:object`."""
OVERHEAD_SIDE = 64
CLAIM_QUALITIES = (10, 25, 40, 55, 70, 85)
SEARCHED = re.compile(r"(?P<tag>(?P<model>.+)\.[^.]+) (?P<search>effort \d+)")


@dataclass(frozen=True)
class Subject:
    """A codec under measurement. tag: what exactly runs; settings: of its curve, [None] for a single rate."""

    name: str
    tag: str
    coder: Coder[Any]
    settings: Sequence[float | None]
    weights_sha256: str | None = None


def searched_name(tag: str, effort: int) -> str:
    """What weights are called that are measured with an encoder's search."""
    return f"{tag} effort {effort}"


def model_of(codec: str) -> str:
    """The model whose decoder reads the files of a codec: another one only if a search wrote them."""
    match = SEARCHED.fullmatch(codec)
    return match["model"] if match else codec


def search_of(codec: str) -> str:
    """The search that wrote the files of a codec, "effort 4"; nothing for other codecs."""
    match = SEARCHED.fullmatch(codec)
    return match["search"] if match else ""


def tag_of(tag: str) -> str:
    """The weights that read the files of a tag: other ones only if a search wrote them."""
    match = SEARCHED.fullmatch(tag)
    return match["tag"] if match else tag


@dataclass(frozen=True)
class ModelCoder:
    """Our codec as `measure.rd` calls every codec."""

    codec: Codec
    effort: int = 1

    def encode(self, image: Pixels, setting: float | None, /) -> bytes:
        """File bytes at a quality, None for a model of a single rate."""
        return self.codec.compress(image, setting, self.effort)

    def decode(self, data: bytes, /) -> Pixels:
        """The picture of these bytes."""
        return self.codec.decompress(data)


def model_subject(model: str, settings: Sequence[float] | None = None, effort: int = 1, device: str = "cpu") -> Subject:
    """A model by name, tag or run folder, at the qualities that claims use unless others are given.

    It is another subject with a search than without: it has another curve and another time. Raises NeedsModel, and
    UsageError for settings of a model of a single rate.
    """
    from rdcodec.codec.pipeline import load
    from rdcodec.models.weights import find_weights, weights_sha256

    codec = load(model, device)
    if settings is not None:
        codec.refuse_single_rate()
    name, tag = codec.info.name, codec.info.tag
    if effort > 1:
        name = tag = searched_name(tag, effort)
    points = [None] if codec.single_rate else settings or CLAIM_QUALITIES
    return Subject(name, tag, ModelCoder(codec, effort), points, weights_sha256(find_weights(model)))


def anchor_subject(name: str) -> Subject:
    """A classical codec by name. Raises UsageError for an unknown one, NeedsModel where its tool is missing."""
    if name not in ANCHORS:
        raise UsageError(f"{name} is no codec that can be run here: choose from {', '.join(ANCHORS)}")
    anchor = ANCHORS[name]
    return Subject(name, f"{anchor.tag()}; {overhead_bytes(anchor)} bytes for plain grey", anchor, anchor.settings)


def overhead_bytes(anchor: Anchor) -> int:
    """Bytes of a plain grey picture of 64x64 at the lowest setting: about what container and headers take."""
    grey = np.full((OVERHEAD_SIDE, OVERHEAD_SIDE, 3), 128, np.uint8)
    return len(anchor.encode(grey, anchor.settings[0]))


def command_subject(encoder: str, decoder: str, name: str | None, settings: Sequence[float] | None) -> Subject:
    """A codec of two commands, see `CommandCodec`; settings None where the encoder's has no {setting}.

    Raises UsageError where settings and command do not fit, NeedsModel where a program is missing.
    """
    codec = CommandCodec(encoder, decoder)
    if codec.has_setting and settings is None:
        raise UsageError("--command has {setting}: list the settings with -q")
    if settings is not None and not codec.has_setting:
        raise UsageError("--command has no {setting}: leave out -q, or write {setting} where it goes")
    return Subject(name or codec.name, codec.tag(), codec, settings or [None])


def is_foreign(codec: str) -> bool:
    """Whether a name is that of a classical codec or of a Python object: no model of this package."""
    return codec in ANCHORS or PYTHON_CODEC.fullmatch(codec) is not None


def foreign_subject(
    codec: str | None, settings: Sequence[float] | None, commands: Sequence[str] | None = None, device: str = "cpu"
) -> Subject:
    """Anybody's codec: two commands (encoder and decoder) under a name, a Python object, a classical codec.

    Errors as `command_subject`, `python_subject`, `anchor_subject`.
    """
    if device != "cpu" and (commands or codec in ANCHORS):
        raise UsageError(f"--device {device}: only models and codecs in Python run there")
    if commands:
        encoder, decoder = commands
        return command_subject(encoder, decoder, codec, settings)
    if codec is None:
        raise UsageError("no codec: name a model, a classical codec or FILE.py:OBJECT, or give --command")
    if codec in ANCHORS:
        subject = anchor_subject(codec)
        return subject if settings is None else replace(subject, settings=settings)
    return python_subject(codec, settings, device)


def python_subject(spec: str, settings: Sequence[float] | None, device: str = "cpu") -> Subject:
    """A codec in Python, `file.py:object` or `module:object`; a class is called without arguments.

    A class whose `__init__` takes `device` gets it: what the networks run on. UsageError for another device than the
    CPU where it takes none.

    The object has `encode(image, setting) -> bytes`, `decode(bytes) -> image`, and `settings` (numbers, or None for
    a single rate), unless they are given; `name` and `version` say what it is. Images are uint8 RGB (height, width, 3).
    Raises UsageError where a part is missing, RdcError where its code cannot be run.
    """
    match = PYTHON_CODEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"{spec}: write file.py:object or module:object")
    module = _import(match["module"])
    codec = _find(module, match["object"], spec, device)
    for method in ("encode", "decode"):
        if not callable(getattr(codec, method, None)):
            raise UsageError(f"{spec}: has no method {method}; a codec needs encode(image, setting) and decode(bytes)")
    points = _settings(settings if settings is not None else getattr(codec, "settings", None), codec, spec)
    version = str(getattr(codec, "version", "no version stated"))
    source = Path(str(module.__file__))
    code = hashlib.sha256(source.read_bytes()).hexdigest()[:12] if source.is_file() else "unknown"
    name = str(getattr(codec, "name", match["object"]))
    return Subject(name, f"{version}; code {source.name} {code}", codec, points)


def _import(module: str) -> ModuleType:
    if not module.endswith(".py"):
        found: ModuleType = _guarded(module, lambda: importlib.import_module(module))
        return found
    path = Path(module)
    if not path.is_file():
        raise UsageError(f"{module}: no such file; write path/to/file.py:object")
    spec = importlib.util.spec_from_file_location(f"rdcodec_external_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[spec.name] = made  # dataclasses and pickles look their module up
    _guarded(module, lambda: loader.exec_module(made))
    return made


def _find(module: ModuleType, name: str, spec: str, device: str) -> Any:
    if not hasattr(module, name):
        near = difflib.get_close_matches(name, [n for n in vars(module) if not n.startswith("_")], n=1)
        hint = f"did you mean {near[0]}?" if near else "check its name"
        raise UsageError(f"{spec}: there is no {name} in it; {hint}")
    found = getattr(module, name)
    takes_device = isinstance(found, type) and "device" in _guarded(spec, lambda: inspect.signature(found)).parameters
    if device != "cpu" and not takes_device:
        raise UsageError(f"{spec}: takes no device; --device {device} needs a class whose __init__ has `device`")
    if not isinstance(found, type):
        return found
    return _guarded(spec, partial(found, device=device) if takes_device else found)


def _guarded(what: str, call: Callable[[], Any]) -> Any:
    """Foreign code: whatever it raises becomes one line."""
    try:
        return call()
    except RdcError:
        raise
    except ModuleNotFoundError as error:
        raise NeedsModel(f"{what}: no Python module {error.name}; install it, or check the name") from error
    except Exception as error:
        raise RdcError(f"{what}: failed with {type(error).__name__}: {error}; -v shows where") from error


def _settings(settings: Any, codec: Any, spec: str) -> Sequence[float | None]:
    if settings is None and hasattr(codec, "settings"):
        return [None]
    try:
        points = [float(setting) for setting in settings]
    except (TypeError, ValueError):
        points = []
    if not points:
        raise UsageError(f"{spec}: has no list of numbers `settings`; give it one (None: a single rate), or -q")
    # Whole numbers stay whole: a codec may index a list with them.
    return [int(point) if point.is_integer() else point for point in points]
