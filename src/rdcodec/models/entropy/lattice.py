"""Which elements of y a pass of the checkerboard model codes. No torch here."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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

    def first_channel(self, height: int, width: int) -> NDArray[np.int64]:
        """The lowest channel of each position, (height, width); the others follow in steps of `of`."""
        row, column = np.arange(height)[:, None], np.arange(width)
        if self.of == 2:
            return (row + column + self.phase) % 2
        return 2 * ((row + self.phase) % 2) + (row + column) % 2


HALVES = (Lattice(2, 0), Lattice(2, 1))
QUARTERS_AND_HALF = (Lattice(4, 0), Lattice(4, 1), Lattice(2, 1))
