"""Help: quick to start, an example for every command, and every example runs."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli_bench import answer

from conftest import Rdc, command, photo, shell
from rdcodec.cli.main import app
from rdcodec.training.sweep import list_trials

SWEEPS = Path(__file__).parents[2] / "sweeps"
COMMANDS = {command.name or "": command.callback for command in app().registered_commands}


def example_of(name: str) -> list[str]:
    """The words of the example in a command's help."""
    lines = [line.strip() for line in (COMMANDS[name].__doc__ or "").splitlines()]
    (line,) = [line for line in lines if line.startswith("Example: ")]
    return shlex.split(line.removeprefix("Example: [bold]").removesuffix("[/bold]"))


def test_all_commands_are_there() -> None:
    wanted = {"compress", "decompress", "info", "compare", "models", "flops", "train", "eval", "bdrate", "demo"}
    assert wanted <= set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_of_a_command(rdc: Rdc, name: str) -> None:
    for option in ("-h", "--help"):
        done = rdc(name, option)
        assert done.code == 0 and done.err == ""
        assert f"Usage: rdc {name} " in done.out
        assert " ".join(example_of(name)) in " ".join(done.out.split())


def test_help_and_version(rdc: Rdc) -> None:
    done = rdc("--help")
    assert done.code == 0 and all(name in done.out for name in COMMANDS)
    assert rdc().code == 2
    done = rdc("--version")
    assert done.code == 0 and done.out.startswith("rdc 0.") and "format 1" in done.out and "torch 2." in done.out


@pytest.mark.parametrize(
    ("words", "found"), [("rdc dec", {"decompress"}), ("rdc compress --target-b", {"--target-bpp"})]
)
def test_the_shell_completes(work: Path, words: str, found: set[str]) -> None:
    asked = {"_RDC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = shell(env={**command()["env"], **asked})
    assert done.returncode == 0 and set(done.stdout.decode().split()) == found
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell that runs the tests may be another
    done = shell("--show-completion", "bash", env={**command()["env"], **named})
    assert done.returncode == 0 and b"complete -o default -F _rdc_completion rdc" in done.stdout


RESULTS_NEEDED = {"report", "site", "submit", "release"}  # or a finished run


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - RESULTS_NEEDED))
def test_the_example_runs(rdc: Rdc, work: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(192, 176).save("photo.jpg")
    photo(192, 176).save("photo.png")
    assert rdc("compress", "photo.png").code == 0
    Path("kodak").mkdir()
    photo(192, 176).save("kodak/one.png")
    shutil.copytree(SWEEPS, "sweeps")
    monkeypatch.setattr("rdcodec.training.run.start", lambda *arguments: None)  # an hour of training
    monkeypatch.setattr("rdcodec.measure.speed._run", answer)  # a minute of timing
    monkeypatch.setattr("rdcodec.training.sweep.list_trials", lambda sweep, beside: list_trials(sweep, beside)[:2])
    (work / "photo.rdc").rename(work / ("photo.rdc" if name in ("decompress", "info", "compare") else "kept.rdc"))
    if name == "decompress":
        Path("photo.png").unlink()

    program, *arguments = example_of(name)
    assert program == "rdc" and arguments[0] == name
    done = rdc(*arguments)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"torch", "PIL"}),
        (["compress", "--help"], {"torch", "PIL"}),
        (["info", "photo.rdc"], {"torch", "PIL"}),
        (["--version"], {"torch", "PIL"}),
        (["compress", "photo.png", "-o", "other.rdc"], {"torch", "rdcodec.cli.bench", "PIL.PdfImagePlugin"}),
        (["decompress", "photo.rdc", "-o", "other.png"], {"torch", "rdcodec.cli.bench", "PIL.PdfImagePlugin"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(coded: Path, arguments: list[str], heavy: set[str]) -> None:
    script = (
        "import sys; from rdcodec.cli.main import main; code = main(sys.argv[1:]); "
        f"heavy = {heavy} & set(sys.modules); sys.exit(f'loads {{heavy}}' if heavy else code)"
    )
    options = command()
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=options["env"], capture_output=True)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command(work: Path) -> None:
    done = shell("info", "none.rdc")
    assert done.returncode == 1 and done.stderr.startswith(b"rdc: none.rdc: ")


def test_the_help_names_the_formats_that_are_read(rdc: Rdc) -> None:
    from rdcodec.codec.image import READ_SUFFIXES

    text = rdc("compress", "-h").out.upper()
    other_names = {".jpg", ".tif", ".pgm", ".pbm", ".pnm"}
    for suffix in READ_SUFFIXES - other_names:
        assert suffix.removeprefix(".").upper() in text
