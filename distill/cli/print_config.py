"""Print a config as it runs: with all that it inherits, what the command line sets and what the commands add.

robust-backbones print-config downstream_configs/deeplabv3/CONFIG.py --cfg-options model.decode_head.channels=256
"""

import argparse
import sys
from pathlib import Path

from distill.base.caches import leave_home_alone
from distill.base.packaged import ENDINGS
from distill.cli.arguments import (
    add_config_arguments,
    check_can_write,
    check_config_arguments,
    check_ending,
    experiment_of,
)
from distill.cli.command import run_command


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    parser.add_argument('--out', type=Path, metavar='FILE', help=f'write it to FILE too: {", ".join(ENDINGS)}')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args, runs=False)
    if args.out:
        check_ending(args.out, '--out', ENDINGS)
        check_can_write(args.out, '--out')


def run(args: argparse.Namespace) -> dict:
    """Print; returns the config as a dict."""
    check(args)
    leave_home_alone()
    from backbones.files import atomic_write
    from distill.downstream.complete import complete
    from distill.training.experiment import read_config

    config, notes = read_config(experiment_of(args))
    for line in notes + complete(config):
        print(f'# {line}')
    print(config.pretty_text)
    if args.out:
        with atomic_write(args.out) as temporary:
            named = temporary.with_suffix(args.out.suffix)  # mmengine takes the format from the ending.
            config.dump(named)
            named.rename(temporary)
    return config.to_dict()


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
