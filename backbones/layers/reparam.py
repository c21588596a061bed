"""Fusions of linear layers that leave the output as it is: pure functions of tensors.

A convolution is a pair of its weight [C_out, C_in/groups, k, k] and its bias [C_out]. A norm is folded into the
convolution before it, so that zero padding is no obstacle; its statistics are the running ones, as in eval mode. Sums
are taken in float64 and returned in the type of the weight.

Sources: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021 (https://arxiv.org/abs/2101.03697) and
"Scaling Up Your Kernels to 31x31", CVPR 2022 (https://arxiv.org/abs/2203.06717).
"""

from collections.abc import Iterable
from functools import reduce

import torch
import torch.nn.functional as F
from torch import nn

Convolution = tuple[torch.Tensor, torch.Tensor]
"""Weight and bias."""
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def norm_scale_and_shift(norm: BatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift [C] of a batch norm in eval mode, ``y = scale·x + shift``, in float64.

    Raises:
        ValueError: The norm has no running statistics, so that its output depends on the batch.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError('a batch norm without running statistics cannot be folded; set track_running_stats=True')
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = 0.0 if norm.bias is None else norm.bias.double()
    return scale, shift - scale * norm.running_mean.double()


def scale_output(
    weight: torch.Tensor, bias: torch.Tensor | None, scale: torch.Tensor, shift: torch.Tensor | float = 0.0
) -> Convolution:
    """The convolution whose output is ``scale·y + shift`` where the output of the given convolution is ``y``.

    Args:
        weight: Weight [C_out, ...].
        bias: Bias [C_out], or None for none.
        scale: Factor of each output channel [C_out], such as a layer scale.
        shift: Added to each output channel [C_out].
    """
    scale = scale.double()
    scaled = weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))
    moved = scale * (0.0 if bias is None else bias.double()) + shift
    return scaled.to(weight.dtype), moved.to(weight.dtype)


def fold_norm(weight: torch.Tensor, bias: torch.Tensor | None, norm: BatchNorm) -> Convolution:
    """The convolution that equals a convolution followed by a norm in eval mode."""
    return scale_output(weight, bias, *norm_scale_and_shift(norm))


def enlarge_kernel(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Put an odd kernel [..., k, k] in the middle of zeros [..., size, size].

    With "same" padding before and after, stride and dilation being equal, the output stays as it is.
    """
    return F.pad(weight, [(size - weight.shape[-1]) // 2] * 4)


def identity_kernel(like: torch.Tensor) -> torch.Tensor:
    """The depthwise kernel [C, 1, k, k] whose output is its input, in the shape and type of another kernel."""
    kernel = torch.zeros_like(like)
    kernel[..., like.shape[-2] // 2, like.shape[-1] // 2] = 1
    return kernel


def sum_parallel(branches: Iterable[Convolution]) -> Convolution:
    """The convolution whose output is the sum of the outputs of parallel convolutions with odd kernels."""
    weights, biases = zip(*branches, strict=True)
    size = max(weight.shape[-1] for weight in weights)
    weight = reduce(torch.add, (enlarge_kernel(weight.double(), size) for weight in weights))
    bias = reduce(torch.add, (bias.double() for bias in biases))
    return weight.to(weights[0].dtype), bias.to(biases[0].dtype)
