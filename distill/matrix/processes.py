"""Processes of steps: commands started anew, or as forks of this process, which has imported what they need."""

import atexit
import contextlib
import importlib
import os
import shlex
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

FORK_MODULES = ('timm', 'distill.training.register', 'distill.training.experiment', 'distill.robustness.evaluate')
"""What most commands import: four to eight seconds of a core each time."""


@dataclass
class Running:
    """A process that runs a command of this project.

    Attributes:
        pid: Number of the process, a child of this one.
        start: When it was started, by the monotonic clock.
        seconds: How long it ran; None while it runs.
        cpu_s: Time that the process and its own children computed, in their own code; None while it runs.
        status: Its exit status; None while it runs.
    """

    pid: int
    start: float
    seconds: float | None = None
    cpu_s: float | None = None
    status: int | None = None

    def is_over(self, wait: bool = False) -> bool:
        """Whether the process has ended.

        Args:
            wait: Wait until it has.
        """
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, 0 if wait else os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.seconds, self.cpu_s = time.monotonic() - self.start, usage.ru_utime
        return self.status is not None


def can_fork() -> bool:
    """Whether forks of this process can compute: not after an accelerator was asked for, nor with macOS's libraries."""
    return sys.platform == 'linux' and not torch.cuda.is_available()


def prepare_forks() -> None:
    """Import what most commands need, so that their forks have it."""
    for module in FORK_MODULES:
        importlib.import_module(module)


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str], launcher: Sequence[str] = ()) -> Running:
    """Start a command in a Python of its own.

    Args:
        command: A module of `distill.cli`, and its arguments.
        log: File to which its output is added.
        environment: Its environment variables.
        launcher: Command that starts it.
    """
    with _begun(command, log) as file:
        words = [*launcher, sys.executable, '-m', f'distill.cli.{command[0]}', *command[1:]]
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment)
    process.returncode = 0  # Its status is read by `Running`, and no longer by subprocess.
    return Running(process.pid, time.monotonic())


def fork(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Running:
    """Start a command as a fork of this process.

    Args:
        command: A module of `distill.cli`, and its arguments.
        log: File to which its output is added.
        environment: Its environment variables; ``OMP_NUM_THREADS`` among them.
    """
    with _begun(command, log) as file:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python warns of threads, whose locks a fork inherits: those of linear algebra wait and hold none.
            warnings.simplefilter('ignore', DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become(command, file.fileno(), environment)
    return Running(pid, time.monotonic())


@contextlib.contextmanager
def _begun(command: Sequence[str], log: Path):
    """The open log, in which a command line stands."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as file:
        file.write(f'$ python -m {shlex.join([f"distill.cli.{command[0]}", *command[1:]])}\n')
        file.flush()
        yield file


def _become(command: Sequence[str], output: int, environment: Mapping[str, str]) -> None:
    """Run a command in this process and end it, as Python ends."""
    status = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
        sys.argv = [f'distill.cli.{command[0]}', *command[1:]]
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
