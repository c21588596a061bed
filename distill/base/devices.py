"""Tensors from the CPU to a device."""

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device | str) -> Tensor:
    """Copy a tensor of the CPU to a device without waiting for what the device does.

    A plain copy to a card waits until the card has done all that it was given before.

    Args:
        values: A tensor on the CPU.
        device: Where to.
    """
    device = torch.device(device)
    if device.type != 'cuda':
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
