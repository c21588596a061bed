"""Depthwise convolution as an operator of torch, with the kernels of this package behind it.

``torch.compile`` sees two opaque operators whose shapes and gradients it knows, and CUDA graphs can hold them. The
kernels of a convolution may be fp32 beside half-precision images, as under autocast: they are rounded inside, and their
gradient is not. There is no second derivative.

A NaN or an infinity in a plane reaches every pixel of that plane's output, not only those whose kernel meets it. A
gradient scaler finds it all the same.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from backbones.layers.depthwise import launch
from backbones.layers.depthwise.choice import choose
from backbones.layers.depthwise.launch import Config
from backbones.layers.depthwise.tiling import Geometry
from backbones.layers.memory_format import is_channels_last


@torch.library.custom_op('robust_backbones::depthwise_conv2d', mutates_args=())
def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """A depthwise convolution.

    Args:
        x: Images [B, C, H, W].
        weight: Kernels [C, 1, h, w].
        bias: Bias [C] or None.
        stride: Vertical and horizontal stride.
        padding: Vertical and horizontal padding.
        dilation: Vertical and horizontal dilation.

    Returns:
        Images [B, C, H', W'], in the type and memory format of ``x``.
    """
    geometry = _geometry(x, weight, stride, padding, dilation)

    def run(config: Config) -> Tensor:
        if config.way != 'torch':
            return launch.convolve(x, weight, bias, geometry, False, config)
        rounded_bias = None if bias is None else bias.to(x.dtype)
        return torch.conv2d(x, weight.to(x.dtype), rounded_bias, stride, padding, dilation, len(weight))

    x = _dense(x)
    return _like(run(choose('forward', x, geometry, run)), x)


@depthwise_conv2d.register_fake
def _(x, weight, bias, stride, padding, dilation):
    geometry = _geometry(x, weight, stride, padding, dilation)
    return _empty(x, (*x.shape[:2], *geometry.output))


@torch.library.custom_op('robust_backbones::depthwise_conv2d_backward', mutates_args=())
def depthwise_conv2d_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    for_x: bool,
    for_weight: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of the input and of the kernels; an empty tensor in place of one that is not asked for."""
    geometry = _geometry(x, weight, stride, padding, dilation)
    x = _dense(x)
    grad = _like(grad, x)

    def run_torch(wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        return torch.ops.aten.convolution_backward(
            grad, x, weight.to(x.dtype), None, stride, padding, dilation, False, [0, 0], len(weight), wanted
        )

    def run_x(config: Config) -> Tensor:
        if config.way == 'torch':
            return run_torch([True, False, False])[0]
        return launch.convolve(grad, weight, None, geometry, True, config, is_channels_last(x))

    def run_weight(config: Config) -> Tensor:
        if config.way == 'torch':
            return run_torch([False, True, False])[1].to(weight.dtype)
        return launch.correlate(x, grad, geometry, weight.dtype, config)

    config_x = choose('input', x, geometry, run_x) if for_x else None
    config_weight = choose('weight', x, geometry, run_weight) if for_weight else None
    if config_x is not None and config_weight is not None and config_x.way == config_weight.way == 'matrix':
        grad = launch.to_planes(grad)  # Once for both.
    grad_x = grad.new_empty(0) if config_x is None else _like(run_x(config_x), x)
    grad_weight = weight.new_empty(0) if config_weight is None else run_weight(config_weight).contiguous()
    return grad_x, grad_weight


@depthwise_conv2d_backward.register_fake
def _(grad, x, weight, stride, padding, dilation, for_x, for_weight):
    grad_x = _empty(x, x.shape) if for_x else grad.new_empty(0)
    return grad_x, weight.new_empty(weight.shape if for_weight else 0)


def _save(ctx, inputs, output) -> None:
    x, weight, bias, *ctx.geometry = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(x, weight)


def _backward(ctx, grad: Tensor):
    x, weight = ctx.saved_tensors
    for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
    grad_x = grad_weight = grad_bias = None
    if for_x or for_weight:
        grads = depthwise_conv2d_backward(grad, x, weight, *ctx.geometry, for_x, for_weight)
        grad_x, grad_weight = grads[0] if for_x else None, grads[1] if for_weight else None
    if for_bias:
        grad_bias = grad.sum(dim=(0, 2, 3), dtype=torch.promote_types(grad.dtype, torch.float32)).to(ctx.bias_dtype)
    return grad_x, grad_weight, grad_bias, None, None, None


depthwise_conv2d.register_autograd(_backward, setup_context=_save)


def _geometry(x: Tensor, weight: Tensor, stride, padding, dilation) -> Geometry:
    def pair(numbers) -> tuple[int, int]:
        return numbers[0], numbers[1]

    return Geometry(pair(x.shape[2:]), pair(weight.shape[2:]), pair(stride), pair(padding), pair(dilation))


def _format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(x) else torch.contiguous_format


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_format(x))


def _like(y: Tensor, x: Tensor) -> Tensor:
    return y.contiguous(memory_format=_format(x))


def _empty(x: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_format(x))
