"""Draw where two models look and how alike they are inside: receptive fields, attribution, CKA between stages.

robust-backbones explain work_dirs/deit/student_best.pth work_dirs/robust/student_best.pth --images data/val --out OUT
robust-backbones report work_dirs/robustness OUT --out work_dirs/report
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.api.checks import as_option, check_explanation
from distill.cli.arguments import add_device_argument, add_model_arguments, model_arguments
from distill.cli.command import prepare_torch, run_command
from distill.robustness.sources import Source


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs=2, metavar='MODEL', help='timm names, folders, NAME@FILE, or files that tell '
                        'their model; RUN=… names one (docs/models_in.md)')  # fmt: skip
    parser.add_argument('--images', required=True, type=Path, metavar='DIR', help='images, in any folders below it')
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder for results.json and explain/')
    parser.add_argument('--count', type=int, default=64, metavar='N', help='images, evenly chosen (%(default)s)')
    parser.add_argument('--shown', type=int, default=4, metavar='N', help='images with attribution (%(default)s)')
    parser.add_argument('--batch-size', type=int, default=16, metavar='N', help='(%(default)s)')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='processes that decode images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the receptive field (%(default)s)')
    add_model_arguments(parser)
    add_device_argument(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    model_arguments(args)
    sources = [Source.parse(text) for text in args.models]
    check_explanation(sources, args.images, args.out, args.shown, args.batch_size, args.workers, as_option)


def run(args: argparse.Namespace) -> dict:
    """Draw the pictures; returns the contents of results.json."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.explain import explain_pair
    from distill.base.screen import result_table

    names = ('count', 'shown', 'batch_size', 'workers', 'seed', 'device')
    given = {name: getattr(args, name) for name in names}
    found = explain_pair(args.models, args.images, args.out, model_options=model_arguments(args), **given)
    console = Console()
    console.print(result_table(*found.rows()))
    console.print(f'pictures: {args.out / "explain"}')
    console.print(f'results: {found.path}')
    return found.content


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
