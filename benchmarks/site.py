"""Two stores of made-up results merged, the site from them, and the site in Chromium: how long each takes. Writes JSON.

    python benchmarks/site.py --results 50000 --json docs/results/site.json

A codec has 24 qualities (8 settings on the 24 Kodak pictures, on 6 and on 10 others, a row per picture), 4 speeds on
two machines, and a count. A tenth of the second store's codecs are the first one's. Times in the page are of its own
clock, from the reader's act to the end of the frame that shows it.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser, browser
from rdcodec.measure.machine import machine
from rdcodec.store.db import Store
from rdcodec.store.records import Provenance, Result

SETTINGS = (10, 20, 30, 40, 50, 60, 70, 80)
SIZES = {"kodak": [(768, 512)] * 18 + [(512, 768)] * 6, "six": [(1920, 1280)] * 6, "ten": [(1200, 1200)] * 10}
RESULTS_EACH = len(SIZES) * len(SETTINGS) + 4 + 1
LICENCES = ("Apache-2.0", "BSD-3-Clause", "MIT", "GPL-3.0", "")
MACHINES = [
    {"cpu": f"Made-up CPU {index}", "cores": cores, "isa": ["avx2"], "memory_gib": 16.0, "python": "3.12.1"}
    for index, cores in enumerate((2, 8))
]
ACTS = {
    "sort by decoder": "document.querySelector('[data-sort=kflops]').click();",
    "sort by decode speed": "document.querySelector('[data-sort=decode]').click();",
    "sort by name": "document.querySelector('[data-sort=name]').click();",
    "find a word": "const box = document.getElementById('find'); box.value = 'codec 12';"
    "box.dispatchEvent(new Event('input', { bubbles: true }));",
    "other pictures": "const box = document.getElementById('set'); box.selectedIndex = 1;"
    "box.dispatchEvent(new Event('change', { bubbles: true }));",
}
FRAME = """const began = performance.now(); {act}
await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
return performance.now() - began;"""
LOADED = """const [page] = performance.getEntriesByType('navigation');
await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
return page.loadEventEnd || performance.now();"""
DRAWN = {
    "index.html": "#board tbody tr",
    "frontier.html": "#chart svg",
    "ranks.html": "#chart svg, #empty:not([hidden])",
    "curves.html": "#chart svg",
    "machines.html": "main a",
}


def made_up(index: int) -> Iterator[Result]:
    """All results of one codec; the same index gives the same."""
    chance = random.Random(index)
    name = f"Codec {index}" if index else "BPG 4:4:4, made up"
    factor, cost = chance.uniform(0.7, 2.5), 10 ** chance.uniform(0.5, 3.5)

    def origin(command: str, where: dict[str, Any], pictures: str = "") -> Provenance:
        when = f"2026-{chance.randint(1, 12):02}-01T00:00:00+00:00"
        return Provenance(
            "rdcodec", when, command, "0" * 40, False, "0.1.0", where, pictures and f"{hash_of(pictures)}", None, None
        )

    for pictures, sizes in SIZES.items():
        source = origin(f"rdc eval codec_{index}.py:Codec --data {pictures}", chance.choice(MACHINES), pictures)
        hard = [chance.uniform(0.6, 1.6) for _ in sizes]
        for setting in SETTINGS:
            rows = []
            for number, ((width, height), harder) in enumerate(zip(sizes, hard, strict=True)):
                rate = 0.05 * 2 ** (setting / 17) * factor * harder * chance.uniform(0.97, 1.03)
                size = round(rate * width * height / 8)
                db = 26 + setting / 7 + chance.uniform(-0.02, 0.02)
                row = {"image": f"p{number:02}.png", "width": width, "height": height, "file_bytes": size}
                row |= {"bpp": round(8 * size / width / height, 6), "psnr_db": round(db, 4), "enc_s": 0.2, "dec_s": 0.1}
                rows.append(row | {"ms_ssim": round(1 - 10 ** (-(setting / 6 + 6) / 10), 6)})
            means = {key: round(statistics.fmean(row[key] for row in rows), 6) for key in ("bpp", "psnr_db", "ms_ssim")}
            values = {**means, "enc_s": 0.2, "dec_s": round(cost / 3000, 4), "licence": LICENCES[index % len(LICENCES)]}
            yield Result("quality", name, f"{name}, version 1", values, source, pictures, setting, tuple(rows))
    for where in MACHINES:
        for threads in (1, where["cores"]):
            speed = threads**0.8 * 300 / cost * chance.uniform(0.5, 2)
            values = {"device": "cpu", "threads": threads, "dtype": "float32", "decode_mpx_per_s": round(speed, 3)}
            values |= {"encode_mpx_per_s": round(speed / 2, 3), "peak_memory_mib": round(chance.uniform(50, 900), 1)}
            yield Result(
                "speed", name, f"{name}, version 1", values, origin(f"rdc bench codec_{index}", where), "kodak", 50
            )
    counts = {"parameters": round(cost * 1e5), "kflops_per_px": round(cost, 3)}
    yield Result("count", name, f"{name}, version 1", counts, Provenance("rdcodec"))


def hash_of(pictures: str) -> str:
    return f"{list(SIZES).index(pictures):064x}"


def fill(path: Path, first: int, count: int) -> int:
    """A store of so many results, from a codec on; how many codecs it has."""
    codecs = -(-count // RESULTS_EACH)
    with Store(path) as store:
        for start in range(first, first + codecs, 100):
            store.add(r for index in range(start, min(start + 100, first + codecs)) for r in made_up(index))
    return codecs


def timed(*arguments: str | Path) -> dict[str, Any]:
    """Seconds on the clock and of the processor, and peak memory, of a command."""
    script = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode;"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss); sys.exit(code)"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", script, sys.executable, "-m", "rdcodec", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, (cpu, kib) = time.perf_counter() - start, map(float, done.stdout.split())
    return {"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1), "peak_mib": round(kib / 1024)}


def in_chromium(site: Path, repeats: int) -> dict[str, Any]:
    """Milliseconds (medians) to load each page, and of a reader's acts on the leaderboard."""
    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as window:
        codec = sorted((site / "codecs").glob("codec-*.html"))[0]
        machine_page = sorted((site / "machines").glob("*.html"))[0]
        pages = {
            path: "#chart svg" if path == codec else DRAWN.get(path.name, "main") for path in (codec, machine_page)
        }
        pages |= {site / name: shown for name, shown in DRAWN.items()}
        loads = {
            str(path.relative_to(site)): statistics.median(loaded(window, path, shown) for _ in range(repeats))
            for path, shown in pages.items()
        }
        window.open((site / "index.html").as_uri())
        acts: dict[str, list[float]] = {name: [] for name in ACTS}
        for _ in range(repeats):
            for name, act in ACTS.items():
                acts[name].append(window.run(FRAME.replace("{act}", act)))
        rows = window.run("return document.querySelectorAll('#board tbody tr').length;")
        complaints = window.complaints()
    return {
        "load_ms": {name: round(value) for name, value in loads.items()},
        "leaderboard_ms": {name: round(statistics.median(values)) for name, values in acts.items()},
        "rows_drawn_at_once": rows,
        "complaints": complaints,
    }


