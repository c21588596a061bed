"""Spread the work of one command over processes, here or on a cluster, which each do a share of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.api.checks import Say, as_keyword, as_option, check_least
from distill.jobs.engines import JOBS, check_engine, open_engine

Share = tuple[int, int]
"""The number of a share, from 0, and how many there are."""


def check_share(share: Share | None, say: Say = as_keyword) -> None:
    """Check the share of a process.

    Raises:
        ValueError: There is no such share.
    """
    if share is not None and not (len(share) == 2 and 0 <= share[0] < share[1]):
        number, count = share if len(share) == 2 else (share, '?')
        raise ValueError(f'{say("share")} {number}/{count} does not exist; number N shares from 0/N to N-1/N')


def parse_share(text: str) -> Share:
    """Read ``I/N``.

    Raises:
        ValueError: It is none.
    """
    number, slash, count = text.partition('/')
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise ValueError(f"--share '{text}' is not I/N, such as 0/4")
    check_share((int(number), int(count)), lambda name: f'--{name}')
    return int(number), int(count)


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Write keywords as a command's options; None, False and empty lists are options that are not given."""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False or value == []:
            continue
        values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
        words += [as_option(name), *map(str, values)]
    return words


def spread(
    command: Sequence[str],
    folder: Path,
    engine: str,
    jobs: int | None,
    engine_options: Mapping[str, Any] | None,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> None:
    """Run a command so many times as there are jobs, each with another ``--share``.

    Args:
        command: A module of `distill.cli`, and its arguments.
        folder: Folder for logs, which all machines reach.
        engine: A name of `distill.jobs.engines.ENGINES`.
        jobs: Number of shares; None for 2 here and 64 on a cluster.
        engine_options: Settings of the engine.
        threads: CPU threads of each process.
        say: Called with a line of text when a share begins and ends.

    Raises:
        ValueError: The engine is not there or refuses, or a share has failed.
    """
    options = engine_options or {}
    check_engine(engine, options)
    check_least(1, jobs=jobs, threads=threads)
    # Here, because it imports torch, and the checks of arguments come before that.
    from distill.jobs.steps import Step, Workplace, run_steps

    count = jobs or JOBS[engine]
    steps = [Step(f'{command[0]} {n} of {count}', [*command, '--share', f'{n}/{count}']) for n in range(count)]
    place = Workplace(folder / 'logs', count, threads, again=f'the same {command[0]}')
    # What was done is known by the results, and a mark would outlive them.
    for step in steps:
        place.mark(step.name).unlink(missing_ok=True)
    place.engine = open_engine(engine, options, folder / engine, threads, count)
    try:
        run_steps(steps, place, say)
    finally:
        place.engine.close()
