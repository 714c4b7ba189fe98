"""What a report is about: the results on one set of pictures, and anchors measured on the same pictures.

All comes from a store. Of a codec that was measured more than once at a setting, the newest result counts.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rdcodec.errors import BadInput, UsageError
from rdcodec.measure.anchors import ANCHORS, shown_name
from rdcodec.measure.bdrate import Curve
from rdcodec.measure.codecs import search_of
from rdcodec.measure.reading import as_curve, curves_of_pictures, load_curve, other_curves, read_curve
from rdcodec.metrics import ASKED
from rdcodec.store.db import Store
from rdcodec.store.records import Result

KODAK = "Kodak"
KODAK_SIZES = {(768, 512), (512, 768)}
KODAK_ANCHORS = (
    *("bpg_444", "vtm_18.0", "kodak_jpeg_pillow", "kodak_webp_pillow"),
    *("kodak_avif444", "kodak_jpeg2000", "kodak_jxl"),
)
"""What results on the Kodak pictures are compared with unless other anchors are named."""
MOST_SHOWN = 12
"""Results in one figure; where there are more, it shows each codec's newest weights alone."""
KODAK_REFERENCE = "bpg_444"
"""What relative rates on the Kodak pictures are against, as in the paper."""
REFERENCES = ("bpg", "x265_444")
"""What relative rates on other pictures are against: the first of them that was run."""


PAPER, OURS, PUBLISHED, OTHER = "paper", "rdcodec", "published", "other"
"""Whose codecs there are: the paper's models, ours, others by published figures, others that were run here."""
SPEED_QUALITY = 50.0
"""Speeds are compared at this quality, the default, or at a model's only rate: files of more bits take longer."""


@dataclass(frozen=True)
class Measured:
    """One codec under the name that tables and figures give it; ours: of this program, not a classical one.

    points: its quality results in the order of their rates, at least one; curve: of these.
    """

    label: str
    ours: bool
    points: tuple[Result, ...]
    curve: Curve

    @property
    def codec(self) -> str:
        """Name of the codec, without its tag."""
        return self.points[0].codec

    @property
    def by(self) -> str:
        """Whose codec it is: `OURS`, `PUBLISHED` if others measured it, or else `OTHER`."""
        first = self.points[0]
        if self.ours or search_of(first.codec) or first.values.get("estimated"):
            return OURS
        return OTHER if first.provenance.source == "rdcodec" else PUBLISHED

    @property
    def newest(self) -> Result:
        """The point that was measured last."""
        return max(self.points, key=_when)


@dataclass(frozen=True)
class Study:
    """Results on the same pictures with their anchors.

    identity: of the pictures, see `pictures_of`; name: of the pictures; slug: that name in file names.
    reference: the curve that relative rates are against, None where there is none. by_eye: all codecs, classical ones
    too, that were measured by metrics that have to be asked for.
    """

    identity: str
    name: str
    slug: str
    picture_count: int | None
    results: tuple[Measured, ...]
    anchors: tuple[Curve, ...]
    reference: Curve | None
    by_eye: tuple[Measured, ...] = ()

    @property
    def estimated(self) -> bool:
        """Whether rates of results are a model's estimates, without files."""
        return any(point.values.get("estimated") for m in self.results for point in m.points)

    @property
    def shown(self) -> tuple[Measured, ...]:
        """The results that figures show; tables have them all."""
        if len(self.results) <= MOST_SHOWN:
            return self.results
        last: dict[str, Measured] = {}
        for m in self.results:
            if m.codec not in last or _age(m) >= _age(last[m.codec]):
                last[m.codec] = m
        return tuple(last.values())


@dataclass(frozen=True)
class Laboratory:
    """All that a report shows: studies, and what is known of the codecs apart from pictures (newest results)."""

    studies: tuple[Study, ...]
    speeds: tuple[Result, ...]
    counts: tuple[Result, ...]
    trainings: tuple[Result, ...]

    @property
    def comparable_speeds(self) -> tuple[Result, ...]:
        """The speeds that may stand beside each other: those at `SPEED_QUALITY`, or at a model's only rate.

        Speeds at one PSNR (`at_psnr_db`) compare with each other alone.
        """
        known = [speed for speed in self.speeds if speed.values.get("at_psnr_db") is None]
        return tuple(speed for speed in known if speed.setting in (None, SPEED_QUALITY))


