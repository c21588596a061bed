"""The processes of one run: their ranks, their barrier, and their connection where there is no accelerator."""

import gc
import os
import subprocess

import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, FullyShardedDataParallel)
"""Classes that hold a model in ``.module`` to run it on several devices; mmengine's wrappers are subclasses."""


def unwrap(model: nn.Module) -> nn.Module:
    """Take a model out of its wrappers for several devices."""
    while isinstance(model, WRAPPERS):
        model = model.module
    return model


def default_device() -> str:
    """Name the accelerator that torch finds, such as ``cuda`` or ``mps``, otherwise ``cpu``."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found is not None else 'cpu'


def cuda_or_cpu() -> str:
    """Where models are judged unless a user says otherwise."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def rank_and_count() -> tuple[int, int]:
    """The rank of this process, from 0, and the number of processes of the run."""
    if is_connected():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def is_connected() -> bool:
    """Whether this process is one of several of a run."""
    return distributed.is_available() and distributed.is_initialized()


def leave_processes() -> None:
    """Leave the other processes of a run, if there are any, and end the threads that spoke to them.

    A thread of gloo that is left when the interpreter ends now and then aborts a run that has succeeded. The threads
    live as long as anything refers to their process group. A model of the run does, and is garbage by now.
    """
    if is_connected():
        distributed.destroy_process_group()
        gc.collect()


def barrier() -> None:
    """Wait for the other processes of the run, if there are any."""
    if rank_and_count()[1] > 1:
        distributed.barrier()


def join_on_cpu(launcher: str) -> bool:
    """Connect the processes of a run by gloo where there is no accelerator; with one, mmengine connects them.

    Args:
        launcher: ``pytorch`` (torchrun) or ``slurm`` (srun); others are left to mmengine.

    Returns:
        Whether the processes are connected now.

    Raises:
        ValueError: The launcher is ``slurm``, and Slurm has not started this process.
    """
    if launcher not in ('pytorch', 'slurm') or default_device() != 'cpu':
        return False
    if launcher == 'slurm':
        _read_slurm()
    if not distributed.is_initialized():
        distributed.init_process_group('gloo')
    return True


def _read_slurm() -> None:
    """Set the environment variables that torch reads from Slurm's, as mmengine does with an accelerator."""
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


def sum_over_processes(x: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes of the run, without gradients; the tensor itself if there is one."""
    if rank_and_count()[1] > 1:
        x = x.contiguous()
        distributed.all_reduce(x)
    return x


def gather_rows(x: torch.Tensor) -> torch.Tensor:
    """The rows of a tensor of all processes, in the order of their ranks, without gradients; each has as many rows."""
    count = rank_and_count()[1]
    if count == 1:
        return x
    x = x.contiguous()
    rows = [torch.empty_like(x) for _ in range(count)]
    distributed.all_gather(rows, x)
    return torch.cat(rows)
