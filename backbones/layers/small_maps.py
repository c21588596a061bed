"""Convolutions over maps of a few pixels, in training on a CPU: products that need no convolution routine.

oneDNN's gradients have a fixed cost a call that is most of their time on the maps of 32-pixel images, and its
depthwise gradient with a stride of 2 works channel by channel. Here a depthwise kernel that covers the whole map is a
table of weights, one for each pair of an output and an input pixel; and a 1 × 1 convolution is a matrix product.
"""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_PAIRS = 64
"""Pairs of an output and an input pixel up to which the table is faster: 4 × 4 to 2 × 2 has as many."""


def covers(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Whether a depthwise kernel covers the whole of a map at each of its places, and the map is small enough.

    Args:
        size: Height and width of the map.
        kernel: Height and width of the kernel.
        stride: Vertical and horizontal stride.
        padding: Vertical and horizontal padding.
    """
    pairs = 1
    for side, width, step, before in zip(size, kernel, stride, padding, strict=True):
        last = (side + 2 * before - width) // step * step  # Where the kernel stands last, in padded pixels.
        if last > before or side + before > width:
            return False
        pairs *= side * (last // step + 1)
    return pairs <= MOST_PAIRS


@cache
def taps(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[Tensor, tuple[int, int]]:
    """Which weight of a kernel that covers the map connects each pair of pixels, and the size of the output.

    Returns:
        Index of the weight [output pixels, input pixels]; height and width of the output.
    """
    lines, out = [], []
    for side, width, step, before in zip(size, kernel, stride, padding, strict=True):
        count = (side + 2 * before - width) // step + 1
        lines.append(torch.arange(side) - (torch.arange(count) * step - before)[:, None])
        out.append(count)
    index = lines[0][:, None, :, None] * kernel[1] + lines[1][None, :, None, :]
    return index.reshape(out[0] * out[1], size[0] * size[1]), (out[0], out[1])


class CoveringDepthwise(torch.autograd.Function):
    """A depthwise convolution whose kernel covers the map: out[o] = Σ_i x[i] · w[tap(o, i)], channels side by side."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        batch, chs, *size = x.shape
        index, (height, width) = taps(tuple(size), tuple(weight.shape[2:]), stride, padding)
        pixels = x.permute(0, 2, 3, 1).reshape(batch, -1, chs)
        table = weight.reshape(chs, -1).T[index]
        ctx.save_for_backward(pixels, table, index)
        ctx.shapes = x.shape, weight.shape
        out = (pixels.unsqueeze(1) * table).sum(2)
        return out.view(batch, height, width, chs).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad: Tensor):
        pixels, table, index = ctx.saved_tensors
        (batch, chs, *size), shape = ctx.shapes
        grad = grad.permute(0, 2, 3, 1).reshape(batch, -1, 1, chs)
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            for_x = (grad * table).sum(1).view(batch, *size, chs).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            pairs = (grad * pixels.unsqueeze(1)).sum(0).view(-1, chs)
            sums = pairs.new_zeros(shape[2] * shape[3], chs).index_add_(0, index.flatten(), pairs)
            for_weight = sums.T.reshape(shape)
        return for_x, for_weight, None, None


class PointwiseConv2d(nn.Conv2d):
    """A 1 × 1 convolution that is a matrix product in fp32 training on a CPU; else `torch.nn.Conv2d`."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        trained = torch.is_grad_enabled() and weight.requires_grad and x.device.type == 'cpu'
        if not trained or x.dim() != 4 or x.dtype != torch.float32 or torch.is_autocast_enabled('cpu'):
            return super()._conv_forward(x, weight, bias)
        if not x.is_contiguous(memory_format=torch.channels_last):
            return super()._conv_forward(x, weight, bias)
        pixels = x[:, :, :: self.stride[0], :: self.stride[1]].permute(0, 2, 3, 1)
        return F.linear(pixels, weight.flatten(1), bias).permute(0, 3, 1, 2)


def speed_up_pointwise(network: nn.Module) -> nn.Module:
    """Make the 1 × 1 convolutions of a network faster in training on a CPU, on maps of a few pixels; rounded otherwise.

    Args:
        network: Any model; its parameters and their names stay as they are.

    Returns:
        The same network; its 1 × 1 convolutions are now `PointwiseConv2d`.
    """
    for module in network.modules():
        is_plain = type(module) is nn.Conv2d and module.groups == 1 and module.padding in ((0, 0), 'valid')
        if is_plain and module.kernel_size == (1, 1):
            module.__class__ = PointwiseConv2d
    return network
