"""List every named model with its parameters, multiply-adds, strides, channels, published top-1 and source.

robust-backbones models
robust-backbones models 'coatnet*' '*resnet50'
robust-backbones models --markdown        writes docs/models.md
"""

import argparse
import json
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from distill.base.packaged import ROOT
from distill.cli.arguments import check_can_write, check_is_folder
from distill.cli.command import prepare_torch, run_command

if TYPE_CHECKING:
    from rich.table import Table

    from backbones.cost import Cost
    from backbones.zoo import Family, Published

DOCS = ROOT / 'docs' / 'models.md'
COLUMNS = ('model', 'M params (published)', 'GMACs (published)', 'px', 'strides', 'channels', 'top-1 %', 'source')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('patterns', nargs='*', default=['*'], metavar='PATTERN', help='names, with * and ?')
    parser.add_argument('--markdown', action='store_true', help='write docs/models.md; takes no patterns')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the list as JSON')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    if args.markdown and args.patterns != ['*']:
        raise ValueError(f'--markdown lists all models; leave out {" ".join(args.patterns)}')
    if args.markdown:
        check_is_folder(DOCS.parent, 'folder of --markdown', 'run it in a clone, or use --json')
        check_can_write(DOCS, '--markdown')
    check_can_write(args.json, '--json')


def run(args: argparse.Namespace) -> dict:
    """Count the models, print the table, and return what ``--json`` writes.

    Raises:
        ValueError: No model matches, or ``--markdown`` with patterns.
    """
    check(args)
    prepare_torch()
    from rich.console import Console
    from rich.progress import track

    from backbones.cost import count
    from backbones.files import atomic_write
    from backbones.zoo import FAMILIES
    from distill.report.models_page import to_markdown

    listed = [
        (family, published)
        for family in FAMILIES
        for published in family.models
        if any(fnmatch(published.name, pattern) for pattern in args.patterns)
    ]
    if not listed:
        raise ValueError(f'no model matches {" ".join(args.patterns)}; without patterns all are listed')
    progress = track(listed, 'counting', console=Console(stderr=True), transient=True)
    costs = {published.name: count(published.name, **published.kwargs) for _, published in progress}
    Console(width=None if sys.stdout.isatty() else 200).print(screen_table(listed, costs))
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
        with atomic_write(args.json) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    return result


def screen_table(listed: 'list[tuple[Family, Published]]', costs: 'dict[str, Cost]') -> 'Table':
    """A row for each model, and a line below each family."""
    from distill.base.screen import result_table
    from distill.report.models_page import cells

    rows = [[*cells(published, costs[published.name]), _short(family.sources[0])] for family, published in listed]
    families = [family for family, _ in listed]
    ends = [i for i, family in enumerate(families) if i + 1 == len(families) or families[i + 1] is not family]
    return result_table(COLUMNS, rows, numbers=(1, 2, 3), ends=ends)


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
