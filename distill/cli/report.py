"""Make the report of one or more folders with a ``results.json``: report.html, report.md and figures.

robust-backbones report work_dirs/demo
robust-backbones report work_dirs/deit_to_robust work_dirs/robust_to_deit --out work_dirs/both
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from distill.api.checks import as_option, check_report
from distill.base.caches import leave_home_alone
from distill.cli.command import run_command

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

    from distill.report.tables import Cell, Table

STYLES = {'best': 'bold', 'gain': 'green', 'loss': 'red', '': ''}
SIGNS = {'gain': '▲ ', 'loss': '▼ '}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', metavar='DIR', help='a folder that holds a results.json')
    parser.add_argument('--out', metavar='DIR', help='where to write; left out: the first DIR')
    parser.add_argument('--title', help='heading of the report; left out: one that fits')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_report([Path(folder) for folder in args.folders], args.out, as_option)


def run(args: argparse.Namespace) -> dict:
    """Write the report, print its main tables, and return the paths written."""
    check(args)
    leave_home_alone()
    from rich.console import Console

    from distill.api.report import write_report
    from distill.report.contents import shown_tables

    report = write_report(args.folders, args.out, args.title)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in shown_tables(report.content):
        console.print(screen_table(table))
    print(f'report: {report.html}')
    return {'html': report.html, 'markdown': report.markdown, 'figures': report.figures, 'results': report.results}


def screen_table(table: 'Table') -> 'RichTable':
    """A table of the report for the screen; its small print stays in the report."""
    from rich.table import Column
    from rich.text import Text

    from distill.base.screen import result_table

    head = [Column(Text(column.label), justify='right' if column.number else 'left') for column in table.columns]
    rows = [[_text(cell) for cell in row] for group in table.groups for row in group]
    ends = [end - 1 for end in accumulate(map(len, table.groups))] if len(table.groups) > 1 else []
    return result_table(head, rows, ends=ends, title=table.title, title_justify='left')


def _text(cell: 'Cell') -> 'Text':
    from rich.text import Text

    return Text(SIGNS.get(cell.mark, '') + cell.text, style='bold' if cell.total else STYLES[cell.mark])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
