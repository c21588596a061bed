"""Average pooling whose gradient is right on a card too.

torch's CUDA kernel for the gradient of a padded average pooling is wrong on maps in ``channels_last``: it leaves the
padding out of a pixel's place, so that each pixel gets the gradient of the one `padding` rows and columns before it.
Nothing says so (https://github.com/pytorch/pytorch/issues/188344). The kernel for torch's default format is right, and
so are both from torch 2.14 on (https://github.com/pytorch/pytorch/pull/188345).
"""

import torch
from torch import Tensor, nn

IS_WRONG = torch.__version__ < '2.14'
"""Whether this torch has the kernel that is wrong; the change may be in 2.13 already, which was not found out."""


def is_wrong(x: Tensor) -> bool:
    """Whether torch would compute a wrong gradient of the padded average pooling of a map, by device and format."""
    return IS_WRONG and x.device.type == 'cuda' and not x.is_contiguous()


class AvgPool2d(nn.AvgPool2d):
    """`torch.nn.AvgPool2d` that pools in torch's default format where the gradient would be wrong otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to [B, C, H', W'] in the same memory format."""
        if not (torch.is_grad_enabled() and x.requires_grad and is_padded(self) and is_wrong(x)):
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def is_padded(pool: nn.AvgPool2d) -> bool:
    """Whether a pooling pads."""
    padding = pool.padding
    return any(padding) if isinstance(padding, tuple) else padding > 0


def mend_average_pools(network: nn.Module) -> nn.Module:
    """Make the gradients of a network's padded average poolings right on CUDA, whatever torch's version.

    Args:
        network: Any model; outputs stay as they are.

    Returns:
        The same network; its padded average poolings are now `AvgPool2d`.
    """
    for module in network.modules():
        if type(module) is nn.AvgPool2d and is_padded(module):
            module.__class__ = AvgPool2d
    return network
