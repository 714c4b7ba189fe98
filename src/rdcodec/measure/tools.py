"""Codecs that are programs: commands with placeholders, run on files in a temporary folder."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rdcodec.codec.image import Pixels, encode_image, read_image
from rdcodec.errors import NeedsModel, RdcError, UsageError

PLACEHOLDER = re.compile(r"\{(input|output)\}((?:\.\w+)?)")
TIMEOUT_S = 3600
SOURCES = {
    "cjpeg": "mozjpeg (github.com/mozilla/mozjpeg)",
    **dict.fromkeys(("cjxl", "djxl"), "libjxl (github.com/libjxl/libjxl)"),
    **dict.fromkeys(("bpgenc", "bpgdec"), "libbpg (bellard.org/bpg)"),
    "vvencapp": "VVenC (github.com/fraunhoferhhi/vvenc)",
    "vvdecapp": "VVdeC (github.com/fraunhoferhhi/vvdec)",
    **dict.fromkeys(("EncoderApp", "DecoderApp"), "VTM (vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM)"),
}
"""Where the programs of the anchors come from."""


@dataclass(frozen=True)
class CommandCodec:
    """A codec of two commands, each with {input} and {output}; that of the encoder may hold {setting}.

    A suffix after a placeholder is kept ("{output}.jxl"): many tools choose the format by it. Pictures go in as PNG,
    or as the suffix says (.ppm), and come back in any format that `read_image` reads, told by content.
    Raises UsageError for a command without its placeholders.
    """

    encoder: str
    decoder: str

    def __post_init__(self) -> None:
        for option, command in (("--command", self.encoder), ("--decode-command", self.decoder)):
            if not {"{input}", "{output}"} <= set(re.findall(r"\{\w+\}", command)):
                raise UsageError(f"{option} {command}: needs {{input}} and {{output}}, where the files' names go")
            _split(command)
        if _suffix(self.encoder, "input") not in ("", ".png", ".ppm"):
            raise UsageError(f"--command {self.encoder}: pictures go in as {{input}}.png or {{input}}.ppm")

    @property
    def name(self) -> str:
        """Name of the encoder's program."""
        return Path(_split(self.encoder)[0]).stem

    @property
    def has_setting(self) -> bool:
        """Whether the encoder takes a setting."""
        return "{setting}" in self.encoder

    def tag(self) -> str:
        """Both commands, and the start of SHA-256 over the program files they name. Raises NeedsModel."""
        digest = hashlib.sha256()
        for command in (self.encoder, self.decoder):
            for word in (find_tool(_split(command)[0]), *_split(command)[1:]):
                if Path(word).is_file():
                    digest.update(Path(word).read_bytes())
        return f"{self.encoder} | {self.decoder} | programs {digest.hexdigest()[:12]}"

    def encode(self, image: Pixels, setting: float | None, /) -> bytes:
        """Bytes of the file that the encoder writes."""
        suffix = _suffix(self.encoder, "input") or ".png"
        picture = encode_image(image, suffix[1:])
        number = "" if setting is None else f"{setting:g}"
        words = [word.replace("{setting}", number) for word in _split(self.encoder)]
        return run_on_files(words, picture, ".png")

    def decode(self, data: bytes, /) -> Pixels:
        """The picture that the decoder writes."""
        decoded = run_on_files(_split(self.decoder), data, output_suffix=".png")
        return read_image(decoded, name=f"output of {_split(self.decoder)[0]}")


def run_on_files(command: Sequence[str], data: bytes, input_suffix: str = "", output_suffix: str = "") -> bytes:
    """Run a command on a file that holds `data`; the bytes of the file that it writes.

    {input} and {output} become paths in a temporary folder, with the suffix that follows them or the one given here.
    Errors as `run_tool`, and RdcError where no file was written.
    """
    with tempfile.TemporaryDirectory(prefix="rdc-") as folder:
        files = {"input": Path(folder, "in"), "output": Path(folder, "out")}
        suffixes = {"input": input_suffix, "output": output_suffix}

        def fill(match: re.Match[str]) -> str:
            key = match[1]
            files[key] = Path(folder, key + (match[2] or suffixes[key]))
            return str(files[key])

        filled = [PLACEHOLDER.sub(fill, word) for word in command]
        files["input"].write_bytes(data)
        run_tool(filled)
        try:
            return files["output"].read_bytes()
        except OSError as error:
            raise RdcError(f"{command[0]}: wrote no file {{output}}; check its command") from error


def run_tool(command: Sequence[str], may_fail: bool = False) -> str:
    """What a program prints on stdout and stderr. NeedsModel if it is missing, RdcError if it fails.

    may_fail: take what it prints whatever its exit code: some tell their version with their help.
    """
    program = find_tool(command[0])
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RdcError(f"{command[0]}: no end after {TIMEOUT_S} s; check its command") from error
    except OSError as error:
        raise RdcError(f"{command[0]}: cannot be run: {error.strerror}; check its command") from error
    printed = f"{done.stdout}\n{done.stderr}".strip()
    if done.returncode and not may_fail:
        last = printed.splitlines()[-1] if printed else "nothing printed"
        raise RdcError(f"{command[0]}: exit code {done.returncode} ({last.strip()}); check its command")
    return printed


def find_tool(program: str) -> str:
    """Path of a program. Raises NeedsModel where it is not on the PATH."""
    found = shutil.which(program)
    if found is None:
        where = SOURCES.get(program)
        hint = f"it comes with {where}" if where else "install it, or correct its name"
        raise NeedsModel(f"{program}: no such program on the PATH; {hint}")
    return found


def words_of(command: str, windows: bool = os.name == "nt") -> list[str]:
    """The words of a command as a shell reads them; on Windows a backslash parts folders and quotes nothing.

    ValueError for a quote that is not closed.
    """
    reader = shlex.shlex(command, posix=True, punctuation_chars=False)
    reader.whitespace_split, reader.commenters = True, ""
    if windows:
        reader.escape = ""
    return list(reader)


def _split(command: str) -> list[str]:
    try:
        words = words_of(command)
    except ValueError as error:
        raise UsageError(f"{command}: cannot be read as a command ({error}); check its quotes") from error
    if not words:
        raise UsageError("an empty command: name a program")
    return words


def _suffix(command: str, key: str) -> str:
    return next((match[2] for match in PLACEHOLDER.finditer(command) if match[1] == key), "")
