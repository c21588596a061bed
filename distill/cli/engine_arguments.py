"""Arguments of commands that start many runs, on this machine or on a cluster."""

import argparse
from typing import Any

from distill.api.spread import Share, parse_share
from distill.cli.arguments import check_at_least
from distill.jobs.engines import ENGINES, JOBS, check_engine, parse_options


def add_engine_arguments(parser: argparse.ArgumentParser, runs: str, alone: bool = False) -> None:
    """Add the choice of an engine.

    Args:
        parser: The command's.
        runs: What is run several at a time, for people.
        alone: Whether the command does all in its own process unless an engine is chosen.
    """
    group = parser.add_argument_group('of the engine', 'where the work is done; see docs/scale.md')
    default = 'this process' if alone else 'local'
    group.add_argument('--engine', choices=ENGINES, help=f'start {runs} as processes here, jobs of Slurm or tasks of '
                       f'Ray (default: {default})')  # fmt: skip
    group.add_argument('--jobs', type=int, metavar='N', help=f'{runs} at a time; with accelerators here, one each '
                       f'(default: {JOBS["local"]}; {JOBS["slurm"]} on a cluster)')  # fmt: skip
    group.add_argument('--engine-options', nargs='+', default=[], metavar='KEY=VALUE', help='such as partition=gpu '
                       'gpus_per_node=1 timeout_min=720 (Slurm), address=auto num_gpus=1 (Ray)')  # fmt: skip


def engine_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Check what `add_engine_arguments` has added, and make keyword arguments of a call of it.

    Raises:
        ValueError: The engine is not installed, or an option is no setting.
    """
    check_at_least(args, 1, 'jobs')
    options = parse_options(args.engine_options)
    if args.engine is None and options:
        raise ValueError(f'--engine-options {" ".join(args.engine_options)} needs --engine slurm or ray')
    if args.engine is not None:
        check_engine(args.engine, options)
    return {'engine': args.engine, 'jobs': args.jobs, 'engine_options': options}


def share_argument(text: str) -> Share:
    """The type of ``--share``."""
    try:
        return parse_share(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
