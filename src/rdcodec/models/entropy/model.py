"""What the rest of the package asks of an entropy model."""

from collections.abc import Callable

from torch import Tensor, nn


class EntropyModel(nn.Module):
    """An entropy model, built from the record of its kind and the number of latent channels M.

    forward: y (B, M, h, w) in quantised units, quality (B,) in [0, 100], noise or None for rounded values, and a
    `Search` or None -> `Rated`. All in float32.
    """

    hyper_channels: int

    def analyse(self, y: Tensor, quality: Tensor) -> Tensor:
        """y (B, M, h, w), h and w multiples of 4 -> z (B, N, h/4, w/4), not yet rounded."""
        raise NotImplementedError

    def decode_parts(self, y: Tensor, z: Tensor) -> dict[str, Callable[[], object]]:
        """The decoder's networks by name, one call each, on tensors of these shapes: to count and to time."""
        raise NotImplementedError
