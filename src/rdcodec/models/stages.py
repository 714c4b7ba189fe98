"""The record of Swin stages, which transforms and hyper-transforms share."""

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from rdcodec.models.records import FROM_LIST, Record
from rdcodec.models.words import count

# A Swin block keeps window^4 numbers for which a weights file holds none: few blocks, at most 65,536 in each.
MAX_SWIN_DEPTH = 32


class SwinStages(Record):
    """Stages of Swin blocks, between which the resolution changes by 2 (`swin.py`)."""

    widths: Annotated[tuple[PositiveInt, ...], FROM_LIST]
    depths: Annotated[tuple[Annotated[PositiveInt, Field(le=MAX_SWIN_DEPTH)], ...], FROM_LIST]
    window: Annotated[PositiveInt, Field(le=16)]
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
