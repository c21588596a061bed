"""Write the embedded data sets: OUT/imagenet, OUT/coco and OUT/ade20k.

python tools/make_data.py data/synthetic
python tools/make_data.py data/synthetic224 --sets imagenet --size 224 --train 20000 --workers 8
"""

import argparse
import sys
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from distill.cli.command import run_command
from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import write_coco
from distill.synthetic.imagenet_like import SHIFTED, write_imagenet_like

WRITERS = {'imagenet': write_imagenet_like, 'coco': write_coco, 'ade20k': write_ade20k}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make_data.py',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('out', type=Path, metavar='OUT', help='folder that receives the sets')
    add('--sets', nargs='+', default=list(WRITERS), metavar='SET', help=f'any of {", ".join(WRITERS)} (all)')
    add('--size', type=int, default=32, metavar='PX', help='side of an ImageNet-like image (%(default)s)')
    add('--train', type=int, default=2000, metavar='N', help='images in train (%(default)s)')
    add('--val', type=int, default=500, metavar='N', help='images in val (%(default)s)')
    add('--shifted', type=int, default=500, metavar='N', help='images in each shifted set (%(default)s)')
    add('--scene-size', type=int, default=128, metavar='PX', help='side of a scene (%(default)s)')
    add('--scenes-train', type=int, default=200, metavar='N', help='scenes for training (%(default)s)')
    add('--scenes-val', type=int, default=50, metavar='N', help='scenes for validation (%(default)s)')
    add(
        '--texture-agreement',
        type=float,
        default=0.9,
        metavar='P',
        help='probability that a texture agrees with its class; 0.1 = independent (%(default)s)',
    )
    add('--seed', type=int, default=0, help='seed of all sets (%(default)s)')
    add('--workers', type=int, default=1, metavar='N', help='processes that draw (%(default)s)')
    add('--overwrite', action='store_true', help='replace sets made with other arguments')
    add('--contact-sheet', type=Path, metavar='PNG', help='also draw the first images of each folder')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Write the sets that are asked for.

    Returns:
        The contents of each set's ``data.json`` and ``written``, by set.
    """
    unknown = [name for name in args.sets if name not in WRITERS]
    if unknown:
        raise ValueError(f'set {unknown[0]!r} is unknown; choose from {", ".join(WRITERS)}')
    common = {
        'seed': args.seed,
        'texture_agreement': args.texture_agreement,
        'workers': args.workers,
        'overwrite': args.overwrite,
    }
    image_arguments = {'size': args.size, 'train': args.train, 'val': args.val, 'shifted': args.shifted}
    scene_arguments = {'size': args.scene_size, 'train': args.scenes_train, 'val': args.scenes_val}
    console = Console(stderr=True)
    results = {}
    columns = (TextColumn('{task.description:>8}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for name in dict.fromkeys(args.sets):
            arguments = image_arguments if name == 'imagenet' else scene_arguments
            total = arguments['train'] + arguments['val'] + len(SHIFTED) * arguments.get('shifted', 0)
            task = progress.add_task(name, total=total)
            advance = lambda task=task: progress.advance(task)  # noqa: E731
            results[name] = WRITERS[name](args.out / name, **arguments, **common, progress=advance)
    _print_table(args.out, results)
    if args.contact_sheet:
        _contact_sheet([args.out / name for name in results]).save(args.contact_sheet)
    return results


def _print_table(out: Path, results: dict) -> None:
    table = Table('set', 'split', 'images', 'size', 'folder', 'state')
    for name, result in results.items():
        for split, count in result['images'].items():
            state = 'written' if result['written'] else 'unchanged'
            table.add_row(name, split, str(count), str(result['arguments']['size']), str(out / name), state)
    Console().print(table)


def _contact_sheet(roots: list[Path], columns: int = 20, side: int = 96) -> Image.Image:
    """A row for each folder of images: the first ones in it."""
    folders = [folder for root in roots for folder in sorted({path.parent for path in root.rglob('*.jpg')})]
    sheet = Image.new('RGB', (columns * side, len(folders) * side), 'white')
    for row, folder in enumerate(folders):
        for column, path in enumerate(sorted(folder.glob('*.jpg'))[:columns]):
            with Image.open(path) as image:
                sheet.paste(image.resize((side - 2, side - 2)), (column * side, row * side))
    return sheet


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
