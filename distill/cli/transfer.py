"""Train every student alone and with every teacher, measure all, and tell what was transferred.

robust-backbones transfer shapes
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.base.caches import leave_home_alone
from distill.base.packaged import MATRIX, find
from distill.cli.arguments import check_at_least, check_can_write, check_is_folder
from distill.cli.command import run_command
from distill.cli.engine_arguments import add_engine_arguments, engine_arguments

if TYPE_CHECKING:
    from rich.table import Table


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'matrix', help='matrix config: students, teachers, losses, seeds; or the name of one of distill/matrices'
    )
    parser.add_argument('--data-root', help="the data set's folder, in place of the matrix's")
    parser.add_argument('--work-dir', help='where everything goes (default: work_dirs/<matrix name>)')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='N', help="some of the matrix's seeds, with the first; "
                        'a later call goes on with more of them')  # fmt: skip
    parser.add_argument('--threads', type=int, default=1, help='CPU threads a run')
    parser.add_argument('--launcher', default='', help="command that starts each run, such as 'nice -n 10'")
    add_engine_arguments(parser, 'runs')
    parser.add_argument('--plan', action='store_true', help='print what would be run, and stop')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    args.matrix = find(args.matrix, MATRIX)
    if args.data_root is not None:
        check_is_folder(args.data_root, 'data root', 'make the data or pass another --data-root')
    check_can_write(args.work_dir, '--work-dir', is_folder=True)
    check_at_least(args, 1, 'threads')
    engine_arguments(args)
    _launcher(args)


def _launcher(args: argparse.Namespace) -> list[str]:
    try:
        return shlex.split(args.launcher)
    except ValueError as error:
        raise ValueError(f'--launcher {args.launcher!r} is no command ({error}); quote it once') from None


def run(args: argparse.Namespace) -> dict:
    """Run the experiment, or what is left of it; returns the contents of transfer.json."""
    check(args)
    leave_home_alone()
    from rich.console import Console

    from distill.api.transfer import transfer, transfer_plan

    console = Console()
    if args.plan:
        steps = transfer_plan(args.matrix, args.data_root, args.work_dir, args.seeds)
        for name, is_done in steps:
            console.print(f'{"done" if is_done else "to do":5} {name}', highlight=False)
        return {'steps': [name for name, _ in steps]}
    given = {
        'seeds': args.seeds,
        'threads': args.threads,
        'launcher': _launcher(args),
        'forks': not args.launcher,
        'say': console.print,
        **engine_arguments(args),
    }
    result = transfer(args.matrix, args.data_root, args.work_dir, **given)
    for title, rows in result.tables:
        console.print(screen_table(title, rows))
    console.print(f'results: {result.path}, {result.path.with_suffix(".md")}')
    return result.summary


def screen_table(title: str, rows: Sequence[Sequence[str]]) -> 'Table':
    """A table of results, whose numbers take two lines on a narrow screen; names and headings stay whole."""
    from rich.table import Column

    from distill.base.screen import result_table

    names, *cells = rows
    head = [Column(names[0], no_wrap=True), *(Column(name, overflow='fold') for name in names[1:])]
    return result_table(head, cells, title=title, title_justify='left', padding=(0, 0, 0, 1))


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
