"""What the encoder's search is worth: rate at equal PSNR, and time, of every effort against one pass.

    python benchmarks/effort.py --data FOLDER [--model I] [--pictures 3] [--most 6] [--json FILE] [--page FILE]

BD-rate of mean curves over the pictures, real files at four qualities. Times are of coding latents that are there, with
the search, over those of a whole encoding in one pass, medians over the pictures in one run.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from rdcodec.codec.image import read_image
from rdcodec.codec.pipeline import Analysed, Codec, load, search_steps
from rdcodec.measure.bdrate import Curve, bd_rate
from rdcodec.measure.machine import machine

QUALITIES = (10.0, 35.0, 60.0, 85.0)
PAGE = """# What the encoder's search brings

Written by `benchmarks/effort.py`: {tag}, {count} Kodak pictures at qualities 10, 35, 60 and 85, real files, {cpu},
{threads} thread. Rate: BD-rate against effort 1, negative: smaller. Time: of encoding, as a multiple of one pass; that
of decoding does not change. So few pictures give an indication, not a result that holds in general.

| effort | steps | rate | time of an encoding |
| ---: | ---: | ---: | ---: |
"""


def measure(codec: Codec, pictures: list[Analysed], effort: int) -> dict[str, Any]:
    """The mean curve of an effort, and seconds of coding each picture."""
    points, seconds = [], []
    for quality in QUALITIES:
        found = []
        for analysed in pictures:
            start = time.perf_counter()
            coded = codec.code(analysed, quality, effort)
            seconds.append(time.perf_counter() - start)
            found.append((coded.bpp, coded.psnr_db))
        points.append(tuple(fmean(values) for values in zip(*found, strict=True)))
    return {"steps": search_steps(effort), "points": points, "coding_s": median(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="I")
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--most", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    codec = load(options.model)
    images = [read_image(path) for path in sorted(options.data.glob("*.png"))[: options.pictures]]
    codec.encode(images[0])
    start = time.perf_counter()
    pictures = [codec.analyse(image) for image in images]
    analysis_s = (time.perf_counter() - start) / len(images)
    efforts: dict[int, dict[str, Any]] = {}
    for effort in range(1, options.most + 1):
        found = efforts[effort] = measure(codec, pictures, effort)
        plain = efforts[1]
        curve, anchor = (Curve.from_points(str(n), efforts[n]["points"]) for n in (effort, 1))
        found["rate_percent"] = bd_rate(curve, anchor).value if effort > 1 else 0.0
        found["times"] = (found["coding_s"] + analysis_s) / (plain["coding_s"] + analysis_s)
        print(f"{effort}  {found['steps']:>4} steps  rate {found['rate_percent']:+.1f} %  time x {found['times']:.0f}")
    record = {"machine": machine(), "model": codec.info.tag, "pictures": len(images), "efforts": efforts}
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.page:
        options.page.write_text(page(record, options.threads), encoding="utf-8")


def page(record: dict[str, Any], threads: int) -> str:
    """The record as Markdown."""
    text = PAGE.format(tag=record["model"], count=record["pictures"], cpu=record["machine"]["cpu"], threads=threads)
    rows = [
        f"| {effort} | {found['steps']} | {found['rate_percent']:+.1f} % | x {found['times']:.0f} |"
        for effort, found in record["efforts"].items()
    ]
    return text + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
