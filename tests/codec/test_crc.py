import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdcodec.codec.crc import crc32c


def by_definition(data: bytes) -> int:
    """Bit by bit, as a division by the polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_published_vectors(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc


@given(st.binary(max_size=300))
def test_short_inputs(data: bytes) -> None:
    assert crc32c(data) == by_definition(data)


@given(st.integers(4000, 4100), st.integers(0, 2**32))
@settings(max_examples=15)
def test_long_inputs(size: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    assert crc32c(data) == by_definition(data)


@pytest.mark.parametrize("count", [0, 5, 4096])
def test_arrays_count_as_their_little_endian_bytes(count: int) -> None:
    values = np.random.default_rng(0).integers(-(2**31), 2**31, (count, 6))
    data = values[:, ::2].astype("<i4").tobytes()
    for array in (values[:, ::2].astype("<i4"), values.astype("<i4")[:, ::2], values.astype(">i4")[:, ::2]):
        assert crc32c(array) == crc32c(data)
