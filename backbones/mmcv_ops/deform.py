"""Deformable convolutions on torchvision's kernels, which share mmcv's sampling and layout.

Conventions of mmcv 2.1, ``ops/csrc/pytorch/{deform_conv,modulated_deform_conv}.cpp``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.mmcv_ops.common import full, kernels

PLAIN = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
MODULATED = ('stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w', 'group', 'deformable_group')


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Modulated deformable convolution (Zhu et al., CVPR 2019).

    Offsets and masks may be larger than the output, as DyHead's are: the compiled operator then reads the first
    elements of each sample, as if they had the output's size, and so does this one.

    Args:
        input: [B, C, H, W].
        weight: [K, C / group, kernel_h, kernel_w].
        bias: [K], or empty.
        ones: Scratch space of the compiled operator, unused.
        offset: y and x of each kernel point [B, 2 * deformable_group * kernel_h * kernel_w, H', W'].
        mask: Weight of each kernel point [B, deformable_group * kernel_h * kernel_w, H', W'].
        output: Receives the result [B, K, H', W'].
        columns: Scratch space of the compiled operator, unused.
        geometry: kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group,
            deformable_group and with_bias.
    """
    bias = bias if geometry['with_bias'] else weight.new_zeros(len(weight))
    offset, mask = (_leading(x, output.shape[2:]) for x in (offset, mask))
    tensors = map(full, (input, weight, offset, mask, bias))
    output.copy_(kernels.deform_conv2d(*tensors, *(geometry[name] for name in MODULATED), True))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **geometry: int,
) -> None:
    """Gradients of :func:`modulated_deform_conv_forward`, each into the tensor of its name."""
    read_offset, read_mask = (_leading(x, grad_output.shape[2:]) for x in (offset, mask))
    gradients = _backward(grad_output, input, weight, read_offset, read_mask, [geometry[name] for name in MODULATED])
    by_input, by_weight, by_offset, by_mask, by_bias = gradients
    grad_input.copy_(by_input)
    grad_weight.copy_(by_weight)
    for grad, by_read in ((grad_offset, by_offset), (grad_mask, by_mask)):
        flat = grad.new_zeros(len(grad), grad[0].numel())
        flat[:, : by_read[0].numel()] = by_read.flatten(1)
        grad.copy_(flat.view(grad.shape))
    if geometry['with_bias']:
        grad_bias.copy_(by_bias)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Deformable convolution (Dai et al., ICCV 2017); arguments as in :func:`modulated_deform_conv_forward`.

    ``geometry`` holds kW, kH, dW, dH, padW, padH, dilationW, dilationH, group, deformable_group and
    im2col_step.
    """
    mask, bias = input.new_zeros(len(input), 1), weight.new_zeros(len(weight))
    tensors = map(full, (input, weight, offset, mask, bias))
    output.copy_(kernels.deform_conv2d(*tensors, *(geometry[name] for name in PLAIN), False))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Gradients of :func:`deform_conv_forward` by input and offset."""
    gradients = _backward(grad_output, input, weight, offset, None, [geometry[name] for name in PLAIN])
    grad_input.copy_(gradients[0])
    grad_offset.copy_(gradients[2])


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **geometry: int,
) -> None:
    """Gradient of :func:`deform_conv_forward` by its weight, times ``scale``, added to ``grad_weight``."""
    weight = torch.zeros_like(grad_weight)  # the gradient by the weight does not depend on the weight
    gradients = _backward(grad_output, input, weight, offset, None, [geometry[name] for name in PLAIN])
    grad_weight.add_(gradients[1], alpha=scale)


def _leading(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first elements of each sample of x [B, C, H, W], as many as a map of another size [B, C, *size] has.

    Raises:
        ValueError: x has fewer.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    shape = (x.shape[1], *size)
    if math.prod(shape) > x[0].numel():
        raise ValueError(
            f'a deformable convolution has offsets or masks for {tuple(x.shape[2:])} places and an output of '
            f'{tuple(size)}; give at least as many'
        )
    return x.flatten(1)[:, : math.prod(shape)].unflatten(1, shape)


def _backward(
    grad_output: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]
) -> tuple[Tensor, ...]:
    """Gradients by input, weight, offset, mask and bias; geometry in the order of :data:`PLAIN`."""
    bias = weight.new_zeros(len(weight))
    weights = input.new_zeros(len(input), 1) if mask is None else mask
    tensors = map(full, (grad_output, input, weight, offset, weights, bias))
    gradients = list(kernels._deform_conv2d_backward(*tensors, *geometry, mask is not None))
    gradients[2] = gradients[2].masked_fill(_at_minus_one(offset, weight.shape[2:], geometry), 0)
    return tuple(gradients)


def _at_minus_one(offset: Tensor, kernel: Sequence[int], geometry: list[int]) -> Tensor:
    """Mask of the coordinates of sampled points that are exactly -1, in the shape of ``offset``.

    The interpolation has a kink there: mmcv takes the derivative by the offset from outside, 0, and torchvision from
    inside. The difference matters: with padding 1 and offsets of 0, as training starts, points of every border lie
    there.
    """
    strides, pads, dilations = geometry[0:2], geometry[2:4], geometry[4:6]
    grids = []
    for size, places, stride, pad, dilation in zip(kernel, offset.shape[2:], strides, pads, dilations, strict=True):
        points = torch.arange(size, device=offset.device) * dilation - pad
        grids.append(points[:, None] + torch.arange(places, device=offset.device) * stride)
    y, x = full(offset).unflatten(1, (-1, *kernel, 2)).unbind(4)  # [B, groups, kernel_h, kernel_w, H', W'] each
    kinks = (y + grids[0][:, None, :, None] == -1, x + grids[1][:, None, :] == -1)
    return torch.stack(kinks, 4).flatten(1, 4)
