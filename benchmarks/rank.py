"""A machine's place in Fig. 4: A to J on a Kodak and on a CLIC picture, networks alone and whole files.

    PYTHONPATH=src python benchmarks/rank.py --kodak KODAK --clic CLIC -o docs/results/bench-MACHINE.json

About 20 minutes on two cores that do nothing else. Networks of all ten models run in torch, with random numbers where
there are no weights. Models with weights also code whole files, in torch and, the light ones, by the core. Kodak is
measured on one thread and on two. The networks of the large models take minutes on a CLIC picture, so these run on two
threads alone. The file is written after each part.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rdcodec.measure import speed
from rdcodec.models.config import config_names
from rdcodec.store.records import Result

COMMAND = "python benchmarks/rank.py --kodak kodak --clic clic"
EVERY = tuple(name for name in config_names() if len(name) == 1)
CODED = ("G", "H", "I", "J")
LIGHT = ("H", "I", "J")


@dataclass(frozen=True)
class Part:
    """Models on one picture. files: whole files, not networks alone; engine: as `Setting` has it."""

    pictures: str
    models: tuple[str, ...]
    threads: tuple[int, ...]
    files: bool = False
    engine: str = "torch"


PARTS = (
    Part("kodak", EVERY, (1, 2)),
    Part("kodak", CODED, (1, 2), files=True),
    Part("kodak", LIGHT, (1, 2), files=True, engine="auto"),
    Part("clic", EVERY, (2,)),
    Part("clic", CODED, (1, 2), files=True),
    Part("clic", LIGHT, (1, 2), files=True, engine="auto"),
)


@contextmanager
def first_picture(folder: Path, name: str) -> Iterator[Path]:
    """A folder of the first picture of another one, under the name that the results give it."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".webp", ".jpg"))
    if not pictures:
        raise SystemExit(f"{folder}: no picture in it")
    with tempfile.TemporaryDirectory() as place:
        chosen = Path(place, f"{name}, 1 picture")
        chosen.mkdir()
        shutil.copy(pictures[0], chosen)
        yield chosen


def measure(part: Part, folder: Path, repeats: int) -> list[Result]:
    """A result for every model and number of threads of a part."""
    settings = [speed.Setting(threads, engine=part.engine) for threads in part.threads]
    task = speed.Task(data=str(folder), repeats=repeats, networks=not part.files)

    def say(result: Result) -> None:
        seconds = result.values["decode_networks_s"]
        print(f"{result.codec} {result.dataset} {part} {seconds} s", file=sys.stderr, flush=True)

    return speed.measure(part.models, settings, task, COMMAND, keep=say)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kodak", type=Path, required=True, help="folder of Kodak's pictures")
    parser.add_argument("--clic", type=Path, required=True, help="folder of CLIC's pictures")
    parser.add_argument("--repeats", type=int, default=3, help="passes after warm-up")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    results: list[Result] = []
    for part in PARTS:
        with first_picture(getattr(arguments, part.pictures), part.pictures) as folder:
            results += measure(part, folder, arguments.repeats)
        speed.save(results, arguments.output)


if __name__ == "__main__":
    main()
