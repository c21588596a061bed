"""The engine of this machine: processes started anew, or forks of this one, which has imported what they need."""

import atexit
import contextlib
import gc
import importlib
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch

from distill.base.caches import leave_home_alone
from distill.jobs.command import Command, Outcome, begun, die_with_parent

FORK_MODULES = (
    'timm',
    'distill.training.register',
    'distill.training.experiment',
    'distill.robustness.evaluate',
    # What mmengine imports with each run: its picture, its log and its description of the machine.
    'matplotlib.figure',
    'matplotlib.backends.backend_agg',
    'torch.utils.tensorboard',
    'distutils.errors',
)
"""What most commands import: four to eight seconds of a core each time."""
DENSE_MODULES = (
    'backbones.openmmlab.fast_coco',
    'distill.downstream.register',
    'distill.downstream.annotations.register',
    *(
        f'{scope}.{part}'
        for scope in ('mmdet', 'mmseg')
        for part in ('datasets', 'models', 'evaluation', 'visualization')
    ),
)
"""What commands of detectors and segmenters import besides."""


class LocalEngine:
    """Run commands on this machine.

    Args:
        forks: Start commands as forks of this process, which has imported what they need: seconds less for each.
    """

    name = 'local'

    def __init__(self, forks: bool = False):
        self.forks = forks

    def start(self, commands: list[tuple[Command, int]]) -> list['Process']:
        """Start commands, each on the accelerator of its slot if there is one."""
        return [Process(self._start(command, slot)) for command, slot in commands]

    def _start(self, command: Command, slot: int) -> int:
        if self.forks:
            return fork(command)
        if torch.cuda.is_available() and not command.launcher:
            chosen = {'CUDA_VISIBLE_DEVICES': str(slot % torch.cuda.device_count())}
            chosen |= {name: os.environ[name] for name in chosen if name in os.environ}
            command = replace(command, environment={**chosen, **command.environment})
        return command.start()

    def close(self) -> None:
        """Nothing is held."""


class Process:
    """A child of this process that runs a command.

    Args:
        pid: Its number.
    """

    def __init__(self, pid: int):
        self.pid, self._start, self._outcome = pid, time.monotonic(), None

    def poll(self) -> Outcome | None:
        """How the process has ended; None while it runs."""
        if self._outcome is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                seconds = time.monotonic() - self._start
                self._outcome = Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_utime)
        return self._outcome

    def cancel(self) -> None:
        """Ask the process to end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)


def can_fork() -> bool:
    """Whether forks of this process can compute: not after an accelerator was asked for, nor with macOS's libraries."""
    return sys.platform == 'linux' and not torch.cuda.is_available()


def prepare_forks(more: Sequence[str] = ()) -> None:
    """Import what most commands need, so that their forks have it.

    Args:
        more: Further modules, of commands that need more. What is not installed is left to the command that needs it.
    """
    leave_home_alone()
    for module in (*FORK_MODULES, *more):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # A fork need not look through what was imported each time that it collects garbage: about 0.4 s.
    gc.collect()
    gc.freeze()


def fork(command: Command) -> int:
    """Start a command as a fork of this process; returns the number of the process.

    Args:
        command: The command; its environment has ``OMP_NUM_THREADS``.
    """
    with begun(command) as file:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python warns of threads, whose locks a fork inherits: those of linear algebra wait and hold none.
            warnings.simplefilter('ignore', DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become(command, file.fileno())
    return pid


def _become(command: Command, output: int) -> None:
    """Run a command in this process and end it, as Python ends."""
    status = 1
    try:
        die_with_parent()
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        os.environ.update(command.environment)
        torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
        sys.argv = [f'distill.cli.{command.words[0]}', *command.words[1:]]
        status = importlib.import_module(sys.argv[0]).main(sys.argv[1:])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status or 0)
