"""Arguments that several commands share, and checks of arguments and paths that need no heavy import."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from distill.base.extras import TRACKERS
from distill.base.packaged import CONFIG, ENDINGS, find
from distill.base.paths import check_can_write as check_can_write
from distill.base.paths import check_ending as check_ending
from distill.base.paths import check_is_file as check_is_file
from distill.base.paths import check_is_folder as check_is_folder
from distill.cli.cfg_options import CfgOptions

if TYPE_CHECKING:
    from distill.training.experiment import Experiment

LAUNCHERS = {
    'none': None,
    'pytorch': ('RANK', 'torchrun'),
    'slurm': ('SLURM_PROCID', 'srun'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
}
"""The choices of ``--launcher``: for each a variable that it sets in the environment, and the program to start."""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add OpenMMLab's arguments and ``--data-root``, of which `experiment_of` makes what is run."""
    parser.add_argument('config', help='config file, or a name of `robust-backbones configs`; a unique part suffices')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--data-root', help="the data set's folder, in place of the config's data_root")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='settings in place of the config',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes were started')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def check_config_arguments(args: argparse.Namespace, runs: bool = True) -> None:
    """Check what `add_config_arguments` has added, and put the path of a config in place of its name.

    Args:
        args: Parsed arguments.
        runs: Whether the config is run, which needs the data, a work directory and a launcher, or only read.

    Raises:
        FileNotFoundError: The config or the data root does not exist.
        OSError: The work directory cannot be written.
        ValueError: Several configs fit the name, the config's format is unknown, or the launcher has not started this
            process.
    """
    args.config = find_config(args.config)
    check_ending(args.config, 'config', ENDINGS)
    if runs:
        if args.data_root:
            check_is_folder(args.data_root, 'data root', 'make or unpack the data there, or pass another --data-root')
        check_can_write(args.work_dir, '--work-dir', is_folder=True)
        check_launcher(args.launcher)
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def experiment_of(args: argparse.Namespace) -> 'Experiment':
    """The config and what is set beside it, of the arguments that `add_config_arguments` has added."""
    from distill.training.experiment import Experiment

    return Experiment(args.config, args.data_root, args.work_dir, args.cfg_options or {}, args.launcher)


def find_config(text: str) -> str:
    """The path of a config that is given by its path or a name; a line on stderr tells which one a part has chosen.

    Args:
        text: What the user has given.

    Raises:
        FileNotFoundError: There is no such file, and no such name.
        ValueError: Several names fit.
    """
    path = find(text, CONFIG)
    if Path(path).stem.lower() != Path(text).stem.lower():
        print(f'config: {Path(path).stem}', file=sys.stderr)
    return path


def add_tracker_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--track``, which `distill.api.checks.check_trackers` checks."""
    parser.add_argument(
        '--track', nargs='+', choices=TRACKERS, default=[], metavar='TRACKER', help=f'log to {", ".join(TRACKERS)} too'
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``; `distill.base.processes.cuda_or_cpu` is its default."""
    parser.add_argument('--device', help='device of torch (default: cuda if there is one, otherwise cpu)')


def check_at_least(args: argparse.Namespace, least: int, *names: str) -> None:
    """Check that options are not below a number; None stands for an option that was not given.

    Args:
        args: Parsed arguments.
        least: The least that is allowed.
        names: Attributes of ``args``.

    Raises:
        ValueError: An option is below.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f'--{name.replace("_", "-")} is {value}; give {least} or more')


def check_launcher(launcher: str) -> None:
    """Check that ``--launcher`` names what has started this process.

    Raises:
        ValueError: The launcher's variable is not in the environment.
    """
    if LAUNCHERS[launcher] is not None:
        variable, program = LAUNCHERS[launcher]
        if variable not in os.environ:
            raise ValueError(
                f'--launcher {launcher} finds no {variable} in the environment; start the command by {program}'
            )
