"""The kinds of transforms: of each one record with all that the rest of the package knows of it. No torch here.

To add a kind, write its networks in a file beside this one, its record here, and put that into `TRANSFORMS`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from rdcodec.models.records import FROM_LIST, MAX_DEPTH, EvenInt, Record, Sparse, one_of
from rdcodec.models.stages import SwinStages
from rdcodec.models.words import Box, count, numbers

if TYPE_CHECKING:
    from rdcodec.models.transforms.network import TransformNetwork

Norm = Literal["gdn", "gdn-sqrt"]
Side = Literal["analysis", "synthesis"]


class TransformRecord(Record):
    """What a configuration says of an analysis or a synthesis; what has a default here need not be given.

    word: for the kind in names of families. follows_quality: whether it learns something for every quality, so that
    no model of one rate can have it. shortcut: past all its networks, for diagrams.
    """

    kind: str
    word: ClassVar[str] = ""
    follows_quality: ClassVar[bool] = False
    shortcut: ClassVar[str] = ""

    @staticmethod
    def networks() -> "tuple[type[TransformNetwork], type[TransformNetwork]]":
        """Classes of analysis and synthesis; each is built from the record and the number of latent channels."""
        raise NotImplementedError

    def problem(self, side: Side, latent_channels: int) -> str | None:
        """Why it cannot have so many latent channels, if so."""
        return None

    def boxes(self, side: Side, latent_channels: int) -> list[Box]:
        """Its networks for a diagram, in the order of running."""
        fields = self.model_dump(exclude={"kind"})
        lines = tuple(f"{key.replace('_', ' ')} {numbers(value)}" for key, value in fields.items())
        return [Box(self.kind, lines, f"1/16, {latent_channels}" if side == "analysis" else "1/1, 3", side)]


class Trunk(Sparse):
    """A run of residual blocks at one resolution.

    mixed, hidden: channels inside the two steps of each block, one by one; without them as many as `width`, and twice
    as many. A hidden of 0 leaves the second step out.
    """

    width: PositiveInt
    blocks: Annotated[int, Field(ge=0, le=MAX_DEPTH)]
    mixed: Annotated[tuple[PositiveInt, ...] | None, FROM_LIST] = None
    hidden: Annotated[tuple[NonNegativeInt, ...] | None, FROM_LIST] = None

    @model_validator(mode="after")
    def _one_a_block(self) -> "Trunk":
        for name in ("mixed", "hidden"):
            given = getattr(self, name)
            if given is not None and len(given) != self.blocks:
                raise ValueError(f"{name} has {len(given)} widths for {count(self.blocks, 'block')}")
        return self

    def inner(self) -> list[tuple[int, int]]:
        """Mixed and hidden channels of each block."""
        mixed = self.mixed or (self.width,) * self.blocks
        hidden = self.hidden or (2 * self.width,) * self.blocks
        return list(zip(mixed, hidden, strict=True))


class LightTransform(TransformRecord):
    """Pointwise-depthwise blocks at 1/8 and 1/16 of the picture beside a linear shortcut (`transforms/light.py`)."""

    kind: Literal["light"]
    stride8: Trunk
    stride16: Trunk

    word: ClassVar = "light"
    follows_quality: ClassVar = True
    shortcut: ClassVar = "linear shortcut: patches of 16×16×3 {} latents, starts as KLT"

    @staticmethod
    def networks() -> "tuple[type[TransformNetwork], type[TransformNetwork]]":
        from rdcodec.models.transforms.light import LightAnalysis, LightSynthesis

        return LightAnalysis, LightSynthesis

    def boxes(self, side: Side, latent_channels: int) -> list[Box]:
        m = latent_channels
        if side == "analysis":
            return [
                self._box("pixel-unshuffle 8", "8", (), side),
                self._box("pixel-unshuffle 2", "16", (f"1×1 to {m}",), side),
            ]
        last = ("1×1 to 192", "pixel-shuffle 8")
        return [self._box(f"1×1 from {m}", "16", (), side), self._box("1×1, pixel-shuffle 2", "8", last, side)]

    def _box(self, title: str, stride: str, after: tuple[str, ...], side: Side) -> Box:
        trunk = self.stride8 if stride == "8" else self.stride16
        lines = (f"{count(trunk.blocks, 'block')} of width {trunk.width}:", "1×1, depthwise 3×3, 1×1;", "feed-forward")
        return Box(title, (*lines, *after), f"1/{stride}, {trunk.width}", side)


class ConvTransform(TransformRecord):
    """Four 5x5 layers of stride 2 with GDN between them (`transforms/conv.py`).

    channels: outputs of the first three; the fourth gives the latents, or the picture.
    """

    kind: Literal["conv"]
    channels: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt], FROM_LIST]
    norm: Norm

    word: ClassVar = "conv"

    @staticmethod
    def networks() -> "tuple[type[TransformNetwork], type[TransformNetwork]]":
        from rdcodec.models.transforms.conv import ConvAnalysis, ConvSynthesis

        return ConvAnalysis, ConvSynthesis

    def boxes(self, side: Side, latent_channels: int) -> list[Box]:
        if side == "analysis":
            stages = [("conv 5×5 ↓2", ("GDN",) if stage < 3 else ()) for stage in range(4)]
        else:
            stages = [("deconv 5×5 ↑2", ("inverse GDN",) if stage < 3 else ()) for stage in range(4)]
        return _four_stages(side, stages, (*self.channels, latent_channels if side == "analysis" else 3))


class ElicTransform(TransformRecord):
    """Four 5x5 layers of stride 2 with residual blocks and attention between them (`transforms/elic.py`).

    channels: outputs of the first three; the fourth gives the latents, or the picture.
    residual_blocks: after each of the first three.
    """

    kind: Literal["elic"]
    channels: Annotated[tuple[EvenInt, EvenInt, EvenInt], FROM_LIST]
    residual_blocks: Annotated[int, Field(ge=0, le=MAX_DEPTH)]

    word: ClassVar = "ELIC"

    @staticmethod
    def networks() -> "tuple[type[TransformNetwork], type[TransformNetwork]]":
        from rdcodec.models.transforms.elic import ElicAnalysis, ElicSynthesis

        return ElicAnalysis, ElicSynthesis

    def boxes(self, side: Side, latent_channels: int) -> list[Box]:
        blocks = count(self.residual_blocks, "residual block")
        titles, lines = ["conv 5×5 ↓2"] * 4, [(blocks,), (blocks, "attention"), (blocks,), ("attention",)]
        if side == "synthesis":
            titles = ["attention", *["deconv 5×5 ↑2"] * 3]
            lines = [("deconv 5×5 ↑2", blocks), ("attention", blocks), (blocks,), ()]
        stages = zip(titles, lines, strict=True)
        return _four_stages(side, stages, (*self.channels, latent_channels if side == "analysis" else 3))


class SwinTransform(SwinStages, TransformRecord):
    """Swin blocks at 1/2 to 1/16 of the picture (`transforms/swin.py`).

    widths: of the stages as they come; those of the latents are latent_channels.
    """

    kind: Literal["swin"]
    widths: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt], FROM_LIST]

    word: ClassVar = "SwinT"

    @staticmethod
    def networks() -> "tuple[type[TransformNetwork], type[TransformNetwork]]":
        from rdcodec.models.transforms.swin import SwinAnalysis, SwinSynthesis

        return SwinAnalysis, SwinSynthesis

    def problem(self, side: Side, latent_channels: int) -> str | None:
        end, width = ("last", self.widths[-1]) if side == "analysis" else ("first", self.widths[0])
        return None if width == latent_channels else f"the {end} of {side}.widths has to be latent_channels"

    def boxes(self, side: Side, latent_channels: int) -> list[Box]:
        words = [self.words(stage) for stage in range(4)]
        if side == "analysis":
            enter = ("conv 2×2 ↓2", *("merge 2×2 ↓2",) * 3)
            return _four_stages(side, list(zip(enter, words, strict=True)), self.widths)
        leave = (*("split 2×2 ↑2",) * 3, "linear, shuffle ↑2")
        stages = [(blocks, (window, end)) for (blocks, window), end in zip(words, leave, strict=True)]
        return _four_stages(side, stages, (*self.widths[1:], 3))


TRANSFORMS = (LightTransform, ConvTransform, ElicTransform, SwinTransform)
if TYPE_CHECKING:
    Transform: TypeAlias = TransformRecord
else:
    Transform = one_of(TRANSFORMS)


def _four_stages(side: Side, stages: Iterable[tuple[str, tuple[str, ...]]], outputs: tuple[int, ...]) -> list[Box]:
    """A box for each of four stages of stride 2: its title and lines, and the channels that it gives."""
    halvings = (1, 2, 3, 4) if side == "analysis" else (3, 2, 1, 0)
    found = zip(stages, halvings, outputs, strict=True)
    return [Box(title, lines, f"1/{2**n}, {channels}", side) for (title, lines), n, channels in found]
