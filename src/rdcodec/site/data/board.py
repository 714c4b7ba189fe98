"""The leaderboard's data: a codec in one version, where it stands on each set of pictures, and how fast it runs.

All comes from results (and curves that come with the package), in the same way for everybody's codec. Figures follow
one convention: negative relative rates are smaller files.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rdcodec.errors import UsageError
from rdcodec.measure.anchors import ANCHORS, shown_name
from rdcodec.measure.bdrate import Curve, bd_rate, bd_rate_by, relative_rate, relative_rate_at
from rdcodec.measure.codecs import model_of, search_of, tag_of
from rdcodec.measure.published import decoders, table_1
from rdcodec.measure.reading import builtin_curves, load_curve, read_curve
from rdcodec.measure.uncertainty import Interval, bd_interval
from rdcodec.metrics import CURVES
from rdcodec.report.standings import POINT_BPP
from rdcodec.report.study import (
    KODAK,
    KODAK_REFERENCE,
    OURS,
    PAPER,
    PUBLISHED,
    REFERENCES,
    SPEED_QUALITY,
    Measured,
    measured_groups,
    pictures_of,
)
from rdcodec.site.data.machines import Machine, Speed, bench_speed, eval_speed, machine_key, machine_of, slug
from rdcodec.store.files import read_record
from rdcodec.store.records import Provenance, Result

EXACT, INEXACT, UNKNOWN = "yes", "no", ""
FILE, ESTIMATE, STATED = "file", "estimate", "published"
OVERHEAD = re.compile(r"; \d+ bytes for plain grey$")
"""What some files of `rdc anchors` add to a version."""
EYE_METRIC = "ssimulacra2"
EYE_REFERENCES = (*REFERENCES, "webp", "jpeg")
"""What rates by `EYE_METRIC` are against: the first of them that was measured by it."""
KEYS = {anchor.label: anchor.name for anchor in ANCHORS.values()}
PAPER_SOURCE = "Minnen and Johnston 2023, Table 1"


@dataclass(frozen=True)
class Standing:
    """A codec on one set of pictures. Rates in percent against the set's reference; None where there is no overlap.

    points: by setting, the values of `METRICS` and bpp, in the order of rates; speed: of whole files, by `rdc eval`.
    conflicts: measurements of the same that differ, in words. bd_interval: of the mean over pictures, where both were
    measured on the same ones. bd_rate_eye: by `EYE_METRIC`, against the set's `eye_reference`.
    """

    pictures: str
    bd_rate: float | None
    bd_rate_ms_ssim: float | None
    rate_at_point: float | None
    evidence: str
    points: tuple[Mapping[str, Any], ...] = ()
    provenance: Provenance | None = None
    conflicts: tuple[str, ...] = ()
    bd_interval: Interval | None = None
    bd_rate_eye: float | None = None


@dataclass
class Codec:
    """A codec in one version: what it costs, where it stands, how fast it is.

    by: whose figures they are (`report.study`); training_eflop: with that of its start.
    """

    slug: str
    name: str
    codec: str
    tag: str
    by: str
    licence: str = ""
    source: str = ""
    cost_source: str = ""
    kflops_per_px: float | None = None
    encoder_kflops_per_px: float | None = None
    parameters: float | None = None
    training_eflop: float | None = None
    exact: str = UNKNOWN
    standings: list[Standing] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)


@dataclass(frozen=True)
class Pictures:
    """A set of pictures. reference: name of the curve that rates are against, "" if there is none.

    eye_reference: the same by `EYE_METRIC`, which published curves lack.
    """

    slug: str
    name: str
    reference: str
    sha256: str
    count: int | None
    eye_reference: str = ""


@dataclass(frozen=True)
class Board:
    """All that the site shows. Kodak and the machine with most speeds of files come first: pages open with them."""

    codecs: tuple[Codec, ...]
    pictures: tuple[Pictures, ...]
    machines: tuple[Machine, ...]
    result_count: int


def read_board(results: Sequence[Result], published: bool = True) -> Board:
    """The board of results; published: with the curves that come with the package and Table 1 of the paper.

    Raises BadInput for figures that make no curve.
    """
    results = [_by_key(result) for result in results]
    quality = [r for r in results if r.kind == "quality"]
    others = builtin_results() if published else {}
    licences = {(r.codec, r.tag): licence for licence, found in others.values() for r in found}
    everything = [*quality, *(r for _, found in others.values() for r in found)]
    conflicts = conflicts_of(quality)
    codecs: dict[tuple[str, str], Codec] = {}
    sets: list[Pictures] = []
    for identity, group in measured_groups(everything).items():
        reference, eye = _reference(identity, group), _eye_reference(group)
        pictures = _pictures(identity, group, reference, {one.slug for one in sets})
        pictures = replace(pictures, eye_reference=eye.name if eye else "")
        sets.append(pictures)
        for m in group:
            codec = _codec(codecs, m, licences)
            codec.standings.append(_standing(m, pictures, reference, eye, conflicts))
            if speed := eval_speed(m.points[len(m.points) // 2]):
                codec.speeds.append(speed)
    machines = _machines([*everything, *results])
    if published:
        _add_paper(codecs, machines, next((s.slug for s in sets if s.name == KODAK), None))
        _add_decoders(codecs.values())
    _add_costs(codecs.values(), results)
    _number_slugs(codecs.values())
    standings = Counter(standing.pictures for codec in codecs.values() for standing in codec.standings)
    sets.sort(key=lambda one: (one.name != KODAK, -standings[one.slug]))
    place = {one.slug: index for index, one in enumerate(sets)}
    for codec in codecs.values():
        codec.standings.sort(key=lambda standing: place[standing.pictures])
    timed = Counter(speed.machine for codec in codecs.values() for speed in codec.speeds if speed.decode)
    ordered = sorted(machines.values(), key=lambda machine: -timed[machine.slug])
    return Board(tuple(codecs.values()), tuple(sets), tuple(ordered), len(results))


def builtin_results() -> dict[str, tuple[str, list[Result]]]:
    """Licence and quality results of every curve that comes with the package, by its name."""
    own = "Apache-2.0"  # of what was measured here, which names none
    return {
        name: (read_record(path).get("licence", own), [_by_key(point) for point in read_curve(name)])
        for name, path in builtin_curves().items()
    }


def _by_key(result: Result) -> Result:
    """A result of a classical codec that stands under its label, as built-in curves and tables of speeds have it, under
    its key, and every version without what `rdc anchors` adds: the same codec is one row."""
    return replace(result, codec=KEYS.get(result.codec, result.codec), tag=OVERHEAD.sub("", result.tag))


def conflicts_of(results: Iterable[Result]) -> dict[tuple[object, ...], list[str]]:
    """Measurements of one version at one setting that do not agree to 0.5 % of rate or 0.05 dB, in words."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        if r.setting is not None:
            groups.setdefault((r.codec, r.tag, pictures_of(r), r.setting), []).append(r)
    found: dict[tuple[object, ...], list[str]] = {}
    for (*key, setting), group in groups.items():
        rates = [float(r.values["bpp"] or 0) for r in group]
        decibels = [float(r.values.get("psnr_db") or 0) for r in group]
        if max(rates) > 1.005 * min(rates) or max(decibels) > min(decibels) + 0.05:
            text = (
                f"at setting {setting:g}, {len(group)} measurements: {min(rates):.4f} to {max(rates):.4f} bpp,"
                f" {min(decibels):.2f} to {max(decibels):.2f} dB; the newest is shown"
            )
            found.setdefault(tuple(key), []).append(text)
    return found


