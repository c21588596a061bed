"""Run the project's commands in processes of their own that need not import torch, timm and mmengine.

The processes are forked from one that has imported these and done nothing else (multiprocessing's ``forkserver``): they
are as fresh as a command that a user starts, six CPU seconds sooner.
"""

import importlib
import multiprocessing
import multiprocessing.context
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

CONTEXT = multiprocessing.get_context('forkserver')
# Not this project, which another of Python's paths may also hold: the processes look for it where the tests do.
CONTEXT.set_forkserver_preload(['torchvision', 'timm.task', 'mmengine.runner', 'matplotlib.pyplot'])


@dataclass
class Started:
    """A command that runs.

    Attributes:
        process: Its process.
        output: The reading end of its stdout and stderr.
    """

    process: multiprocessing.context.ForkServerProcess
    output: Connection

    def lines(self) -> Iterator[str]:
        """The output so far, line by line; ends with the process."""
        with open(os.dup(self.output.fileno()), errors='replace') as stream:
            yield from stream

    def finish(self) -> tuple[int, str]:
        """Wait for the end; returns the exit status, negative for a signal, and the output."""
        output = ''.join(self.lines())
        self.process.join(600)
        return self.process.exitcode, output


def start(command: str, arguments: Sequence, environment: Mapping[str, str] | None = None) -> Started:
    """Start a command.

    Args:
        command: A module of `distill.cli`: ``train``, ``cache``, ….
        arguments: Arguments of the command line.
        environment: Variables to set.
    """
    reader, writer = CONTEXT.Pipe(duplex=False)
    arguments = list(map(str, arguments))
    process = CONTEXT.Process(target=_run, args=(command, arguments, dict(environment or {}), writer))
    process.start()
    writer.close()
    return Started(process, reader)


def start_two(command: str, arguments: Sequence, launcher: str) -> list[Started]:
    """Start a command in two processes that find each other, as a launcher would start them.

    Args:
        command: A module of `distill.cli`.
        arguments: Arguments of the command line, without ``--launcher``.
        launcher: ``pytorch`` or ``slurm``.
    """
    names = dict(pytorch=('RANK', 'LOCAL_RANK', 'WORLD_SIZE'), slurm=('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS'))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        place = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free.getsockname()[1]), SLURM_NODELIST='localhost')
    return [
        start(
            command,
            [*arguments, '--launcher', launcher],
            {**place, **dict(zip(names[launcher], (rank, rank, '2'), strict=True))},
        )
        for rank in ('0', '1')
    ]


def run_two(command: str, arguments: Sequence, launcher: str = 'pytorch') -> None:
    """Run a command in two processes that find each other, and have both succeed."""
    for started in start_two(command, arguments, launcher):
        status, output = started.finish()
        assert status == 0, output[-2000:]


def leave_configs_unformatted() -> None:
    """Have mmengine write configs as valid but ugly Python.

    It formats the config four times a run and once a checkpoint, which takes half the time of a run of a few steps.
    """
    # One of OpenMMLab's stacks has the function by its own name, the other looks it up in yapf.
    for module in ('mmengine.config.config', 'yapf.yapflib.yapf_api'):
        importlib.import_module(module).FormatCode = lambda text, **style: (text, True)


def _run(command: str, arguments: list[str], environment: dict[str, str], output: Connection) -> None:
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    os.environ.update(environment)
    leave_configs_unformatted()
    main = importlib.import_module(f'distill.cli.{command}').main
    sys.exit(main(arguments))
