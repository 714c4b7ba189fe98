from typing import Any

import numba
import pytest

from rdcodec.codec.jit import compiled


def test_a_function_without_a_place_for_its_cache_is_compiled_nevertheless() -> None:
    """As on a read-only system. Numba has no place for a function that comes from no file."""
    scope: dict[str, Any] = {}
    exec("def successor(n): return n + 1", scope)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(scope["successor"])
    assert compiled(scope["successor"])(41) == 42
