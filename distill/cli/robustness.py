"""Evaluate models on clean, stylized, corrupted, rendition, sketch and adversarial images.

robust-backbones robustness work_dirs/*/student_best.pth --data-root data/shapes/imagenet --out work_dirs/robustness
robust-backbones robustness resnet50.tv_in1k --data-root data/imagenet --suite clean adversarial --out work_dirs/r50
torchrun --nproc-per-node 8 -m distill robustness … --launcher pytorch
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.base.records import DEFINITIONS
from distill.cli.arguments import (
    add_device_argument,
    add_model_arguments,
    check_at_least,
    check_can_write,
    check_is_folder,
    check_launcher,
    cuda_or_cpu,
    model_arguments,
)
from distill.cli.command import prepare_torch, run_command
from distill.robustness.sources import Source
from distill.robustness.suite_table import IMAGENET_SUITES, OWN_SUITES, SUITE_NAMES, find_folder, plain_suite

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from distill.robustness.runs import Run
    from distill.robustness.suite_table import Suite


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('models', nargs='+', help='timm names, folders, NAME@FILE, files that tell their model, ONNX '
                        'files; RUN=… names a run (docs/models_in.md)')  # fmt: skip
    parser.add_argument('--data-root', help='folder with val/, stylized/, rendition/, …')
    parser.add_argument('--out', required=True, type=Path, help='folder for results.json, predictions and samples')
    parser.add_argument(
        '--suite', nargs='+', metavar='NAME', help=f'of {", ".join(SUITE_NAMES)} (default: all there are)'
    )
    parser.add_argument('--images', nargs='+', metavar='FOLDER', default=[], help='plain folders of images as well, '
                        'with class folders or without labels')  # fmt: skip
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='corrupt N images only, evenly chosen')
    parser.add_argument('--definition', choices=DEFINITIONS, default=DEFINITIONS[0], help='whose elastic and frost')
    parser.add_argument('--extra-corruptions', action='store_true', help='the four held-out kinds as well')
    parser.add_argument('--baselines', nargs='+', metavar='RUN', default=[], help='runs that effective robustness is '
                        'measured against')  # fmt: skip
    parser.add_argument('--batch-size', type=int, default=100)
    parser.add_argument('--workers', type=int, default=1, help='processes that decode and corrupt images')
    parser.add_argument('--seed', type=int, default=0, help='seed of the corruptions')
    add_model_arguments(parser)
    add_device_argument(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none', help='pytorch: started by torchrun')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_launcher(args.launcher)
    model_arguments(args)
    check_at_least(args, 1, 'corruption_limit', 'batch_size')
    check_at_least(args, 0, 'workers', 'seed')
    if not args.data_root and not args.images:
        raise ValueError('nothing to evaluate on; pass --data-root, or --images')
    if args.data_root:
        check_is_folder(args.data_root, 'data root', 'make or unpack the data, or pass another --data-root')
    for name in args.suite or ():
        check_suite(name, args.data_root)
    for folder in args.images:
        plain_suite(folder)
    check_can_write(args.out, '--out', is_folder=True)
    sources = [Source.parse(text) for text in args.models]
    for source in sources:
        source.check()
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise ValueError(f'two runs are called the same ({", ".join(names)}); name them with NAME=CHECKPOINT')


def check_suite(name: str, data_root: str | None) -> None:
    """Check that a suite exists, and its folder; whether it fits the classes of the models is known once these are.

    Raises:
        ValueError: There is no suite of this name.
        FileNotFoundError: The data root has none of the folders of the suite.
    """
    named = [suite for suite in IMAGENET_SUITES + OWN_SUITES if suite.name == name]
    if not named:
        raise ValueError(f"suite '{name}' is unknown; choose from {', '.join(SUITE_NAMES)}")
    if data_root and not any(find_folder(suite, data_root) for suite in named):
        folder = Path(data_root) / named[0].folders[0]
        raise FileNotFoundError(f"suite '{name}' needs the folder '{folder}'; make it or leave it out")


def run(args: argparse.Namespace) -> dict:
    """Evaluate; returns the contents of results.json."""
    check(args)
    prepare_torch()
    from rich.console import Console
    from torch import distributed

    from distill.base.files import remove_leftovers
    from distill.robustness.runs import find_classes, load_run
    from distill.robustness.suites import choose_suites

    device = args.device or cuda_or_cpu()
    if args.launcher == 'pytorch':
        # Processes exchange nothing but barriers, so gloo serves on any device.
        distributed.init_process_group('gloo')
        if device == 'cuda':
            device = f'cuda:{os.environ["LOCAL_RANK"]}'
    console = Console(quiet=distributed.is_initialized() and distributed.get_rank() > 0)
    runs = [load_run(source, device, **model_arguments(args)) for source in args.models]
    for note in (f'{run.name}: {note}' for run in runs for note in run.notes):
        console.print(note)
    find_classes(runs, args.data_root)
    suites, absent = choose_suites(args.suite, args.data_root, runs[0].classes) if args.data_root else ([], [])
    suites += [plain_suite(folder) for folder in args.images]
    if absent:
        console.print(f'not there, left out: {", ".join(suite.name for suite in absent)}')
    remove_leftovers(args.out, args.out / 'samples', *args.out.glob('predictions/*'))
    results = evaluate_with_progress(args, runs, suites, console)
    names = [run.name for run in runs]
    console.print(scores_table(results, names, [suite.key for suite in suites]))
    for line in (*problem_lines(results, names), *missing_clean_lines(results, names, suites)):
        console.print(line)
    console.print(f'results: {args.out / "results.json"}')
    return results


def evaluate_with_progress(
    args: argparse.Namespace, runs: 'list[Run]', suites: 'list[Suite]', console: 'Console'
) -> dict:
    """Evaluate under a progress bar; returns the contents of results.json."""
    from distill.cli.screen import counting_progress
    from distill.robustness.evaluate import Settings, evaluate

    with counting_progress(console, disable=console.quiet) as progress:
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
        return evaluate(runs, suites, settings)


def scores_table(results: dict, names: Sequence[str], suites: Sequence[str]) -> 'Table':
    """Top-1 with its interval by run and suite; for a suite of fewer classes, the clean top-1 on these below."""
    from distill.cli.screen import result_table

    rows = []
    for name in names:
        entries = [results['classification'].get(name, {}).get(suite) for suite in suites]
        rows.append((name, *(_score(entry) if entry else '-' for entry in entries)))
    return result_table(('top-1 %', *suites), rows)


def _score(entry: dict) -> str:
    text = '{:.1f} [{:.1f}, {:.1f}]'.format(entry['top1_pct'], *entry['top1_ci95_pct'])
    clean = entry.get('clean_subset_top1_pct')
    return text if clean is None else f'{text}\nclean {clean:.1f}'


def problem_lines(results: dict, names: Sequence[str]) -> list[str]:
    """The problems with images and logits that were counted while evaluating, a line each."""
    words = {
        'nan_logits': 'predictions from logits that are not finite, counted as wrong',
        'grayscale_images': 'grayscale images, shown in RGB',
        'cmyk_images': 'CMYK images, converted to RGB',
        '16_bit_images': 'images with 16 bits a channel, scaled to 8 bits',
    }
    return [
        f'{name}, {suite}: {count} {words.get(problem, problem.replace("_", " ") + ", converted to RGB")}'
        for section in ('classification', 'unlabelled')
        for name in names
        for suite, entry in results.get(section, {}).get(name, {}).items()
        for problem, count in entry.get('problems', {}).items()
    ]


def missing_clean_lines(results: dict, names: Sequence[str], suites: 'Sequence[Suite]') -> list[str]:
    """The suites of fewer classes whose clean accuracy on these classes is not known, a line each."""
    lines = []
    for suite in suites:
        entries = [results['classification'].get(name, {}).get(suite.key, {}) for name in names]
        if suite.subset and any('clean_subset_top1_pct' not in entry for entry in entries):
            lines.append(f'{suite.key}: no clean accuracy on its classes to stand beside it; evaluate clean as well')
    return lines


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
