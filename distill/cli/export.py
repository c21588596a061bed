"""Export a model to files that other engines run, each verified there before it is kept.

robust-backbones export work_dirs/robust/student_best.pth --to onnx openvino --images data/val --out artefacts
robust-backbones export resnet50 --to onnx --features --input-size 512 --out artefacts
robust-backbones export work_dirs/robust/student_best.pth --to onnx --int8 --calibration data/train --out artefacts
robust-backbones export work_dirs/detector/epoch_12.pth --config detector.py --to onnx --out artefacts
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.api.checks import as_option, check_export
from distill.cli.arguments import add_model_arguments, check_at_least, find_config, model_arguments
from distill.cli.command import prepare_torch, run_command
from distill.engines import MODULES
from distill.robustness.sources import Source

QUANTISATION = (
    'calibration',
    'calibration_images',
    'calibration_shift',
    'keep_fp32',
    'keep',
    'accuracy_drop',
    'labelled',
)


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SOURCE', help='timm name, folder, NAME@FILE, or a file that tells its model '
                        '(docs/models_in.md); with --config a checkpoint')  # fmt: skip
    parser.add_argument('--to', nargs='+', choices=MODULES, default=['onnx'], metavar='ENGINE', help='of '
                        f'{", ".join(MODULES)} (default: onnx)')  # fmt: skip
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='folder of the files')
    parser.add_argument('--name', help="name of the files, without ending (default: the source's)")
    parser.add_argument('--features', nargs='*', type=int, metavar='INDEX', help='a feature pyramid in place of '
                        'logits: entries of feature_info (default: the last four)')  # fmt: skip
    parser.add_argument('--uint8', action='store_true', help='take images as they are decoded, and normalise inside')
    parser.add_argument('--batch', type=int, metavar='N', help='fix the images of a run (default: any number)')
    parser.add_argument('--fixed-size', action='store_true', help="take images of the model's size only, even of a "
                        'fully convolutional model: exported sooner')  # fmt: skip
    parser.add_argument('--config', help='a detector or segmenter: its config, by path or name')
    verify = parser.add_argument_group('verification')
    verify.add_argument('--images', type=Path, metavar='DIR', help='images to verify with (default: synthetic ones)')
    verify.add_argument('--count', type=int, default=16, metavar='N', help='how many of them (%(default)s)')
    verify.add_argument('--tolerance', type=float, default=1e-4, metavar='X', help='difference that is allowed, '
                        'relative to the largest output (%(default)s)')  # fmt: skip
    verify.add_argument('--threads', type=int, metavar='N', help="of the engines (default: the engines' own)")
    add_quantisation_arguments(parser)
    add_model_arguments(parser)
    return parser


def add_quantisation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what int8 takes."""
    group = parser.add_argument_group('int8', 'a second file beside each, for onnx, openvino and mnn')
    group.add_argument('--int8', action='store_true', help='quantise, too')
    group.add_argument('--calibration', metavar='DIR', help='images to measure ranges on')
    group.add_argument('--calibration-images', type=int, metavar='N', help='how many of them at the most')
    group.add_argument('--calibration-shift', metavar='KIND', help='clean images, shifted ones or both')
    group.add_argument('--keep-fp32', nargs='+', metavar='LAYER', help='layers that stay in fp32')
    group.add_argument('--keep', type=int, metavar='N', help='keep the N most sensitive layers in fp32')
    group.add_argument('--accuracy-drop', type=float, metavar='POINTS', help='keep the fewest layers that hold it')
    group.add_argument('--labelled', metavar='DIR', help='class folders to measure that drop on')


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_at_least(args, 1, 'batch', 'count', 'threads', 'calibration_images')
    if not args.tolerance > 0:
        raise ValueError(f'--tolerance is {args.tolerance}; give a number above 0, such as 1e-4')
    model_arguments(args)
    given = [name for name in QUANTISATION if getattr(args, name) is not None]
    if given and not args.int8:
        raise ValueError(f'{as_option(given[0])} is of int8; add --int8, or leave it out')
    source = Source.parse(args.source)
    source.check()
    if source.is_artefact:
        raise ValueError(f"'{args.source}' is exported already; give the model that it was made of")
    if args.config is not None:
        args.config = find_config(args.config)
        if args.features is not None:
            raise ValueError('--features is of classifiers; leave it out beside --config')
        if source.file is None or not source.file.is_file():
            raise FileNotFoundError(f"checkpoint '{args.source}' does not exist; --config needs one beside it")
    check_export(args.to, args.out, args.images, as_option)


def quantisation(args: argparse.Namespace) -> dict[str, Any] | None:
    """Arguments of `distill.export.quantise.artefact.Options`, or None where no int8 is asked for."""
    if not args.int8:
        return None
    names = {'calibration_images': 'images', 'calibration_shift': 'shift'}
    given = {names.get(name, name): getattr(args, name) for name in QUANTISATION}
    return {name: value for name, value in given.items() if value is not None}


def run(args: argparse.Namespace) -> dict:
    """Export; returns the manifest of each file by its name."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.api.export import export_model
    from distill.base.screen import result_table

    names = ('name', 'features', 'uint8', 'batch', 'fixed_size', 'images', 'count', 'tolerance', 'threads', 'config')
    given = {name: getattr(args, name) for name in names}
    exported = export_model(
        args.source, args.out, args.to, int8=quantisation(args), model_options=model_arguments(args), **given
    )
    rows = []
    for one in exported:
        m, verified = one.manifest, one.manifest.verification
        sizes = 'any size' if 'height' in m.dynamic else f'{m.size[0]}×{m.size[1]}'
        takes = f'{m.dtype}, {"any batch" if m.batch is None else f"batch {m.batch}"}, {sizes}'
        difference = '–' if verified is None else f'{verified.max_difference:.1e}'
        agreement = '–' if verified is None or verified.agreement is None else f'{verified.agreement:.1%}'
        shown = '–' if verified is None else f'{verified.count} {verified.origin}'
        rows.append([one.path.name, f'{one.size_mb:.1f}', takes, m.precision, difference, agreement, shown])
    console = Console()
    head = ['file', 'MB', 'takes', 'precision', 'largest difference', 'top-1 agrees', 'images']
    console.print(result_table(head, rows, numbers=(1, 4, 5)))
    for reason in dict.fromkeys(one.manifest.details.get('fixed_because') for one in exported):
        if reason:
            console.print(f'sizes are fixed: {reason}')
    console.print(f'files and manifests: {args.out}')
    return {one.path.name: one.manifest for one in exported}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
