"""Machines and the ways in which a codec ran on them, told apart and named from the records of results."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from rdcodec.measure.machine import processor_name
from rdcodec.store.records import Result


@dataclass(frozen=True)
class Machine:
    """A kind of machine, told apart by its name: processor, widest vectors and cores, or the GPU.

    slug: in addresses; record: what `measure.machine` said of one of them; source: "" if it was measured here.
    """

    slug: str
    name: str
    record: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Speed:
    """How fast a codec ran on a machine in one way. Megapixels per second, MiB; None where it was not measured.

    way: threads, engine and number format, and CLIC where its pictures were coded, which are larger than the others;
    decode, encode: whole files; networks_*: without entropy coding; timed: the tag that ran.
    """

    machine: str
    way: str
    timed: str
    decode: float | None = None
    encode: float | None = None
    networks_decode: float | None = None
    networks_encode: float | None = None
    memory_mib: float | None = None
    created_utc: str | None = None
    command: str | None = None
    commit: str | None = None
    clic: bool = False


def machine_of(record: Mapping[str, Any]) -> Machine | None:
    """The machine of a record; None where it names neither processor nor GPU."""
    if not (record.get("cpu") or record.get("gpu")):
        return None
    name = _name(*machine_key(record))
    return Machine(slug(name), name, record)


def machine_key(record: Mapping[str, Any]) -> tuple[str, int | None, tuple[str, ...], str]:
    """What tells machines apart: processor, cores, instruction sets, GPU."""
    isa, cores = record.get("isa"), record.get("cores")
    flags = tuple(map(str, isa)) if isinstance(isa, list) else ()
    return str(record.get("cpu") or ""), cores if isinstance(cores, int) else None, flags, str(record.get("gpu") or "")


@lru_cache(maxsize=1024)
def _name(cpu: str, cores: int | None, isa: tuple[str, ...], gpu: str) -> str:
    """Short name: the GPU where one is there, else processor, widest vector instructions and cores."""
    if gpu:
        return gpu
    shown = f"{cores} core{'s' * (cores != 1)}" if cores else ""
    return ", ".join(part for part in (processor_name(cpu, isa), shown) if part)


def bench_speed(result: Result) -> Speed | None:
    """The speed of a result of `rdc bench`; None where its machine is not known."""
    machine, values = machine_of(result.provenance.machine), result.values
    if machine is None:
        return None

    def number(name: str) -> float | None:
        value = values.get(name)
        return float(value) if isinstance(value, int | float) else None

    clic = result.dataset.lower().startswith("clic")
    return Speed(
        machine.slug,
        _way(values) + ", CLIC" * clic,
        result.tag,
        number("decode_mpx_per_s"),
        number("encode_mpx_per_s"),
        number("decode_networks_mpx_per_s"),
        number("encode_networks_mpx_per_s"),
        number("peak_memory_mib"),
        result.provenance.created_utc,
        result.provenance.command,
        result.provenance.commit,
        clic,
    )


def _way(values: Mapping[str, Any]) -> str:
    """As people say it: "2 threads, core (amx)", "CUDA, torch bf16"."""
    count = values.get("threads")
    threads = f"{count:g} thread{'s' * (count != 1)}" if isinstance(count, int | float) else ""
    engine = f"core ({values['kernels']})" if values.get("kernels") else ""
    if not engine and (values.get("dtype") or values.get("engine")):  # other codecs have neither
        engine = f"torch {values.get('dtype') or ''}".strip()
    if values.get("isa"):
        engine += f", at most {values['isa']}"
    cuda, level = values.get("device") == "cuda", values.get("at_psnr_db")
    at = f"at {level:g} dB" if isinstance(level, int | float) else ""
    return ", ".join(part for part in ("GPU" if cuda else threads, engine, at) if part)


def eval_speed(point: Result) -> Speed | None:
    """The speed of whole files that `rdc eval` timed. None where it timed none, or the machine had other work."""
    record, values = point.provenance.machine, point.values
    machine, sizes = machine_of(record), [(row.get("width"), row.get("height")) for row in point.rows]
    load, seconds = record.get("load_average"), values.get("dec_s")
    if machine is None or not seconds or not sizes or (load or 0) > (record.get("cores") or 1):
        return None
    pixels = sorted(float(w) * float(h) for w, h in sizes if w and h)
    if not pixels:
        return None
    megapixels = pixels[len(pixels) // 2] / 1e6
    encode = values.get("enc_s")
    return Speed(
        machine.slug,
        "files by rdc eval",
        point.tag,
        round(megapixels / float(seconds), 4),
        round(megapixels / float(encode), 4) if encode else None,
        created_utc=point.provenance.created_utc,
        command=point.provenance.command,
        commit=point.provenance.commit,
    )


def slug(text: str) -> str:
    """Lower-case letters, digits and hyphens, for addresses."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
