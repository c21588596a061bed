"""Judge frozen features by k-NN and linear classifiers, on clean, corrupted and shifted images.

robust-backbones probe vit_small_patch14_dinov2.lvd142m --data-root data/imagenet --out work_dirs/probe
robust-backbones probe */student_best.pth --data-root data/cifar10 --labels 1 0.1 --seeds 0 1 2 --out work_dirs/probe
"""

import argparse
import os
import sys
from pathlib import Path

from distill.api.checks import PROBES, as_option, check_evaluation, check_launcher, check_probe
from distill.base.records import DEFINITIONS
from distill.cli.arguments import add_device_argument, add_model_arguments, check_at_least, model_arguments
from distill.cli.command import prepare_torch, run_command
from distill.robustness.sources import Source
from distill.robustness.suite_table import SUITE_NAMES


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='+', help='timm names, folders, NAME@FILE, files that tell their model; with '
                        'a classifier or without; RUN=… names a run (docs/models_in.md)')  # fmt: skip
    parser.add_argument('--data-root', help='folder with train/, val/, stylized/, rendition/, …')
    parser.add_argument('--train', help='folder of training class folders (default: train in --data-root)')
    parser.add_argument('--out', required=True, type=Path, help='folder for results.json, features and predictions')
    parser.add_argument('--methods', nargs='+', choices=PROBES, default=list(PROBES[:2]), help='k-NN, logistic '
                        'regression, ridge regression in closed form (default: the first two)')  # fmt: skip
    parser.add_argument('--labels', nargs='+', type=float, default=[1.0], metavar='SHARE', help='shares of the labels '
                        'of each class to learn from (default: 1)')  # fmt: skip
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED', help='of the choice of these '
                        'labels, one or several')  # fmt: skip
    parser.add_argument('--neighbours', type=int, default=20, metavar='K', help='of k-NN (default: 20)')
    parser.add_argument('--temperature', type=float, default=0.07, metavar='T', help='of its votes (default: 0.07)')
    parser.add_argument(
        '--suite', nargs='+', metavar='NAME', help=f'of {", ".join(SUITE_NAMES)} (default: all there are)'
    )
    parser.add_argument('--images', nargs='+', metavar='FOLDER', default=[], help='folders of class folders as well')
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='corrupt N images only, evenly chosen')
    parser.add_argument('--definition', choices=DEFINITIONS, default=DEFINITIONS[0], help='whose elastic and frost')
    parser.add_argument('--extra-corruptions', action='store_true', help='the four held-out kinds as well')
    parser.add_argument('--batch-size', type=int, default=100)
    parser.add_argument('--workers', type=int, default=1, help='processes that decode and corrupt images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    add_model_arguments(parser)
    add_device_argument(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none', help='pytorch: started by torchrun')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_launcher(args.launcher, as_option)
    model_arguments(args)
    check_at_least(args, 1, 'corruption_limit', 'batch_size')
    check_at_least(args, 0, 'workers', 'seed')
    given = (args.methods, args.labels, args.seeds, args.neighbours, args.temperature)
    check_probe(args.train, args.data_root, *given, as_option)
    sources = [Source.parse(text) for text in args.models]
    check_evaluation(sources, args.data_root, args.suite, args.images, args.out, as_option)


def run(args: argparse.Namespace) -> dict:
    """Judge; returns the contents of results.json."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.probe import probe
    from distill.base.screen import result_table

    names = ('train', 'methods', 'labels', 'seeds', 'neighbours', 'temperature', 'corruption_limit', 'definition')
    names += ('extra_corruptions', 'batch_size', 'workers', 'images', 'out', 'seed', 'device', 'launcher')
    given = {name: getattr(args, name) for name in names}
    results = probe(args.models, args.data_root, args.suite, **given, model_options=model_arguments(args))
    # Of several processes the first speaks.
    console = Console(quiet=int(os.environ.get('RANK', 0)) > 0 and args.launcher != 'none')
    console.print(result_table(*results.rows()))
    for line in results.notes:
        console.print(line)
    console.print(f'results: {results.path}')
    return results.content


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
