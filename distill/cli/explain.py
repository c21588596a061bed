"""Draw where two models look and how alike they are inside: receptive fields, attribution, CKA between stages.

robust-backbones explain work_dirs/deit/student_best.pth work_dirs/robust/student_best.pth --images data/val --out OUT
robust-backbones report work_dirs/robustness OUT --out work_dirs/report
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.arguments import (
    add_device_argument,
    add_model_arguments,
    check_at_least,
    check_can_write,
    check_is_folder,
    cuda_or_cpu,
    model_arguments,
)
from distill.cli.command import prepare_torch, run_command
from distill.robustness.sources import Source

if TYPE_CHECKING:
    from rich.table import Table


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
    check_at_least(args, 1, 'shown', 'batch_size')
    check_at_least(args, 0, 'workers')
    model_arguments(args)
    check_is_folder(args.images, 'image folder', 'give a folder with images')
    check_can_write(args.out, '--out', is_folder=True)
    sources = [Source.parse(text) for text in args.models]
    for source in sources:
        source.check()
    if sources[0].name == sources[1].name:
        raise ValueError(f"both models are called '{sources[0].name}'; name one with NAME=MODEL")


def run(args: argparse.Namespace) -> dict:
    """Draw the pictures; returns the contents of results.json."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.base.files import remove_leftovers
    from distill.cli.screen import counting_progress
    from distill.explain.pair import Settings, explain_pair
    from distill.explain.write import check_replaceable, write_pair
    from distill.results.provenance import command_line
    from distill.results.schema import FILE_NAME
    from distill.robustness.runs import load_run

    check_replaceable(args.out)
    remove_leftovers(args.out, args.out / 'explain')
    runs = [load_run(source, args.device or cuda_or_cpu(), **model_arguments(args)) for source in args.models]
    console = Console()
    for note in (f'{run.name}: {note}' for run in runs for note in run.notes):
        console.print(note)
    with counting_progress(console) as progress:
        task = progress.add_task('images', total=args.count)
        names = ('images', 'out', 'count', 'shown', 'batch_size', 'workers', 'seed')
        settings = Settings(
            **{name: getattr(args, name) for name in names}, advance=lambda count: progress.advance(task, count)
        )
        entry = explain_pair(runs, settings)
        progress.update(task, total=entry['images'])
    results = write_pair(args.out, entry, command_line())
    console.print(summary(entry))
    console.print(f'pictures: {args.out / "explain"}')
    console.print(f'results: {args.out / FILE_NAME}')
    return results


def summary(entry: dict) -> 'Table':
    """For each stage of the first model, the stage of the other one that is most alike."""
    from distill.cli.screen import result_table

    a, b = entry['a'], entry['b']
    rows = []
    for stage, similarities in zip(a['stages'], entry['cka'], strict=True):
        value, index = max((-1 if value is None else value, index) for index, value in enumerate(similarities))
        rows.append((stage, b['stages'][index], f'{value:.2f}'))
    return result_table((a['name'], f'most alike in {b["name"]}', 'linear CKA'), rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
