"""The README and the pages of docs/ are true: their commands run, their Python runs, their options exist.

A command is a line `$ ...` of a ```console block, with its continuations after a backslash. In ```text blocks, and in
```console long for what takes long, commands and options are checked but not run. Every page runs in one folder,
from top to bottom; a ```python block is a program of its own. What a shell need not see runs in this process, which has
loaded torch.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image

import rdcodec
from rdcodec import _native
from rdcodec.cli.main import app, main
from rdcodec.errors import NeedsModel
from rdcodec.measure import bench, speed, speed_worker
from rdcodec.models.weights import find_weights

SOURCE = Path(rdcodec.__file__).parents[1]
ROOT = SOURCE.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.exists()]
SET_UP = ("make", "pip", "git", "cd", "python", "python3", ".")  # commands of installation, which are not run
CROPS = ((160, 60), (100, 350))  # left, top, in the bundled photograph
WIDTH, HEIGHT = 128, 96
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A command or a program of a page, and whether it is to be run."""

    kind: str
    text: str
    run: bool


def snippets(text: str) -> Iterator[Snippet]:
    """Commands and Python programs of a page, in order."""
    for info, body in FENCE.findall(text):
        kind, _, mark = info.strip().partition(" ")
        assert mark in ("", "long"), f"unknown mark in ```{info}"
        if kind == "python":
            yield Snippet(kind, body, not mark)
        elif kind in ("console", "text"):
            joined = re.sub(r"\\\n(?:> )?\s*", "", body)
            commands = re.findall(r"^\$ (.*)$", joined, re.MULTILINE)
            run = kind == "console" and not mark
            yield from (Snippet("console", c, run and c.split()[0] not in SET_UP) for c in commands)


def inline_commands(text: str) -> list[str]:
    """Commands between single backticks."""
    return re.findall(r"`(rdc [a-z][^`\n]*)`", FENCE.sub("", text))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with photo.png, photos/ with two such pictures, and examples/."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "photos").mkdir()
    with Image.open(SOURCE / "rdcodec" / "data" / "astronaut.png") as picture:
        crops = [picture.crop((x, y, x + WIDTH, y + HEIGHT)).convert("RGB") for x, y in CROPS]
    for name, crop in zip(("face", "patch"), crops, strict=True):
        crop.save(tmp_path / "photos" / f"{name}.png")
    crops[0].save(tmp_path / "photo.png")
    return tmp_path


@pytest.fixture
def bench_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`rdc bench` measures in this process, beside a small matrix product; `test_speed.py` is about the others."""

    def answer(what: str, job: Mapping[str, Any], setting: speed.Setting, tick: Callable[[], object]) -> dict[str, Any]:
        with torch.inference_mode():
            return speed_worker.ANSWERS[what](job, setting)

    monkeypatch.setattr(speed, "_run", answer)
    monkeypatch.setattr(bench, "ROOFLINE_SIDES", (1024,))
    kernels = _native.kernels()
    yield
    _native.use_kernels(kernels)


@pytest.mark.usefixtures("bench_here")
@pytest.mark.skipif(shutil.which("bash") is None, reason="commands of the pages need bash")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part for part in snippets(page.read_text(encoding="utf-8")) if part.run]
    if not parts:
        pytest.skip("nothing to run on this page")
    try:
        find_weights("I")
    except NeedsModel as error:
        pytest.skip(str(error))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # commands may call python
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PATH": path}
    monkeypatch.chdir(folder)
    monkeypatch.setattr("rdcodec.report.files.render", lambda figure, stem: {})  # tests/report draws
    for part in parts:
        if part.kind == "python":
            exec(compile(part.text, page.name, "exec"), {"__name__": "__main__"})
            continue
        if words := plain(part):
            assert main(words) == 0, part.text
            continue
        done = subprocess.run(
            arguments(part), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{part.text}\n{done.stdout}{done.stderr}"


def plain(part: Snippet) -> list[str]:
    """The words of a call of rdc in which a shell would find nothing to do; of anything else none."""
    if part.kind != "console" or set(part.text) & set("|;&<>()$*?~`{}"):
        return []
    program, *words = shlex.split(part.text)
    return words if program == "rdc" else []


def arguments(part: Snippet) -> list[str]:
    """What runs a command in a shell; `rdc` is `python -m rdcodec`, installed or not."""
    rdc = f'rdc() {{ {shlex.quote(sys.executable)} -m rdcodec "$@"; }}'
    return ["bash", "-c", f"set -e -o pipefail; {rdc}; {part.text}"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = [part.text for part in snippets(text) if part.kind == "console"] + inline_commands(text)
    for command in commands:
        for name, options in rdc_calls(command):
            assert name in OPTIONS, f"{command}: there is no command {name}"
            assert set(options) <= OPTIONS[name], f"{command}: {name} has no {set(options) - OPTIONS[name]}"


def rdc_calls(command: str) -> Iterator[tuple[str, list[str]]]:
    """Name and options of every call of rdc in a line of shell."""
    words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    for start in (index for index, word in enumerate(words[:-1]) if word == "rdc"):
        rest = words[start + 1 :]
        end = next((index for index, word in enumerate(rest) if re.fullmatch(r"[|;&<>()]+", word)), len(rest))
        yield rest[0], [word.split("=")[0] for word in rest[1:end] if re.match(r"--?[a-zA-Z]", word)]


def options_of_commands() -> dict[str, set[str]]:
    """What `rdc COMMAND --help` lists, per command."""
    group = typer.main.get_command(app())
    found: dict[str, set[str]] = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        several = getattr(command, "commands", {}).values() or (command,)  # rdc results list, and the like
        options = {option for one in several for parameter in one.params for option in parameter.opts}
        found[name] = options | {"--help", "-h"}
    return found


OPTIONS = options_of_commands()


def test_every_command_is_documented() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    used = {name for part in snippets(text) if part.kind == "console" for name, _ in rdc_calls(part.text)}
    assert set(OPTIONS) <= used


def test_a_page_is_read_as_it_is_meant() -> None:
    text = "\n".join(
        (
            "text `rdc info --check` and `rdcodec`",
            *("```console", "$ rdc compress a.png \\", ">   -q 5", "a line of output", "$ make demo", "```"),
            *("```console long", "$ rdc train I | rdc x --y=1 > z", "```"),
            *("```python", "print('$ rdc info')", "```"),
            *("```text", "$ rdc models", "no command", "```", ""),
        )
    )
    assert list(snippets(text)) == [
        Snippet("console", "rdc compress a.png -q 5", run=True),
        Snippet("console", "make demo", run=False),
        Snippet("console", "rdc train I | rdc x --y=1 > z", run=False),
        Snippet("python", "print('$ rdc info')\n", run=True),
        Snippet("console", "rdc models", run=False),
    ]
    assert inline_commands(text) == ["rdc info --check"]
    assert list(rdc_calls("rdc train I --steps 3 | rdc x --y=1 > z")) == [("train", ["--steps"]), ("x", ["--y"])]


def test_a_wrong_page_fails(folder: Path) -> None:
    """Each check can fail: a command that exits with 3, an option that is not there."""
    wrong = Snippet("console", "rdc info photo.png", run=True)
    done = subprocess.run(arguments(wrong), cwd=folder, env={**os.environ, "PYTHONPATH": str(SOURCE)}, check=False)
    assert done.returncode == 3
    ((name, options),) = rdc_calls("rdc compress photo.png --qualty 5")
    assert set(options) - OPTIONS[name] == {"--qualty"}
