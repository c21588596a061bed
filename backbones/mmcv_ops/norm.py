"""The steps of a batch normalisation between whose sums mmcv's Python adds up those of all processes (MMSyncBN).

Conventions of mmcv 2.1, ``ops/csrc/common/cuda/sync_bn_cuda_kernel.cuh``. Maps are [B, C, P], of P pixels;
statistics [C] and normalised maps are in single precision.
"""

from torch import Tensor

OVER = (0, 2)  # the axes that a channel's statistics are taken over


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Mean of each channel, into ``mean``."""
    mean.copy_(input.float().mean(OVER))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Mean square distance of each channel from ``mean``, into ``var``."""
    var.copy_((input.float() - mean[:, None]).square().mean(OVER))


def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float,
    group_size: int,
) -> None:
    """Normalise, and follow the statistics.

    Args:
        input: [B, C, P].
        mean: Over all processes [C].
        var: Likewise, the biased one.
        weight: [C], or empty.
        bias: [C], or empty.
        running_mean: Moves towards ``mean`` by ``momentum`` [C], or empty.
        running_var: Moves towards the unbiased variance [C], or empty.
        norm: Receives the normalised maps, or is empty.
        std: Receives the standard deviations [C], or is empty.
        output: Receives the normalised maps times the weight, plus the bias.
        eps: Added to the variance.
        momentum: From 0 to 1.
        group_size: Processes, each of which is taken to have as many values as this one.
    """
    deviation = (var + eps).sqrt()
    normal = (input.float() - mean[:, None]) / deviation[:, None]
    output.copy_(normal * weight[:, None] + bias[:, None] if weight.numel() else normal)
    if norm.numel():
        norm.copy_(normal)
    if std.numel():
        std.copy_(deviation)
    if running_mean.numel():
        count = input.shape[0] * input.shape[2] * group_size
        running_mean.lerp_(mean.to(running_mean), momentum)
        running_var.lerp_((var * count / (count - 1) if count > 1 else var).to(running_var), momentum)


def sync_bn_backward_param(grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor) -> None:
    """Gradients by weight and bias, into the tensors of these names."""
    grad_weight.copy_((grad_output.float() * norm).sum(OVER))
    grad_bias.copy_(grad_output.float().sum(OVER))


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Gradient by the input, into ``grad_input``, from those by weight and bias, averaged over the processes."""
    shared = (grad_weight[:, None] * norm + grad_bias[:, None]) / (norm.shape[0] * norm.shape[2])
    grad_input.copy_(weight[:, None] * (grad_output.float() - shared) / std[:, None])
