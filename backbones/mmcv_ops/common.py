"""Shared parts of the stand-ins for mmcv's compiled operators."""

import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor

kernels = torch.ops.torchvision
BUDGET = 1 << 24
"""Values that an operator holds at a time, besides its arguments and results: 64 MiB."""


def full(x: Tensor) -> Tensor:
    """Convert a tensor of half precision, as AMP makes it, to float32: not every kernel takes half precision."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
