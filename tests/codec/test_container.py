import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdcodec.codec import container
from rdcodec.codec.container import SINGLE_RATE, Header, Section, pack, read_header, unpack
from rdcodec.codec.crc import crc32c
from rdcodec.errors import BadInput
from rdcodec.exact.tables import Tables
from reference_rans import reference_decode, reference_encode

HEADER = Header(
    tag="I.1",
    width=768,
    height=512,
    quality=500,
    tables_hash=b"tabl",
    entropy_hash=b"entr",
    synthesis_hash=b"synt",
    symbols_crc=0x12345678,
)
STREAM = bytes(range(40))
SECTIONS = (Section(0, b""), Section(5, b"metadata"), Section(127, bytes(200)))
FILE = pack(HEADER, STREAM)
FILE_WITH_SECTIONS = pack(dataclasses.replace(HEADER, sections=SECTIONS), STREAM)

NO_LIMIT = 1 << 48


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def raw_file(after_header: bytes = STREAM, **changes: bytes) -> bytes:
    """A file put together field by field from the byte table, its header checksum right."""
    fields = {
        "magic": b"\x8aRDC",
        "version": b"\x01",
        "tag": b"\x03I.1",
        "width": b"\x80\x06",
        "height": b"\x80\x04",
        "quality": b"\xf4\x01",
        "hashes": b"tablentrsynt",
        "symbols_crc": b"\x78\x56\x34\x12",
        "stream_bytes": b"\x28",
        "stream_crc": u32(crc32c(STREAM)),
        "section_count": b"\x00",
    }
    head = b"".join((fields | changes).values())
    return head + u32(crc32c(head)) + after_header


def raw_section(number: int, payload: bytes) -> bytes:
    head = bytes([number, len(payload)])
    return head + u32(crc32c(head + payload)) + payload


def refused(data: bytes, max_pixels: int = NO_LIMIT) -> str:
    """The message of the BadInput that reading must end with: one line."""
    with pytest.raises(BadInput) as caught:
        unpack(data, max_pixels)
    message = str(caught.value)
    assert "\n" not in message
    return message


tags = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,20}\.[1-9][0-9]{0,3}", fullmatch=True)
digests = st.binary(min_size=4, max_size=4)
sections = st.builds(Section, id=st.integers(0, 127), payload=st.binary(max_size=300))
headers = st.builds(
    Header,
    tag=tags,
    width=st.integers(1, 1 << 24),
    height=st.integers(1, 1 << 24),
    quality=st.one_of(st.integers(0, 1000), st.just(SINGLE_RATE)),
    tables_hash=digests,
    entropy_hash=digests,
    synthesis_hash=digests,
    symbols_crc=st.integers(0, 2**32 - 1),
    sections=st.lists(sections, max_size=3).map(tuple),
)


@given(headers, st.binary(max_size=400))
def test_reading_undoes_packing(header: Header, stream: bytes) -> None:
    data = pack(header, stream)
    assert unpack(data, NO_LIMIT) == (header, stream)
    parsed = read_header(data, NO_LIMIT)
    assert parsed.header == header
    assert data[parsed.stream_start :] == stream
    assert parsed.stream_bytes == len(stream)
    assert read_header(data[: parsed.stream_start], NO_LIMIT) == parsed  # the header alone is enough


def test_bytes_are_those_of_the_byte_table() -> None:
    assert raw_file() == FILE
    after = b"".join(raw_section(s.id, s.payload) for s in SECTIONS[:2]) + STREAM
    header = dataclasses.replace(HEADER, sections=SECTIONS[:2])
    assert raw_file(after, section_count=b"\x02") == pack(header, STREAM)


@pytest.mark.parametrize(
    ("width", "height", "stream_bytes"), [(768, 512, 60_000), (16_000, 6_250, 20_000_000), (1, 1, 16)]
)
def test_a_photo_has_at_most_48_bytes_around_its_stream(width: int, height: int, stream_bytes: int) -> None:
    header = dataclasses.replace(HEADER, width=width, height=height)
    assert len(pack(header, bytes(stream_bytes))) <= stream_bytes + 48


def test_quality_may_be_that_of_a_single_rate() -> None:
    header = dataclasses.replace(HEADER, quality=SINGLE_RATE)
    assert unpack(pack(header, b""))[0].quality == SINGLE_RATE


# Damage


