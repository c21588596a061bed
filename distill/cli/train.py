"""Train what a config describes: a distillation, a detector or a segmenter.

robust-backbones train deit-mini_robust-resnet-tiny_shapes
"""

import argparse
import sys

from distill.api.checks import check_trackers
from distill.cli.arguments import (
    add_config_arguments,
    add_source_argument,
    add_tracker_argument,
    check_at_least,
    check_config_arguments,
    check_is_file,
    data_root_of,
)
from distill.cli.command import prepare_torch, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, and ``--data-root``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    add_source_argument(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help="continue from PATH, or from the work directory's newest checkpoint",
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (needs an accelerator)')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--shifts', type=int, metavar='N', help='score a student on shifted images every N epochs (distillation)'
    )
    add_tracker_argument(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args)
    data_root_of(args)
    check_at_least(args, 1, 'shifts')
    check_trackers(args.track)
    if args.resume not in (None, 'auto'):
        check_is_file(args.resume, 'checkpoint', 'pass another or --resume alone')


def run(args: argparse.Namespace) -> dict:
    """Train; returns the work directory and where training stopped."""
    check(args)
    prepare_torch()
    from distill.api.train import train

    result = train(
        args.config,
        data_root_of(args),
        args.work_dir,
        resume=args.resume or False,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        shifts=args.shifts,
        launcher=args.launcher,
        track=args.track,
        verbose=True,
        cfg_options=args.cfg_options,
    )
    return {'work_dir': str(result.work_dir), 'epoch': result.epoch, 'iter': result.iter}


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
