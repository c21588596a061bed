"""Evaluate models on clean, stylized, corrupted, rendition, sketch and adversarial images.

python tools/robustness.py work_dirs/*/student_best.pth --data-root data/shapes/imagenet --out work_dirs/robustness
"""

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from distill.cli import run_command
from distill.robustness.evaluate import CELLS, Settings, evaluate
from distill.robustness.runs import load_run
from distill.robustness.suites import SUITES, choose_suites


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='+', help='checkpoints or timm names; NAME=… names a run')
    parser.add_argument('--data-root', required=True, help='folder with val/, stylized/, rendition/, …')
    parser.add_argument('--out', required=True, type=Path, help='folder for results.json, predictions and samples')
    parser.add_argument('--suite', nargs='+', metavar='NAME', help=f'of {", ".join(SUITES)} (default: all there are)')
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='corrupt N images only, evenly chosen')
    parser.add_argument('--batch-size', type=int, default=100)
    parser.add_argument('--workers', type=int, default=1, help='processes that decode images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Evaluate; returns the contents of results.json."""
    suites, absent = choose_suites(args.suite, args.data_root)
    runs = [load_run(source, args.device) for source in args.models]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f'two runs are called the same ({", ".join(names)}); name them with NAME=CHECKPOINT')
    console = Console()
    if absent:
        console.print(f'not there, left out: {", ".join(suite.name for suite in absent)}')
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task('images', total=_count(suites, args))
        settings = Settings(
            data_root=args.data_root,
            out=args.out,
            batch_size=args.batch_size,
            workers=args.workers,
            seed=args.seed,
            corruption_limit=args.corruption_limit,
            advance=lambda count: progress.advance(task, count),
        )
        results = evaluate(runs, suites, settings)
    table = Table('top-1 %', *(suite.name for suite in suites))
    for name in names:
        scores = results['classification'][name]
        table.add_row(name, *(f'{scores[suite.name]["top1_pct"]:.1f}' for suite in suites))
    console.print(table)
    console.print(f'results: {args.out / "results.json"}')
    return results


def _count(suites, args) -> int:
    total = 0
    for suite in suites:
        images = sum(1 for path in (Path(args.data_root) / suite.folder).rglob('*') if path.is_file())
        limited = min(images, args.corruption_limit or images)
        total += limited * len(CELLS) if suite.corrupted else images
    return total


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
