"""Batch norms that share their statistics among the processes of a run."""

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from distill.base.processes import default_device


def share_statistics(network: nn.Module) -> nn.Module:
    """Have the batch norms of all processes normalise by the statistics of their batches together.

    With an accelerator this is timm's conversion to torch's `SyncBatchNorm`, which keeps the activations of timm's
    norms. That layer refuses tensors on the CPU, where each norm is shown the images of all processes instead.

    Args:
        network: A timm model; its norms are replaced or hooked.

    Returns:
        The network.
    """
    if default_device() != 'cpu':
        return convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(_show_all)
            module.register_forward_hook(_keep_own)
    return network


def _shares(module: nn.Module) -> bool:
    return module.training and get_world_size() > 1


def _show_all(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    return (_Gathered.apply(inputs[0]),) if _shares(module) else None


def _keep_own(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output.chunk(get_world_size())[get_rank()] if _shares(module) else output


class _Gathered(torch.autograd.Function):
    """The batches of all processes, one after the other; the gradient is the sum of the processes' gradients."""

    # torch's own gathering with a gradient (torch.distributed.nn) is deprecated, and its successor is private.

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return torch.cat(all_gather(x.contiguous()))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        all_reduce(gradient)
        return gradient.chunk(get_world_size())[get_rank()]
