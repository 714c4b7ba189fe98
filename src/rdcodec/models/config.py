"""A model is one TOML file; these frozen records are what it may say."""

import difflib
import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from rdcodec.errors import UsageError

Norm = Literal["gdn", "gdn-sqrt"]
FROM_LIST = Field(strict=False, min_length=1)  # a TOML or JSON list is no tuple to a strict record
EvenInt = Annotated[PositiveInt, Field(multiple_of=2)]
OddKernel = Literal[1, 3, 5, 7]
MAX_DEPTH = 256  # layers of a kind: a model is built before its weights can contradict its configuration
FOLLOW_QUALITY = {"light", "checkerboard"}  # kinds that learn something for every quality


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Trunk(Record):
    """A run of residual blocks at one resolution."""

    width: PositiveInt
    blocks: Annotated[int, Field(ge=0, le=MAX_DEPTH)]


class LightTransform(Record):
    """Pointwise-depthwise blocks at 1/8 and 1/16 of the picture beside a linear shortcut (`transforms/light.py`)."""

    kind: Literal["light"]
    stride8: Trunk
    stride16: Trunk


class ConvTransform(Record):
    """Four 5x5 layers of stride 2 with GDN between them (`transforms/conv.py`).

    channels: outputs of the first three; the fourth gives the latents, or the picture.
    """

    kind: Literal["conv"]
    channels: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], FROM_LIST]
    norm: Norm


class ElicTransform(Record):
    """Four 5x5 layers of stride 2 with residual blocks and attention between them (`transforms/elic.py`).

    channels: outputs of the first three; the fourth gives the latents, or the picture.
    residual_blocks: after each of the first three.
    """

    kind: Literal["elic"]
    channels: Annotated[tuple[EvenInt, EvenInt, EvenInt], FROM_LIST]
    residual_blocks: Annotated[int, Field(ge=0, le=MAX_DEPTH)]


class SwinStages(Record):
    """Stages of Swin blocks, between which the resolution changes by 2 (`swin.py`)."""

    widths: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    depths: Annotated[tuple[Annotated[PositiveInt, Field(le=MAX_DEPTH)], ...], FROM_LIST]
    window: Annotated[PositiveInt, Field(le=64)]
    head_channels: PositiveInt

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if len(self.widths) != len(self.depths):
            raise ValueError("widths and depths need one number per stage each")
        if any(width % self.head_channels for width in self.widths):
            raise ValueError("widths have to be multiples of head_channels")
        return self


class SwinTransform(SwinStages):
    """Swin blocks at 1/2 to 1/16 of the picture (`transforms/swin.py`).

    widths: of the stages as they come; those of the latents are latent_channels.
    """

    kind: Literal["swin"]
    widths: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt], FROM_LIST]


class CheckerboardEntropy(Record):
    """Hyperprior with a two-pass context (`entropy/checkerboard.py`)."""

    kind: Literal["checkerboard"]
    hyper_channels: PositiveInt
    features: PositiveInt
    hidden: PositiveInt


class LayerChain(Record):
    """Convolutions one after the other, with an activation between them; their strides make up 4.

    ends_active: an activation after the last one too.
    """

    kind: Literal["conv"]
    channels: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    kernels: Annotated[tuple[OddKernel, ...], FROM_LIST]
    strides: Annotated[tuple[Literal[1, 2], ...], FROM_LIST]
    activation: Literal["relu", "leaky_relu"]
    ends_active: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.channels) == len(self.kernels) == len(self.strides):
            raise ValueError("channels, kernels and strides need one number per layer each")
        if math.prod(self.strides) != 4:
            raise ValueError("the strides have to make up 4")
        return self

    @property
    def outputs(self) -> int:
        """Channels of the last layer."""
        return self.channels[-1]


class SwinHyperAnalysis(SwinStages):
    """Swin blocks at 1/2 and 1/4 of the latents; the last width is that of the hyper-latents."""

    kind: Literal["swin"]
    widths: Annotated[tuple[PositiveInt, PositiveInt], FROM_LIST]

    @property
    def outputs(self) -> int:
        """N, the channels of z."""
        return self.widths[-1]


class SwinHyperSynthesis(SwinStages):
    """Swin blocks at 1/4 and 1/2 of the latents, and so many outputs at their resolution."""

    kind: Literal["swin"]
    widths: Annotated[tuple[PositiveInt, PositiveInt], FROM_LIST]
    outputs: PositiveInt


HyperAnalysis = Annotated[LayerChain | SwinHyperAnalysis, Field(discriminator="kind")]
HyperSynthesis = Annotated[LayerChain | SwinHyperSynthesis, Field(discriminator="kind")]


class HyperEntropy(Record):
    """What entropy models with a hyper-transform of their choice share (`entropy/hyper.py`).

    filters: hidden units of the free density of the hyper-latents, whose channels hyper_analysis gives.
    """

    hyper_analysis: HyperAnalysis
    hyper_synthesis: HyperSynthesis
    filters: Annotated[tuple[PositiveInt, ...], FROM_LIST]

    @property
    def hyper_channels(self) -> int:
        """N, the channels of z."""
        return self.hyper_analysis.outputs

    @model_validator(mode="after")
    def _enters(self) -> Self:
        check_enters("hyper_synthesis", self.hyper_synthesis, self.hyper_channels)
        return self


