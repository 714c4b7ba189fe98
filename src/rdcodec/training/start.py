"""The state a model starts from: a transform codec that is fair before its first step."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdcodec.errors import BadInput
from rdcodec.models.base import ImageModel
from rdcodec.models.blocks import layers_of
from rdcodec.models.entropy.charm import CharmModel
from rdcodec.models.entropy.checkerboard import CheckerboardModel
from rdcodec.models.entropy.gaussian import LOG_SCALE_MIN
from rdcodec.models.entropy.hyper import SCALE_START, HyperModel
from rdcodec.models.entropy.hyperprior import HyperpriorModel
from rdcodec.models.entropy.model import EntropyModel
from rdcodec.models.rate import anchor_qualities, lmbda_of_quality
from rdcodec.models.transforms.conv import GDN, ConvAnalysis, ConvSynthesis
from rdcodec.models.transforms.light import PATCH, PIXEL_MEAN, LightAnalysis, LightSynthesis
from rdcodec.models.transforms.staged import LATENT_UNIT, PIXEL_UNIT
from rdcodec.training.data import AnyPhoto, decoded

# An orthonormal transform is at its best with step^2 = STEP_SQUARED / lmbda (0..255 scale): with D = step^2 / 12
# per coefficient and a bit per halving of the step, 18 / ln 2 = 26; measured with dead zones, about 20.
STEP_SQUARED = 20.0
# Natural images are peaked: the typical magnitude of a coefficient is well under its deviation.
TYPICAL = 0.5
# So weak a GDN is undone by an inverse GDN as weak but for its square, where features are ten times the usual, too.
NEARLY_LINEAR = 0.002
USUAL = 0.7  # the scale of latents to begin with, of their deviation
SEEN = 128  # photographs are enough for a KLT
LEAST = 0.1  # deviations count as no smaller
HYPER_SIZE, HYPER_WIDTH = 3.0, 1.0  # hyper-latents beside those of random weights, and the width of their densities
BLOCK = slice(2, 4)  # of the 5 taps of a layer of stride 2, those that lie on its own block of 2x2


def start_model(model: ImageModel, photos: Sequence[AnyPhoto], seed: int, patches: int = 60_000) -> None:
    """Make the transforms of a model the KLT of the photographs' patches, and fit its scales to the rate.

    Done for the light transforms, by their shortcuts, and for convolutions with GDN, layer by layer; a model of
    other transforms is left as it is.
    """
    analysis, synthesis = model.analysis, model.synthesis
    if isinstance(analysis, LightAnalysis) and isinstance(synthesis, LightSynthesis):
        _start_light(model, analysis, synthesis, draw_patches(photos, seed, patches))
    elif isinstance(analysis, ConvAnalysis) and isinstance(synthesis, ConvSynthesis) and model.config.lmbda:
        step = math.sqrt(STEP_SQUARED / model.config.lmbda)
        deviation = start_layers(analysis, synthesis, draw_patches(photos, seed, patches), step)
        start_entropy(model.entropy, deviation / step)


@torch.no_grad()
def _start_light(model: ImageModel, analysis: LightAnalysis, synthesis: LightSynthesis, patches: Tensor) -> None:
    entropy, gain = model.entropy, model.log_gain
    if not isinstance(entropy, CheckerboardModel) or gain is None:
        return
    basis, deviation = klt(patches.flatten(1), model.config.latent_channels)
    lmbda = lmbda_of_quality(anchor_qualities())
    log_gain = 0.5 * torch.log(lmbda / STEP_SQUARED)[:, None]
    analysis.shortcut.weight.copy_(basis)
    synthesis.shortcut.weight.copy_(basis)
    gain.values.copy_(log_gain.expand_as(gain.values))
    entropy.log_scale.values.copy_(log_gain + torch.log(deviation * TYPICAL)[None])


@torch.no_grad()
def start_layers(analysis: ConvAnalysis, synthesis: ConvSynthesis, patches: Tensor, step: float) -> Tensor:
    """Make each layer the KLT of the 2x2 blocks of what the layer before gives, and the synthesis its transpose.

    patches (n, 3, 16, 16), mean taken off; step: of the quantiser, in units of an orthonormal transform. Returns the
    deviation of each latent (M,) in these units. Features between the layers are of size one in the root mean square
    over the channels, not each: a step of the optimiser that moves all channels by the same then harms the mean of a
    block, which is the largest of them by far, no more than a detail. Channels that no coefficient needs (the first
    layer has 12) keep their random weights, and nothing comes of them yet.
    """
    x, unit = patches, PIXEL_UNIT
    downs = [layer for layer in layers_of(analysis) if isinstance(layer, nn.Conv2d)]
    ups = [layer for layer in layers_of(synthesis) if isinstance(layer, nn.ConvTranspose2d)]
    for down, up in zip(downs, reversed(ups), strict=True):
        blocks = F.pixel_unshuffle(x, 2)
        most = min(down.out_channels, up.in_channels)  # a synthesis may be narrower than its analysis
        basis, deviation = klt(blocks.permute(0, 2, 3, 1).flatten(0, 2), most)
        kernels = basis.t().reshape(len(deviation), -1, 2, 2)
        x = F.conv2d(x, kernels, stride=2)
        unit_after = step * LATENT_UNIT if down is downs[-1] else deviation.square().mean().sqrt().item()
        _set_pair(down, up, kernels, unit_after / unit)
        unit = unit_after
    for gdn in [*analysis.modules(), *synthesis.modules()]:
        if isinstance(gdn, GDN):
            gdn.start(NEARLY_LINEAR)
    # Latents beyond the last coefficient, of narrow networks, are of the size that random weights give.
    return F.pad(deviation, (0, downs[-1].out_channels - len(deviation)), value=step * LATENT_UNIT)


def _set_pair(down: nn.Conv2d, up: nn.ConvTranspose2d, kernels: Tensor, larger: float) -> None:
    """`down` takes channels by orthonormal kernels (outputs, inputs, 2, 2) in a unit so much larger; `up` back."""
    outputs, inputs = kernels.shape[:2]
    down.weight[:outputs] = 0
    down.weight[:outputs, :inputs, BLOCK, BLOCK] = kernels / larger
    up.weight[:, :inputs] = 0
    up.weight[:outputs, :inputs, BLOCK, BLOCK] = kernels * larger


@torch.no_grad()
def start_entropy(entropy: EntropyModel, deviation: Tensor) -> None:
    """Let an entropy model of one rate begin with scales that fit latents of this deviation (M,), whatever it sees.

    The hyper-analysis sees all latents equally large, or their means would drown what they vary by; its densities are
    narrow, since as wide as they are made they would cost 0.2 bpp for long.
    """
    biases = torch.log(deviation * USUAL).clamp(min=LOG_SCALE_MIN) - math.log(SCALE_START)
    if isinstance(entropy, HyperpriorModel):
        _bias(entropy.hyper_synthesis).chunk(2)[1].copy_(biases)
    elif isinstance(entropy, CharmModel):
        for networks, part in zip(entropy.networks, biases.split_with_sizes(list(entropy.config.slices)), strict=True):
            _bias(networks.scale).copy_(part)
    if isinstance(entropy, HyperModel) and isinstance(first := layers_of(entropy.hyper_analysis)[0], nn.Conv2d):
        first.weight.div_(deviation.clamp(min=LEAST)[:, None, None].to(first.weight.device))
        layers_of(entropy.hyper_analysis)[-1].weight.mul_(HYPER_SIZE)
        entropy.factorized_prior.start(HYPER_WIDTH)


def _bias(network: nn.Module) -> Tensor:
    """Of the last layer."""
    bias = layers_of(network)[-1].bias
    assert bias is not None
    return bias


def draw_patches(photos: Sequence[AnyPhoto], seed: int, count: int) -> Tensor:
    """(count, 3, 16, 16) float32 patches of the photographs, PIXEL_MEAN taken off; at most SEEN of them are decoded.

    BadInput where none can be.
    """
    rng = np.random.default_rng(seed)
    some = photos if len(photos) <= SEEN else [photos[n] for n in rng.choice(len(photos), SEEN, replace=False)]
    whole = decoded(some)
    if not whole:
        raise BadInput(f"none of {len(some)} photographs can be decoded: give others with --data")
    patches = np.empty((count, 3, PATCH, PATCH), np.float32)
    for patch in patches:
        pixels = whole[rng.integers(len(whole))].pixels
        top, left = (rng.integers(side - PATCH + 1) for side in pixels.shape[:2])
        patch[:] = pixels[top : top + PATCH, left : left + PATCH].transpose(2, 0, 1)
    patches -= PIXEL_MEAN
    return torch.from_numpy(patches)


def klt(rows: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """At most so many leading eigenvectors (width, channels) of rows (n, width) about zero, and their deviations."""
    second_moment = (rows.t() @ rows).double() / len(rows)
    values, vectors = torch.linalg.eigh(second_moment)
    leading = vectors.flip(1)[:, :channels]
    deviation = values.flip(0)[:channels].clamp(min=math.ulp(1.0)).sqrt()
    return leading.float(), deviation.float()