def read_laboratory(store: Store, anchors: Sequence[str] | None = None) -> Laboratory:
    """The content of a store, made ready for a report. Arguments and errors as for `read_studies`."""
    others = {
        kind: tuple(
            newest(store.query(kind=kind), lambda r: (r.codec, r.tag, r.dataset, r.provenance.source, *_way(r)))
        )
        for kind in ("speed", "count", "training")
    }
    studies = tuple(read_studies(store.query(kind="quality"), anchors))
    return Laboratory(studies, others["speed"], others["count"], others["training"])


def read_studies(results: Sequence[Result], anchors: Sequence[str] | None = None) -> list[Study]:
    """Group quality results by their pictures, and give each group its anchors.

    anchors: built-in curves or files (published curve or result); None: `KODAK_ANCHORS` where the pictures
    are Kodak's. Results with metrics that have to be asked for stand in `by_eye`, and among the others where a codec
    has no other. An anchor goes with the results on its own pictures alone. Classical codecs and published curves
    among the results are anchors too, where something else is there to be compared with them. Raises UsageError
    for an anchor that goes with no results, RdcError and BadInput for files that cannot be read or hold no curve.
    """
    by_eye = measured_groups([result for result in results if _knows_the_eye(result)])
    plain = {_series(result) for result in results if not _knows_the_eye(result)}
    groups = measured_groups([r for r in results if not _knows_the_eye(r) or _series(r) not in plain])
    if anchors is None:
        anchors = KODAK_ANCHORS if KODAK in groups else ()
    belonging: dict[str, list[Curve]] = {}
    for anchor in anchors:
        pictures, curve = read_anchor(anchor)
        if pictures not in groups:
            raise UsageError(f"{anchor}: measured on other pictures than any of the results: leave it out")
        belonging.setdefault(pictures, []).append(curve)
    studies: list[Study] = []
    for pictures, group in groups.items():
        subjects = [measured for measured in group if not _is_anchor(measured)] or group
        named = belonging.get(pictures, [])
        own = [m.curve for m in group if m not in subjects]
        named += [curve for curve in own if curve.name not in {c.name for c in named}]
        name = KODAK if pictures == KODAK else group[0].points[0].dataset
        slug = _slug(name, pictures, {study.slug for study in studies})
        reference = load_curve(KODAK_REFERENCE) if pictures == KODAK else _reference(named)
        count = max(len(point.rows) for measured in group for point in measured.points) or None
        studies.append(
            Study(
                pictures, name, slug, count, tuple(subjects), tuple(named), reference, tuple(by_eye.get(pictures, ()))
            )
        )
    return studies


def measured_groups(results: Sequence[Result]) -> dict[str, list[Measured]]:
    """Quality results as curves under distinct names, by the identity of their pictures.

    Raises BadInput for figures that make no curve.
    """
    groups: dict[str, list[Measured]] = {}
    for group in _codecs(results):
        groups.setdefault(pictures_of(group[0]), []).append(_measured(group))
    return {pictures: _distinct(found) for pictures, found in groups.items()}


def _reference(anchors: Sequence[Curve]) -> Curve | None:
    """What relative rates are against where BPG was not run: what comes nearest to it, or else the first."""
    names = [shown_name(codec) for codec in REFERENCES]
    return next((a for name in names for a in anchors if a.name == name), next(iter(anchors), None))


def read_anchor(source: str) -> tuple[str, Curve]:
    """A curve as `load_curve` finds it, and the pictures it belongs to, to compare with `pictures_of`.

    Raises as `load_curve` does, and BadInput for a curve that does not name its pictures.
    """
    points = read_curve(source)
    if not points[0].dataset:
        raise BadInput(f'{source}: does not say on which pictures it was measured; add "dataset"')
    curve = as_curve(points, where=source)
    return pictures_of(points[0]), replace(curve, name=shown_name(curve.name))


