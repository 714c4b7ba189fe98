"""Networks: pixels to latents, latents to integer symbols and table indexes, and back."""
