"""What is promised of pixels."""

import numpy as np

from rdcodec.models.weights import Weights


def check_pixels(got: bytes, expected: np.ndarray, weights: Weights) -> None:
    """Samples of another host or engine beside those that the core makes of a file with these weights, uint8."""
    off = np.abs(np.frombuffer(got, np.uint8).reshape(expected.shape).astype(int) - expected)
    if weights.pixels:
        assert not off.any(), f"{np.mean(off > 0):.3%} of samples are others, by {off.max()} at most"
    assert off.max() <= 2 and np.mean(off > 1) <= 0.001
