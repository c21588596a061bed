"""The layer that takes the fast way of the device that it runs on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.layers.depthwise.choice import IS_MEASURING, NARROWEST_KERNEL, leaves_to_torch
from backbones.layers.depthwise.cpu import WIDEST_KERNEL, DepthwiseConvolution, cut_kernel
from backbones.layers.depthwise.launch import DTYPES, HAS_TRITON
from backbones.layers.depthwise.operators import depthwise_conv2d
from backbones.layers.memory_format import is_channels_last
from backbones.layers.small_maps import CoveringDepthwise, covers

# torch 2.6 cannot tell.
_is_exporting = getattr(torch.compiler, 'is_exporting', lambda: False)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that is faster on CUDA, and trains faster in fp32 on a CPU; else `torch.nn.Conv2d`.

    Attributes:
        cuts_kernel: Whether a kernel that is larger than the map is cut to the part that meets it, see `cut_kernel`.
    """

    cuts_kernel = False

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type == 'cuda':
            return self._on_cuda(x, weight, bias)
        trained = torch.is_grad_enabled() and weight.requires_grad
        if trained and x.device.type == 'cpu' and x.dim() == 4 and not torch.is_autocast_enabled('cpu'):
            padding = self.padding
            if self.cuts_kernel and not isinstance(padding, str) and self.dilation == (1, 1):
                if covers(x.shape[2:], self.kernel_size, self.stride, padding):
                    out = CoveringDepthwise.apply(x, weight, self.stride, padding)
                    return out if bias is None else out + bias.view(-1, 1, 1)
                if min(x.shape[2:]) <= padding[0]:
                    x, weight = cut_kernel(x, weight, self.stride, padding)
                    return F.conv2d(x, weight, bias, self.stride, 0, 1, len(weight))
            return DepthwiseConvolution.apply(x, weight, bias, self.stride, self.padding, self.dilation)
        return super()._conv_forward(x, weight, bias)

    def _on_cuda(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_autocast_enabled('cuda') and x.dtype != torch.double:
            x = x.to(torch.get_autocast_dtype('cuda'))
        elif weight.dtype != x.dtype:
            return super()._conv_forward(x, weight, bias)  # Which raises.
        plain = isinstance(self.padding, tuple) and max(self.kernel_size) >= NARROWEST_KERNEL
        if not (HAS_TRITON and plain and x.dim() == 4 and x.dtype in DTYPES) or _is_recorded():
            return super()._conv_forward(x, weight, bias)
        if leaves_to_torch(self.kernel_size, is_channels_last(x)) and not IS_MEASURING:
            return super()._conv_forward(x, weight, bias)  # No opaque operator between those that a compiler fuses.
        return depthwise_conv2d(x, weight, bias, self.stride, self.padding, self.dilation)


def _is_recorded() -> bool:
    """Whether another engine will run this: it knows torch's operators only."""
    return _is_exporting() or torch.jit.is_tracing()


def speed_up_depthwise(network: nn.Module, cut_kernels: bool = False) -> nn.Module:
    """Make the wide depthwise convolutions of a network faster, on CUDA and in training on a CPU.

    Args:
        network: Any model; its parameters and their names stay as they are.
        cut_kernels: Cut kernels that are larger than the map, see `cut_kernel`: faster still on images of 32 pixels,
            and rounded otherwise.

    Returns:
        The same network; its wide depthwise convolutions are now `DepthwiseConv2d`.
    """
    for module in network.modules():
        # Subclasses, such as timm's with TensorFlow's padding, have a forward pass of their own.
        if type(module) is nn.Conv2d and _is_wide_depthwise(module):
            module.__class__ = DepthwiseConv2d
            setattr(module, 'cuts_kernel', cut_kernels)  # noqa: B010
    return network


def _is_wide_depthwise(conv: nn.Conv2d) -> bool:
    depthwise = conv.groups == conv.in_channels == conv.out_channels > 1
    zero_padded = conv.padding_mode == 'zeros' and isinstance(conv.padding, tuple)
    return depthwise and zero_padded and conv.kernel_size[1] > WIDEST_KERNEL
