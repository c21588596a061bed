"""Write pictures of what a config trains on, after its pipeline: scenes with ground truth, views of a distillation.

robust-backbones browse downstream_configs/deeplabv3/CONFIG.py --output-dir work_dirs/pictures
"""

import argparse
import sys
from pathlib import Path

from distill.cli.arguments import (
    add_config_arguments,
    check_at_least,
    check_can_write,
    check_config_arguments,
    experiment_of,
)
from distill.cli.command import prepare_torch, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    parser.add_argument('--output-dir', type=Path, help='folder for the pictures (default: WORK_DIR/browse_SPLIT)')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--number', type=int, default=20, metavar='N', help='how many, evenly chosen')
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentation')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args)
    check_at_least(args, 1, 'number')
    check_at_least(args, 0, 'seed')
    check_can_write(args.output_dir, '--output-dir', is_folder=True)


def run(args: argparse.Namespace) -> dict:
    """Write the pictures; returns their paths."""
    check(args)
    prepare_torch()
    from rich.console import Console
    from rich.progress import track

    from distill.downstream.browse import browse
    from distill.downstream.complete import complete
    from distill.downstream.pictures import save_picture
    from distill.training.experiment import load_config

    config, notes = load_config(experiment_of(args))
    for note in notes + complete(config):
        Console(stderr=True).print(note)
    if f'{args.split}_dataloader' not in config:
        raise ValueError(f'{args.config} has no {args.split}_dataloader; choose another --split')
    out = args.output_dir or Path(config.work_dir) / f'browse_{args.split}'
    paths = []
    samples = browse(config, args.split, args.number, args.seed)
    for name, picture in track(samples, 'drawing', args.number, console=Console(stderr=True), transient=True):
        paths.append(out / f'{name}.png')
        save_picture(picture, paths[-1])
    Console().print(f'{len(paths)} pictures: {out}')
    return {'pictures': [str(path) for path in paths]}


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
