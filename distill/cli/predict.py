"""Show images to a classifier, a detector or a segmenter: a picture of each, and one predictions.json for all.

robust-backbones predict photo.jpg --model tf_efficientnet_lite0 --out predictions
robust-backbones predict photos 'more/**/*.webp' --model work_dirs/deit/student_best.pth --out predictions
robust-backbones predict photos --model work_dirs/detector/epoch_12.pth --out predictions --score-threshold 0.5

Images are turned as their EXIF data say, and transparent parts are laid over white.
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
    find_config,
    model_arguments,
)
from distill.cli.command import prepare_torch, run_command
from distill.predict.files import Found, find_files, shown
from distill.robustness.sources import Source

if TYPE_CHECKING:
    from rich.console import Console

    from distill.predict.folder import Report
    from distill.predict.predictor import Predictor

LINES = 10
"""Images whose predictions are printed."""
COUNTED = {'classification': 'most probable', 'detection': 'objects', 'segmentation': 'pixels'}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'images', nargs='+', metavar='IMAGE', help='image files, folders, and patterns with * in quotes'
    )
    parser.add_argument(
        '--model',
        required=True,
        metavar='SOURCE',
        help='a classifier: timm name, folder, NAME@FILE, checkpoint (docs/models_in.md) or exported file; or a '
        'checkpoint of a detector or segmenter',
    )
    parser.add_argument(
        '--config', help="a detector's or segmenter's config, by path or name (default: the one beside its checkpoint)"
    )
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder for predictions.json, pictures/')
    parser.add_argument('--topk', type=int, default=5, metavar='K', help='classes of a classifier (%(default)s)')
    parser.add_argument(
        '--score-threshold', type=float, default=0.3, metavar='S', help='leave out objects below (%(default)s)'
    )
    parser.add_argument('--batch-size', type=int, default=8, metavar='N', help='(%(default)s)')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='processes that decode (%(default)s)')
    parser.add_argument('--limit', type=int, metavar='N', help='the first N images only')
    parser.add_argument('--no-pictures', action='store_true', help='write predictions.json alone')
    parser.add_argument('--skip-broken', action='store_true', help='go on after an image that cannot be read')
    add_model_arguments(parser)
    add_device_argument(parser)
    return parser


def check(args: argparse.Namespace) -> Found:
    """Check what needs no heavy import; returns the images."""
    check_at_least(args, 1, 'topk', 'batch_size', 'limit')
    check_at_least(args, 0, 'workers')
    if not 0 <= args.score_threshold <= 1:
        raise ValueError(f'--score-threshold is {args.score_threshold}; give a number from 0 to 1')
    Source.parse(args.model).check()
    if args.config is not None:
        args.config = find_config(args.config)
    model_arguments(args)
    check_can_write(args.out, '--out', is_folder=True)
    found = find_files(args.images, args.out)
    if args.limit is not None:
        found.files = found.files[: args.limit]
    return found


def run(args: argparse.Namespace) -> dict:
    """Predict; returns how many images were predicted and skipped, and the counts of their classes."""
    found = check(args)
    prepare_torch()
    from rich.console import Console

    from distill.predict.load import check_device, load_predictor

    console = Console(stderr=True)
    for note in found.notes:
        _say(console, note)
    device = check_device(args.device)
    predictor = load_predictor(
        Source.parse(args.model).path,
        args.config,
        device,
        topk=args.topk,
        score_threshold=args.score_threshold,
        **model_arguments(args),
    )
    for note in predictor.notes:
        _say(console, note)
    report = predict_with_progress(args, predictor, found, device, console)
    print_report(report, predictor, args, Console())
    return {'predicted': report.images, 'skipped': len(report.skipped), 'counts': dict(report.counts)}


def predict_with_progress(
    args: argparse.Namespace, predictor: 'Predictor', found: Found, device: str, console: 'Console'
) -> 'Report':
    """Predict under a progress bar."""
    from distill.base.screen import counting_progress
    from distill.predict.folder import Settings, predict_files

    with counting_progress(console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task('images', total=len(found.files))
        settings = Settings(
            out=args.out,
            pictures=not args.no_pictures,
            skip_broken=args.skip_broken,
            batch_size=args.batch_size,
            workers=args.workers,
            device=device,
            advance=lambda count: progress.advance(task, count),
        )
        return predict_files(predictor, found.files, settings, LINES)


def print_report(report: 'Report', predictor: 'Predictor', args: argparse.Namespace, console: 'Console') -> None:
    """Print what came of it."""
    from rich.text import Text

    from distill.base.screen import result_table
    from distill.predict.folder import PICTURES

    rows = [(Text(shown(name), overflow='fold'), Text(summary)) for name, summary in report.lines]
    console.print(result_table(('image', report.task), rows))
    for reason in report.skipped:
        _say(console, f'skipped: {reason}')
    total = sum(report.counts.values())
    most = ', '.join(f'{name} {count}' for name, count in report.counts.most_common(5)) or 'nothing found'
    if report.task == 'segmentation':
        most = ', '.join(f'{name} {100 * count / total:.1f} %' for name, count in report.counts.most_common(5))
    skipped = f', {len(report.skipped)} skipped' if report.skipped else ''
    images = '1 image' if report.images == 1 else f'{report.images} images'
    _say(console, f'{images}{skipped}; {COUNTED[report.task]}: {most}')
    origin = predictor.model.describe()['model'].get('classes_from', '')
    if origin and origin not in ('the model', 'given'):
        _say(console, f'classes: {origin}')
    if not args.no_pictures:
        _say(console, f'pictures: {args.out / PICTURES}')
        from distill.predict.pictures import numbered

        titles = getattr(predictor.model, 'titles', predictor.classes)
        if line := numbered(titles):
            _say(console, line)
    _say(console, f'results: {report.path}')


def _say(console: 'Console', line: str) -> None:
    """Print a line as it is: a path may look like rich's markup."""
    console.print(shown(line), markup=False, highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
