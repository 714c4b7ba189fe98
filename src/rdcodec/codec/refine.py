"""Encoder search: latents that make a better file for the same decoder, found picture by picture.

The analysis transform answers in one pass for any picture. Here its answer is where a search begins: gradients of the
picture's own rate and distortion move y and z, and rounding is annealed (stochastic Gumbel annealing: Yang, Bamler &
Mandt 2020, arXiv:2006.04240, section 3.2). What a decoder does is not touched.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rdcodec.models.base import ImageModel
from rdcodec.models.entropy.checkerboard import Quantise, Search
from rdcodec.models.precision import in_fast_dtype, in_float32
from rdcodec.models.sizes import HYPER_STRIDE, STRIDE

# Chosen on held-out photographs, in fifty steps. Gradients are in bits per quantised unit; those well below EPSILON
# move a latent in proportion to their size, so that latents that hardly matter do not drift on Adam's noise.
RATE = 0.03
EPSILON = 15.0
BETAS = (0.9, 0.99)
HOT, COLD = 0.5, 0.15  # temperatures of the annealing
SEED = 0
# Side of a window in latents, and of the margin around it that it sees; this limits memory. Multiples of 64 pixels.
WINDOW = 64
MARGIN = 8


class Window(NamedTuple):
    """A part of the latents that is searched at once: its own rows and columns, and what is seen with them."""

    own: tuple[slice, slice]
    seen: tuple[slice, slice]


def refine(model: ImageModel, x: Tensor, y: Tensor, z: Tensor, quality: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Latents and hyper-latents, not yet rounded, of less bpp + lmbda * MSE than those given.

    x (1, 3, H, W) float32 on the 0..255 scale, not padded; y (1, M, h, w) and z (1, N, h/4, w/4) in quantised units,
    as the analysis gives them for the padded picture. Fewer than a dozen steps can end behind where they began.
    """
    with torch.inference_mode(False), torch.enable_grad(), in_float32(x.device):  # whatever holds outside
        x, y, z, quality = (part.clone() for part in (x, y, z, quality))
        for window in windows(y.shape[2], y.shape[3]):
            _refine_window(model, x, y, z, quality, steps, window)
    return y, z


def windows(rows: int, columns: int) -> Iterator[Window]:
    """Windows that share out so many rows and columns of latents, each of them once."""
    for top in range(0, rows, WINDOW):
        for left in range(0, columns, WINDOW):
            sides = ((top, rows), (left, columns))
            (own_rows, seen_rows), (own_columns, seen_columns) = (_reach(start, length) for start, length in sides)
            yield Window((own_rows, own_columns), (seen_rows, seen_columns))


def _reach(start: int, length: int) -> tuple[slice, slice]:
    end = min(start + WINDOW, length)
    return slice(start, end), slice(max(start - MARGIN, 0), min(end + MARGIN, length))


def _refine_window(
    model: ImageModel, x: Tensor, y: Tensor, z: Tensor, quality: Tensor, steps: int, window: Window
) -> None:
    """Search the latents of a window, in place."""
    pixels = (slice(None), slice(None), *(_scaled(part, STRIDE, 1) for part in window.seen))
    latents = (slice(None), slice(None), *window.seen)
    hyper_latents = (slice(None), slice(None), *(_scaled(part, 1, HYPER_STRIDE) for part in window.seen))
    target, gain, lmbda = x[pixels], model.gain(quality), model.lmbda(quality)
    free = [part.clone(memory_format=torch.channels_last).requires_grad_() for part in (y[latents], z[hyper_latents])]
    own = [_own(window, 1, free[0]), _own(window, HYPER_STRIDE, free[1])]
    optimizer = torch.optim.Adam(free, RATE, BETAS, EPSILON)
    generator = torch.Generator(x.device).manual_seed(SEED)
    for step in range(steps):
        part = step / steps
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2 * (1 - part))
        temperature = HOT * (COLD / HOT) ** part
        cost = _cost(model, target, free[0], free[1], quality, gain, lmbda, _annealed(temperature, generator))
        for latent, gradient, mask in zip(free, torch.autograd.grad(cost, free), own, strict=True):
            latent.grad = gradient * mask
        optimizer.step()
    for whole, at, latent, mask in zip((y, z), (latents, hyper_latents), free, own, strict=True):
        whole[at] = torch.where(mask > 0, latent.detach(), whole[at])


def _cost(
    model: ImageModel,
    target: Tensor,
    y: Tensor,
    z: Tensor,
    quality: Tensor,
    gain: Tensor,
    lmbda: Tensor,
    quantise: Quantise,
) -> Tensor:
    """Bits and weighted squared error of a window."""
    with in_fast_dtype(target.device):
        rated = model.entropy(y, quality, None, Search(z, quantise))
        x_hat = model.synthesis(rated.y_hat / gain, quality)[:, :, : target.shape[2], : target.shape[3]]
    error = (x_hat.float().clamp(0, 255) - target).square().sum() / target.shape[1]
    cost: Tensor = rated.bits_y.sum() + rated.bits_z.sum() + lmbda * error
    return cost.squeeze()


def _annealed(temperature: float, generator: torch.Generator) -> Quantise:
    """Rounds down or up at random, softly: the nearer and the colder, the surer."""

    def quantise(value: Tensor, log_scale: Tensor | None) -> Tensor:
        below = value.detach().floor()
        part = (value - below).clamp(1e-5, 1 - 1e-5)
        logit = (torch.atanh(part) - torch.atanh(1 - part)) / temperature
        draw = torch.empty_like(below).uniform_(1e-7, 1 - 1e-7, generator=generator)
        return below + torch.sigmoid((logit + torch.logit(draw)) / temperature)  # two Gumbels differ by a logistic

    return quantise


def _own(window: Window, over: int, seen: Tensor) -> Tensor:
    """One where what is seen of a window is its own, zero around; (1, 1, h, w) for seen (1, C, h, w)."""
    mask = seen.new_zeros(1, 1, *seen.shape[2:])
    rows, columns = (
        _scaled(slice(own.start - around.start, own.stop - around.start), 1, over)
        for own, around in zip(window.own, window.seen, strict=True)
    )
    mask[:, :, rows, columns] = 1
    return mask


def _scaled(part: slice, times: int, over: int) -> slice:
    """Rows or columns on another grid; a last one that is not whole counts."""
    return slice(part.start * times // over, math.ceil(part.stop * times / over))
