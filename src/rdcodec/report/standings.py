"""Where codecs stand on a set of pictures, and what they cost: what the figures and Table 1 are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from rdcodec.codec.pipeline import search_steps
from rdcodec.errors import UsageError
from rdcodec.measure.bdrate import MIN_POINTS, Curve, psnr_at, relative_rate, relative_rate_at
from rdcodec.measure.codecs import model_of, search_of, tag_of
from rdcodec.measure.published import Decoder, decoders, table_1
from rdcodec.measure.reading import load_curve
from rdcodec.measure.uncertainty import rank_text, ranks
from rdcodec.report.study import KODAK, PAPER, PUBLISHED, Laboratory, Measured, Study
from rdcodec.store.records import Result

KODAK_CURVES = ("bpg_444", "vtm_18.0", "elic")
"""Published curves that the paper compares with; the first is what relative rates are against."""
POINT_BPP = 0.46
"""Rate at which a model of all rates is set beside the paper's, whose models have about this rate alone."""

MOST_RANKED = 60
"""Results that are ranked; every pair is compared over all pictures."""


@dataclass(frozen=True)
class Standing:
    """Where a codec stands: its rate in bpp and PSNR in dB, and that rate against the reference's in percent."""

    label: str
    by: str
    codec: str
    tag: str
    bpp: float | None
    psnr_db: float | None
    relative_rate_percent: float


def standings(study: Study, among: Sequence[Measured] | None = None) -> list[Standing]:
    """Where codecs stand at their own point, those of many rates at `POINT_BPP`; outside of their rates, left out.

    among: the codecs; None: those that figures show.
    """
    found = []
    for m in study.shown if among is None else among:
        bpp = m.curve.bpp[0] if len(m.curve.bpp) == 1 else POINT_BPP
        try:
            psnr_db = psnr_at(m.curve, bpp) if len(m.curve.bpp) > 1 else m.curve.psnr_db[0]
            percent = relative_rate(bpp, psnr_db, reference(study))
        except UsageError:
            continue
        label = tag_of(m.points[0].tag) if m.ours or search_of(m.codec) else m.label
        found.append(Standing(label, m.by, m.codec, m.points[0].tag, bpp, psnr_db, percent))
    return found


def paper_standings(study: Study) -> dict[Standing, float]:
    """The rows of Table 1 with their kFLOPs/px; the paper gives neither their rate nor their PSNR."""
    rows = {published.row: published for published in table_1().values()} if study.identity == KODAK else {}
    return {
        Standing(row, PAPER, row, "Table 1", None, None, published.relative_rate_percent): published.kflops_per_px
        for row, published in rows.items()
    }


def published_standings(study: Study) -> list[Standing]:
    """The published curves that the paper compares with, at `POINT_BPP`."""
    curves = [load_curve(name) for name in KODAK_CURVES[1:]] if study.identity == KODAK else []
    return [
        Standing(
            curve.name,
            PUBLISHED,
            curve.name,
            "",
            POINT_BPP,
            psnr_at(curve, POINT_BPP),
            relative_rate(POINT_BPP, psnr_at(curve, POINT_BPP), reference(study)),
        )
        for curve in curves
    ]


def decoder_standings(study: Study) -> list[tuple[Standing, Decoder]]:
    """Where the codecs of others stand whose decoders have a count; nothing on other pictures than Kodak's.

    A codec without a curve stands where its BD-rate against another curve would put it: an estimate.
    """
    found = []
    for decoder in decoders() if study.identity == KODAK else ():
        if decoder.curve is None:
            anchor = load_curve(str(decoder.bd_rate["anchor"]))
            beside = relative_rate_at(anchor, reference(study), POINT_BPP)
            percent = 100 * ((1 + float(decoder.bd_rate["percent"]) / 100) * (1 + beside / 100) - 1)
            bpp = psnr_db = None
        else:
            curve = load_curve(decoder.curve)
            bpp, psnr_db = POINT_BPP, psnr_at(curve, POINT_BPP)
            percent = relative_rate(bpp, psnr_db, reference(study))
        standing = Standing(decoder.label, PUBLISHED, decoder.label, decoder.basis, bpp, psnr_db, percent)
        found.append((standing, decoder))
    return found


def ranks_of(study: Study) -> dict[str, str]:
    """Rank of each result by label, as `uncertainty.ranks` has it: "1", or "2=" for ties.

    Results without pictures of their own have none, neither has one that is alone, nor one of more than `MOST_RANKED`.
    """
    ranked = [m for m in study.results if len(m.curve.bpp) >= MIN_POINTS and m.curve.by_picture]
    if not 2 <= len(ranked) <= MOST_RANKED:
        return {}
    order = ranks([m.curve for m in ranked])
    return {m.label: rank_text(rank, order) for m, rank in zip(ranked, order, strict=True)}


def reference(study: Study) -> Curve:
    """What relative rates are against."""
    if study.reference is None:
        raise ValueError(f"{study.name}: no reference")
    return study.reference


def kflops_per_px(laboratory: Laboratory, codec: str) -> float | None:
    """Headline count of a codec's decoder, where a count or a bench in the store gives it."""
    for result in (*laboratory.counts, *laboratory.speeds):
        value = result.values.get("kflops_per_px")
        if result.codec == model_of(codec) and value is not None:
            return float(value)
    return None


def encoder_kflops_per_px(laboratory: Laboratory, codec: str) -> float | None:
    """Count of an encoder's networks in one pass: all but the synthesis. Of a search, its steps are added.

    A training step is three passes of all networks, and so is a step of a search of the decoder's.
    """
    for result in laboratory.counts:
        training, decoder = (result.values.get(key) for key in ("training_flops_per_px", "kflops_per_px"))
        synthesis = next((row["kflops_per_px"] for row in result.rows if row.get("part") == "synthesis"), None)
        if result.codec == model_of(codec) and training and decoder and synthesis:
            effort = search_of(codec).removeprefix("effort ")
            steps = search_steps(int(effort)) if effort else 0
            return float(training) / 3000 - float(synthesis) + 3 * steps * float(decoder)
    return None


def training_eflop(laboratory: Laboratory, codec: str, tag: str) -> float | None:
    """Training behind a codec, with that of what it started from: of that tag or else of any in the store."""
    run = training_of(laboratory, codec, tag)
    return float(run.values["eflop"] or 0) if run else None


def training_of(laboratory: Laboratory, codec: str, tag: str) -> Result | None:
    """The training run behind a codec, of that tag or else of any, where the store has it."""
    runs = [run for run in laboratory.trainings if run.codec == model_of(codec) and run.values.get("eflop")]
    own = [run for run in runs if run.tag == tag_of(tag)] or runs
    return own[-1] if own else None


def published_curves(study: Study) -> list[Curve]:
    if study.identity == KODAK:
        return [load_curve(name) for name in KODAK_CURVES]
    return list(study.anchors)