def check_enters(name: str, synthesis: HyperSynthesis, hyper_channels: int) -> None:
    """ValueError if the hyper-synthesis under that key does not fit the hyper-latents."""
    if isinstance(synthesis, SwinHyperSynthesis) and synthesis.widths[0] != hyper_channels:
        raise ValueError(f"the first of {name}.widths has to be what hyper_analysis gives")


class HyperpriorEntropy(HyperEntropy):
    """Mean-and-scale hyperprior (`entropy/hyperprior.py`)."""

    kind: Literal["hyperprior"]


class Reduction(Record):
    """A convolution of the output of the hyper-synthesis for each slice, to so many channels."""

    kernel: OddKernel
    channels: PositiveInt


def _one_for_all(width: object) -> object:
    return width if isinstance(width, list | tuple) else (width,)


# Of a layer of the networks of every slice: one for all of them, which need not stand in a list, or one for each.
SliceWidths = Annotated[tuple[PositiveInt, ...], FROM_LIST, BeforeValidator(_one_for_all)]


class CharmEntropy(HyperEntropy):
    """Hyperprior with slices of channels that see those before (`entropy/charm.py`).

    slices: channels of each; they make up latent_channels.
    max_support: how many of the first slices the later ones see; none for all of them.
    scale_synthesis: a second hyper-synthesis, for the scales; none for one that gives means and scales, half each.
    reduction: none for slices that see all of what the hyper-synthesis gives for the means, or for the scales.
    own_channels: slices see of it what has their own numbers alone.
    widths, kernels: of the networks for mean, scale and residual; the last kernel leads to the slice. A width is one
        number, or one for each slice.
    lrp: whether a residual is predicted; merge_kernel: none if it is added, else it is merged by a convolution.
    """

    kind: Literal["charm"]
    slices: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    max_support: Annotated[int, Field(ge=0)] | None = None
    scale_synthesis: HyperSynthesis | None = None
    reduction: Reduction | None = None
    own_channels: bool = False
    widths: Annotated[tuple[SliceWidths, ...], FROM_LIST]
    kernels: Annotated[tuple[OddKernel, ...], FROM_LIST]
    lrp: bool = True
    merge_kernel: OddKernel | None = None

    @property
    def features(self) -> int:
        """Channels of the hyper-synthesis, of both where there are two: first for the means, then for the scales."""
        return self.hyper_synthesis.outputs + (self.scale_synthesis.outputs if self.scale_synthesis else 0)

    def widths_of(self, index: int) -> tuple[int, ...]:
        """Those of the networks of one slice."""
        return tuple(width[index % len(width)] for width in self.widths)

    @model_validator(mode="after")
    def _matches(self) -> Self:
        if len(self.kernels) != len(self.widths) + 1:
            raise ValueError("kernels need one number more than widths")
        if any(len(width) not in (1, len(self.slices)) for width in self.widths):
            raise ValueError("widths of a layer are one number, or one per slice")
        if self.merge_kernel and not self.lrp:
            raise ValueError("merge_kernel is for a predicted residual, of which lrp says that there is none")
        return self

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.scale_synthesis:
            check_enters("scale_synthesis", self.scale_synthesis, self.hyper_channels)
            if self.scale_synthesis.outputs != self.hyper_synthesis.outputs:
                raise ValueError("scale_synthesis has to give as many channels as hyper_synthesis")
        if self.reduction and (self.scale_synthesis or self.own_channels):
            raise ValueError("reduction goes with neither scale_synthesis nor own_channels")
        if self.reduction is None and self.features % 2:
            raise ValueError("without reduction hyper_synthesis has to give an even number of channels")
        if self.own_channels and self.features != 2 * sum(self.slices):
            raise ValueError("with own_channels hyper_synthesis has to give two channels for each of the slices")
        return self


class SpaceChannelEntropy(HyperEntropy):
    """Hyperprior with groups of channels, two passes in each (`entropy/space_channel.py`).

    groups: channels of each; they make up latent_channels.
    widths, kernels: of the networks that see earlier groups; the last kernel leads to twice the channels of the group.
    context_kernel: of the convolution that sees the first pass.
    aggregation: widths of the pointwise network that gives means and scales.
    """

    kind: Literal["space_channel"]
    groups: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    widths: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    kernels: Annotated[tuple[OddKernel, ...], FROM_LIST]
    context_kernel: OddKernel
    aggregation: Annotated[tuple[PositiveInt, ...], FROM_LIST]

    @model_validator(mode="after")
    def _matches(self) -> Self:
        if len(self.kernels) != len(self.widths) + 1:
            raise ValueError("kernels need one number more than widths")
        return self


Transform = Annotated[LightTransform | ConvTransform | ElicTransform | SwinTransform, Field(discriminator="kind")]
Entropy = Annotated[
    CheckerboardEntropy | HyperpriorEntropy | CharmEntropy | SpaceChannelEntropy, Field(discriminator="kind")
]


