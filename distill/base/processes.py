"""Several processes of one run."""

import os
import subprocess

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, FullyShardedDataParallel)
"""What a model is wrapped in for several devices; mmengine's own wrappers are subclasses."""


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, out of whatever wraps it for several devices."""
    while isinstance(model, WRAPPERS):
        model = model.module
    return model


def default_device() -> str:
    """``cuda``, ``mps`` or another accelerator that torch finds, otherwise ``cpu``."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None else 'cpu'


def rank_and_count() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def barrier() -> None:
    """Wait for the other processes of the run, if there are any."""
    if rank_and_count()[1] > 1:
        distributed.barrier()


def join_on_cpu(launcher: str) -> bool:
    """Join a run's processes by gloo, if there is no accelerator; with one, mmengine does that.

    Args:
        launcher: ``pytorch`` (torchrun), ``slurm`` (srun), or another, which is left to mmengine.

    Returns:
        Whether this process has joined.

    Raises:
        ValueError: Slurm has not started this process.
    """
    if launcher not in ('pytorch', 'slurm') or default_device() != 'cpu':
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
