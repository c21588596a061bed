"""What the stand-ins for mmcv's compiled operators share."""

import torch
import torchvision  # noqa: F401 - registers torch.ops.torchvision
from torch import Tensor

kernels = torch.ops.torchvision


def full(x: Tensor) -> Tensor:
    """x in full precision: under AMP the tensors are half ones, which not every kernel takes."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
