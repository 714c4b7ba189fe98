"""How long `rdc report` takes: a store of made-up results, and every figure and table of them.

python benchmarks/report.py [--results 1000]
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rdcodec.cli.main import main as rdc
from rdcodec.measure.bdrate import rate_at
from rdcodec.measure.reading import load_curve
from rdcodec.models.config import config_names
from rdcodec.store.db import Store
from rdcodec.store.records import Provenance, Result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=1000)
    count = parser.parse_args().results
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.sqlite"
        with Store(path) as store:
            store.add(itertools.islice(made_up(), count))
        begin = time.perf_counter()
        code = rdc(["report", "--store", str(path), "-o", str(Path(folder) / "report")])
        print(f"{count} results: {time.perf_counter() - begin:.1f} s, exit code {code}")


def made_up() -> Iterator[Result]:
    """Counts and speeds of the family, then codecs without end that need more and more of BPG's rate on Kodak."""
    provenance, bpg = Provenance("rdcodec"), load_curve("bpg_444")
    for place, name in enumerate(config_names()):
        yield Result("count", name, name, {"parameters": 1e7, "kflops_per_px": 10.0 * (place + 1)}, provenance)
        speed = {"device": "cpu", "threads": 1, "dtype": "fp32", "decode_mpx_per_s": 5.0 / (place + 1)}
        yield Result("speed", name, name, {**speed, "decode_networks_mpx_per_s": 6.0 / (place + 1)}, provenance)
    rows = tuple({"image": f"{n}.png", "width": 768, "height": 512, "file_bytes": 1000} for n in range(24))
    for codec in itertools.count():
        for setting, psnr_db in enumerate(bpg.psnr_db[4:-4:4]):
            values = {"bpp": (0.7 + codec / 100) * rate_at(bpg, psnr_db), "psnr_db": psnr_db, "ms_ssim": 0.9}
            yield Result("quality", f"codec{codec}", "1", values, provenance, "kodak", float(setting), rows)


if __name__ == "__main__":
    main()
