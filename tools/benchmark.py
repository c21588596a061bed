"""Measure this project against its peers, side by side in one run.

python tools/benchmark.py distill --out work_dirs/benchmark/distill.json
python tools/benchmark.py corruptions --out work_dirs/benchmark/corruptions.json
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import track

from distill.cli import run_command
from distill.hooks import write_json


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments, for each peer its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects = parser.add_subparsers(dest='subject', required=True, metavar='SUBJECT')
    distill = subjects.add_parser('distill', help="a distillation step against timm's LogitDistillationTask")
    distill.add_argument('--batch-size', type=int, default=16)
    distill.add_argument('--threads', type=int, default=2, help='threads of each process')
    corruptions = subjects.add_parser('corruptions', help='corruptions against imagecorruptions-imaug')
    corruptions.add_argument('--images', type=int, default=20, help='how many images of 224 pixels')
    corruptions.add_argument('--data', type=Path, metavar='FOLDER', help='take them, evenly spread, from this folder '
                             'instead of drawing them')  # fmt: skip
    for subject, repeats in ((distill, 5), (corruptions, 3)):
        subject.add_argument('--repeats', type=int, default=repeats, help='measurements of each')
        subject.add_argument('--out', type=Path, required=True, help='JSON file of the results')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Measure; returns what the file holds."""
    with TemporaryDirectory(prefix='benchmark-') as folder:
        result, table = MEASURE[args.subject](args, Path(folder))
    write_json(args.out, result)
    Console().print(table, highlight=False)
    return result


def measure_distill(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Distillation steps."""
    from distill.benchmark_distill import Settings, benchmark_distill, table

    settings = Settings(folder, args.batch_size, args.threads)
    result = benchmark_distill(settings, args.repeats, lambda steps: track(steps, 'steps'))
    return result, table(result)


def measure_corruptions(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Corruptions of embedded or given images."""
    from distill.robustness.benchmark_corruptions import benchmark_corruptions, read_images, table
    from distill.synthetic.imagenet_like import write_imagenet_like

    if args.data is None:
        write_imagenet_like(folder / 'images', size=224, train=args.images, val=0, shifted=0)
    images = read_images(args.data or folder / 'images', args.images)
    with Console().status('corruptions') as status:
        result = benchmark_corruptions(images, repeats=args.repeats, progress=status.update)
    return result, table(result)


MEASURE = {'distill': measure_distill, 'corruptions': measure_corruptions}


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
