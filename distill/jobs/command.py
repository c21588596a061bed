"""One command of this project as engines take it: it is sent to another process, perhaps on another machine."""

import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from distill.base.packaged import ROOT

SITE = ('site-packages', 'dist-packages')
"""Folders of installed packages, which Python searches by itself, after the standard library."""
DIE_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG: the signal that a process gets when the one that started it ends."""


class Outcome(NamedTuple):
    """How a command has ended.

    Attributes:
        status: Its exit status; negative, the signal that killed it.
        seconds: How long it ran, after the last time that it was started.
        cpu_s: Time that its processes computed in their own code; None where nobody has counted.
    """

    status: int
    seconds: float
    cpu_s: float | None = None

    @property
    def was_killed(self) -> bool:
        """Whether something else ended the command: it may go on if it is started again."""
        return self.status < 0


KILLED = -signal.SIGKILL
"""The status of a command whose process is gone and has left no status."""


@dataclass(frozen=True)
class Command:
    """A module of `distill.cli`, its arguments, and what it runs with.

    A call runs the command and waits for it. It is a process of its own, which does not outlive its caller.

    Attributes:
        words: The module, and its arguments.
        log: File to which its output is added.
        environment: Environment variables that it has beside those of the process that starts it.
        launcher: Command that starts it.
        folder: The folder that it starts in, against which relative paths are read.
    """

    words: tuple[str, ...]
    log: str
    environment: Mapping[str, str] = field(default_factory=dict)
    launcher: tuple[str, ...] = ()
    folder: str = field(default_factory=os.getcwd)

    def __call__(self) -> Outcome:
        """Run the command to its end."""
        start = time.monotonic()
        pid = self.start()
        _, status, usage = os.wait4(pid, 0)
        return Outcome(os.waitstatus_to_exitcode(status), time.monotonic() - start, usage.ru_utime)

    def start(self) -> int:
        """Start the command in a Python of its own; returns the number of the process, a child of this one."""
        with begun(self) as file:
            line = [*self.launcher, sys.executable, '-m', f'distill.cli.{self.words[0]}', *self.words[1:]]
            environment = {**os.environ, **self.environment}
            process = subprocess.Popen(
                line,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                preexec_fn=die_with_parent,
            )
        process.returncode = 0  # Its status is read by others, and not by subprocess.
        return process.pid

    def checkpoint(self):
        """What is to be run after a preemption, for submitit: the same command, which goes on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Job(Protocol):
    """A command that an engine has started."""

    def poll(self) -> Outcome | None:
        """How the command has ended; None while it runs or waits for its turn."""

    def cancel(self) -> None:
        """End the command."""


class Engine(Protocol):
    """What starts commands: here, on a cluster, wherever the folders of the run can be reached.

    Attributes:
        name: The name by which a user chooses it.
    """

    name: str

    def start(self, commands: list[tuple[Command, int]]) -> list[Job]:
        """Start commands that need no other; an engine may hand them on together.

        Args:
            commands: Each with the number of its slot, from 0, which chooses the accelerator of this machine.

        Raises:
            ValueError: The engine refuses, in one line.
        """

    def close(self) -> None:
        """Let go of what the engine holds; jobs have ended or were cancelled."""


@contextlib.contextmanager
def begun(command: Command) -> Iterator[IO[str]]:
    """The open log, in which a command line stands."""
    log = Path(command.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open('a') as file:
        file.write(f'$ python -m {shlex.join([f"distill.cli.{command.words[0]}", *command.words[1:]])}\n')
        file.flush()
        yield file


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, where the system can (Linux).

    A worker of a cluster that is killed, and started again, would otherwise leave its first command running: two
    processes would write one folder.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def own_code() -> dict[str, str]:
    """The environment in which commands run the code of this clone, installed or not; nothing if it is installed."""
    if ROOT.name in SITE:
        return {}
    return {'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
