"""Evaluate models on clean, stylized, corrupted, rendition, sketch and adversarial images.

python tools/robustness.py work_dirs/*/student_best.pth --data-root data/shapes/imagenet --out work_dirs/robustness
python tools/robustness.py resnet50.tv_in1k --data-root data/imagenet --suite clean adversarial --out work_dirs/r50
torchrun --nproc-per-node 8 tools/robustness.py … --launcher pytorch
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import distributed

from distill.cli.command import run_command
from distill.robustness.corruptions import DEFINITIONS
from distill.robustness.evaluate import Settings, evaluate
from distill.robustness.runs import find_classes, load_run
from distill.robustness.suites import SUITE_NAMES, choose_suites, plain_suite


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='+', help='checkpoints, ONNX files or timm names; NAME=… names a run')
    parser.add_argument('--data-root', help='folder with val/, stylized/, rendition/, …')
    parser.add_argument('--out', required=True, type=Path, help='folder for results.json, predictions and samples')
    parser.add_argument(
        '--suite', nargs='+', metavar='NAME', help=f'of {", ".join(SUITE_NAMES)} (default: all there are)'
    )
    parser.add_argument('--images', nargs='+', metavar='FOLDER', default=[], help='plain folders of images as well, '
                        'with class folders or without labels')  # fmt: skip
    parser.add_argument('--input-size', type=int, metavar='PX', help="show images at this size, not the model's own")
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='corrupt N images only, evenly chosen')
    parser.add_argument('--definition', choices=DEFINITIONS, default=DEFINITIONS[0], help='whose elastic and frost')
    parser.add_argument('--extra-corruptions', action='store_true', help='the four held-out kinds as well')
    parser.add_argument('--baselines', nargs='+', metavar='RUN', default=[], help='runs that effective robustness is '
                        'measured against')  # fmt: skip
    parser.add_argument('--batch-size', type=int, default=100)
    parser.add_argument('--workers', type=int, default=1, help='processes that decode and corrupt images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none', help='pytorch: started by torchrun')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Evaluate; returns the contents of results.json."""
    if args.launcher == 'pytorch':
        # Processes exchange nothing but barriers, so gloo serves on any device.
        distributed.init_process_group('gloo')
        if args.device == 'cuda':
            args.device = f'cuda:{os.environ["LOCAL_RANK"]}'
    quiet = distributed.is_initialized() and distributed.get_rank() > 0
    console = Console(quiet=quiet)
    runs = [load_run(source, args.device, args.input_size) for source in args.models]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise ValueError(f'two runs are called the same ({", ".join(names)}); name them with NAME=CHECKPOINT')
    if not args.data_root and not args.images:
        raise ValueError('nothing to evaluate on; pass --data-root, or --images')
    find_classes(runs, args.data_root)
    suites, absent = choose_suites(args.suite, args.data_root, runs[0].classes) if args.data_root else ([], [])
    suites += [plain_suite(folder) for folder in args.images]
    if absent:
        console.print(f'not there, left out: {", ".join(suite.name for suite in absent)}')
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=quiet) as progress:
        task = progress.add_task('predictions', total=None)
        settings = Settings(
            data_root=args.data_root or '',
            out=args.out,
            batch_size=args.batch_size,
            workers=args.workers,
            seed=args.seed,
            corruption_limit=args.corruption_limit,
            extra_corruptions=args.extra_corruptions,
            definition=args.definition,
            baselines=args.baselines,
            begin=lambda count: progress.update(task, total=count),
            advance=lambda count: progress.advance(task, count),
        )
        results = evaluate(runs, suites, settings)
    console.print(scores_table(results, names, [suite.key for suite in suites]))
    for line in problem_lines(results, names):
        console.print(line)
    for suite in suites:
        entries = [results['classification'].get(name, {}).get(suite.key, {}) for name in names]
        if suite.subset and any('clean_subset_top1_pct' not in entry for entry in entries):
            console.print(f'{suite.key}: no clean accuracy on its classes to stand beside it; evaluate clean as well')
    console.print(f'results: {args.out / "results.json"}')
    return results


def scores_table(results: dict, names: list[str], suites: list[str]) -> Table:
    """Top-1 with its interval by run and suite; of suites of fewer classes, the clean one on these below."""
    table = Table('top-1 %', *suites)
    for name in names:
        entries = [results['classification'].get(name, {}).get(suite) for suite in suites]
        table.add_row(name, *(_score(entry) if entry else '-' for entry in entries))
    return table


def _score(entry: dict) -> str:
    text = '{:.1f} [{:.1f}, {:.1f}]'.format(entry['top1_pct'], *entry['top1_ci95_pct'])
    clean = entry.get('clean_subset_top1_pct')
    return text if clean is None else f'{text}\nclean {clean:.1f}'


def problem_lines(results: dict, names: list[str]) -> list[str]:
    """What was counted while evaluating, a line each."""
    said = {
        'nan_logits': 'predictions from logits that are not finite, counted as wrong',
        'grayscale_images': 'grayscale images, shown in RGB',
        'cmyk_images': 'CMYK images, converted to RGB',
    }
    return [
        f'{name}, {suite}: {count} {said.get(problem, problem.replace("_", " ") + ", converted to RGB")}'
        for section in ('classification', 'unlabelled')
        for name in names
        for suite, entry in results.get(section, {}).get(name, {}).items()
        for problem, count in entry.get('problems', {}).items()
    ]


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
