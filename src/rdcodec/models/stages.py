"""The record of Swin stages, which transforms and hyper-transforms share."""

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from rdcodec.models.records import FROM_LIST, MAX_DEPTH, Record
from rdcodec.models.words import count


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

    def words(self, index: int) -> tuple[str, str]:
        """A stage for a diagram."""
        return count(self.depths[index], "Swin block"), f"window {self.window}"