class ModelConfig(Record):
    """One model: its transforms, its entropy model, and how many latent channels lie between them.

    lmbda: none for one model of all rates; a number for a model of one rate, its loss then is
    bpp + lmbda * MSE of samples on the 0..255 scale.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,22}$")]
    summary: str
    latent_channels: Annotated[PositiveInt, Field(le=768, multiple_of=2)]
    lmbda: Annotated[float, Field(gt=0)] | None = None
    analysis: Transform
    synthesis: Transform
    entropy: Entropy

    @model_validator(mode="after")
    def _fits(self) -> Self:
        kinds = {self.analysis.kind, self.synthesis.kind, self.entropy.kind}
        if problem := _transform_problem(self) or _entropy_problem(self.entropy, self.latent_channels):
            raise ValueError(problem)
        if self.lmbda is not None and (following := sorted(kinds & FOLLOW_QUALITY)):
            raise ValueError(f"lmbda makes a model of one rate, but {' and '.join(following)} parts follow quality")
        return self


def _transform_problem(config: ModelConfig) -> str | None:
    if isinstance(config.analysis, SwinTransform) and config.analysis.widths[-1] != config.latent_channels:
        return "the last of analysis.widths has to be latent_channels"
    if isinstance(config.synthesis, SwinTransform) and config.synthesis.widths[0] != config.latent_channels:
        return "the first of synthesis.widths has to be latent_channels"
    return None


def _entropy_problem(entropy: Entropy, latent_channels: int) -> str | None:
    if isinstance(entropy, HyperpriorEntropy) and entropy.hyper_synthesis.outputs != 2 * latent_channels:
        return "entropy.hyper_synthesis has to give twice latent_channels"
    if isinstance(entropy, CharmEntropy) and sum(entropy.slices) != latent_channels:
        return "entropy.slices have to make up latent_channels"
    if isinstance(entropy, SpaceChannelEntropy) and sum(entropy.groups) != latent_channels:
        return "entropy.groups have to make up latent_channels"
    return None


R = TypeVar("R", bound=Record)
CONFIGS = Path(__file__).parent / "configs"


def family_of(config: ModelConfig) -> str:
    """What kind of model it is, in words: "ELIC + CHARM, SwinT hyper"."""
    names = {"elic": "ELIC", "swin": "SwinT", "charm": "CHARM"}
    hyper = getattr(config.entropy, "hyper_synthesis", None)
    swin_hyper = ", SwinT hyper" if getattr(hyper, "kind", None) == "swin" else ""
    kinds = (config.synthesis.kind, config.entropy.kind)
    return " + ".join(names.get(kind, kind) for kind in kinds) + swin_hyper


def config_names() -> list[str]:
    """Names of the models whose configuration is part of the package, in the order of their groups."""
    return sorted((path.stem for path in CONFIGS.glob("*.toml")), key=lambda name: (name_group(name), name))


def name_group(name: str) -> int:
    """0 for A to J, 1 for other readings of the paper's rows (A-whole), 2 for published models (elic)."""
    if name[0].islower():
        return 2
    return int(len(name) > 1)


def load_config(path: Path) -> ModelConfig:
    """Read one model configuration; UsageError names the key that is unknown or of the wrong kind."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such configuration") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error})") from None
    return parse_record(ModelConfig, data, str(path))


def parse_record(record: type[R], data: object, where: str) -> R:
    """Validate `data` as `record`; UsageError in one line otherwise."""
    try:
        return record.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_problem(record, error)}") from None


def _first_problem(record: type[Record], error: ValidationError) -> str:
    # A misspelt key is also a missing one, which pydantic names first.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    keys, inside = _place(record, problem["loc"])
    if problem["type"].startswith("union_tag"):
        keys.append("kind")
    key = ".".join(keys)
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}" if key else problem["msg"]
    near = difflib.get_close_matches(keys[-1], inside.model_fields, n=1)
    return f"unknown key {key}" + (f"; did you mean {near[0]}?" if near else "")


def _place(record: type[Record], location: Sequence[int | str]) -> tuple[list[str], type[Record]]:
    """The keys to a problem, without the kinds that pydantic puts between them, and the record of the last key."""
    keys: list[str] = []
    candidates = [record]
    for part in location:
        chosen = [candidate for candidate in candidates if part in _kinds(candidate)]
        if chosen:
            candidates = chosen
            continue
        keys.append(str(part))
        if candidates and isinstance(part, str):
            record = candidates[0]
            field = record.model_fields.get(part)
            candidates = _records(field.annotation) if field else []
    return keys, record


def _kinds(record: type[Record]) -> tuple[Any, ...]:
    """What the key `kind` of a record may say."""
    return get_args(record.model_fields["kind"].annotation) if "kind" in record.model_fields else ()


def _records(annotation: Any) -> list[type[Record]]:
    """The records that a field of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return [annotation]
    return [record for part in get_args(annotation) for record in _records(part)]
