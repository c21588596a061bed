"""Count the parameters and multiply-adds of a config's model on one image, part by part.

python tools/get_flops.py downstream_configs/cascade_rcnn/CONFIG.py --shape 800 1280

Counted are convolutions, matrix products and attention at inference; not norms, activations, resampling, RoI pooling
and NMS. Box heads are counted for test_cfg.rpn.max_per_img proposals, mask heads for test_cfg.rcnn.max_per_img
detections. Auxiliary heads have parameters and cost nothing, since inference does without them.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.base.files import write_json
from distill.cli.command import run_command
from distill.downstream.complete import complete
from distill.downstream.flops import COUNTED, count_parts, default_shape
from distill.training.experiment import add_config_arguments, read_config


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


def run(args: argparse.Namespace) -> dict:
    """Count; returns what ``--out`` writes."""
    config = read_config(args)
    for note in complete(config):
        Console(stderr=True).print(note)
    shape = default_shape(config) if args.shape is None else tuple(args.shape)
    shape = shape * 2 if len(shape) == 1 else shape
    if len(shape) != 2 or min(shape) < 32:
        raise ValueError(f'--shape {shape} is no size; give height and width of at least 32 pixels')
    parts, regions = count_parts(config, shape)
    table = Table('part', 'M parameters', 'GMACs')
    for column in table.columns[1:]:
        column.justify = 'right'
    for part in parts:
        table.add_row(part.name or 'all', f'{part.params:.2f}', f'{part.gmacs:.2f}', end_section=part is parts[-2])
    console = Console()
    console.print(f'{Path(args.config).stem}, {shape[0]} × {shape[1]}')
    console.print(table)
    counted = COUNTED + ''.join(f'; {count} {name}' for name, count in regions.items())
    console.print(f'counted: {counted}')
    result = {
        'config': args.config,
        'shape': list(shape),
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
