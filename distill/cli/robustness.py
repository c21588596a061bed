"""Evaluate models on clean, stylized, corrupted, rendition, sketch and adversarial images.

robust-backbones robustness work_dirs/*/student_best.pth --data-root data/shapes/imagenet --out work_dirs/robustness
robust-backbones robustness resnet50.tv_in1k --data-root data/imagenet --suite clean adversarial --out work_dirs/r50
torchrun --nproc-per-node 8 -m distill robustness … --launcher pytorch
"""

import argparse
import os
import sys
from pathlib import Path

from distill.api.checks import as_option, check_evaluation, check_launcher
from distill.base.records import CORRUPTED_ON, DEFINITIONS
from distill.cli.arguments import (
    add_device_argument,
    add_model_arguments,
    check_at_least,
    model_arguments,
)
from distill.cli.command import prepare_torch, run_command
from distill.cli.engine_arguments import add_engine_arguments, engine_arguments, share_argument
from distill.robustness.sources import Source
from distill.robustness.suite_table import SUITE_NAMES


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='+', help='timm names, folders, NAME@FILE, files that tell their model, '
                        'exported files; RUN=… names a run (docs/models_in.md)')  # fmt: skip
    parser.add_argument('--data-root', help='folder with val/, stylized/, rendition/, …')
    parser.add_argument('--out', required=True, type=Path, help='folder for results.json, predictions and samples')
    parser.add_argument(
        '--suite', nargs='+', metavar='NAME', help=f'of {", ".join(SUITE_NAMES)} (default: all there are)'
    )
    parser.add_argument('--images', nargs='+', metavar='FOLDER', default=[], help='plain folders of images as well, '
                        'with class folders or without labels')  # fmt: skip
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='corrupt N images only, evenly chosen')
    parser.add_argument('--definition', choices=DEFINITIONS, default=DEFINITIONS[0], help='whose elastic and frost')
    parser.add_argument('--corrupt-on', choices=CORRUPTED_ON, default=CORRUPTED_ON[0], help='where images are '
                        'corrupted: by the workers, or where the models run')  # fmt: skip
    parser.add_argument('--extra-corruptions', action='store_true', help='the four held-out kinds as well')
    parser.add_argument('--baselines', nargs='+', metavar='RUN', default=[], help='runs that effective robustness is '
                        'measured against')  # fmt: skip
    parser.add_argument('--batch-size', type=int, default=100)
    parser.add_argument('--workers', type=int, default=1, help='processes that decode and corrupt images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    add_model_arguments(parser)
    add_device_argument(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none', help='pytorch: started by torchrun')
    add_engine_arguments(parser, 'shares of the images', alone=True)
    parser.add_argument('--share', type=share_argument, metavar='I/N', help='predict this share of the images only, '
                        'from 0/N to N-1/N; the command without it then scores all')  # fmt: skip
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_launcher(args.launcher, as_option)
    model_arguments(args)
    engine_arguments(args)
    check_at_least(args, 1, 'corruption_limit', 'batch_size')
    check_at_least(args, 0, 'workers', 'seed')
    sources = [Source.parse(text) for text in args.models]
    check_evaluation(sources, args.data_root, args.suite, args.images, args.out, as_option)


def run(args: argparse.Namespace) -> dict:
    """Evaluate; returns the contents of results.json."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.evaluate import evaluate
    from distill.base.screen import fitting_table

    names = ('corruption_limit', 'definition', 'extra_corruptions', 'corrupt_on', 'baselines', 'batch_size', 'workers')
    given = {name: getattr(args, name) for name in (*names, 'images', 'out', 'seed', 'device', 'launcher')}
    given |= {'model_options': model_arguments(args), 'share': args.share, **engine_arguments(args)}
    results = evaluate(args.models, args.data_root, args.suite, **given)
    # Of several processes the first speaks.
    console = Console(quiet=int(os.environ.get('RANK', 0)) > 0 and args.launcher != 'none')
    if args.share is not None:
        console.print(f'share {args.share[0]}/{args.share[1]} is predicted; the command without --share scores it')
        return results.content
    console.print(fitting_table(console, *results.rows()))
    for line in results.notes:
        console.print(line)
    console.print(f'results: {results.path}')
    return results.content


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
