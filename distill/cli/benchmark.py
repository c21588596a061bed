"""Measure this project against its peers, side by side in one run.

robust-backbones benchmark distill --out work_dirs/benchmark/distill.json
robust-backbones benchmark corruptions --out work_dirs/benchmark/corruptions.json
robust-backbones benchmark suite --out work_dirs/benchmark/suite.json
robust-backbones benchmark depthwise --out work_dirs/benchmark/depthwise.json
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.cli.arguments import add_device_argument, check_at_least, check_can_write, check_is_folder
from distill.cli.command import prepare_torch, run_command


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments, with a subcommand for each subject."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects = parser.add_subparsers(dest='subject', required=True, metavar='SUBJECT')
    distill = subjects.add_parser('distill', help="a distillation step against timm's LogitDistillationTask")
    distill.add_argument('--batch-size', type=int, default=16)
    distill.add_argument('--threads', type=int, default=2, help='threads of each process')
    corruptions = subjects.add_parser('corruptions', help='corruptions against imagecorruptions-imaug')
    corruptions.add_argument('--images', type=int, default=20, help='how many images of 224 pixels')
    corruptions.add_argument('--data', type=Path, metavar='FOLDER', help='take them, evenly spread, from this folder '
                             'instead of drawing them')  # fmt: skip
    suite = subjects.add_parser('suite', help='the embedded suites against bare forward passes and corruption')
    suite.add_argument('--images', type=int, default=200, help='images of each suite; memory is seen with four times')
    depthwise = subjects.add_parser('depthwise', help="wide depthwise convolutions against torch's own")
    add_device_argument(depthwise)
    depthwise.add_argument('--seconds', type=float, default=100, help='leave out what is not measured by then')
    depthwise.add_argument('--threads', type=int, default=2, help='threads on a CPU')
    depthwise.add_argument('--out', type=Path, required=True, help='JSON file of the results')
    for subject, repeats in ((distill, 5), (corruptions, 3), (suite, 3)):
        subject.add_argument('--repeats', type=int, default=repeats, help='measurements of each')
        subject.add_argument('--out', type=Path, required=True, help='JSON file of the results')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    numbers = ('repeats', 'seconds', 'batch_size', 'threads', 'images')
    check_at_least(args, 1, *(name for name in numbers if name in args))
    if args.subject == 'corruptions' and args.data is not None:
        check_is_folder(args.data, 'image folder', 'correct the path')
    check_can_write(args.out, '--out')


def run(args: argparse.Namespace) -> dict:
    """Measure; returns what the file holds."""
    check(args)
    prepare_torch()
    from rich.console import Console

    from distill.base.files import write_json

    with TemporaryDirectory(prefix='benchmark-') as folder:
        result, table = MEASURE[args.subject](args, Path(folder))
    write_json(args.out, result)
    Console().print(table, highlight=False, soft_wrap=True)
    return result


def measure_distill(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure distillation steps; returns the result, and its table."""
    from rich.progress import track

    from distill.benchmarks.distillation import Settings, benchmark_distill, table

    settings = Settings(folder, args.batch_size, args.threads)
    result = benchmark_distill(settings, args.repeats, lambda steps: track(steps, 'steps'))
    return result, table(result)


def measure_corruptions(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure corruptions of embedded or given images; returns the result, and its table."""
    from rich.console import Console

    from distill.benchmarks.corruptions import benchmark_corruptions, read_images, table
    from distill.synthetic.imagenet_like import write_imagenet_like

    if args.data is None:
        write_imagenet_like(folder / 'images', size=224, train=args.images, val=0, shifted=0)
    images = read_images(args.data or folder / 'images', args.images)
    with Console().status('corruptions') as status:
        result = benchmark_corruptions(images, repeats=args.repeats, progress=status.update)
    return result, table(result)


def measure_suite(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure the suites with a Robust-ResNet of the size of the shapes' teacher; returns the result, and its table."""
    import timm
    import torch
    from rich.console import Console

    from backbones.checkpoint import save_model
    from backbones.record import ModelRecord
    from distill.benchmarks.suite import benchmark_suite, table
    from distill.robustness.runs import load_run
    from distill.synthetic.imagenet_like import write_imagenet_like
    from distill.synthetic.shapes import CLASSES

    torch.manual_seed(0)
    torch.set_num_threads(1)
    kwargs = dict(dims=(24, 48, 96, 192), depths=(2, 2, 4, 2), kernel_size=5, patch_size=4, num_classes=len(CLASSES))
    record = ModelRecord('robust_resnet_dw_small', kwargs, classes=sorted(CLASSES), input_size=[3, 32, 32])
    save_model(folder / 'net.pth', timm.create_model(record.model, **kwargs), record)
    roots = [folder / str(factor * args.images) for factor in (1, 4)]
    for root in roots:
        write_imagenet_like(root, train=0, val=int(root.name), shifted=int(root.name))
    with Console().status('suites'):
        result = benchmark_suite(load_run(str(folder / 'net.pth'), 'cpu'), roots, folder / 'out', args.repeats)
    return result, table(result)


def measure_depthwise(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure the depthwise convolutions of a device; returns the result, and its table."""
    import torch
    from rich.console import Console

    from distill.benchmarks.depthwise import benchmark_depthwise, table
    from distill.predict.load import check_device

    device = check_device(args.device)
    torch.set_num_threads(args.threads)
    with Console().status('depthwise') as status:
        result = benchmark_depthwise(device, args.seconds, args.out, status.update)
    return result, table(result)


MEASURE = {
    'distill': measure_distill,
    'corruptions': measure_corruptions,
    'suite': measure_suite,
    'depthwise': measure_depthwise,
}


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
