"""Write a teacher's predictions for the views of a training config, so that training needs the teacher no more.

robust-backbones cache CONFIG --out work_dirs/cache --topk 10 --verify 64
robust-backbones train CONFIG --cfg-options model.teacher.cache=work_dirs/cache

CONFIG is that of the training, with a live teacher. Views, mixing partners included, follow from the seed of the data
set, so that students and seeds share a cache. With --launcher the processes share the files out among them. An
interrupted run goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

from distill.cli.arguments import add_config_arguments, check_at_least, check_can_write, check_config_arguments
from distill.cli.command import prepare_torch, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, and what is stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, help='folder of the cache')
    parser.add_argument(
        '--views',
        type=int,
        metavar='V',
        help='views of each image, after which training starts again at the first (default: as many as it shows)',
    )
    parser.add_argument('--teacher', type=int, default=0, metavar='N', help='which one, if the config has a list')
    parser.add_argument('--topk', type=int, metavar='K', help='classes to store of each prediction (default: all)')
    parser.add_argument('--dtype', choices=('float16', 'float32'), default='float16', help='precision of the store')
    parser.add_argument('--verify', type=int, default=0, metavar='N', help='compute N pairs of views again and compare')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args)
    check_at_least(args, 1, 'views', 'topk')
    check_at_least(args, 0, 'teacher', 'verify')
    check_can_write(args.out, '--out', is_folder=True)


def run(args: argparse.Namespace) -> dict:
    """Write what is missing; returns the size of the cache, and what verifying has found."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.cache import cache_teacher

    names = ('views', 'topk', 'dtype', 'verify', 'launcher', 'cfg_options')
    given = {name: getattr(args, name) for name in names}
    cache = cache_teacher(args.config, args.out, args.data_root, number=args.teacher, **given)
    result = {'cache': str(cache.path), 'rows': cache.rows, 'bytes': cache.size}
    console = Console(quiet=cache.rank > 0)
    console.print(f'{args.out}: {result["rows"]} predictions, {result["bytes"] / 2**20:.1f} MiB')
    if cache.largest_difference is not None:
        result['largest_difference'] = cache.largest_difference
        console.print(f'verified: the largest difference of a probability is {result["largest_difference"]:.2g}')
    return result


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
