"""Several processes of one run, also on the CPU, where mmengine's launchers and torch's `SyncBatchNorm` fail."""

import os
import subprocess

import torch
from mmengine.device import get_device
from timm.layers import convert_sync_batchnorm
from torch import Tensor, distributed, nn


def join_on_cpu(launcher: str) -> bool:
    """Join a run's processes by gloo, if there is no accelerator; with one, mmengine does that.

    Args:
        launcher: ``pytorch`` (torchrun), ``slurm`` (srun), or another, which is left to mmengine.

    Returns:
        Whether this process has joined.

    Raises:
        ValueError: Slurm has not started this process.
    """
    if launcher not in ('pytorch', 'slurm') or get_device() != 'cpu':
        return False
    if launcher == 'slurm':
        _read_slurm()
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
    return True


def _read_slurm() -> None:
    """Say by torch's variables what Slurm's say, as mmengine does with an accelerator."""
    names = dict(RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
    missing = [name for name in (*names.values(), 'SLURM_NODELIST') if name not in os.environ]
    if missing:
        raise ValueError(f'--launcher slurm finds no {missing[0]} in the environment; start the command by srun')
    os.environ.update({name: os.environ[slurm] for name, slurm in names.items()})
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        command = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        os.environ['MASTER_ADDR'] = hosts[0]


def share_statistics(network: nn.Module) -> nn.Module:
    """Have the batch norms of all processes normalise by the statistics of their batches together.

    With an accelerator this is timm's conversion to torch's `SyncBatchNorm`, which keeps the activations of timm's
    norms. That layer refuses tensors on the CPU, where each norm is shown the images of all processes instead.

    Args:
        network: A timm model; its norms are replaced or hooked.

    Returns:
        The network.
    """
    if get_device() != 'cpu':
        return convert_sync_batchnorm(network)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(_show_all)
            module.register_forward_hook(_keep_own)
    return network


def _shares(module: nn.Module) -> bool:
    return module.training and distributed.is_initialized() and distributed.get_world_size() > 1


def _show_all(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
    return (_Gathered.apply(inputs[0]),) if _shares(module) else None


def _keep_own(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output.chunk(distributed.get_world_size())[distributed.get_rank()] if _shares(module) else output


class _Gathered(torch.autograd.Function):
    """The batches of all processes, one after the other; a gradient is the sum of what all processes say."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]