def _codec(codecs: dict[tuple[str, str], Codec], m: Measured, licences: Mapping[tuple[str, str], str]) -> Codec:
    """The codec of a curve, made where it is not there yet."""
    first = m.points[0]
    tag = first.tag
    key = (_name(m), tag)
    if key not in codecs:
        stated = first.values.get("licence")
        licence = (
            str(stated) if stated else licences.get((first.codec, first.tag), "Apache-2.0" if m.by == OURS else "")
        )
        source = "" if first.provenance.source == "rdcodec" else first.provenance.source
        codecs[key] = Codec(slug(key[0]), key[0], first.codec, tag, m.by, licence, source, exact=_exact(m))
    return codecs[key]


def _name(m: Measured) -> str:
    """What people call it: ours by the tag, classical codecs by their label."""
    first = m.points[0]
    return first.tag if m.ours else shown_name(first.codec)


def _exact(m: Measured) -> str:
    first = m.points[0]
    if isinstance(stated := first.values.get("exact"), bool):
        return EXACT if stated else INEXACT
    if first.values.get("estimated"):
        return UNKNOWN
    standard = first.codec in ANCHORS or first.tag.startswith(tuple(a.summary for a in ANCHORS.values()))
    return EXACT if m.by == OURS or standard else UNKNOWN


