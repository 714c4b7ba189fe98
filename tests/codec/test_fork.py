"""A codec in other processes: forked or spawned after their parent had used one. What hangs meets the time limit."""

import multiprocessing
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"
FORKED = """
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


SPAWNED = """
    import multiprocessing
    import sys
    import numpy as np
    from rdcodec.codec.pipeline import load

    def decode(codec, file):
        return codec.decompress(file), codec.engine.name

    if __name__ == "__main__":
        codec = load("Golden", engine="native")
        image = np.random.default_rng(0).integers(0, 255, (90, 256, 3), np.uint8)
        coded = [codec.encode(image[i:], 50) for i in range(4)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            found = pool.starmap(decode, [(codec, one.data) for one in coded])
        for one, (picture, engine) in zip(coded, found):
            print(np.array_equal(picture, one.reconstruction), engine)
        print("torch" in sys.modules)
"""
LOADED = """
    import numpy as np
    from torch.utils.data import DataLoader, Dataset
    from rdcodec.codec.pipeline import load

    class Pictures(Dataset):
        def __init__(self, codec, files):
            self.codec, self.files = codec, files

        def __len__(self):
            return len(self.files)

        def __getitem__(self, number):
            return self.codec.decompress(self.files[number])

    if __name__ == "__main__":
        codec = load("Golden")
        image = np.random.default_rng(0).integers(0, 255, (90, 256, 3), np.uint8)
        coded = [codec.encode(image[i:], 50) for i in range(12)]
        expected = [one.reconstruction for one in coded]
        loader = DataLoader(Pictures(codec, [one.data for one in coded]), batch_size=None, num_workers=4)
        for _ in range(2):
            print([np.array_equal(*pair) for pair in zip(loader, expected)])
"""


def run(program: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of its output; the limit is for what would wait for ever, for threads that did not come along."""
    monkeypatch.setenv("RDCODEC_WEIGHTS", str(GOLDEN))
    script = folder / "program.py"  # a file: spawned processes import it
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, "-W", "ignore", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="nothing forks here")
def test_a_forked_child_of_a_process_that_used_a_codec_can_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(FORKED, tmp_path, monkeypatch) == ["(True, 4)", "[(True, 1), (True, 1)]", "4"]


def test_a_codec_goes_to_spawned_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(SPAWNED, tmp_path, monkeypatch) == ["True native"] * 4 + ["False"]


def test_four_workers_of_a_data_loader_share_a_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(LOADED, tmp_path, monkeypatch) == [str([True] * 12)] * 2
