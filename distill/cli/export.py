"""Export a model to files that other engines run, each verified there before it is kept.

robust-backbones export work_dirs/robust/student_best.pth --to onnx openvino --images data/val --out artefacts
robust-backbones export resnet50 --to onnx --features --input-size 512 --out artefacts
robust-backbones export work_dirs/robust/student_best.pth --to onnx --int8 --calibration data/train --out artefacts
robust-backbones export work_dirs/detector/epoch_12.pth --config detector.py --to onnx --out artefacts
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.api.checks import as_option, check_export
from distill.cli.arguments import add_model_arguments, check_at_least, check_is_folder, find_config, model_arguments
from distill.cli.command import prepare_torch, run_command
from distill.cli.quantise import add_int8_arguments, check_int8_arguments, int8_options
from distill.engines import MODULES
from distill.robustness.sources import Source

if TYPE_CHECKING:
    from distill.engines.artefact import Manifest

QUANTISED = ('onnx', 'openvino', 'mnn')
"""Engines of int8 for a written file; the others quantise a network before it is written."""


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
    parser.add_argument('--data-root', type=Path, metavar='DIR', help="with --config: folder of its data, in place of "
                        'the one that it names')  # fmt: skip
    verify = parser.add_argument_group('verification')
    verify.add_argument('--images', type=Path, metavar='DIR', help='images to verify with (default: synthetic '
                        "ones; with --config those of its test set)")  # fmt: skip
    verify.add_argument('--count', type=int, default=16, metavar='N', help='how many of them (%(default)s)')
    verify.add_argument('--tolerance', type=float, default=1e-4, metavar='X', help='difference that is allowed, '
                        'relative to the largest output (%(default)s)')  # fmt: skip
    verify.add_argument('--threads', type=int, metavar='N', help="of the engines (default: the engines' own)")
    parser.add_argument('--int8', action='store_true', help='a second file of int8 beside each, see `quantise`')
    add_int8_arguments(parser)
    add_model_arguments(parser)
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_at_least(args, 1, 'batch', 'count', 'threads')
    if not args.tolerance > 0:
        raise ValueError(f'--tolerance is {args.tolerance}; give a number above 0, such as 1e-4')
    model_arguments(args)
    if args.int8:
        check_int8_arguments(args)
        without = [name for name in args.to if name not in QUANTISED]
        if without:
            raise ValueError(
                f'--int8 is not of {without[0]}, whose files are not quantised after they are written; leave it out of '
                f'--to, or choose from {", ".join(QUANTISED)}'
            )
    elif args.calibration is not None or args.keep is not None or args.accuracy_drop is not None:
        raise ValueError('--calibration, --keep and --accuracy-drop are of int8; add --int8, or leave them out')
    source = Source.parse(args.source)
    source.check()
    if source.is_artefact:
        raise ValueError(f"'{args.source}' is exported already; give the model that it was made of")
    if args.config is not None:
        args.config = find_config(args.config)
        if args.features is not None:
            raise ValueError('--features is of classifiers; leave it out beside --config')
        if args.data_root is not None:
            check_is_folder(args.data_root, 'data root', 'give the folder of the data')
        if source.file is None or not source.file.is_file():
            raise FileNotFoundError(f"checkpoint '{args.source}' does not exist; --config needs one beside it")
    elif args.data_root is not None:
        raise ValueError('--data-root is of --config; add that, or give --images')
    check_export(args.to, args.out, args.images, as_option)


def run(args: argparse.Namespace) -> dict:
    """Export; returns the manifest of each file by its name."""
    check(args)
    prepare_torch()
    from rich.console import Console
    from rich.table import Column

    from distill.api.export import export_model
    from distill.base.screen import result_table

    names = ('name', 'features', 'uint8', 'batch', 'fixed_size', 'images', 'count', 'tolerance', 'threads')
    given = {name: getattr(args, name) for name in (*names, 'config', 'data_root')}
    exported = export_model(
        args.source,
        args.out,
        args.to,
        int8=int8_options(args) if args.int8 else None,
        model_options=model_arguments(args),
        **given,
    )
    rows = []
    for one in exported:
        m, verified = one.manifest, one.manifest.verification
        size = 'any size' if 'height' in m.dynamic else f'{m.size[0]}×{m.size[1]}'
        takes = f'{"any batch" if m.batch is None else f"batch {m.batch}"}, {size}'
        difference = '–' if verified is None else f'{verified.max_difference:.1e}'
        agreement = '–' if verified is None or verified.agreement is None else f'{verified.agreement:.1%}'
        rows.append([one.path.name, m.precision, f'{one.size_mb:.1f}', takes, difference, agreement])
    console = Console()
    head = [
        Column('file', overflow='fold'),
        'type',
        'MB',
        'takes',
        'difference',
        'top-1' if args.config is None else 'agrees',
    ]
    console.print(result_table(head, rows, numbers=(2, 4, 5)))
    for line in _remarks([one.manifest for one in exported]):
        console.print(line, soft_wrap=True)
    console.print(f'files and manifests: {args.out}', soft_wrap=True)
    return {one.path.name: one.manifest for one in exported}


def _remarks(manifests: Sequence['Manifest']) -> list[str]:
    """What the table does not tell, a line each."""
    shown = {f'{one.verification.count} images ({one.verification.images})' for one in manifests if one.verification}
    fixed = dict.fromkeys(reason for one in manifests if (reason := one.details.get('fixed_because')))
    scored = dict.fromkeys(line for one in manifests if (line := _scored(one.details.get('verified', {}))))
    lines = [f'verified on {one}' for one in sorted(shown)]
    return [*lines, *scored, *(f'sizes are fixed: {reason}' for reason in fixed)]


def _scored(verified: Mapping) -> str:
    """Scores of a detector or segmenter and of its file on annotated images, or why there are none."""
    if verified.get('scores'):
        sides = [f'{name} {one["model"]:.4f} of the model, {one["file"]:.4f} of the file'
                 for name, one in verified['scores'].items()]  # fmt: skip
        return f'{"; ".join(sides)} ({verified["scored_images"]} annotated images)'
    return f'mAP and mIoU are not compared: {verified["not_scored"]}' if 'not_scored' in verified else ''


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