@pytest.mark.parametrize("data", [FILE, FILE_WITH_SECTIONS], ids=["plain", "sections"])
def test_every_flipped_bit_is_bad_input(data: bytes) -> None:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        refused(bytes(damaged))


@pytest.mark.parametrize("data", [FILE, FILE_WITH_SECTIONS], ids=["plain", "sections"])
def test_every_truncation_is_bad_input(data: bytes) -> None:
    for end in range(len(data)):
        refused(data[:end])


def test_bytes_behind_the_end_are_bad_input() -> None:
    assert "1 bytes too many" in refused(FILE + b"\0")
    assert "too many" in refused(FILE + FILE)


@given(st.binary(max_size=100), st.booleans())
def test_random_bytes_are_bad_input(data: bytes, with_magic: bool) -> None:
    refused(container.MAGIC * with_magic + data)


@pytest.mark.parametrize("data", [b"", b"\x8aRD", b"\x89PNG\r\n\x1a\n" + bytes(50), b"RDC\x8a" + bytes(50)])
def test_foreign_files(data: bytes) -> None:
    assert "not an .rdc file" in refused(data)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions(version: int) -> None:
    message = refused(raw_file(version=bytes([version])))
    assert f"version {version}" in message
    assert "newer rdcodec" in message


# Sound checksums, hostile content


@pytest.mark.parametrize("field", ["width", "height", "stream_bytes"])
@pytest.mark.parametrize(
    "number",
    [
        b"\xa8\x00",
        b"\xa8\x80\x00",
        b"\xa8\x80\x80\x80\x00",
        b"\xa8\x80\x80\x80\x80\x00",
        b"\x80\x80\x80\x80\x10",
        b"\xff\xff\xff\xff\x7f",
        b"\xff" * 20,
    ],
    ids=bytes.hex,
)
def test_numbers_have_one_form_and_32_bits(field: str, number: bytes) -> None:
    assert "malformed number" in refused(raw_file(**{field: number}))


def test_zero_is_a_number_too() -> None:
    assert unpack(raw_file(b"", stream_bytes=b"\x00", stream_crc=u32(0))) == (HEADER, b"")
    assert "malformed number" in refused(raw_file(b"", stream_bytes=b"\x80\x00", stream_crc=u32(0)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": b"\x00"}, "0x512 pixels"),
        ({"height": b"\x00"}, "768x0 pixels"),
        ({"width": b"\x81\x80\x80\x08"}, "16777217x512 pixels"),
        ({"height": b"\xff\xff\xff\xff\x0f"}, "768x4294967295 pixels"),
        ({"quality": b"\xe9\x03"}, "quality 1001"),
        ({"quality": b"\xfe\xff"}, "quality 65534"),
        ({"tag": b"\x00"}, "not a model tag"),
        ({"tag": b"\x01I"}, "not a model tag"),
        ({"tag": b"\x04I.01"}, "not a model tag"),
        ({"tag": b"\x04I.1\n"}, "not a model tag"),
        ({"tag": b"\x04\xff\xfe.1"}, "not a model tag"),
        ({"tag": b"\x06../I.1"}, "not a model tag"),
        ({"tag": b"\xff" + b"I" * 253 + b".1"}, "not a model tag"),
    ],
)
def test_impossible_headers(changes: dict[str, bytes], message: str) -> None:
    assert message in refused(raw_file(**changes))


def test_too_many_pixels_are_refused_by_both_readers() -> None:
    assert unpack(FILE, 768 * 512)[0] == HEADER
    for read in (unpack, read_header):
        with pytest.raises(BadInput, match="393216 pixels are more than 393215: allow more with --max-pixels"):
            read(FILE, 768 * 512 - 1)
    largest = raw_file(width=b"\x80\x80\x80\x08", height=b"\x80\x80\x80\x08")
    assert unpack(largest, NO_LIMIT)[0].width == 1 << 24
    with pytest.raises(BadInput, match="--max-pixels"):
        unpack(largest)


@pytest.mark.parametrize("stream_bytes", [b"\xff\xff\xff\xff\x0f", b"\x29"])
def test_a_stream_longer_than_the_file(stream_bytes: bytes) -> None:
    assert "cut off: 40 of" in refused(raw_file(stream_bytes=stream_bytes))


def test_a_stream_shorter_than_the_rest() -> None:
    assert "1 bytes too many" in refused(raw_file(stream_bytes=b"\x27"))


