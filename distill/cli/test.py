"""Test what a config describes: a student, a detector or a segmenter; the scores go to results.json.

robust-backbones test downstream_configs/deeplabv3/CONFIG.py work_dirs/CONFIG/iter_400.pth
robust-backbones test CONFIG.py auto --corruptions benchmark      P, mPC and rPC under 15 corruptions at 5 severities
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill.api.checks import PREDICTIONS, as_option, check_test
from distill.base.records import SEVERITIES
from distill.cli.arguments import add_config_arguments, check_config_arguments, check_is_file
from distill.cli.command import prepare_torch, run_command

if TYPE_CHECKING:
    from rich.table import Table


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, ``--data-root``, and those of the corruptions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument(
        'checkpoint',
        help="checkpoint file, or auto for the work directory's newest; or an exported model (.onnx, .xml, .mnn, .pt2)",
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='.json: file for the scores (default: results.json in the work directory); .pkl: file for the predictions',
    )
    parser.add_argument('--show-dir', type=Path, help='folder for pictures of predictions beside the ground truth')
    parser.add_argument('--show-interval', type=int, default=10, metavar='N', help='draw every N-th image')
    parser.add_argument('--tta', action='store_true', help="test with the config's tta_model and tta_pipeline")
    parser.add_argument(
        '--corruptions',
        nargs='+',
        default=[],
        metavar='KIND',
        help='test under corruption too: benchmark, all, noise, blur, weather, digital, holdout, or kinds by name',
    )
    parser.add_argument('--severities', nargs='+', type=int, default=SEVERITIES, metavar='N', help='of 1 to 5')
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='test N images only, evenly chosen')
    parser.add_argument('--corruption-seed', type=int, default=0, help='seed of the corruptions')
    parser.add_argument(
        '--per-image',
        action='store_true',
        help='keep what was found on each image, so that a report compares two tests in pairs',
    )
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args)
    if args.checkpoint != 'auto':
        check_is_file(args.checkpoint, 'checkpoint', 'train first or name another')
    elif args.work_dir and not any(Path(args.work_dir).glob('*.pth')):
        raise FileNotFoundError(f"'{args.work_dir}' has no checkpoint; train first or name one")
    names = ('out', 'show_dir', 'show_interval', 'corruptions', 'severities', 'corruption_limit', 'corruption_seed')
    check_test(*(getattr(args, name) for name in names), as_option)


def run(args: argparse.Namespace) -> dict:
    """Test; returns what results.json holds."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.run_test import run_test

    names = ('out', 'show_dir', 'show_interval', 'tta', 'corruptions', 'severities', 'corruption_limit')
    given = {name: getattr(args, name) for name in (*names, 'corruption_seed', 'per_image', 'launcher', 'cfg_options')}
    result = run_test(args.config, args.checkpoint, args.data_root, args.work_dir, verbose=True, **given)
    console = Console(quiet=result.rank > 0)
    if args.out and args.out.suffix in PREDICTIONS:
        console.print(f'predictions: {args.out}')
    cells = ''
    if args.corruptions:
        console.print(corruption_table(result.corruption))
        cells = f', cells: {result.path.parent / "corruptions.md"}'
    console.print(f'results: {result.path}{cells}')
    return result.content


def corruption_table(corruption: Mapping[str, Mapping]) -> 'Table':
    """The summary of each score under corruption, a row a score."""
    from distill.base.screen import result_table

    rows = [
        (
            name,
            f'{score["P"]:.4f}',
            f'{score["mPC"]:.4f}',
            '–' if score['rPC_pct'] is None else f'{score["rPC_pct"]:.1f}',
        )
        for name, score in corruption.items()
    ]
    return result_table(('score', 'P', 'mPC', 'rPC %'), rows)


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
