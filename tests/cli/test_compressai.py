"""The example for a checkpoint of one's own, with a small random model; needs CompressAI."""

from pathlib import Path

import pytest
from test_foreign import pictures

from conftest import Rdc
from rdcodec.store.db import Store

EXAMPLE = Path(__file__).parents[2] / "examples" / "compressai_codec.py"


def test_a_checkpoint_of_ones_own(rdc: Rdc, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = pytest.importorskip("compressai.models", reason="CompressAI is not installed")
    torch = pytest.importorskip("torch")
    if not EXAMPLE.exists():
        pytest.skip("no checkout")
    torch.manual_seed(0)
    model = models.MeanScaleHyperprior(8, 12)
    torch.save({"state_dict": model.state_dict()}, "mine.pth.tar")
    pictures(Path("set"), 1, 192, 128)
    monkeypatch.setenv("CHECKPOINT", "mine.pth.tar")
    done = rdc("eval", f"{EXAMPLE}:Own", "--data", "set", "--store", "s.db")
    assert done.code == 0, done.err
    with Store(Path("s.db"), write=False) as store:
        (count,) = store.query(kind="count")
    assert count.codec == "mine" and float(count.values["kflops_per_px"] or 0) > 0
    assert count.values["parameters"] == sum(weights.numel() for weights in model.parameters())
