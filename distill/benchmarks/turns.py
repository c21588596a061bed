"""Processes that take turns: each does one thing at a time when it is asked to, and tells its peak of memory.

Other work of the machine so slows all variants alike, and each peak is that of one variant. This module is light, so
that a process that runs an engine does not hold torch too.
"""

import contextlib
import multiprocessing
import re
import resource
import traceback
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any


class Worker:
    """A process of a variant.

    Args:
        build: Called in the process with `settings`; returns what answers questions. Must be importable.
        settings: Of the variant; pickled.
        context: How processes start; None starts them anew, with nothing of this one.

    Raises:
        ValueError: The process could not build it; the message is the last line of its error.
    """

    def __init__(self, build: Callable[[Any], Callable[[Any], Any]], settings: Any, context: BaseContext | None = None):
        context = context or multiprocessing.get_context('spawn')
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(build, settings, far_end), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        far_end.close()
        self._answer()

    def ask(self, question: Any) -> Any:
        """What the process answers to a question, which may be anything but None."""
        self.connection.send(question)
        return self._answer()

    def stop(self) -> float:
        """End the process; returns the most memory it had, in MiB."""
        peak_mib = self.ask(None)
        self.process.join()
        return peak_mib

    def _answer(self) -> Any:
        try:
            answer, error = self.connection.recv()
        except EOFError:
            self.process.join()
            raise ValueError(f'its process ended with {self.process.exitcode}') from None
        if error is not None:
            raise ValueError(error)
        return answer


def peak_mib() -> float:
    """The most memory that this process has held, in MiB.

    Linux tells it of the program that runs now. `getrusage` also counts what the process was forked from.
    """
    with contextlib.suppress(OSError):
        found = re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text())
        if found:
            return int(found[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _serve(build: Callable[[Any], Callable[[Any], Any]], settings: Any, connection: Any) -> None:
    """Answer each question that is received; None asks for the peak of memory and ends."""
    try:
        step = build(settings)
        connection.send((None, None))
        while (question := connection.recv()) is not None:
            connection.send((step(question), None))
        connection.send((peak_mib(), None))
    except Exception:
        connection.send((None, traceback.format_exc().strip().splitlines()[-1].partition('Error: ')[2] or 'it failed'))