def _standing(
    m: Measured,
    pictures: Pictures,
    reference: Curve | None,
    eye: Curve | None,
    conflicts: Mapping[tuple[object, ...], list[str]],
) -> Standing:
    first = m.points[0]
    estimated = bool(first.values.get("estimated"))
    evidence = ESTIMATE if estimated else STATED if m.by == PUBLISHED else FILE
    points = tuple(_point(point) for point in m.points)
    key = (first.codec, first.tag, pictures_of(first))
    return Standing(
        pictures.slug,
        _bd_rate(m.curve, reference),
        _bd_rate(m.curve.others.get("ms_ssim"), reference and reference.others.get("ms_ssim")),
        _rate_at_point(m.curve, reference),
        evidence,
        points,
        m.newest.provenance,
        tuple(conflicts.get(key, ())),
        bd_interval(m.curve, reference) if reference else None,
        _rounded_rate(bd_rate_by(m.curve, eye, EYE_METRIC)) if eye else None,
    )


def _point(point: Result) -> dict[str, Any]:
    """What a table shows of a point."""
    known = {name: metric.read(point.values) for name, metric in CURVES.items()}
    values = {"setting": point.setting, "bpp": point.values["bpp"], **known}
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in values.items()}


def _rounded_rate(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _bd_rate(curve: Curve | None, reference: Curve | None) -> float | None:
    if curve is None or reference is None:
        return None
    try:
        return round(bd_rate(curve, reference).value, 2)
    except UsageError:
        return None


def _rate_at_point(curve: Curve, reference: Curve | None) -> float | None:
    """Relative rate at `POINT_BPP`, or at the only rate of a codec that has one."""
    if reference is None:
        return None
    try:
        if len(curve.bpp) == 1:
            return round(relative_rate(curve.bpp[0], curve.psnr_db[0], reference), 2)
        return round(relative_rate_at(curve, reference, POINT_BPP), 2)
    except UsageError:
        return None


def _reference(identity: str, group: Sequence[Measured]) -> Curve | None:
    """What rates on a set of pictures are against: BPG 4:4:4, or what comes nearest to it."""
    if identity == KODAK:
        return load_curve(KODAK_REFERENCE)
    named = {m.codec: m for m in reversed(group)}
    bpg = [name for name in named if name.upper().startswith("BPG 4:4:4")]
    found = next((named[name] for name in (*bpg, *REFERENCES, "webp", "jpeg") if name in named), None)
    return replace(found.curve, name=_name(found)) if found else None


def _eye_reference(group: Sequence[Measured]) -> Curve | None:
    """What rates by `EYE_METRIC` on a set of pictures are against."""
    known = {m.codec: m for m in group if EYE_METRIC in m.curve.others}
    found = next((known[name] for name in EYE_REFERENCES if name in known), None)
    return replace(found.curve, name=_name(found)) if found else None


def _pictures(identity: str, group: Sequence[Measured], reference: Curve | None, taken: set[str]) -> Pictures:
    first = group[0].points[0]
    name = KODAK if identity == KODAK else first.dataset.partition(" (")[0] or "pictures"
    short = slug(name) if slug(name) not in taken else f"{slug(name)}-{identity[:8]}"
    hashes = [p.provenance.dataset_sha256 for m in group for p in m.points if p.provenance.dataset_sha256]
    count = max(len(point.rows) for m in group for point in m.points) or None
    return Pictures(short, name, reference.name if reference else "", hashes[0] if hashes else "", count)


def _machines(results: Iterable[Result]) -> dict[str, Machine]:
    records = {
        machine_key(r.provenance.machine): r.provenance.machine for r in results if r.kind in ("quality", "speed")
    }
    found = [machine for record in records.values() if (machine := machine_of(record))]
    return {machine.slug: machine for machine in found}  # the newest record of each, with its newest programs


def _add_paper(codecs: dict[tuple[str, str], Codec], machines: dict[str, Machine], kodak: str | None) -> None:
    """The rows of Table 1, with the speeds of the paper's GPUs."""
    if kodak is None:
        return
    for row in {one.row: one for one in table_1().values()}.values():
        codec = Codec(slug(f"paper {row.row}"), f"{row.row} (paper)", row.row, "Table 1", PAPER, "", PAPER_SOURCE)
        codec.kflops_per_px, codec.parameters = row.kflops_per_px, round(row.parameters_m * 1e6)
        codec.standings.append(Standing(kodak, None, None, row.relative_rate_percent, STATED))
        for pictures, speeds in row.decode_mpx_per_s.items():
            for gpu, speed in speeds.items():
                machine = Machine(slug(f"nvidia {gpu} paper"), f"NVIDIA {gpu} (paper)", {"gpu": gpu}, PAPER_SOURCE)
                machines[machine.slug] = machine
                clic = pictures == "clic"
                way = f"without entropy coding, {'CLIC' if clic else KODAK}"
                codec.speeds.append(Speed(machine.slug, way, "the paper's", networks_decode=speed, clic=clic))
        codecs[row.row, "Table 1"] = codec


def _add_decoders(codecs: Iterable[Codec]) -> None:
    """What the networks of published codecs cost, by the curves that they go with."""
    counted = {read_curve(decoder.curve)[0].codec: decoder for decoder in decoders() if decoder.curve}
    for codec in codecs:
        decoder = counted.get(codec.codec)
        if codec.by == PUBLISHED and decoder:
            codec.kflops_per_px, codec.encoder_kflops_per_px = decoder.kflops_per_px, decoder.encoder_kflops_per_px
            codec.parameters = round(decoder.parameters_m * 1e6) if decoder.parameters_m else None
            codec.cost_source = f"{decoder.basis}: {decoder.source}"


def _add_costs(codecs: Iterable[Codec], results: Sequence[Result]) -> None:
    """Counts, training and speeds of the models that codecs are."""
    counts = {r.codec: r for r in results if r.kind == "count"}
    trainings: dict[str, dict[str, Result]] = {}
    for r in results:
        if r.kind == "training" and r.values.get("eflop"):
            trainings.setdefault(r.codec, {})[r.tag] = r
    speeds: dict[str, list[Result]] = {}
    for r in results:
        if r.kind == "speed" and r.setting in (None, SPEED_QUALITY):
            speeds.setdefault(r.codec, []).append(r)
    for codec in codecs:
        if codec.by == PUBLISHED:
            continue
        model, tag = model_of(codec.codec), tag_of(codec.tag)
        if count := counts.get(model):
            codec.kflops_per_px = codec.kflops_per_px or _rounded(count, "kflops_per_px")
            codec.encoder_kflops_per_px = _rounded(count, "encoder_kflops_per_px")
            codec.parameters = codec.parameters or _rounded(count, "parameters")
        runs = trainings.get(model, {})
        if codec.by != PAPER and runs:
            codec.training_eflop = _rounded(runs.get(tag, list(runs.values())[-1]), "eflop")
        found = _speeds(speeds.get(model, ()), tag)
        if search_of(codec.codec):  # another encoder than the one that was timed
            found = [replace(speed, encode=None, networks_encode=None) for speed in found]
        codec.speeds[:0] = found
        if codec.kflops_per_px is None and speeds.get(model):
            codec.kflops_per_px = _rounded(speeds[model][0], "kflops_per_px")


def _speeds(found: Sequence[Result], tag: str) -> list[Speed]:
    """One for each machine and way: of these weights if they were timed, else of others of the same network.

    Of several that with whole files, which has the time of networks too; then the newest.
    """

    def order(result: Result) -> tuple[bool, bool, str]:
        return result.tag == tag, bool(result.values.get("decode_mpx_per_s")), result.provenance.created_utc or ""

    best: dict[tuple[str, str], Speed] = {}
    for result in sorted(found, key=order):
        if speed := bench_speed(result):
            best[speed.machine, speed.way] = speed
    return list(best.values())


def _rounded(result: Result, name: str) -> float | None:
    value = result.values.get(name)
    return round(float(value), 3) if isinstance(value, int | float) else None


def _number_slugs(codecs: Iterable[Codec]) -> None:
    """Addresses made distinct, in the order of the codecs."""
    taken: dict[str, int] = {}
    for codec in codecs:
        taken[codec.slug] = taken.get(codec.slug, 0) + 1
        if taken[codec.slug] > 1:
            codec.slug += f"-{taken[codec.slug]}"