def loaded(window: Browser, path: Path, shown: str) -> float:
    window.open("about:blank")
    window.open(path.as_uri())
    window.wait(f"document.querySelector({json.dumps(shown)})", 60)
    return float(window.run(LOADED))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=50_000, help="in each store")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep stores and site there")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        record = measured(folder, arguments.results, arguments.repeats)
    text = json.dumps(record, indent=1) + "\n"
    print(text)
    if arguments.json:
        arguments.json.write_text(text, encoding="utf-8")


def measured(folder: Path, results: int, repeats: int) -> dict[str, Any]:
    one, two, site = folder / "one.sqlite", folder / "two.sqlite", folder / "site"
    codecs = fill(one, 0, results) if not one.is_file() else -(-results // RESULTS_EACH)
    if not two.is_file():
        fill(two, codecs - codecs // 10, results)
    merged = folder / "merged.sqlite"
    merged.write_bytes(one.read_bytes())
    merge = timed("results", "import", two, "--store", merged)
    build = timed("site", "--store", merged, "-o", site, "--force")
    files = [path.stat().st_size for path in site.rglob("*") if path.is_file()]
    return {
        "what": "two stores of made-up results merged, the site from them, and the site in Chromium",
        "results_each": codecs * RESULTS_EACH,
        "codecs": 2 * codecs - codecs // 10,
        "store_mb": [round(path.stat().st_size / 1e6) for path in (one, two, merged)],
        "merge": merge,
        "site": build | {"files": len(files), "mb": round(sum(files) / 1e6, 1)},
        "data_mb": {path.name: round(path.stat().st_size / 1e6, 2) for path in sorted((site / "data").glob("*.js"))},
        "chromium": in_chromium(site, repeats),
        "machine": machine(),
    }


if __name__ == "__main__":
    main()
