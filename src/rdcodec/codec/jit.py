"""How this package compiles its loops."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function`, compiled by Numba at its first call and kept on disk, where any folder for that is writable."""
    njit = partial(numba.njit, nogil=True, error_model="numpy")
    try:
        return cast(Function, njit(cache=True)(function))
    except RuntimeError:  # a read-only installation and no home: every process compiles for itself
        return cast(Function, njit()(function))
