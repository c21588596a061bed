"""Fusions of linear layers that leave the output as it is: pure functions of tensors.

A convolution is a pair of its weight [C_out, C_in/groups, k, k] and its bias [C_out]. Every norm folded here follows
its convolution, so that zero padding does not stand in the way, and its statistics are the running ones, as in eval
mode. Sums are taken in float64 and returned in the weight's type.

Sources: Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021 (https://arxiv.org/abs/2101.03697) and
"Scaling Up Your Kernels to 31x31", CVPR 2022 (https://arxiv.org/abs/2203.06717).
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

Convolution = tuple[torch.Tensor, torch.Tensor]


def norm_scale_and_shift(norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """What a batch norm does in eval mode: ``y = scale·x + shift``, each [C] in float64."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - scale * norm.running_mean.double()


def scale_output(
    weight: torch.Tensor, bias: torch.Tensor | None, scale: torch.Tensor, shift: torch.Tensor | float = 0.0
) -> Convolution:
    """The convolution whose output is ``scale·y + shift`` where that of the given one is ``y``.

    Args:
        weight: Weight [C_out, ...].
        bias: Bias [C_out], or None for none.
        scale: Factor of each output channel [C_out], as a layer scale has it.
        shift: What is added to each output channel [C_out].
    """
    scale = scale.double()
    scaled = weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))
    moved = scale * (0.0 if bias is None else bias.double()) + shift
    return scaled.to(weight.dtype), moved.to(weight.dtype)


def fold_norm(weight: torch.Tensor, bias: torch.Tensor | None, norm: nn.BatchNorm2d) -> Convolution:
    """The convolution that does what the given one and the norm after it do."""
    return scale_output(weight, bias, *norm_scale_and_shift(norm))


def enlarge_kernel(weight: torch.Tensor, size: int) -> torch.Tensor:
    """Put an odd kernel [..., k, k] in the middle of zeros [..., size, size].

    With "same" padding before and after, stride and dilation being equal, the output stays as it is.
    """
    return F.pad(weight, [(size - weight.shape[-1]) // 2] * 4)


def identity_kernel(like: torch.Tensor) -> torch.Tensor:
    """The depthwise kernel [C, 1, k, k] that hands its input on, in the shape and type of another."""
    kernel = torch.zeros_like(like)
    kernel[..., like.shape[-2] // 2, like.shape[-1] // 2] = 1
    return kernel


def sum_parallel(branches: Iterable[Convolution]) -> Convolution:
    """The convolution whose output is the sum of those of branches with odd kernels on the same input."""
    weights, biases = zip(*branches, strict=True)
    size = max(weight.shape[-1] for weight in weights)
    weight = sum(enlarge_kernel(weight.double(), size) for weight in weights)
    return weight.to(weights[0].dtype), sum(bias.double() for bias in biases).to(biases[0].dtype)
