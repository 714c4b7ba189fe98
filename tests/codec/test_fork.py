"""A codec in a process that was forked after its parent had used one."""

import multiprocessing
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
PROGRAM = """
    import multiprocessing
    import numpy as np, torch
    torch.set_num_threads(4)
    from rdcodec.codec.pipeline import load

    def work(_):
        codec = load("Golden")
        encoded = codec.encode(image, effort=2)
        return np.array_equal(codec.decompress(encoded.data), encoded.reconstruction), torch.get_num_threads()

    image = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    print(work(0), flush=True)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, range(2)), flush=True)
    print(torch.get_num_threads())
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="nothing forks here")
def test_a_forked_child_of_a_process_that_used_a_codec_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever for threads that did not come along; the limit is for that alone."""
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(GOLDEN))
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stdout.split("\n")[:3] == ["(True, 4)", "[(True, 1), (True, 1)]", "4"], done.stderr