def test_a_wrong_stream_checksum() -> None:
    assert "checksum of the stream" in refused(raw_file(stream_crc=u32(0)))


# Sections


def test_an_unknown_section_is_kept_and_harmless() -> None:
    data = raw_file(raw_section(127, b"later") + STREAM, section_count=b"\x01")
    header, stream = unpack(data)
    assert stream == STREAM
    assert header.sections == (Section(127, b"later"),)


def test_an_unknown_critical_section_is_refused_until_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    data = raw_file(raw_section(129, b"tiles") + STREAM, section_count=b"\x01")
    message = refused(data)
    assert "section 129" in message
    assert "newer rdcodec" in message
    monkeypatch.setattr(container, "KNOWN_CRITICAL", frozenset({129}))
    assert unpack(data)[0].sections == (Section(129, b"tiles"),)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (b"\x05\x04" + u32(0) + b"abcd", "checksum of section 5"),
        (b"\x05\xff\xff\xff\xff\x0f" + u32(0) + b"abcd", "cut off"),
        (b"\x05\x84\x00" + u32(0) + b"abcd", "malformed number"),
        (b"\x05\xff\xff\xff\xff\xff\x0f" + u32(0) + b"abcd", "malformed number"),
        (b"", "cut off"),
    ],
)
def test_damaged_sections(section: bytes, message: str) -> None:
    assert message in refused(raw_file(section, section_count=b"\x01"))


def test_more_sections_announced_than_present() -> None:
    refused(raw_file(raw_section(1, b"a") + STREAM, section_count=b"\xff"))


def test_255_sections() -> None:
    header = dataclasses.replace(HEADER, sections=(Section(1, b"x"),) * 255)
    assert unpack(pack(header, STREAM)) == (header, STREAM)


# Writing


@pytest.mark.parametrize(
    "changes",
    [
        {"tag": "I"},
        {"tag": "I.1.2"},
        {"tag": "é.1"},
        {"tag": "I.1\n"},
        {"tag": "I" * 49 + ".1"},
        {"width": 0},
        {"height": (1 << 24) + 1},
        {"quality": -1},
        {"quality": 1001},
        {"tables_hash": b"abc"},
        {"synthesis_hash": b"abcde"},
        {"symbols_crc": -1},
        {"symbols_crc": 1 << 32},
        {"sections": (Section(256, b""),)},
        {"sections": (Section(-1, b""),)},
        {"sections": (Section(1, b""),) * 256},
    ],
)
def test_what_the_format_cannot_hold_is_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        dataclasses.replace(HEADER, **changes)


def test_documented_example() -> None:
    """The file in docs/format.md, byte for byte, from the tables and symbols that the page gives."""
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    example = page[page.index("## Example") : page.index("## Versions")]
    cells = re.findall(r"^\| (\w+) \|(?: (\d) \|)? `(.+)` \|$", example, re.MULTILINE)
    rows = [(int(radius), text.split()) for _, radius, text in cells if radius]
    tables = Tables.from_arrays(
        {
            "cdf": np.array([int(entry, 16) for _, row in rows for entry in row], np.uint16),
            "radius": np.array([radius for radius, _ in rows], np.int32),
            "skip_below": np.array([1], np.int32),
        }
    )
    values = {name: [int(value) for value in text.split()] for name, radius, text in cells if not radius}
    indexes, symbols = np.array(values["index"], np.uint8), np.array(values["symbol"], np.int32)
    file, stream = re.findall(r"(?:^ {4}(?:[0-9A-F]{2} ?)+\n)+", example, re.MULTILINE)

    header, found = unpack(bytes.fromhex(file))
    assert found == bytes.fromhex(stream) == reference_encode(symbols, indexes, tables)
    assert np.array_equal(reference_decode(found, indexes, tables), symbols)
    crc = crc32c(symbols.astype("<i2"))
    assert header == Header("T.1", 20, 12, 500, tables.hash(), bytes([1, 2, 3, 4]), bytes([5, 6, 7, 8]), crc)
    assert pack(header, found) == bytes.fromhex(file)
    assert tables.hash().hex(" ").upper() in example


def test_reading_a_header_loads_neither_torch_nor_numba() -> None:
    program = (
        "import sys; from rdcodec.codec.container import unpack;"
        f"unpack(bytes.fromhex('{FILE.hex()}'));"
        "print({'torch', 'numba'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