def pictures_of(result: Result) -> str:
    """Identity of the pictures: `KODAK` for 24 of its size, whatever the files are called, the hash, or the name."""
    sizes = {row.get("image"): (row.get("width"), row.get("height")) for row in result.rows}
    if len(sizes) == 24 and set(sizes.values()) <= KODAK_SIZES:
        return KODAK
    name = _plain(result.dataset)
    return result.provenance.dataset_sha256 or (KODAK if name.lower() == KODAK.lower() else name)


def newest(results: Iterable[Result], key: Callable[[Result], object]) -> list[Result]:
    """Of the results with one key the one that was measured last, in the order in which keys came."""
    found: dict[object, Result] = {}
    for result in results:
        if key(result) not in found or _when(result) >= _when(found[key(result)]):
            found[key(result)] = result
    return list(found.values())


def _codecs(results: Sequence[Result]) -> list[list[Result]]:
    """The newest results of each codec on each set of pictures."""
    series: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        series.setdefault(_series(r), []).append(r)
    found = []
    for group in series.values():
        last = max(map(_when, group))
        # Without settings nothing tells the points of one curve from a second measurement but its time.
        found.append(newest((r for r in group if r.setting is not None or _when(r) == last), _point))
    return found


def _knows_the_eye(result: Result) -> bool:
    return any(result.values.get(metric.name) is not None for metric in ASKED.values())


def _series(result: Result) -> tuple[object, ...]:
    """What results of one curve have in common."""
    return result.codec, result.tag, pictures_of(result), result.provenance.source


def _point(result: Result) -> object:
    return result.id if result.setting is None else result.setting


def _measured(points: list[Result]) -> Measured:
    first = points[0]
    pairs = [(p.values["bpp"], p.values.get("psnr_db")) for p in points]
    try:
        curve = Curve.from_points(first.codec, ((rate, db) for rate, db in pairs if rate and db))  # type: ignore[misc]
        curve = replace(curve, by_picture=curves_of_pictures(points), others=other_curves(points))
    except ValueError as error:
        raise BadInput(f"{first.codec} ({first.tag}) on {first.dataset}: no curve in it ({error})") from error
    ours = first.tag.startswith(f"{first.codec}.")
    ordered = sorted(points, key=lambda p: float(p.values["bpp"] or 0))
    return Measured(f"rdcodec {first.tag}" if ours else shown_name(first.codec), ours, tuple(ordered), curve)


def _is_anchor(measured: Measured) -> bool:
    first = measured.points[0]
    summaries = tuple(anchor.summary for anchor in ANCHORS.values())
    return first.codec in ANCHORS or first.tag.startswith(summaries) or first.provenance.source != "rdcodec"


def _distinct(found: Sequence[Measured]) -> list[Measured]:
    """Labels of codecs on one set of pictures made distinct by tag, then by a number, and curves under their labels."""
    by_label: dict[str, list[Measured]] = {}
    for m in found:
        by_label.setdefault(m.label, []).append(m)
    results: list[Measured] = []
    for m in found:
        alike, label = by_label[m.label], m.label
        if len(alike) > 1:
            tags = {other.points[0].tag for other in alike}
            label += f" ({m.points[0].tag if len(tags) == len(alike) else alike.index(m) + 1})"
        results.append(replace(m, label=label, curve=replace(m.curve, name=label)))
    return results


def _way(result: Result) -> tuple[object, ...]:
    """How a speed was measured, which tells it from others of the same codec."""
    machine = result.provenance.machine
    how = (result.values.get(key) for key in ("device", "dtype", "threads", "isa", "kernels", "coded"))
    return (*how, machine.get("cpu"), str(machine.get("isa")), result.setting)


def _age(measured: Measured) -> tuple[str, int, str]:
    tag = measured.newest.tag
    return _when(measured.newest), len(tag), tag  # I.10 is newer than I.9


def _when(result: Result) -> str:
    return result.provenance.created_utc or ""


def _plain(dataset: str) -> str:
    """'Kodak (24 images, 768x512)' as 'Kodak'."""
    return dataset.partition(" (")[0]


def _slug(name: str, pictures: str, taken: set[str]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "pictures"
    return f"{slug}-{pictures[:8]}" if slug in taken else slug
