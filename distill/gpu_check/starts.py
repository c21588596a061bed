"""How a worker starts: in a fresh interpreter, or as a fork of one that has imported what all parts need.

A fork can use a card only if nothing before it has, so that workers for a card start afresh. On the CPU the imports of
fourteen parts would take longer than their checks.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Protocol

IMPORTED = ('distill.gpu_check.worker', 'distill.gpu_check.contract', 'distill.gpu_check.trainings')


class Worker(Protocol):
    """A process that works on a part; it leads a process group of its own."""

    pid: int

    def poll(self) -> int | None:
        """The status with which the process has ended; None while it runs."""

    def wait(self) -> int:
        """The status with which the process ends."""


class Forked:
    """A worker that is a fork.

    Args:
        arguments: Of `distill.gpu_check.worker`.
        log: File to which all that it prints is added.
        environment: Its environment.
    """

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]):
        self.process = _context(environment).Process(target=_work, args=(list(arguments), str(log), dict(environment)))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def poll(self) -> int | None:
        """See `Worker`."""
        return self.process.exitcode

    def wait(self) -> int:
        """See `Worker`."""
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


def can_fork(device: str) -> bool:
    """Whether workers for a device are forks."""
    return device == 'cpu' and 'forkserver' in multiprocessing.get_all_start_methods()


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str], fork: bool) -> Worker:
    """Start a worker.

    Args:
        arguments: Of `distill.gpu_check.worker`.
        log: File to which all that it prints is added.
        environment: Its environment.
        fork: Whether it is a fork.
    """
    if fork:
        return Forked(arguments, log, environment)
    command = [sys.executable, '-m', 'distill.gpu_check.worker', *arguments]
    with open(log, 'a') as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, process_group=0, env=environment)


def prepare(environment: Mapping[str, str]) -> None:
    """Import what all forks need, so that the first does not wait for it.

    Args:
        environment: That of the imports.
    """
    first = _context(environment).Process(target=os.getpid)
    first.start()
    first.join()


def stop(worker: Worker) -> None:
    """End a worker and what it has started."""
    # A fork that has hardly begun leads no group yet.
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(worker.pid, signal.SIGKILL)
    worker.wait()


def _work(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    from distill.gpu_check.worker import main

    sys.exit(main(arguments))


def _context(environment: Mapping[str, str]) -> ForkServerContext:
    """What makes forks; the first call's environment is that of the imports."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(IMPORTED))
    # A worker that is killed leaves the semaphores of its loaders, which are then removed; no one needs to know.
    with _environment({**environment, 'PYTHONWARNINGS': 'ignore:resource_tracker'}):
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment(environment: Mapping[str, str]) -> Iterator[None]:
    """Within the block, this process has another environment."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
