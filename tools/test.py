"""Test what a config describes: a student, a detector or a segmenter; the scores go to results.json.

python tools/test.py downstream_configs/deeplabv3/CONFIG.py work_dirs/CONFIG/iter_400.pth
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from distill.cli import run_command
from distill.experiment import add_config_arguments, build_runner, load_config, resume_from
from distill.hooks import write_json
from distill.pictures import PictureHook
from distill.scores import to_results


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments: OpenMMLab's, and ``--data-root``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help="checkpoint file, or auto for the work directory's newest")
    parser.add_argument('--out', type=Path, help='file for the scores (default: results.json in the work directory)')
    parser.add_argument('--show-dir', type=Path, help='folder for pictures of predictions beside the ground truth')
    parser.add_argument('--show-interval', type=int, default=10, metavar='N', help='draw every N-th image')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Test; returns what results.json holds."""
    config = load_config(args)
    config.load_from = resume_from(args.checkpoint, config.work_dir)[1]
    if config.load_from is None:
        raise FileNotFoundError(f"'{config.work_dir}' has no checkpoint; train first or name one")
    out = args.out or Path(config.work_dir) / 'results.json'
    hooks = [PictureHook(args.show_dir, args.show_interval)] if args.show_dir else []
    runner = build_runner(config, hooks)
    scores = runner.test()
    pictures = sorted(args.show_dir.glob('*.png')) if args.show_dir else []
    results = to_results(runner, scores, config, pictures, out.parent)
    if runner.rank == 0:
        write_json(out, results)
        Console().print(f'results: {out}')
    return results


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
