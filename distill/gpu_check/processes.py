"""Several processes: one by NCCL, and two on one card by gloo, which make the step of one with twice the batch.

All runs are started at once: most of a run of two steps is the start of Python and of the card.
"""

import functools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from distill.gpu_check.rows import Check, Mismatch, Setting, Skip, require
from distill.gpu_check.trainings import floats, largest_difference

TRANSFORMER, CONVOLUTIONS = 'deit-tiny_shapes', 'robust-resnet-tiny_shapes'
BATCH = 16
STEPWISE = (
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=9',
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.checkpoint.max_keep_ckpts=9',
    'param_scheduler=None',
    'optim_wrapper.optimizer.type=SGD',
    'optim_wrapper.optimizer.lr=0.1',
    'visualizer.vis_backends=[]',
)
"""Two steps of plain gradient descent, each with a checkpoint."""
LIMIT, STEP = 1e-4, 1e-3
"""The most that a weight may be off, and the least that the largest change of a step must be."""


RUN_S = 120
"""What a run may take before it counts as one that hangs."""


@dataclass(frozen=True)
class Run:
    """A training in processes of its own.

    Attributes:
        config: Name of a config.
        processes: How many share the batch.
        backend: Of `torch.distributed`; None for a run without a launcher.
        options: Settings.
    """

    config: str
    processes: int = 1
    backend: str | None = None
    options: tuple[str, ...] = ()


RUNS = {
    'alone': Run(TRANSFORMER),
    'nccl': Run(TRANSFORMER, 1, 'nccl'),
    'two': Run(TRANSFORMER, 2, 'gloo'),
    'alone convolutions': Run(CONVOLUTIONS),
    'two convolutions': Run(CONVOLUTIONS, 2, 'gloo', ('model.sync_bn=True',)),
}
"""By the name of its folder."""


class Runs:
    """The runs, all of which begin with the first that is asked for.

    Args:
        setting: Where checks run.
    """

    def __init__(self, setting: Setting):
        self.setting = setting

    @functools.cached_property
    def data(self) -> Path:
        """Images for two steps."""
        from distill.synthetic.imagenet_like import write_imagenet_like

        write_imagenet_like(self.setting.folder / 'data', size=32, train=2 * BATCH, val=20, shifted=0)
        return self.setting.folder / 'data'

    @functools.cached_property
    def results(self) -> dict[str, Future]:
        """By name what becomes the folder of a run, or its error. On the CPU one run after another."""
        on_card = self.setting.device == 'cuda'
        names = [name for name, run in RUNS.items() if on_card or run.backend != 'nccl']
        self.data  # noqa: B018  once for all
        pool = ThreadPoolExecutor(len(names) if on_card else 1)
        return {name: pool.submit(self.train, name) for name in names}

    def folder_of(self, name: str) -> Path:
        """The folder of a run that has ended.

        Raises:
            RuntimeError: The run has failed.
        """
        return self.results[name].result()

    def train(self, name: str) -> Path:
        """Make a run of `RUNS`; gives its folder."""
        run, work_dir = RUNS[name], self.setting.folder / name
        command = [sys.executable, '-m', 'distill', 'train', run.config, '--data-root', str(self.data)]
        command += ['--work-dir', str(work_dir)]
        options = run.options
        if run.backend is not None:
            command += ['--launcher', 'pytorch']
            options += (f'env_cfg.dist_cfg.backend={run.backend}',)
        command += ['--cfg-options', *STEPWISE, f'train_dataloader.batch_size={BATCH // run.processes}', *options]
        start = time.perf_counter()
        run_together([(command, rank) for rank in _ranks(run.processes, run.backend)])
        print(f'{name}: {time.perf_counter() - start:.1f} s', flush=True)
        return work_dir


def _ranks(processes: int, backend: str | None) -> list[dict[str, str]]:
    """The environment of each process. All are told that theirs is the first card: there is but one."""
    # Else convolutions are rounded to TF32, in another way for each size of the batch.
    plain = {'NVIDIA_TF32_OVERRIDE': '0', 'OMP_NUM_THREADS': '1'}
    if backend is None:
        return [plain]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    place = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, 'WORLD_SIZE': str(processes), 'LOCAL_RANK': '0'}
    # One machine: nothing to look for in its network.
    place |= {'NCCL_SOCKET_IFNAME': 'lo', 'NCCL_IB_DISABLE': '1', 'GLOO_SOCKET_IFNAME': 'lo'}
    return [{**plain, **place, 'RANK': str(rank)} for rank in range(processes)]


