"""Train what a config describes: a distillation, a detector or a segmenter.

python tools/train.py distill/configs/shapes/deit-mini_robust-resnet-tiny_shapes.py
"""

import argparse
import sys

from mmengine.device import get_device

from distill.cli import run_command
from distill.experiment import add_config_arguments, build_runner, load_config, resume_from


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
    return parser


def run(args: argparse.Namespace) -> dict:
    """Train; returns the work directory and where training stopped."""
    config = load_config(args)
    if args.amp:
        if get_device() == 'cpu':
            raise ValueError('--amp needs an accelerator and there is only the CPU; drop it')
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in config.get('auto_scale_lr', {}):
            raise ValueError(f'{args.config} has no auto_scale_lr.base_batch_size; set it or drop --auto-scale-lr')
        config.auto_scale_lr.enable = True
    if args.resume:
        config.resume, config.load_from = resume_from(args.resume, config.work_dir)
    runner = build_runner(config)
    runner.train()
    return {'work_dir': config.work_dir, 'epoch': runner.epoch, 'iter': runner.iter}


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
