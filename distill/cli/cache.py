"""Write a teacher's predictions or features for the views of a training config, so that training needs it no more.

robust-backbones cache CONFIG --out work_dirs/cache --topk 10 --verify 64
robust-backbones train CONFIG --cfg-options model.teacher.cache=work_dirs/cache
robust-backbones cache FEATURE_CONFIG --teacher dinov2 --out work_dirs/dinov2 --grid-dims 64
robust-backbones train FEATURE_CONFIG --cfg-options model.teachers.0.cache=work_dirs/dinov2

CONFIG is that of the training, with a live teacher. Views, mixing partners included, follow from the seed of the data
set, so that students and seeds share a cache. With --launcher the processes share the files out among them. An
interrupted run goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

from distill.cli.arguments import (
    add_config_arguments,
    add_source_argument,
    check_at_least,
    check_can_write,
    check_config_arguments,
    data_root_of,
)
from distill.cli.command import prepare_torch, run_command
from distill.cli.engine_arguments import add_engine_arguments, engine_arguments, share_argument


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, and what is stored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    add_source_argument(parser)
    parser.add_argument('--out', type=Path, required=True, help='folder of the cache')
    parser.add_argument(
        '--views',
        type=int,
        metavar='V',
        help='views of each image, after which training starts again at the first (default: as many as it shows)',
    )
    parser.add_argument('--teacher', type=number_or_name, default=0, metavar='N', help='which one, if the config has '
                        'several, from 0, or its name; each has a cache of its own')  # fmt: skip
    parser.add_argument('--topk', type=int, metavar='K', help='classes to store of each prediction (default: all)')
    parser.add_argument('--dtype', choices=('float16', 'float32'), default='float16', help='precision of predictions '
                        'and of pooled embeddings')  # fmt: skip
    parser.add_argument('--grid-dims', type=int, default=64, metavar='D', help='components to store of each cell of a '
                        'grid of features (default: %(default)s)')  # fmt: skip
    parser.add_argument('--grid-dtype', choices=('int8', 'float16'), default='int8', help='precision of these')
    parser.add_argument('--fit-views', type=int, default=256, metavar='N', help='views of the sample on which the '
                        'components are found (default: %(default)s)')  # fmt: skip
    parser.add_argument('--verify', type=int, default=0, metavar='N', help='compute N pairs of views again and compare')
    add_engine_arguments(parser, 'shares of the files', alone=True)
    parser.add_argument('--share', type=share_argument, metavar='I/N', help='write this share of the files only, from '
                        '0/N, which begins, to N-1/N; the command without it then completes the cache')  # fmt: skip
    return parser


def number_or_name(text: str) -> int | str:
    """A teacher's number, or else its name."""
    return int(text) if text.lstrip('-').isdigit() else text


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args)
    data_root_of(args)
    check_at_least(args, 1, 'views', 'topk', 'grid_dims', 'fit_views')
    check_at_least(args, 0, 'verify')
    if isinstance(args.teacher, int):
        check_at_least(args, 0, 'teacher')
    check_can_write(args.out, '--out', is_folder=True)
    engine_arguments(args)


def run(args: argparse.Namespace) -> dict:
    """Write what is missing; returns the size of the cache, and what verifying has found."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.cache import cache_teacher

    names = ('views', 'topk', 'dtype', 'grid_dims', 'grid_dtype', 'fit_views', 'verify', 'launcher', 'cfg_options')
    given = {name: getattr(args, name) for name in (*names, 'share')} | engine_arguments(args)
    cache = cache_teacher(args.config, args.out, data_root_of(args), number=args.teacher, **given)
    result = {'cache': str(cache.path), 'rows': cache.rows, 'bytes': cache.size}
    console = Console(quiet=cache.rank > 0)
    if args.share is not None:
        console.print(f'{args.out}: share {args.share[0]}/{args.share[1]} is written')
        return result
    console.print(f'{args.out}: {result["rows"]} views, {result["bytes"] / 2**20:.1f} MiB')
    if cache.grid_error is not None:
        result['grid_error'] = dict(cache.grid_error)
    if cache.largest_difference is not None:
        result['largest_difference'] = cache.largest_difference
        console.print(f'verified: the largest difference is {result["largest_difference"]:.2g}')
    return result


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
