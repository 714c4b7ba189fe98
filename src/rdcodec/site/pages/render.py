"""Every page of the site, filled from the board."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rdcodec.measure.anchors import shown_name
from rdcodec.metrics import CURVES
from rdcodec.report.study import OTHER, OURS, PAPER, PUBLISHED
from rdcodec.site.data.board import Board, Codec, Pictures, Standing
from rdcodec.site.data.machines import Machine, Speed
from rdcodec.site.pages.documents import Document
from rdcodec.site.pages.figures import millions, percent, plain, three

TEMPLATES = Path(__file__).parent / "templates"
KINDS = {
    OURS: "A model of this program",
    PAPER: "A model of the paper, as it states it",
    PUBLISHED: "Published figures",
    OTHER: "Measured here",
}
MOST_POINTS = 14
MOST_ROWS = 100
RULES = "docs/leaderboard.html"


class Pages:
    """The templates, with what every page shows.

    documents: beside the pages; shots: pictures at equal size, as `pictures.Shots` has them; stamp: for the foot; web:
    whether the codec's own page stands beside them.
    """

    def __init__(
        self,
        board: Board,
        documents: Sequence[Document],
        shots: Mapping[str, Any] | None,
        stamp: str,
        web: bool = False,
    ) -> None:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self.board, self.documents, self.shots = board, documents, shots
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        addresses = {document.address for document in documents}
        self._takes_part = RULES if RULES in addresses else ""
        pages = [
            ("index.html", "Leaderboard"),
            ("frontier.html", "Frontier"),
            ("ranks.html", "Ranks"),
            ("curves.html", "Curves"),
            *([("pictures.html", "Pictures")] if shots else []),
            ("machines.html", "Machines"),
            *([("docs/index.html", "Documents")] if documents else []),
            *([(RULES, "Take part")] if self._takes_part else []),
            *([("web/index.html", "Try it")] if web else []),
        ]
        self._environment.globals |= {"navigation": pages, "stamp": stamp, "takes_part": self._takes_part}

    @cached_property
    def _machines(self) -> dict[str, Machine]:
        return {machine.slug: machine for machine in self.board.machines}

    @cached_property
    def _pictures(self) -> dict[str, Pictures]:
        return {pictures.slug: pictures for pictures in self.board.pictures}

    def _page(self, template: str, address: str, title: str, current: str = "", **values: Any) -> bytes:
        base = "../" * address.count("/")
        filled = self._environment.get_template(f"{template}.html.j2")
        return filled.render(base=base, current=current or address, title=title, description="", **values).encode()

    def leaderboard(self) -> bytes:
        """The first page."""
        facts = [
            (f"{self.board.result_count:,}", "results"),
            (f"{len(self.board.codecs):,}", "codecs and versions"),
            (f"{len(self.board.machines)}", "machines"),
            (f"{len(self.board.pictures)}", "sets of pictures"),
        ]
        first = next(iter(self.board.pictures), None)
        return self._page("leaderboard", "index.html", "Leaderboard", facts=facts, first=first)

    def plain(self, name: str, title: str) -> bytes:
        """A page that its script fills."""
        return self._page(name, f"{name}.html", title)

    def codec(self, codec: Codec, references: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
        """A codec with its points, speeds and provenance."""
        first = next(iter(codec.standings), None)
        stats = [
            *(
                [
                    (percent(first.rate_at_point), f"rate at 0.46 bpp, {self._pictures[first.pictures].name}"),
                    (percent(first.bd_rate), f"BD-rate by PSNR, {self._pictures[first.pictures].name}"),
                ]
                if first
                else []
            ),
            (three(codec.kflops_per_px), "kFLOPs/px, decoder"),
            (millions(codec.parameters), "parameters"),
            (three(codec.training_eflop), "EFLOP of training"),
            (codec.exact or "·", "same symbols everywhere"),
            (codec.licence or "·", "licence"),
        ]
        curves = [self._curve(s, references) for s in codec.standings if len(s.points) > 0]
        shots = [shot for shot in (self.shots or {}).get("shots", ()) if _shown_beside(codec, shot["name"])]
        if not any(shot["name"].endswith(codec.name) for shot in shots):
            shots = []
        data = _json({"name": codec.name, "curves": curves})
        return self._page(
            "codec",
            f"codecs/{codec.slug}.html",
            codec.name,
            current="index.html",
            codec=codec,
            kind=KINDS[codec.by],
            stats=stats,
            standings=[self._standing(codec, s) for s in codec.standings],
            speeds=[self._speed(speed) for speed in sorted(codec.speeds, key=lambda one: (one.machine, one.way))],
            curves=curves,
            shots=shots,
            data=data,
        )

    def _curve(self, standing: Standing, references: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        pictures = self._pictures[standing.pictures]
        return {
            "set": pictures.slug,
            "name": pictures.name,
            "points": _thinned([{"bpp": p["bpp"], "psnr": p.get("psnr")} for p in standing.points], 60),
            "reference": references.get(pictures.slug, ()),
            "reference_name": pictures.reference,
        }

    def _standing(self, codec: Codec, standing: Standing) -> dict[str, Any]:
        known = [m for name, m in CURVES.items() if any(p.get(name) is not None for p in standing.points)]
        points = _thinned(standing.points, MOST_POINTS)
        p = standing.provenance
        origin = p.source if p and p.source != "rdcodec" else codec.source or "rdcodec"
        pictures = self._pictures[standing.pictures]
        record = {
            "Evidence": {"file": "bytes of real files", "estimate": "a model’s own estimate of its rate"}.get(
                standing.evidence, "published figures"
            ),
            "Source": origin,
            "Command": p and p.command,
            "Measured": p and p.created_utc,
            "Commit": p and p.commit and f"{p.commit}{' with changes' if p.dirty else ''}",
            "Program": p and p.package and f"rdcodec {p.package}",
            "Machine": p
            and p.machine
            and ", ".join(
                f"{k} {plain(p.machine[k])}"
                for k in ("cpu", "cores", "gpu", "os", "python", "torch", "numpy")
                if p.machine.get(k) is not None
            ),
            "Pictures’ hash": p and p.dataset_sha256,
            "Weights’ hash": p and p.weights_sha256,
            "Configuration’s hash": p and p.config_sha256,
        }
        return {
            "pictures": pictures.name,
            "conflicts": standing.conflicts,
            "headings": [metric.heading.partition(" ") for metric in known],
            "has_setting": any(point["setting"] is not None for point in points),
            "omitted": len(standing.points) - len(points),
            "points": [
                {
                    "setting": "·" if point["setting"] is None else f"{point['setting']:g}",
                    "bpp": f"{point['bpp']:.3f}",
                    "metrics": [_figure(point.get(m.short), m.digits) for m in known],
                }
                for point in points
            ],
            "record": [(key, value) for key, value in record.items() if value],
        }

    def _speed(self, speed: Speed) -> dict[str, Any]:
        return {
            "machine": speed.machine,
            "machine_name": self._machines[speed.machine].name,
            "way": speed.way,
            "figures": _speeds(speed),
            "timed": speed.timed.partition(";")[0],
        }

    def machines(self) -> bytes:
        """The list of machines."""
        counts: dict[str, int] = {}
        for codec in self.board.codecs:
            for slug in {speed.machine for speed in codec.speeds}:
                counts[slug] = counts.get(slug, 0) + 1
        entries = []
        for machine in self.board.machines:
            count = counts.get(machine.slug, 0)
            about = [f"{count} codecs timed" if count else "rate and distortion alone"]
            about += [f"{machine.record['memory_gib']:g} GiB"] if machine.record.get("memory_gib") else []
            entries.append({"slug": machine.slug, "name": machine.name, "note": ", ".join(about)})
        return self._page("machines", "machines.html", "Machines", machines=entries)

    def machine(self, machine: Machine) -> bytes:
        """A machine with what was timed on it."""
        ways: dict[str, list[dict[str, Any]]] = {}
        for codec in self.board.codecs:
            for speed in (one for one in codec.speeds if one.machine == machine.slug):
                ways.setdefault(speed.way, []).append(
                    {
                        "slug": codec.slug,
                        "name": codec.name,
                        "timed": "" if speed.timed == codec.tag else f"timed with {speed.timed.partition(';')[0]}",
                        "kflops": three(codec.kflops_per_px),
                        "figures": _speeds(speed),
                        "date": (speed.created_utc or "·")[:10],
                        "order": -(speed.decode or speed.networks_decode or 0),
                    }
                )
        tables = [
            (way, sorted(rows, key=lambda row: float(row["order"]))[:MOST_ROWS], max(0, len(rows) - MOST_ROWS))
            for way, rows in sorted(ways.items())
        ]
        names = {
            "cpu": "Processor",
            "cores": "Cores used",
            "memory_gib": "Memory, GiB",
            "caches": "Caches",
            "isa": "Instructions",
            "gpu": "GPU",
            "gpu_driver": "Driver",
            "arch": "Architecture",
            "os": "System",
            "python": "Python",
            "torch": "torch",
            "onednn": "oneDNN",
            "numpy": "NumPy",
            "kernels": "Kernels of the core",
        }
        record = [
            (text, plain(machine.record[key])) for key, text in names.items() if machine.record.get(key) is not None
        ]
        return self._page(
            "machine",
            f"machines/{machine.slug}.html",
            machine.name,
            current="machines.html",
            machine=machine,
            record=record if not machine.source else [],
            ways=tables,
        )

    def pictures(self) -> bytes:
        """Pictures at equal size under a wipe."""
        assert self.shots is not None
        return self._page("pictures", "pictures.html", "Pictures", data=_json(self.shots["shots"]), **self.shots)

    def document(self, document: Document) -> bytes:
        """A Markdown page."""
        from markupsafe import Markup

        return self._page(
            "document",
            document.address,
            document.title,
            current=document.address if document.address == RULES else "docs/index.html",
            own=document.address,
            body=Markup(document.body),
            contents=self._contents(),
        )

    def document_list(self) -> bytes:
        """All documents, with the search."""
        leads = {document.address: document.lead for document in self.documents}
        return self._page("documents", "docs/index.html", "Documents", contents=self._contents(), leads=leads)

    def _contents(self) -> list[tuple[str, list[tuple[str, str]]]]:
        groups: dict[str, list[tuple[str, str]]] = {}
        for document in self.documents:
            groups.setdefault(document.group, []).append((document.address, document.title))
        return list(groups.items())


def _shown_beside(codec: Codec, name: str) -> bool:
    """Beside a codec's picture stand the original, JPEG and WebP."""
    return name.endswith(codec.name) or name in ("Original", shown_name("jpeg"), shown_name("webp"))


def _speeds(speed: Speed) -> list[str]:
    figures = (speed.decode, speed.encode, speed.networks_decode, speed.networks_encode, speed.memory_mib)
    return [three(value) for value in figures]


def _thinned(points: Sequence[Any], most: int) -> list[Any]:
    """No more than `most` of them, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def _json(data: Any) -> Any:
    """JSON that may stand in a script of a page."""
    from markupsafe import Markup

    return Markup(script_json(data))


def script_json(data: Any) -> str:
    """JSON as a script may hold it: no end of the script in it."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _figure(value: float | None, digits: int) -> str:
    return "·" if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
