"""The weight gradient of wide depthwise convolutions on a CPU, computed as a depthwise convolution.

oneDNN has a depthwise routine for that gradient up to 3 columns. For wider kernels it takes the routine for dense
groups, which pads each group to 16 × 16 channels and uses one of these products; without ``channels_last`` it takes one
small matrix product per channel. Yet the gradient is a depthwise convolution itself: of each channel of a sample, with
the output gradient of that channel as the kernel. Depthwise convolutions are fast at any width, where the routine
takes their padding; elsewhere the maps are padded before. `cpu_ways` says which is done.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.layers.depthwise.cpu_ways import choose

WIDEST_KERNEL = 3
"""Columns of a kernel up to which oneDNN has a depthwise routine."""


class DepthwiseConvolution(torch.autograd.Function):
    """`torch.nn.functional.conv2d` with one group per channel and the weight gradient of this module."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, stride, padding, dilation) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation
        return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        kernel = weight.shape[2:]

        def by_torch(wanted: tuple[bool, bool, bool]):
            geometry = (*ctx.geometry, False, (0, 0), len(weight))
            return torch.ops.aten.convolution_backward(grad, x, weight, [len(weight)], *geometry, wanted)

        def compute(way: str) -> Tensor:
            if way == 'torch':
                return by_torch((False, True, False))[1]
            stride, padding, dilation = ctx.geometry
            return weight_gradient(x, grad, kernel, stride, padding, dilation, pads_before=way == 'padded')

        way = choose(x, grad, kernel, ctx.geometry, compute) if for_weight or for_bias else 'torch'
        if way == 'torch':
            return *by_torch((for_x, for_weight, for_bias)), None, None, None
        # oneDNN's gradient of the bias comes with its slow gradient of the weight.
        grad_x = by_torch((True, False, False))[0] if for_x else None
        grad_weight = compute(way) if for_weight else None
        return grad_x, grad_weight, grad.sum(dim=(0, 2, 3)) if for_bias else None, None, None, None


def weight_gradient(
    x: Tensor, grad: Tensor, kernel_size, stride, padding, dilation, pads_before: bool = False
) -> Tensor:
    """dL/dw[c, i, j] = Σ_n Σ_yx grad[n, c, y, x] · x[n, c, s·y + d·i − p, s·x + d·j − p].

    Stride s and dilation d change places: the output gradient is a kernel whose entries are s pixels apart, and it
    moves by d pixels.

    Args:
        x: Input of the convolution [B, C, H, W].
        grad: Gradient of its output [B, C, H', W'].
        kernel_size: Height and width of the kernel.
        stride: Vertical and horizontal stride of the convolution.
        padding: Vertical and horizontal padding of the convolution.
        dilation: Vertical and horizontal dilation of the convolution.
        pads_before: Whether the input is padded before it is convolved.

    Returns:
        Gradient of the kernels [C, 1, *kernel_size].
    """
    batch, chs = x.shape[:2]
    samples = x.contiguous().view(1, batch * chs, *x.shape[2:])
    kernels = grad.contiguous().view(batch * chs, 1, *grad.shape[2:])
    if pads_before:
        samples, padding = F.pad(samples, (padding[1], padding[1], padding[0], padding[0])), (0, 0)
    each = F.conv2d(samples, kernels, None, dilation, padding, stride, batch * chs)
    # A stride that does not divide the padded input leaves rows and columns that no output depends on.
    each = each.view(batch, chs, *each.shape[2:])[..., : kernel_size[0], : kernel_size[1]]
    return each.sum(dim=0).unsqueeze(1)


def cut_kernel(x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Leave out the rows and columns of a kernel that meet nothing but padding, wherever the kernel stands.

    At a map of 2 × 2 a kernel of 7 has 9 of 49 weights that matter.

    Args:
        x: Input of the convolution [B, C, H, W].
        weight: Kernels [C, 1, h, w].
        stride: Vertical and horizontal stride.
        padding: Vertical and horizontal padding.

    Returns:
        The input with the padding that is left, and the kernels that are left: their convolution without padding is
        the former one with it.
    """
    margins: list[int] = []
    for axis in (0, 1):
        side, width, step, before = x.shape[2 + axis], weight.shape[2 + axis], stride[axis], padding[axis]
        last = (side + 2 * before - width) // step * step  # Where the kernel stands last, in padded pixels.
        first_tap, last_tap = max(0, before - last), min(width, before + side)
        weight = weight.narrow(2 + axis, first_tap, last_tap - first_tap)
        # F.pad wants the last axis first.
        margins = [before - first_tap, last + last_tap - before - side, *margins]
    return F.pad(x, margins), weight
