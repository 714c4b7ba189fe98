"""The kinds of entropy models and hyper-transforms: of each one record with all that others know of it. No torch here.

To add a kind, write its networks in a file beside this one, its record here, and put that into the tuple of its sort.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from rdcodec.models.entropy.lattice import HALVES, QUARTERS_AND_HALF, Lattice
from rdcodec.models.records import FROM_LIST, OddKernel, Record, Sparse, one_of
from rdcodec.models.stages import SwinStages
from rdcodec.models.words import Box, numbers

if TYPE_CHECKING:
    from torch import nn

    from rdcodec.models.entropy.integer import IntegerForm
    from rdcodec.models.entropy.model import EntropyModel


MAX_HYPER_CHANNELS = 1 << 14  # each has a row of its own in the tables


class HyperTransformRecord(Record):
    """What a configuration says of a hyper-analysis or a hyper-synthesis, by 4 in each direction.

    outputs: channels that come out: of z, or what the networks of y see. word: for the kind in names of families.
    """

    kind: str
    word: ClassVar[str] = ""

    if TYPE_CHECKING:  # a field, or a property

        @property
        def outputs(self) -> int: ...

    def build_analysis(self, inputs: int) -> "nn.Sequential":
        """(B, inputs, 4h, 4w) -> (B, outputs, h, w)."""
        raise NotImplementedError

    def build_synthesis(self, inputs: int) -> "nn.Sequential":
        """(B, inputs, h, w) -> (B, outputs, 4h, 4w)."""
        raise NotImplementedError

    def check_enters(self, name: str, hyper_channels: int) -> None:
        """ValueError if the hyper-synthesis under that key does not fit the hyper-latents."""

    def lines(self) -> tuple[str, ...]:
        """Its layers, for a diagram."""
        return (self.kind,)


class LayerChain(HyperTransformRecord):
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

    def build_analysis(self, inputs: int) -> "nn.Sequential":
        from rdcodec.models.entropy.hyper import chain_down

        return chain_down(inputs, self)

    def build_synthesis(self, inputs: int) -> "nn.Sequential":
        from rdcodec.models.entropy.hyper import chain_up

        return chain_up(inputs, self)

    def lines(self) -> tuple[str, ...]:
        synthesis = self.strides[0] == 2
        word = {1: "conv", 2: "deconv" if synthesis else "conv"}
        arrow = {1: "", 2: " ↑2" if synthesis else " ↓2"}
        layers = zip(self.kernels, self.strides, self.channels, strict=True)
        return tuple(f"{word[stride]} {k}×{k}{arrow[stride]}, {channels}" for k, stride, channels in layers)


class SwinHyperAnalysis(SwinStages, HyperTransformRecord):
    """Swin blocks at 1/2 and 1/4 of the latents; the last width is that of the hyper-latents."""

    kind: Literal["swin"]
    widths: Annotated[tuple[PositiveInt, PositiveInt], FROM_LIST]

    @property
    def outputs(self) -> int:
        """N, the channels of z."""
        return self.widths[-1]

    def build_analysis(self, inputs: int) -> "nn.Sequential":
        from rdcodec.models.entropy.hyper import swin_down

        return swin_down(inputs, self)

    def lines(self) -> tuple[str, ...]:
        (first, window), (second, _) = self.words(0), self.words(1)
        first, second = f"{first}, {self.widths[0]}", f"{second}, {self.widths[1]}"
        return "conv 2×2 ↓2", first, "merge 2×2 ↓2", second, f"({window})"


class SwinHyperSynthesis(SwinStages, HyperTransformRecord):
    """Swin blocks at 1/4 and 1/2 of the latents, and so many outputs at their resolution."""

    kind: Literal["swin"]
    word: ClassVar = "SwinT hyper"
    widths: Annotated[tuple[PositiveInt, PositiveInt], FROM_LIST]
    outputs: PositiveInt

    def build_synthesis(self, inputs: int) -> "nn.Sequential":
        from rdcodec.models.swin import up_stages

        return up_stages(self, self.outputs)

    def check_enters(self, name: str, hyper_channels: int) -> None:
        if self.widths[0] != hyper_channels:
            raise ValueError(f"the first of {name}.widths has to be what hyper_analysis gives")

    def lines(self) -> tuple[str, ...]:
        (first, window), (second, _) = self.words(0), self.words(1)
        first, second = f"{first}, {self.widths[0]}", f"{second}, {self.widths[1]}"
        return first, "split 2×2 ↑2", second, "linear, shuffle ↑2", f"({window})"


HYPER_ANALYSES = (LayerChain, SwinHyperAnalysis)
HYPER_SYNTHESES = (LayerChain, SwinHyperSynthesis)
if TYPE_CHECKING:
    HyperAnalysis: TypeAlias = HyperTransformRecord
    HyperSynthesis: TypeAlias = HyperTransformRecord
else:
    HyperAnalysis = one_of(HYPER_ANALYSES)
    HyperSynthesis = one_of(HYPER_SYNTHESES)


class EntropyRecord(Record):
    """What a configuration says of an entropy model; what has a default here need not be given.

    hyper_channels: N, the channels of z. word: for the kind in names of families. follows_quality: whether it learns
    something for every quality, so that no model of one rate can have it. multiple: pixels that the sides of a picture
    are padded to a multiple of. parts: of the networks by the first name
    of their parameters, and of the components of `decode_parts` by theirs, which part of a model they count as.
    """

    kind: str
    word: ClassVar[str] = ""
    follows_quality: ClassVar[bool] = False
    multiple: ClassVar[int] = 64
    parts: ClassVar[Mapping[str, str]] = {}

    if TYPE_CHECKING:  # a field, or a property

        @property
        def hyper_channels(self) -> int: ...

    @staticmethod
    def network() -> "type[EntropyModel]":
        """The class that is built from the record and the number of latent channels."""
        raise NotImplementedError

    def integer_form(self) -> "type[IntegerForm] | None":
        """The class that codes files, built as the network and from its arrays; None: it can only be trained."""
        return None

    @property
    def free_rows(self) -> int:
        """Rows of the tables for densities of its own, behind those of the scales."""
        return 0

    @property
    def hyper_word(self) -> str:
        """For its hyper-transform in names of families, if that has a word."""
        return ""

    @property
    def order(self) -> str:
        """In which y is coded, for diagrams."""
        return "at once"

    def problem(self, latent_channels: int) -> str | None:
        """Why it cannot have so many latent channels, if so."""
        return None

    def boxes(self, latent_channels: int) -> list[Box]:
        """Its networks for a diagram, between y and ŷ; z flows out of the hyper-analysis."""
        return [Box(self.kind, self.lines(), f"1/16, 2×{latent_channels}", "mean and scale")]

    def lines(self) -> tuple[str, ...]:
        """What the configuration says, for a diagram."""
        fields = self.model_dump(exclude={"kind", "filters", "hyper_analysis", "hyper_synthesis"}, exclude_none=True)
        return tuple(f"{key.replace('_', ' ')} {numbers(value)}" for key, value in fields.items())

    def z_box(self) -> Box:
        """The hyper-latents in a diagram."""
        return Box("z", (), f"1/64, {self.hyper_channels}", "data")


class CheckerboardEntropy(Sparse, EntropyRecord):
    """Hyperprior with a context of two or three passes (`entropy/checkerboard.py`).

    passes: 3 where the first half is coded in two quarters; two passes otherwise. hidden: channels between the layers
    of all passes. hidden_each: of the layer in pass 0 and the two in each later pass, where they are fewer.
    """

    kind: Literal["checkerboard"]
    hyper_channels: PositiveInt
    features: PositiveInt
    hidden: PositiveInt
    hidden_each: Annotated[tuple[PositiveInt, ...] | None, FROM_LIST] = None
    passes: Literal[3] | None = None

    word: ClassVar = "checkerboard"
    follows_quality: ClassVar = True
    multiple: ClassVar = 16
    parts: ClassVar = dict.fromkeys(
        (
            *("context pass 0", "context pass 1", "context pass 2"),
            *("first", "middle_context", "middle", "context", "second"),
        ),
        "mean and scale",
    )

    @model_validator(mode="after")
    def _fits_passes(self) -> "CheckerboardEntropy":
        if len(self.inner()) != 2 * len(self.lattices()) - 1:
            raise ValueError("hidden_each has one number for pass 0 and two for each later pass")
        if max(self.inner()) > self.hidden:
            raise ValueError("none of hidden_each may be more than hidden")
        return self

    def problem(self, latent_channels: int) -> str | None:
        if latent_channels % max(lattice.of for lattice in self.lattices()):
            return "three passes need latent_channels that are a multiple of 4"
        return None

    @property
    def order(self) -> str:
        return "in two quarters and a half" if self.passes else "in two halves"

    def lattices(self) -> tuple[Lattice, ...]:
        """The elements of y that each pass codes."""
        return QUARTERS_AND_HALF if self.passes else HALVES

    def later(self) -> tuple[tuple[str, str], ...]:
        """Of each pass but pass 0, the names of the network that sees what is coded, and of that behind it."""
        last = ("context", "second")
        return (("middle_context", "middle"), last) if self.passes else (last,)

    def inner(self) -> tuple[int, ...]:
        """Channels between the layers of pass 0, and between those of each later pass."""
        return self.hidden_each or (self.hidden,) * (2 * len(self.lattices()) - 1)

    @staticmethod
    def network() -> "type[EntropyModel]":
        from rdcodec.models.entropy.checkerboard import CheckerboardModel

        return CheckerboardModel

    def integer_form(self) -> "type[IntegerForm]":
        from rdcodec.models.entropy.integer import IntegerCheckerboard

        return IntegerCheckerboard

    def boxes(self, latent_channels: int) -> list[Box]:
        f, n, m, (h, *later) = self.features, self.hyper_channels, latent_channels, self.inner()
        down = (f"1×1, {f}", "depthwise 3×3, ↓2", f"1×1, {f}", "depthwise 3×3, ↓2", f"1×1, {n}")
        up = (f"3×3, {n}", f"1×1, {f}, ↑2", "depthwise 3×3", f"1×1, {f}, ↑2", "depthwise 3×3")
        parts = ("a quarter", "a quarter", "odd half") if self.passes else ("even half", "odd half")
        passes = [Box(f"pass 0: {parts[0]}", (f"1×1, {h}", f"1×1, 2×{m}"), f"1/16, 2×{m}", "mean and scale")]
        for step, part in enumerate(parts[1:]):
            h1, h2 = later[2 * step : 2 * step + 2]
            seen = f"sees {'0 and 1' if step else 'pass 0'} by"
            lines = (seen, f"depthwise, 2×{m}", f"1×1, {h1}", f"1×1, {h2}", f"1×1, 2×{m}")
            passes.append(Box(f"pass {step + 1}: {part}", lines, f"1/16, 2×{m}", "mean and scale"))
        return [
            Box("hyper-analysis", down, "", "hyper-analysis"),
            self.z_box(),
            Box("hyper-synthesis", up, f"1/16, {f}", "hyper-synthesis"),
            *passes,
        ]


class HyperEntropy(EntropyRecord):
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

    @property
    def free_rows(self) -> int:
        """One for each channel of z."""
        return self.hyper_channels

    @model_validator(mode="after")
    def _enters(self) -> Self:
        if self.hyper_channels > MAX_HYPER_CHANNELS:
            raise ValueError(f"hyper_analysis gives more than {MAX_HYPER_CHANNELS} channels")
        self.hyper_synthesis.check_enters("hyper_synthesis", self.hyper_channels)
        return self

    @property
    def hyper_word(self) -> str:
        """For its hyper-transform in names of families, if that has a word."""
        return self.hyper_synthesis.word

    def boxes(self, latent_channels: int) -> list[Box]:
        below = f"1/16, {self.hyper_synthesis.outputs}"
        return [
            *(Box("hyper-analysis", self.hyper_analysis.lines(), "", "hyper-analysis"), self.z_box()),
            Box("hyper-synthesis", self.hyper_synthesis.lines(), below, "hyper-synthesis"),
            *self.boxes_of_y(latent_channels),
        ]

    def boxes_of_y(self, latent_channels: int) -> list[Box]:
        """What follows the hyper-synthesis, for a diagram."""
        return super().boxes(latent_channels)


class HyperpriorEntropy(HyperEntropy):
    """Mean-and-scale hyperprior (`entropy/hyperprior.py`)."""

    kind: Literal["hyperprior"]

    word: ClassVar = "hyperprior"

    @staticmethod
    def network() -> "type[EntropyModel]":
        from rdcodec.models.entropy.hyperprior import HyperpriorModel

        return HyperpriorModel

    def integer_form(self) -> "type[IntegerForm]":
        from rdcodec.models.entropy.integer_hyper import IntegerHyperprior

        return IntegerHyperprior

    def problem(self, latent_channels: int) -> str | None:
        fits = self.hyper_synthesis.outputs == 2 * latent_channels
        return None if fits else "entropy.hyper_synthesis has to give twice latent_channels"

    def boxes(self, latent_channels: int) -> list[Box]:
        analysis, z, synthesis = super().boxes(latent_channels)
        lines = (*synthesis.lines, "means and scales of y")
        return [analysis, z, replace(synthesis, lines=lines, below=f"1/16, 2×{latent_channels}")]

    def boxes_of_y(self, latent_channels: int) -> list[Box]:
        return []


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
            self.scale_synthesis.check_enters("scale_synthesis", self.hyper_channels)
            if self.scale_synthesis.outputs != self.hyper_synthesis.outputs:
                raise ValueError("scale_synthesis has to give as many channels as hyper_synthesis")
        if self.reduction and (self.scale_synthesis or self.own_channels):
            raise ValueError("reduction goes with neither scale_synthesis nor own_channels")
        if self.reduction is None and self.features % 2:
            raise ValueError("without reduction hyper_synthesis has to give an even number of channels")
        if self.own_channels and self.features != 2 * sum(self.slices):
            raise ValueError("with own_channels hyper_synthesis has to give two channels for each of the slices")
        return self

    word: ClassVar = "CHARM"
    parts: ClassVar = {
        **dict.fromkeys(("reduce", "reduction"), "reduction"),
        **dict.fromkeys(("mean", "scale", "mean and scale"), "mean and scale"),
        **dict.fromkeys(("lrp", "merge", "residual prediction"), "residuals and merge"),
    }

    @property
    def order(self) -> str:
        return "slice by slice"

    @staticmethod
    def network() -> "type[EntropyModel]":
        from rdcodec.models.entropy.charm import CharmModel

        return CharmModel

    def integer_form(self) -> "type[IntegerForm] | None":
        from rdcodec.models.entropy.integer_hyper import IntegerCharm

        return IntegerCharm if self.scale_synthesis is None and self.lrp else None

    def problem(self, latent_channels: int) -> str | None:
        return None if sum(self.slices) == latent_channels else "entropy.slices have to make up latent_channels"

    def boxes_of_y(self, latent_channels: int) -> list[Box]:
        sizes = sorted(set(self.slices))
        kernels = " → ".join(f"{k}×{k}" for k in self.kernels)
        widths = " → ".join((*map(_between, self.widths), "slice"))
        support = "all earlier slices" if self.max_support is None else f"first {self.max_support} slices"
        kernel = self.merge_kernel
        merge = "LRP added" if kernel is None else f"LRP merged by {kernel}×{kernel}"
        networks = "mean, scale, LRP, each:" if self.lrp else "mean and scale, each:"
        lines = (networks, kernels, widths, *((merge,) if self.lrp else ()), f"sees {support}")
        size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]}-{sizes[-1]}"
        title = f"slice i of {len(self.slices)}"
        slices = Box(title, lines, f"1/16, {size} each", "mean and scale", copies=True)
        if self.reduction is None:
            return [slices]
        kernel, channels = self.reduction.kernel, self.reduction.channels
        below = f"1/16, {len(self.slices)}×{channels}"
        return [Box("reduction", (f"conv {kernel}×{kernel}", "for each slice"), below, "reduction"), slices]


def _between(widths: tuple[int, ...]) -> str:
    """The widths that a layer has in the slices: 192, or 64-234."""
    low, high = min(widths), max(widths)
    return str(low) if low == high else f"{low}-{high}"


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

    word: ClassVar = "space_channel"

    @property
    def order(self) -> str:
        return "group by group, each in two halves"

    @staticmethod
    def network() -> "type[EntropyModel]":
        from rdcodec.models.entropy.space_channel import SpaceChannelModel

        return SpaceChannelModel

    def problem(self, latent_channels: int) -> str | None:
        return None if sum(self.groups) == latent_channels else "entropy.groups have to make up latent_channels"


ENTROPIES = (CheckerboardEntropy, HyperpriorEntropy, CharmEntropy, SpaceChannelEntropy)
if TYPE_CHECKING:
    Entropy: TypeAlias = EntropyRecord
else:
    Entropy = one_of(ENTROPIES)
