"""Which elements of y a pass of the checkerboard model codes. No torch here."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Lattice:
    """At every position one channel of each `of` in a row: the half of a parity, or half of that, a quarter.

    The half of phase 0 has the elements with even channel + row + column, that of phase 1 the others. The quarters
    share the even half: phase 0 has those whose channel // 2 + row is even too, phase 1 the rest. So the neighbours of
    an element in channel, row and column are of the other half, and its diagonal neighbours in the same channel are of
    the other quarter.
    """

    of: int  # 2 or 4
    phase: int  # 0 or 1

    def first_channel(self, row: Any, column: Any) -> Any:
        """The lowest channel at a position, of integers or of integer arrays; the others follow in steps of `of`."""
        if self.of == 2:
            return (row + column + self.phase) % 2
        return 2 * ((row + self.phase) % 2) + (row + column) % 2


HALVES = (Lattice(2, 0), Lattice(2, 1))
QUARTERS_AND_HALF = (Lattice(4, 0), Lattice(4, 1), Lattice(2, 1))
