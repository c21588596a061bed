"""Measure this project against its peers, side by side in one run.

robust-backbones benchmark distill --out work_dirs/benchmark/distill.json
robust-backbones benchmark distill --device cuda --batch-size 256 --out work_dirs/benchmark/distill_card.json
robust-backbones benchmark design --out work_dirs/benchmark/design.json
robust-backbones benchmark loading --out work_dirs/benchmark/loading.json
robust-backbones benchmark corruptions --out work_dirs/benchmark/corruptions.json
robust-backbones benchmark suite --out work_dirs/benchmark/suite.json
robust-backbones benchmark depthwise --out work_dirs/benchmark/depthwise.json
robust-backbones benchmark inference --precision fp32 int8 --out work_dirs/benchmark/inference.json
robust-backbones benchmark inference --device cuda --batch-size 256 --out work_dirs/benchmark/inference_card.json
robust-backbones benchmark pointwise --out work_dirs/benchmark/pointwise.json
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.cli.arguments import add_device_argument, check_at_least, check_can_write, check_is_folder
from distill.cli.command import prepare_torch, run_command
from distill.engines import MODULES as ENGINES

MODELS = (
    *('robust_resnet_dw_small', 'robust_resnet_inverted_dw_small', 'robust_resnet_up_inverted_dw_small'),
    *('robust_resnet_down_inverted_dw_small', 'resnet50', 'resnest50d', 'deit_small_patch16_224'),
    *('swin_tiny_patch4_window7_224', 'convnext_tiny', 'coatnet_0'),
)
CONVNEXTS = ('convnext_atto', 'convnext_pico', 'convnext_tiny')
CONVERTED = ('onnx', 'openvino', 'mnn')
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments, with a subcommand for each subject."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects = parser.add_subparsers(dest='subject', required=True, metavar='SUBJECT')
    distill = subjects.add_parser('distill', help="a distillation step against timm's LogitDistillationTask and "
                                  'FeatureDistillationTask')  # fmt: skip
    distill.add_argument('--of', nargs='+', choices=('logits', 'features'), default=['logits', 'features'],
                         help='what the student learns from (default: both)')  # fmt: skip
    distill.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='cuda: bf16, also compiled, and as '
                         'CUDA graphs')  # fmt: skip
    distill.add_argument('--batch-size', type=int, help='images of a step (default: 16, on a card 256)')
    distill.add_argument('--largest-batch', action='store_true', help="on a card: as many images as timm's task and "
                         'this project hold there')  # fmt: skip
    distill.add_argument('--threads', type=int, default=2, help='threads of each process')
    corruptions = subjects.add_parser('corruptions', help='corruptions against imagecorruptions-imaug')
    corruptions.add_argument('--images', type=int, default=20, help='how many images of 224 pixels')
    corruptions.add_argument('--data', type=Path, metavar='FOLDER', help='take them, evenly spread, from this folder '
                             'instead of drawing them')  # fmt: skip
    suite = subjects.add_parser('suite', help='the embedded suites against bare forward passes and corruption')
    suite.add_argument('--images', type=int, default=200, help='images of each suite; memory is seen with four times')
    design = subjects.add_parser('design', help='training steps of the four designs, with all norms and activations '
                                 'and with one')  # fmt: skip
    design.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    design.add_argument('--batch-size', type=int, help='images of a step (default: 8, on a card 128)')
    design.add_argument('--threads', type=int, default=2, help='threads on the CPU')
    loading = subjects.add_parser('loading', help='the training loader, by the number of its processes')
    loading.add_argument('--processes', type=int, nargs='+', default=[1, 2, 4, 8, 12, 16], help='numbers of processes')
    loading.add_argument('--form', choices=('folder', 'tar', 'wds'), default='folder', help='how the images lie')
    loading.add_argument('--feeds', type=float, nargs='+', default=[], metavar='IMAGES', help='tell how many processes '
                         'are enough for a device that takes so many images/s')  # fmt: skip
    depthwise = subjects.add_parser('depthwise', help="wide depthwise convolutions against torch's own")
    add_device_argument(depthwise)
    depthwise.add_argument('--seconds', type=float, default=100, help='leave out what is not measured by then')
    depthwise.add_argument('--threads', type=int, default=2, help='threads on a CPU')
    inference = subjects.add_parser('inference', help='models in the engines that they are exported to, against eager')
    inference.add_argument('--original', type=Path, metavar='PATH', help='Python file or package with entrypoints of '
                           "the models' names: the original's source, run as a peer")  # fmt: skip
    inference.add_argument('--device', choices=('cpu', 'cuda'), default='cpu', help='cuda: in torch itself, in bf16, '
                           'without engines')  # fmt: skip
    pointwise = subjects.add_parser('pointwise', help="ConvNeXt's linear against 1x1 convolutional pointwise layers")
    for subject, models, engines in ((inference, MODELS, ('onnx', 'openvino')), (pointwise, CONVNEXTS, CONVERTED)):
        add_engine_arguments(subject, models, engines)
    repeated = (distill, 5), (corruptions, 3), (suite, 3), (design, 3), (inference, 10), (pointwise, 10)
    for subject, repeats in repeated:
        subject.add_argument('--repeats', type=int, default=repeats, help='measurements of each')
    for subject in (distill, corruptions, suite, design, loading, depthwise, inference, pointwise):
        subject.add_argument('--out', type=Path, required=True, help='JSON file of the results')
    return parser


def add_engine_arguments(parser: argparse.ArgumentParser, models: Sequence[str], engines: Sequence[str]) -> None:
    """Add what is measured in engines, with its defaults."""
    parser.add_argument('--models', nargs='+', default=list(models), metavar='NAME',
                        help=f'timm names (default: {", ".join(models)})')  # fmt: skip
    parser.add_argument('--engines', nargs='+', default=list(engines), choices=list(ENGINES), metavar='ENGINE',
                        help=f'of {", ".join(ENGINES)} (default: {", ".join(engines)})')  # fmt: skip
    parser.add_argument('--precision', nargs='+', default=['fp32'], choices=PRECISIONS, metavar='TYPE',
                        help=f'of {", ".join(PRECISIONS)}')  # fmt: skip
    parser.add_argument('--threads', type=int, default=2, help='threads of each process')
    parser.add_argument('--batch-size', type=int, default=8, help='images of a run; the latency is of one image')
    parser.add_argument('--size', type=int, metavar='PX', help="side of the images, not each model's own")


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    numbers = ('repeats', 'seconds', 'batch_size', 'threads', 'images', 'size')
    check_at_least(args, 1, *(name for name in numbers if name in args))
    if args.subject == 'loading' and min(args.processes) < 1:
        raise ValueError(f'--processes is {min(args.processes)}; give 1 or more')
    if args.subject == 'corruptions' and args.data is not None:
        check_is_folder(args.data, 'image folder', 'correct the path')
    if getattr(args, 'original', None) is not None and not args.original.exists():
        raise FileNotFoundError(
            f"--original '{args.original}' does not exist; give a Python file or a package's folder"
        )
    if getattr(args, 'largest_batch', False) and (args.device != 'cuda' or args.batch_size is not None):
        raise ValueError(
            '--largest-batch is of a card and in place of --batch-size; give --device cuda, and one of both'
        )
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

    from distill.benchmarks import distillation
    from distill.benchmarks.feature_distillation import FeatureSettings

    check_device(args.device)
    batch_size = args.batch_size or (256 if args.device == 'cuda' else 16)
    kinds = {'logits': distillation.Settings, 'features': FeatureSettings}
    results, tables = {}, []
    for name in dict.fromkeys(args.of):
        settings = kinds[name](folder / name, batch_size, args.threads)
        if args.device == 'cuda':
            from distill.benchmarks.on_card import (
                VARIANTS,
                WITHOUT_GRAPHS,
                benchmark_on_card,
                card_table,
                largest_batch,
            )

            if args.largest_batch:
                settings = replace(settings, batch_size=largest_batch(settings)['both'])
            names = WITHOUT_GRAPHS if args.largest_batch else VARIANTS
            found = benchmark_on_card(settings, names, args.repeats, track=lambda turns: track(list(turns), 'turns'))
            tables.append(f'{name}\n{card_table(found)}')
        else:
            found = distillation.benchmark_distill(settings, args.repeats, lambda steps: track(steps, 'steps'))
            tables.append(f'{name}\n{distillation.table(found)}')
        results[name] = found
    # What is learnt from logits stands where it stood before there were features.
    return {**results.pop('logits', {}), **results}, '\n\n'.join(tables)


def check_device(device: str) -> None:
    """Raise a ValueError if there is no card where one is asked for."""
    import torch

    if device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda finds no card; drop it')


def measure_design(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure training steps of the four designs; returns the result, and its table."""
    import torch
    from rich.progress import track

    from distill.benchmarks.designs import benchmark_designs, design_table

    check_device(args.device)
    torch.set_num_threads(args.threads)
    batch_size = args.batch_size or (128 if args.device == 'cuda' else 8)
    result = benchmark_designs(
        args.device, batch_size, rounds=args.repeats, track=lambda names: track(list(names), 'designs')
    )
    return result, design_table(result)


