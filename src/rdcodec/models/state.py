"""The float networks of a weights file in torch: read, built and written."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from rdcodec.exact.chain import Arrays
from rdcodec.models.base import ImageModel, PixelDecoder
from rdcodec.models.weights import BFLOAT16

if TYPE_CHECKING:
    from rdcodec.models.weights import Weights

M = TypeVar("M", ImageModel, PixelDecoder)


def tensors_of(raw: Arrays) -> dict[str, Tensor]:
    """Float32 and bfloat16 tensors of what a file holds."""
    return {name: _tensor(array) for name, array in raw.items()}


def _tensor(array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Tensor:
    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.view(torch.bfloat16) if array.dtype == BFLOAT16 else tensor


def raw_of(state: Mapping[str, Tensor]) -> Arrays:
    """The inverse of `tensors_of`."""
    return {
        name: (t.contiguous().view(torch.uint16) if t.dtype == torch.bfloat16 else t.contiguous()).numpy()
        for name, t in state.items()
    }


def stored(model: ImageModel) -> dict[str, Tensor]:
    """The state of a model as a weights file keeps it."""
    exact = (".shortcut.", "log_gain.", "log_scale.", "hyper_shift.", ".tint.", ".root_", "analysis.last.", "_prior.")
    return {
        name: tensor.detach().cpu().to(torch.float32 if any(e in f".{name}" for e in exact) else torch.bfloat16)
        for name, tensor in model.state_dict().items()
    }


def packed(arrays: Arrays, floats: Collection[str], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file; `floats` names those arrays that are of networks."""
    return save(
        {n: _tensor(a) if n in floats else torch.from_numpy(a.copy()) for n, a in arrays.items()}, dict(metadata)
    )


def build_model(weights: "Weights") -> ImageModel:
    """The whole model, float32, in evaluation mode. NeedsModel if the weights do not fit."""
    return _built(weights, ImageModel)


def build_decoder(weights: "Weights") -> PixelDecoder:
    """What makes pixels of latents, float32, in evaluation mode. NeedsModel if the weights do not fit."""
    return _built(weights, PixelDecoder)


def _built(weights: "Weights", kind: type[M]) -> M:
    """A network made of the file's tensors alone: nothing is initialised, or drawn from torch's generator."""
    try:
        with torch.device("meta"):  # a configuration that lies can ask for no memory
            model = kind(weights.config)
        wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    except RuntimeError:  # more elements than can be counted
        raise weights.misfit() from None
    if wanted != {name: array.shape for name, array in weights.raw.items()}:
        raise weights.misfit()
    tensors: Mapping[str, Tensor] = {n: t.to(torch.float32, copy=True) for n, t in weights.state.items()}
    model.load_state_dict(tensors, assign=True)
    network: nn.Module = model.eval().requires_grad_(False)
    assert isinstance(network, kind)
    return network
