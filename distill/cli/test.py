"""Test what a config describes: a student, a detector or a segmenter; the scores go to results.json.

robust-backbones test downstream_configs/deeplabv3/CONFIG.py work_dirs/CONFIG/iter_400.pth
robust-backbones test CONFIG.py auto --corruptions benchmark      P, mPC and rPC under 15 corruptions at 5 severities
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from distill.base.records import SEVERITIES, cells_of, choose_kinds
from distill.cli.arguments import (
    add_config_arguments,
    check_at_least,
    check_can_write,
    check_config_arguments,
    check_is_file,
)
from distill.cli.command import prepare_torch, run_command

if TYPE_CHECKING:
    from mmengine.config import Config
    from rich.table import Table

SCORES, PREDICTIONS = '.json', ('.pkl', '.pickle')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, ``--data-root``, and those of the corruptions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help="checkpoint file, or auto for the work directory's newest")
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
        metavar='KIND',
        help='test under corruption too: benchmark, all, noise, blur, weather, digital, holdout, or kinds by name',
    )
    parser.add_argument('--severities', nargs='+', type=int, default=SEVERITIES, metavar='N', help='of 1 to 5')
    parser.add_argument('--corruption-limit', type=int, metavar='N', help='test N images only, evenly chosen')
    parser.add_argument('--corruption-seed', type=int, default=0, help='seed of the corruptions')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args)
    if args.checkpoint != 'auto':
        check_is_file(args.checkpoint, 'checkpoint', 'train first or name another')
    elif args.work_dir and not any(Path(args.work_dir).glob('*.pth')):
        raise _no_checkpoint(args.work_dir)
    if args.out and args.out.suffix not in (SCORES, *PREDICTIONS):
        raise ValueError(f"--out '{args.out}' has no known ending; choose .json for scores or .pkl for predictions")
    check_can_write(args.out, '--out')
    check_can_write(args.show_dir, '--show-dir', is_folder=True)
    check_at_least(args, 1, 'show_interval', 'corruption_limit')
    check_at_least(args, 0, 'corruption_seed')
    if args.corruptions:
        cells_of(choose_kinds(args.corruptions), args.severities)
        if args.show_dir or (args.out and args.out.suffix != SCORES):
            raise ValueError('--corruptions writes scores only; drop --show-dir, and let --out end in .json')


def run(args: argparse.Namespace) -> dict:
    """Test; returns what results.json holds."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.downstream.complete import complete
    from distill.downstream.pictures import PictureHook
    from distill.downstream.scores import to_results
    from distill.downstream.testing import augment_test_time, dump_predictions
    from distill.results.files import write_results
    from distill.training.experiment import build_runner, check_sections, check_weights, load_config, resume_from

    config = load_config(args)
    check_sections(config, 'a test', 'test_dataloader.dataset', 'test_evaluator')
    config.load_from = resume_from(args.checkpoint, config.work_dir)[1]
    if config.load_from is None:
        raise _no_checkpoint(config.work_dir)
    predictions = args.out if args.out and args.out.suffix in PREDICTIONS else None
    out = Path(config.work_dir) / 'results.json' if predictions or not args.out else args.out
    if args.tta:
        augment_test_time(config)
    notes = complete(config)
    if args.corruptions:
        return run_corrupted(args, config, out, notes)

    if predictions:
        temporary = predictions.with_name(f'.{predictions.stem}.{os.getpid()}.tmp.pkl')
        dump_predictions(config, temporary)
    runner = build_runner(config, [PictureHook(args.show_dir, args.show_interval)] if args.show_dir else [], notes)
    check_weights(runner.model, config.load_from)
    scores = runner.test()
    pictures = sorted(args.show_dir.glob('*.png')) if args.show_dir else []
    results = to_results(runner, scores, config, pictures, out.parent)
    if runner.rank == 0:
        if predictions:
            os.replace(temporary, predictions)
            Console().print(f'predictions: {predictions}')
        write_results(out, results)
        Console().print(f'results: {out}')
    return results


def run_corrupted(args: argparse.Namespace, config: 'Config', out: Path, notes: list[str]) -> dict:
    """Test on clean images and under corruption; returns what results.json holds.

    Args:
        args: Parsed arguments.
        config: A detector's or segmenter's config, with ``load_from``.
        out: File for the scores; the scores of each cell go beside it.
        notes: Lines for the log.

    Raises:
        ValueError: The config is no detector's or segmenter's.
    """
    from rich.console import Console

    from distill.downstream.corruption import Cells, measure
    from distill.downstream.scores import to_results
    from distill.results.files import write_results
    from distill.training.experiment import SCOPES

    if config.get('default_scope') not in SCOPES:
        raise ValueError(f'{args.config} is no detector or segmenter; test a student with tools/robustness.py')
    cells = Cells(choose_kinds(args.corruptions), tuple(args.severities), args.corruption_seed, args.corruption_limit)
    runner, scores, corruption = measure(config, cells, out.parent, notes)
    results = to_results(runner, scores, config, [], out.parent)
    section = next(key for key in ('detection', 'segmentation') if key in results)
    results[section]['corruption'] = corruption
    if runner.rank == 0:
        write_results(out, results)
        Console().print(corruption_table(corruption))
        Console().print(f'results: {out}, cells: {out.parent / "corruptions.md"}')
    return results


def corruption_table(corruption: dict) -> 'Table':
    """The summary of each score under corruption, a row a score."""
    from distill.cli.screen import result_table

    rows = [
        (
            name,
            f'{score["P"]:.4f}',
            f'{score["mPC"]:.4f}',
            '–' if score['rPC_pct'] is None else f'{score["rPC_pct"]:.1f}',
        )
        for name, score in corruption.items()
        if isinstance(score, dict) and 'mPC' in score
    ]
    return result_table(('score', 'P', 'mPC', 'rPC %'), rows)


def _no_checkpoint(work_dir: str) -> FileNotFoundError:
    return FileNotFoundError(f"'{work_dir}' has no checkpoint; train first or name one")


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
