"""The quality scale of every model of all rates: 0 to 100, linear in log lambda. No torch here.

lmbda weighs the mean squared error of 8-bit RGB samples against bits per pixel: loss = bpp + lmbda * MSE.
"""

import math

# Quality 10 is about 0.1 bpp and 85 about 1.1 bpp on the validation slice.
LMBDA_0 = 0.00023
LMBDA_100 = 0.065
LMBDA_REFERENCE = 0.004  # the middle of the scale, where losses are weighted by one


def lmbda_at(quality: float) -> float:
    """lmbda for a quality in [0, 100]."""
    return LMBDA_0 * math.exp(quality / 100 * math.log(LMBDA_100 / LMBDA_0))
