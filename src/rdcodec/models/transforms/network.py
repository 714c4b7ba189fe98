"""What the rest of the package asks of an analysis or a synthesis."""

from torch import nn


class TransformNetwork(nn.Module):
    """An analysis or a synthesis, built from the record of its kind and the number of latent channels M.

    forward of an analysis: x (B, 3, 16h, 16w), samples on the 0..255 scale -> latents (B, M, h, w) in float32.
    forward of a synthesis: latents y (B, M, h, w), quality (B,) in [0, 100] -> x_hat (B, 3, 16h, 16w), not clipped.
    """

    def inexact(self) -> list[nn.Module]:
        """The networks that may run in bfloat16; the rest runs in float32."""
        return []
