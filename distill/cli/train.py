"""Train what a config describes: a distillation, a detector or a segmenter.

robust-backbones train deit-mini_robust-resnet-tiny_shapes
"""

import argparse
import sys
from typing import TYPE_CHECKING

from distill.cli.arguments import (
    add_config_arguments,
    add_tracker_argument,
    check_at_least,
    check_config_arguments,
    check_is_file,
    check_trackers,
)
from distill.cli.command import prepare_torch, run_command

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.hooks import Hook


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, and ``--data-root``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
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
    check_at_least(args, 1, 'shifts')
    check_trackers(args.track)
    if args.resume not in (None, 'auto'):
        check_is_file(args.resume, 'checkpoint', 'pass another or --resume alone')


def run(args: argparse.Namespace) -> dict:
    """Train; returns the work directory and where training stopped."""
    check(args)
    prepare_torch()
    from distill.base.files import remove_leftovers
    from distill.base.processes import default_device
    from distill.downstream.complete import complete
    from distill.training.experiment import build_runner, check_numbers, check_sections, load_config, resume_from
    from distill.training.tracking import track

    config = load_config(args)
    check_sections(config, 'training', 'train_dataloader.dataset', 'train_cfg', 'optim_wrapper')
    check_numbers(config)
    if args.amp:
        if default_device() == 'cpu':
            raise ValueError('--amp needs an accelerator and there is only the CPU; drop it')
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise ValueError(f'{args.config} has no auto_scale_lr.base_batch_size; set it or drop --auto-scale-lr')
        config.auto_scale_lr.enable = True
    remove_leftovers(config.work_dir)
    if args.resume:
        config.resume, config.load_from = resume_from(args.resume, config.work_dir)
    hooks = [*shift_hooks(config, args.shifts), *track(config, args.track, resume=bool(args.resume))]
    runner = build_runner(config, hooks, notes=complete(config))
    runner.train()
    return {'work_dir': config.work_dir, 'epoch': runner.epoch, 'iter': runner.iter}


def shift_hooks(config: 'Config', interval: int | None) -> 'list[Hook]':
    """The hook that ``--shifts`` asks for.

    Args:
        config: The training config.
        interval: Epochs from one score to the next; None for no hook.

    Raises:
        ValueError: The config trains no student.
    """
    if interval is None:
        return []
    if 'student' not in config.model:
        raise ValueError(f'{config.filename} trains no student; drop --shifts and use tools/test.py --corruptions')
    from distill.training.hooks.shift_scores import ShiftScoresHook

    return [ShiftScoresHook(config.data_root, interval=interval)]


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
