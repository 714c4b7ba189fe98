"""What a report is about: the results on one set of pictures, and anchors measured on the same pictures."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.bdrate import Curve, builtin_curves, load_curve
from rdcodec.measure.rd import SCHEMA, Evaluation

KODAK = "Kodak"
KODAK_SIZES = {(768, 512), (512, 768)}
KODAK_ANCHORS = ("bpg_444", "vtm_18.0", "kodak_jpeg_pillow", "kodak_webp_pillow")
"""What results on the Kodak pictures are compared with unless other anchors are named."""


@dataclass(frozen=True)
class Result:
    """One result file under the name that tables and figures give it; ours: of this codec, not a classical one."""

    label: str
    ours: bool
    evaluation: Evaluation
    curve: Curve


@dataclass(frozen=True)
class Study:
    """Results on the same pictures with their anchors.

    identity: of the pictures, see `pictures_of`; name: of the pictures; slug: that name in file names.
    """

    identity: str
    name: str
    slug: str
    results: tuple[Result, ...]
    anchors: tuple[Curve, ...]

    @property
    def picture_count(self) -> int:
        """How many pictures there are."""
        return len({row.image for row in self.results[0].evaluation.rows})


def read_studies(files: Sequence[Path], anchors: Sequence[str] | None = None) -> list[Study]:
    """Group result files by their pictures, in the order given, and give each group its anchors.

    anchors: built-in curves or files (published curve or result); None: `KODAK_ANCHORS` where the pictures
    are Kodak's. An anchor goes with the results on its own pictures alone. Raises UsageError for an anchor
    that goes with none, RdcError and BadInput for files that cannot be read or hold no curve.
    """
    groups: dict[str, list[Result]] = {}
    for result in _distinct([_read_result(file) for file in files]):
        groups.setdefault(pictures_of(result.evaluation), []).append(result)
    if anchors is None:
        anchors = KODAK_ANCHORS if KODAK in groups else ()
    belonging: dict[str, list[Curve]] = {}
    for anchor in anchors:
        pictures, curve = read_anchor(anchor)
        if pictures not in groups:
            raise UsageError(f"{anchor}: measured on other pictures than any of the results: leave it out")
        belonging.setdefault(pictures, []).append(curve)
    studies: list[Study] = []
    for pictures, results in groups.items():
        name = KODAK if pictures == KODAK else str(results[0].evaluation.dataset["name"])
        slug = _slug(name, pictures, {study.slug for study in studies})
        studies.append(Study(pictures, name, slug, tuple(results), tuple(belonging.get(pictures, ()))))
    return studies


def read_anchor(source: str) -> tuple[str, Curve]:
    """A curve as `load_curve` finds it, and the pictures it belongs to, to compare with `pictures_of`.

    Raises as `load_curve` does, and BadInput for a curve that does not name its pictures.
    """
    curve = load_curve(source)
    file = Path(source) if Path(source).is_file() else Path(str(builtin_curves()[source]))
    record = json.loads(file.read_text(encoding="utf-8"))
    if record.get("schema") == SCHEMA:
        return pictures_of(Evaluation.load(file)), curve
    if not isinstance(record.get("dataset"), str):
        raise BadInput(f'{source}: does not say on which pictures it was measured; add "dataset"')
    return record["dataset"].partition(" (")[0], curve


def pictures_of(evaluation: Evaluation) -> str:
    """Identity of the pictures: `KODAK` for 24 of its size, whatever the files are called, or the hash."""
    sizes = {row.image: (row.width, row.height) for row in evaluation.rows}
    is_kodak = len(sizes) == 24 and set(sizes.values()) <= KODAK_SIZES
    return KODAK if is_kodak else str(evaluation.dataset["sha256"])


def _read_result(file: Path) -> tuple[str, Result]:
    evaluation = Evaluation.load(file)
    try:
        curve = evaluation.curve()
    except ValueError as error:
        raise BadInput(f"{file}: no curve in it ({error})") from error
    ours = evaluation.tag.startswith(f"{evaluation.codec}.")
    return file.stem, Result(f"rdcodec {evaluation.tag}" if ours else evaluation.codec, ours, evaluation, curve)


def _distinct(named: Sequence[tuple[str, Result]]) -> list[Result]:
    """Labels made distinct by the names of the files, and curves under their labels."""
    labels = [result.label for _, result in named]
    results = []
    for stem, result in named:
        label = f"{result.label} ({stem})" if labels.count(result.label) > 1 else result.label
        results.append(replace(result, label=label, curve=replace(result.curve, name=label)))
    return results


def _slug(name: str, pictures: str, taken: set[str]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "pictures"
    return f"{slug}-{pictures[:8]}" if slug in taken else slug
