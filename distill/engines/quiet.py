"""Libraries written in C++ that print: what they print is caught, so that it lands in no JSON and on no screen."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def caught_output() -> Iterator[Callable[[], str]]:
    """Catch what is written to the process's stdout and stderr, below Python too, while the block runs.

    Yields:
        A function that returns what was written so far.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError, AttributeError):  # A stream that is closed, or none at all.
            stream.flush()
    with tempfile.TemporaryFile() as file:
        kept = {number: os.dup(number) for number in (1, 2)}

        def text() -> str:
            return os.pread(file.fileno(), 1 << 20, 0).decode(errors='replace')

        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            yield text
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(ValueError, AttributeError):
                    stream.flush()
            for number, copy in kept.items():
                os.dup2(copy, number)
                os.close(copy)


def last_line(text: str) -> str:
    """The last line of what a library has printed, or nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ''
