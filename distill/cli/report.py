"""Make the report of one or more folders with a ``results.json``: report.html, report.md and figures.

python tools/report.py work_dirs/demo
python tools/report.py work_dirs/deit_to_robust work_dirs/robust_to_deit --out work_dirs/both
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from distill.cli.command import run_command
from distill.report.contents import shown_tables
from distill.report.tables import Cell, Table
from distill.report.write import write_report

STYLES = {'best': 'bold', 'gain': 'green', 'loss': 'red', '': ''}
SIGNS = {'gain': '▲ ', 'loss': '▼ '}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs='+', metavar='DIR', help='a folder that holds a results.json')
    parser.add_argument('--out', metavar='DIR', help='where to write; left out: the first DIR')
    parser.add_argument('--title', help='heading of the report; left out: one that fits')
    return parser


def show(console: Console, table: Table) -> None:
    """Print a table; the small print stays in the report."""
    shown = RichTable(title=table.title, title_justify='left')
    for column in table.columns:
        shown.add_column(Text(column.label), justify='right' if column.number else 'left')
    for rows in table.groups:
        for row in rows:
            shown.add_row(*map(_text, row), end_section=row is rows[-1] and len(table.groups) > 1)
    console.print(shown)


def _text(cell: Cell) -> Text:
    return Text(SIGNS.get(cell.mark, '') + cell.text, style='bold' if cell.total else STYLES[cell.mark])


def run(args: argparse.Namespace) -> dict:
    """Write the report, print its main tables, and return the paths written."""
    results, paths = write_report(args.folders, args.out, args.title)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for table in shown_tables(results):
        show(console, table)
    print(f'report: {paths["html"]}')
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
