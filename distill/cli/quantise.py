"""Quantise exported models: int8 calibrated on images, or half precision, each verified to run in its own engine.

robust-backbones quantise models/net.onnx --calibration data/val --accuracy-drop 1.0 --labelled data/val
robust-backbones quantise models/net.onnx models/net.xml --calibration data/val --shift both --keep 2
robust-backbones quantise models/net.xml --precision bf16
robust-backbones quantise detector.onnx --calibration data/train2017 --accuracy-drop 1.0 --config CFG --labelled data
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.arguments import check_at_least, check_can_write, check_is_file, check_is_folder, find_config
from distill.cli.command import run_command

if TYPE_CHECKING:
    from distill.engines.artefact import Manifest
    from distill.export.quantise.artefact import Options

PRECISIONS = ('int8', 'fp16', 'bf16')
SHIFTS = ('clean', 'shifted', 'both')
IMAGES, LEAST_IMAGES = 200, 2
AGREES = {
    'detection': '{:.1f} % of the sure objects agree on',
    'segmentation': '{:.1f} % of the pixels agree on',
}
SCORES = {'detection': 'box mAP', 'segmentation': 'mIoU'}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'artefacts', nargs='+', type=Path, metavar='FILE', help='fp32 artefacts that `export` has written'
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder of the files (default: beside each artefact)')
    parser.add_argument('--precision', choices=PRECISIONS, default='int8', help='type of the files (default: int8)')
    add_int8_arguments(parser)
    parser.add_argument('--config', help='of a detector or segmenter: the config whose test measures --accuracy-drop')
    parser.add_argument('--threads', type=int, help='threads of the engines')
    return parser


def add_int8_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what int8 needs to know; `int8_options` makes `Options` of it."""
    group = parser.add_argument_group('of int8')
    group.add_argument('--calibration', type=Path, metavar='FOLDER', help='images to measure ranges on, in any folders')
    group.add_argument(
        '--calibration-images', type=int, default=IMAGES, metavar='N', help=f'how many (default: {IMAGES})'
    )
    group.add_argument('--shift', choices=SHIFTS, default='clean', help='calibrate on clean images, on images '
                       'corrupted by kinds that the benchmark does not hold, or on both')  # fmt: skip
    group.add_argument('--calibration-seed', type=int, default=0, metavar='N', help='of these corruptions')
    group.add_argument('--keep-fp32', nargs='+', action='extend', default=[], metavar='NAME',
                       help='layers, or parts of the network, that stay in fp32')  # fmt: skip
    group.add_argument('--keep', type=int, metavar='N', help='keep N layers in fp32, those that int8 harms most')
    group.add_argument('--accuracy-drop', type=float, metavar='POINTS', help='keep the fewest layers in fp32 that lose '
                       'this at the most, on --labelled')  # fmt: skip
    group.add_argument(
        '--labelled',
        type=Path,
        metavar='FOLDER',
        help='class folders that --accuracy-drop is measured on; with '
        "--config the folder of the data, in place of the config's",
    )
    group.add_argument(
        '--reduce-range',
        action=argparse.BooleanOptionalAction,
        help='for x86 processors without VNNI: weights whose products sum up in 16 bits (default: if this is one)',
    )


def int8_options(args: argparse.Namespace, precision: str = 'int8') -> 'Options':
    """How to quantise, of the arguments that `add_int8_arguments` has added.

    Raises:
        ValueError: A value is out of range, or does not go with the others.
    """
    from distill.export.quantise.artefact import Options

    options = Options(
        precision,
        args.calibration,
        args.calibration_images,
        args.shift,
        args.calibration_seed,
        tuple(args.keep_fp32),
        args.keep,
        args.accuracy_drop,
        args.labelled,
        args.config if args.accuracy_drop is not None else None,
        args.reduce_range,
        args.threads,
    )
    options.check()
    return options


def check_int8_arguments(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_at_least(args, LEAST_IMAGES, 'calibration_images')
    check_at_least(args, 0, 'keep', 'accuracy_drop', 'calibration_seed')
    if args.calibration is None:
        raise ValueError('int8 needs images to measure ranges on; give --calibration FOLDER')
    check_is_folder(args.calibration, 'calibration folder', 'give one of images like those that the model is for')
    if args.accuracy_drop is not None and args.labelled is None and args.config is None:
        raise ValueError(
            '--accuracy-drop is measured on labelled images; give --labelled FOLDER, or --config of a detector or '
            'segmenter'
        )
    if args.labelled is not None:
        check_is_folder(args.labelled, 'folder of labelled images', 'correct the path')


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    for path in args.artefacts:
        check_is_file(path, 'artefact', 'export it first or correct the path')
    check_at_least(args, 1, 'threads')
    if args.config is not None:
        if args.accuracy_drop is None:
            raise ValueError('--config is of --accuracy-drop; add that, or leave it out')
        args.config = find_config(args.config)
    if args.precision == 'int8':
        check_int8_arguments(args)
    for folder in {args.out} if args.out else {path.absolute().parent for path in args.artefacts}:
        check_can_write(folder, '--out' if args.out else 'folder of the artefact', is_folder=True)


def run(args: argparse.Namespace) -> dict:
    """Quantise; returns the manifests by path."""
    check(args)
    from rich.console import Console

    from distill.export.quantise.artefact import default_out, quantise

    options, written = int8_options(args, args.precision), {}
    for path in args.artefacts:
        out = default_out(path, args.precision)
        out = args.out / out.name if args.out else out
        with Console(stderr=True).status(path.name) as status:
            written[str(out)] = quantise(path, out, options, say=lambda line, status=status: status.update(line))
    for path, manifest in written.items():
        print(f'{path}: {summary(manifest)}')
    return {path: vars(manifest) for path, manifest in written.items()}


def summary(manifest: 'Manifest') -> str:
    """What a quantised artefact is and how far it is from the fp32 one, in a line."""
    found = manifest.details['quantised']
    parts = [found['method']]
    if manifest.calibration:
        parts.append(f'{manifest.calibration["images"]} {manifest.calibration["shift"]} images')
    if manifest.precision == 'int8':
        parts.append(f'in fp32: {", ".join(manifest.kept_in_fp32) or "no layer"}')
    if 'agreement_pct' in found:
        what = AGREES.get(manifest.task, 'top-1 agrees on {:.1f} % of')
        parts.append(f'{what.format(found["agreement_pct"])} {found["compared"]} calibration images')
    if 'accuracy_pct' in found:
        score = SCORES.get(manifest.task, 'top-1')
        parts.append(f'{score} {found["accuracy_pct"]["fp32"]:.2f} % in fp32 and {found["accuracy_pct"]["int8"]:.2f} %')
    return '; '.join(parts)


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
