"""CompressAI, imported beside a CPU build of torch.

PyPI's torchvision comes compiled for torch with CUDA and fails. Its Python part, all that CompressAI needs, loads once
the operators are declared.
"""

import torch

try:
    import torchvision
except RuntimeError:
    declared = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

import compressai
from compressai import zoo

__all__ = ["compressai", "torchvision", "zoo"]
