"""Write the embedded data sets: OUT/imagenet, OUT/coco and OUT/ade20k.

robust-backbones data shapes data/synthetic
robust-backbones data data/synthetic224 --sets imagenet --size 224 --train 20000 --workers 8
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.arguments import check_can_write
from distill.cli.command import run_command

if TYPE_CHECKING:
    from PIL import Image
    from rich.table import Table

KIND = 'shapes'
SETS = ('imagenet', 'coco', 'ade20k')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('kind', nargs='?', default=KIND, metavar=KIND, help='what is drawn; there is one kind, and it may be left out')
    add('out', type=Path, metavar='OUT', help='folder that receives the sets')
    add('--sets', nargs='+', default=list(SETS), metavar='SET', help=f'any of {", ".join(SETS)} (all)')
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


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    if args.kind != KIND:
        raise ValueError(f"{args.kind!r} is no kind of data; give the folder alone, or '{KIND} {args.out}'")
    unknown = [name for name in args.sets if name not in SETS]
    if unknown:
        raise ValueError(f'set {unknown[0]!r} is unknown; choose from {", ".join(SETS)}')
    check_can_write(args.out, 'OUT', is_folder=True)
    check_can_write(args.contact_sheet, '--contact-sheet')


def set_arguments(args: argparse.Namespace) -> dict[str, dict]:
    """The arguments of each set's writer."""
    names = ('seed', 'texture_agreement', 'workers', 'overwrite')
    common = {name: getattr(args, name) for name in names}
    images = {'size': args.size, 'train': args.train, 'val': args.val, 'shifted': args.shifted}
    scenes = {'size': args.scene_size, 'train': args.scenes_train, 'val': args.scenes_val}
    return {name: {**(images if name == 'imagenet' else scenes), **common} for name in dict.fromkeys(args.sets)}


def run(args: argparse.Namespace) -> dict:
    """Write the sets that are asked for.

    Returns:
        The contents of each set's ``data.json`` and ``written``, by set.
    """
    check(args)
    from PIL import Image
    from rich.console import Console

    from distill.base.screen import counting_progress
    from distill.synthetic.ade20k import write_ade20k
    from distill.synthetic.coco import write_coco
    from distill.synthetic.imagenet_like import SHIFTED, write_imagenet_like
    from distill.synthetic.sets import check_arguments

    sets = set_arguments(args)
    for one in sets.values():  # All before the first is drawn, which takes minutes.
        counts = {name: one[name] for name in ('train', 'val', 'shifted') if name in one}
        check_arguments(one['size'], counts, args.texture_agreement, args.seed, args.workers)
    if args.contact_sheet and args.contact_sheet.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--contact-sheet '{args.contact_sheet}' has no ending of a picture; choose .png")
    writers = dict(zip(SETS, (write_imagenet_like, write_coco, write_ade20k), strict=True))
    results = {}
    with counting_progress(Console(stderr=True), transient=True) as progress:
        for name, arguments in sets.items():
            total = arguments['train'] + arguments['val'] + len(SHIFTED) * arguments.get('shifted', 0)
            task = progress.add_task(f'{name:>8}', total=total)
            advance = lambda task=task: progress.advance(task)  # noqa: E731
            results[name] = writers[name](args.out / name, **arguments, progress=advance)
    Console().print(sets_table(args.out, results))
    if args.contact_sheet:
        args.contact_sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet([args.out / name for name in results]).save(args.contact_sheet)
    return results


def sets_table(out: Path, results: dict) -> 'Table':
    """A row for each split of each set."""
    from distill.base.screen import result_table

    rows = []
    for name, result in results.items():
        state = 'written' if result['written'] else 'unchanged'
        for split, count in result['images'].items():
            rows.append((name, split, str(count), str(result['arguments']['size']), str(out / name), state))
    return result_table(('set', 'split', 'images', 'size', 'folder', 'state'), rows)


def contact_sheet(roots: Sequence[Path], columns: int = 20, side: int = 96) -> 'Image.Image':
    """A row for each folder of images: the first ones in it.

    Args:
        roots: Folders of the sets.
        columns: Images in a row.
        side: Side of an image, in pixels.
    """
    from PIL import Image

    folders = [folder for root in roots for folder in sorted({path.parent for path in root.rglob('*.jpg')})]
    sheet = Image.new('RGB', (columns * side, len(folders) * side), 'white')
    for row, folder in enumerate(folders):
        for column, path in enumerate(sorted(folder.glob('*.jpg'))[:columns]):
            with Image.open(path) as image:
                sheet.paste(image.resize((side - 2, side - 2)), (column * side, row * side))
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
