"""From a trained model to a weights file: integers measured on photographs, tables, hashes."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rdcodec.models.base import ImageModel
from rdcodec.models.entropy.forms import build_tables_of, has_integer_form, quantise
from rdcodec.models.weights import UNRELEASED, Weights, save_weights, stored
from rdcodec.training.data import Photo
from rdcodec.training.validation import cut

CALIBRATION_PHOTOS = 12
CALIBRATION_QUALITIES = (5.0, 50.0, 95.0)


def export(
    model: ImageModel,
    path: Path,
    photos: Sequence[Photo] = (),
    tag: str | None = None,
    eflop: float | None = None,
) -> Weights:
    """Write a weights file: floats as they are stored, integers made from these, fresh tables.

    photos: what the reach of the integers is measured on, beside two hard pictures. The tag says that the weights
    are unreleased unless it is given. eflop: training computation behind the model, for the file to say.
    """
    state = stored(model)
    kept = copy.deepcopy(model).cpu().float().eval()
    kept.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    coded = has_integer_form(kept.entropy)
    entropy = quantise(kept.entropy, calibration_latents(kept, photos[:CALIBRATION_PHOTOS])) if coded else {}
    tag = tag or f"{model.config.name}.{UNRELEASED}"
    weights = Weights(tag, model.config, state, entropy, build_tables_of(kept.entropy), eflop)
    save_weights(path, weights)
    return weights


@torch.inference_mode()
def calibration_latents(model: ImageModel, photos: Sequence[Photo]) -> list[tuple[Tensor, float]]:
    """y in quantised units of each photograph, and of two hard pictures, at low, middle and high quality.

    A model of one rate has one y of each.
    """
    qualities = CALIBRATION_QUALITIES if model.config.lmbda is None else (0.0,)
    found: list[tuple[Tensor, float]] = []
    for photo in [*photos, *hard_pictures()]:
        x = torch.from_numpy(cut(photo)).permute(2, 0, 1)[None].float()
        latents = model.analysis(x.contiguous(memory_format=torch.channels_last))
        for quality in qualities:
            found.append((latents * model.gain(torch.tensor([quality])), quality))
    return found


def hard_pictures() -> list[Photo]:
    """Noise, and black and white blocks as of text: without them such pictures saturate, at +18 % of rate."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, 256, 3), np.uint8)
    blocks = np.kron(rng.integers(0, 2, (128, 64, 1), np.uint8) * np.uint8(255), np.ones((2, 4, 3), np.uint8))
    return [Photo("noise", noise), Photo("blocks", blocks)]
