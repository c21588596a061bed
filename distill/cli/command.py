"""How every command line of this project runs, and how it fails."""

import argparse
import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from distill.base.caches import leave_home_alone
from distill.base.extras import missing_extra
from distill.base.mistakes import config_mistake

USER_ERRORS = (ValueError, OSError)
"""What a user's mistake raises: a wrong value, or a missing or unreadable file. Anything else is a bug, unless mmengine
raises it for what a config says: see `config_mistake`."""
OUTPUTS = ('out', 'work_dir', 'output_dir', 'folder', 'copy', 'json')
"""The names of arguments that say where a command writes."""
STOPPED = 130
"""Exit status after Ctrl-C, as a shell has it."""


def one_line(error: BaseException, place: str = '') -> str:
    """The message of an error as one line.

    Args:
        error: What was raised.
        place: The folder or file that the command writes, if it is known.

    A data loader worker raises its error again with the whole traceback as the message, whose last line is the cause.
    mmengine's registry puts the class that it was building before the message, which tells a user nothing. The
    system's own errors start with a number, and a write to a full disk does not say which.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" of '{error.filename or place}'" if error.filename or place else ' that is written to'
        return f'the disk{where} is full; make room or name another folder'
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"'{error.filename}': {error.strerror[0].lower()}{error.strerror[1:]}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if 'Original Traceback' in str(error):
        lines = [lines[-1].partition('Error: ')[2] or lines[-1]]
    message = ' '.join(lines)
    while message.startswith('class `') and '.py: ' in message:
        message = message.partition('.py: ')[2]
    return message


def written(args: argparse.Namespace) -> str:
    """What a command writes: the first of its arguments that says so."""
    places = (getattr(args, name, None) for name in OUTPUTS)
    return str(next((place for place in places if place), ''))


def run_command(
    build_parser: Callable[[], argparse.ArgumentParser],
    run: Callable[[argparse.Namespace], dict],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, run, and turn a user's mistake into one line on stderr.

    Args:
        build_parser: Makes the command's parser.
        run: Does the work and returns what the command also writes as JSON.
        argv: Arguments, without the program's name; ``None`` takes them from the command line.

    Returns:
        Exit status: 0, 130 after Ctrl-C, or 1 after a user's mistake; ``TRACEBACK=1`` in the environment shows where
        the mistake was found. Other exceptions are bugs and keep their traceback.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has read enough; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f'{parser.prog}: stopped', file=sys.stderr)
        return STOPPED
    except Exception as error:
        is_known = isinstance(error, USER_ERRORS)
        message = one_line(error, written(args)) if is_known else config_mistake(error) or missing_extra(error)
        if message is None:
            raise
        if os.environ.get('TRACEBACK') == '1':
            traceback.print_exc()
        print(f'{parser.prog}: error: {message}', file=sys.stderr)
        return 1
    finally:
        if getattr(args, 'launcher', 'none') != 'none':
            # The exception is gone, and with it what has kept the threads that spoke to other processes.
            gc.collect()
    return 0


def prepare_torch() -> None:
    """Import torch, and have this process keep the memory that one step frees for the next.

    A command that computes calls this once its arguments are checked, before its other heavy imports.
    """
    leave_home_alone()
    from distill.base.memory import keep_freed_memory

    keep_freed_memory()
