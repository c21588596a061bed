"""List every named model with its parameters, multiply-adds, strides, channels, published top-1 and source.

python tools/list_models.py
python tools/list_models.py 'coatnet*' '*resnet50'
python tools/list_models.py --markdown        writes docs/models.md
"""

import argparse
import json
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from backbones.cost import count
from backbones.zoo import FAMILIES
from distill.cli.command import run_command
from distill.report.models_page import cells, to_markdown

DOCS = Path(__file__).parents[2] / 'docs' / 'models.md'
COLUMNS = ('model', 'M params (published)', 'GMACs (published)', 'px', 'strides', 'channels', 'top-1 %', 'source')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('patterns', nargs='*', default=['*'], metavar='PATTERN', help='names, with * and ?')
    parser.add_argument('--markdown', action='store_true', help='write docs/models.md; takes no patterns')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the list as JSON')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Count the models, print the table, and return what ``--json`` writes.

    Raises:
        ValueError: No model matches, or ``--markdown`` with patterns.
    """
    if args.markdown and args.patterns != ['*']:
        raise ValueError(f'--markdown lists all models; leave out {" ".join(args.patterns)}')
    listed = [
        (family, published)
        for family in FAMILIES
        for published in family.models
        if any(fnmatch(published.name, pattern) for pattern in args.patterns)
    ]
    if not listed:
        raise ValueError(f'no model matches {" ".join(args.patterns)}; without patterns all are listed')
    console = Console(width=None if sys.stdout.isatty() else 200)
    progress = track(listed, 'counting', console=Console(stderr=True), transient=True)
    costs = {published.name: count(published.name, **published.kwargs) for _, published in progress}

    table = Table(*COLUMNS)
    for column in table.columns[1:4]:
        column.justify = 'right'
    for i, (family, published) in enumerate(listed):
        last = i + 1 == len(listed) or listed[i + 1][0] is not family
        table.add_row(*cells(published, costs[published.name]), _short(family.sources[0]), end_section=last)
    console.print(table)

    if args.markdown:
        DOCS.write_text(to_markdown(costs), encoding='utf-8')
        print(f'list: {DOCS}')
    result = {
        published.name: dict(
            asdict(costs[published.name]),
            published=dict(params=published.params, gmacs=published.gmacs, top1_pct=published.top1),
            dataset=family.dataset,
            sources=family.sources,
        )
        for family, published in listed
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    return result


def _short(url: str) -> str:
    """A source as people name it: arXiv:1709.01507, owner/repository, or the host."""
    host, _, path = url.removeprefix('https://').partition('/')
    if host == 'arxiv.org':
        return path.replace('abs/', 'arXiv:')
    return path if host == 'github.com' else host


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
