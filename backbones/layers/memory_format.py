"""How a map lies in memory."""

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether a tensor [B, C, H, W] is dense in ``channels_last`` and not in torch's default format."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