def run_together(commands: Sequence[tuple[Sequence[str], Mapping[str, str]]]) -> None:
    """Run commands side by side, each with additions to its environment.

    Raises:
        RuntimeError: One has failed or takes longer than `RUN_S`; the message is the end of its output.
    """
    pipes: dict[str, Any] = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    started = [subprocess.Popen(command, env={**os.environ, **more}, **pipes) for command, more in commands]
    end, late = time.monotonic() + RUN_S, False
    outputs = []
    for process in started:
        try:
            outputs.append(process.communicate(timeout=max(0.1, end - time.monotonic()))[0])
        except subprocess.TimeoutExpired:
            late = True
            for each in started:
                each.kill()
            outputs.append(process.communicate()[0])
    for process, output in zip(started, outputs, strict=True):
        if process.returncode or late:
            what = f'did not end in {RUN_S} s' if late else f'ended with status {process.returncode}'
            raise RuntimeError(f'a process {what}: {output[-1500:]}')


def checks(setting: Setting) -> list[Check]:
    """The checks, in the order of what they tell."""
    runs = Runs(setting)
    found: dict[str, Callable[[Runs], dict[str, Any]]] = {
        'NCCL: one process = none': nccl_alone,
        "mmcv's SyncBatchNorm by NCCL": mmcv_sync_batch_norm,
        'gloo: two processes = one with twice the batch': two_are_one,
        'gloo: so do batch norms with shared statistics': two_share_statistics,
    }
    return [Check(name, functools.partial(function, runs)) for name, function in found.items()]


def _weights(work_dir: Path, step: int) -> dict[str, Tensor]:
    content = torch.load(work_dir / f'iter_{step}.pth', map_location='cpu', weights_only=True)
    return floats(content['state_dict'])


def _compare(one: Path, alone: Path) -> dict[str, Any]:
    values = {
        'weights': largest_difference(_weights(one, 1), _weights(alone, 1)),
        'a step': largest_difference(_weights(alone, 2), _weights(alone, 1)),
    }
    if values['a step'] < STEP:
        raise Mismatch('a step changes too little to tell anything', values)
    return require(values, {'weights': LIMIT})


def two_are_one(runs: Runs) -> dict[str, Any]:
    """A transformer, which has no batch norms."""
    return _compare(runs.folder_of('two'), runs.folder_of('alone'))


def two_share_statistics(runs: Runs) -> dict[str, Any]:
    """A Robust-ResNet, whose batch norms see the batches of both."""
    return _compare(runs.folder_of('two convolutions'), runs.folder_of('alone convolutions'))


def nccl_alone(runs: Runs) -> dict[str, Any]:
    """The wrapper for several processes around a model of one."""
    if runs.setting.device == 'cpu':
        raise Skip('NCCL needs a card')
    return _compare(runs.folder_of('nccl'), runs.folder_of('alone'))


def mmcv_sync_batch_norm(runs: Runs) -> dict[str, Any]:
    """With one process it is a batch norm."""
    if runs.setting.device == 'cpu':
        raise Skip('NCCL needs a card')
    from backbones.mmcv_ops.cases import ops, wave
    from distill.gpu_check.rows import distance

    os.environ.update(_ranks(1, 'nccl')[0])
    distributed.init_process_group('nccl')
    try:
        results = []
        for kind in (ops.SyncBatchNorm, nn.BatchNorm2d):
            layer = kind(4).cuda()
            layer.weight.data, layer.bias.data = wave(4).float().cuda(), wave(4, speed=0.3).float().cuda()
            maps = wave(2, 4, 8, 9).float().cuda().requires_grad_()
            layer(maps).backward(wave(2, 4, 8, 9, speed=1.1).float().cuda())
            results.append([maps.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var])
        errors = [distance(*pair) for pair in zip(*results, strict=True)]
        return require({'error': max(errors)}, {'error': 1e-4})
    finally:
        distributed.destroy_process_group()
