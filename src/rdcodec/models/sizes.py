"""Sizes of latents and hyper-latents. No torch here."""

STRIDE = 16  # pixels of a side per latent
HYPER_STRIDE = 4  # one hyper-latent for 4 x 4 latents
ANCHORS = 8  # qualities at which what follows it is learned


def latent_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the latents of a picture."""
    return -(-height // STRIDE), -(-width // STRIDE)