def measure_loading(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure the training loader; returns the result, and its table."""
    from rich.progress import track

    from distill.benchmarks.loading import benchmark_loading, enough_processes, loading_table

    result = benchmark_loading(
        folder, args.processes, form=args.form, track=lambda counts: track(list(counts), 'processes')
    )
    speeds = result['images_per_s']
    result['enough_processes'] = {str(needed): enough_processes(speeds, needed) for needed in args.feeds}
    return result, loading_table(result)


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


def measure_inference(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure models in engines, or on a card in torch; returns the result, and its table."""
    if args.device == 'cuda':
        return measure_forward(args)
    from distill.benchmarks.inference import Subject, benchmark_inference, table

    return _in_engines(args, folder, [Subject(name, name, {}) for name in args.models], benchmark_inference, table)


def measure_forward(args: argparse.Namespace) -> tuple[dict, str]:
    """Measure forward passes on a card; returns the result, and its table."""
    from rich.progress import track

    from distill.benchmarks.forward import NETWORKS, benchmark_forward, forward_table

    check_device(args.device)
    names = NETWORKS if args.models == list(MODELS) else args.models
    check_models(names)
    result = benchmark_forward(
        names, args.device, args.batch_size, args.repeats, size_px=args.size,
        track=lambda models: track(list(models), 'models'),
    )  # fmt: skip
    return result, forward_table(result)


def check_models(names: Sequence[str]) -> None:
    """Raise a ValueError if timm does not know a model."""
    import timm

    import backbones  # noqa: F401  registers models

    unknown = [name for name in names if not timm.is_model(name)]
    if unknown:
        raise ValueError(f"model '{unknown[0]}' is unknown to timm; `robust-backbones models` lists this project's")


def measure_pointwise(args: argparse.Namespace, folder: Path) -> tuple[dict, str]:
    """Measure both forms of pointwise layers; returns the result, and its table."""
    from distill.benchmarks.pointwise import benchmark_pointwise, table

    return _in_engines(args, folder, args.models, benchmark_pointwise, table)


def _in_engines(args: argparse.Namespace, folder: Path, models: list, measure: Callable, table: Callable) -> tuple:
    from rich.console import Console
    from rich.progress import track

    from distill.benchmarks.inference import Settings
    from distill.export.files import installed_engines

    check_models(args.models)
    installed_engines(args.engines)
    settings = Settings(args.engines, args.precision, args.threads, args.batch_size, args.repeats, size_px=args.size,
                        original=getattr(args, 'original', None))  # fmt: skip
    tell = Console(stderr=True).log
    result = measure(models, settings, folder, tell, lambda rounds: track(rounds, 'rounds'))
    return result, table(result)


MEASURE = {
    'distill': measure_distill,
    'corruptions': measure_corruptions,
    'suite': measure_suite,
    'design': measure_design,
    'loading': measure_loading,
    'depthwise': measure_depthwise,
    'inference': measure_inference,
    'pointwise': measure_pointwise,
}


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
