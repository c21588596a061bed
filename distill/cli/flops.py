"""Count the parameters and multiply-adds of a config's model on one image, part by part.

robust-backbones flops downstream_configs/cascade_rcnn/CONFIG.py --shape 800 1280

Counted are convolutions, matrix products and attention at inference; not norms, activations, resampling, RoI pooling
and NMS. Box heads are counted for test_cfg.rpn.max_per_img proposals, mask heads for test_cfg.rcnn.max_per_img
detections. Auxiliary heads have parameters and cost nothing, since inference does without them.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from distill.cli.arguments import add_config_arguments, check_can_write, check_config_arguments, experiment_of
from distill.cli.command import prepare_torch, run_command

MIN_SIDE_PX = 32


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(parser)
    parser.add_argument(
        '--shape',
        nargs='+',
        type=int,
        metavar='PX',
        help='height and width, or a side (default: detectors 800 1280, others their training crop)',
    )
    parser.add_argument('--out', type=Path, metavar='FILE', help='write the numbers as JSON')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_config_arguments(args, runs=False)
    check_can_write(args.out, '--out')
    if args.shape is not None:
        check_shape(args.shape)


def check_shape(shape: list[int] | tuple[int, ...]) -> None:
    """Check height and width, or a side.

    Raises:
        ValueError: There are more numbers, or one is too small.
    """
    if len(shape) > 2 or min(shape) < MIN_SIDE_PX:
        sides = ' '.join(map(str, shape))
        raise ValueError(f'--shape {sides} is no size; give height and width of at least {MIN_SIDE_PX} pixels')


def run(args: argparse.Namespace) -> dict:
    """Count; returns what ``--out`` writes."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.base.files import write_json
    from distill.base.screen import result_table
    from distill.downstream.complete import complete
    from distill.downstream.flops import COUNTED, count_parts, default_shape
    from distill.downstream.student_config import student_alone
    from distill.training.experiment import read_config

    config, notes = read_config(experiment_of(args))
    for note in notes + student_alone(config) + complete(config):
        Console(stderr=True).print(note)
    shape = tuple(args.shape or default_shape(config))
    check_shape(shape)
    height, width = shape * 2 if len(shape) == 1 else shape
    parts, regions = count_parts(config, (height, width))
    rows = [(part.name or 'all', f'{part.params:.2f}', f'{part.gmacs:.2f}') for part in parts]
    console = Console()
    console.print(f'{Path(args.config).stem}, {height} × {width}')
    console.print(result_table(('part', 'M parameters', 'GMACs'), rows, numbers=(1, 2), ends=(len(rows) - 2,)))
    counted = COUNTED + ''.join(f'; {count} {name}' for name, count in regions.items())
    console.print(f'counted: {counted}')
    result = {
        'config': args.config,
        'shape': [height, width],
        'params_m': parts[-1].params,
        'gmacs': parts[-1].gmacs,
        'parts': [asdict(part) for part in parts[:-1]],
        'counted': counted,
    }
    if args.out:
        write_json(args.out, result)
    return result


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
