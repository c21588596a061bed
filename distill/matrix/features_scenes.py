"""The other half of the experiment on features: what they are worth as the backbone of a detector and of a segmenter.

OMP_NUM_THREADS=1 python -m distill.matrix.features_scenes --features work_dirs/features \
    --network models/tf_efficientnet_lite0 --bccd data/bccd_coco --camvid data/camvid_ade

Cascade R-CNN on BCCD and DeepLabV3 on CamVid, on a small Robust-ResNet from scratch, from the student that
`distill.matrix.features` has distilled, trained on or frozen, and on a network that others trained on ImageNet. All by
one schedule. Each step is a command of this project in a process of its own; what is done is not done again: run it
again after a stop.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import backbones
from distill.base.files import write_text
from distill.base.packaged import CONFIG, find
from distill.jobs.steps import Step, run_steps
from distill.matrix.features import workplace
from distill.results.files import read_results
from distill.results.per_image import difference, drawn, per_image_file, read_per_image

WAYS = ('scratch', 'distilled', 'frozen', 'network')
STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Task:
    """A detector or a segmenter.

    Attributes:
        config: Name of its config.
        length: Shortcut of ``--cfg-options`` that sets how long it is trained.
        section: Its part of results.json.
        score: Its score there, from 0 to 1.
    """

    config: str
    length: str
    section: str
    score: str


TASKS = {
    'bccd': Task('cascade-rcnn_robust-resnet-dw_fpn_tiny_bccd', 'epochs', 'detection', 'bbox_mAP'),
    'camvid': Task('deeplabv3_robust-resnet-dw_tiny_camvid', 'iters', 'segmentation', 'mIoU'),
}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--features', type=Path, required=True, help='work directory of distill.matrix.features')
    parser.add_argument('--network', required=True, help='a source of backbones.load, the backbone that others trained')
    parser.add_argument('--bccd', type=Path, help='data in the layout of COCO; without it no detector')
    parser.add_argument('--camvid', type=Path, help='data in the layout of ADE20K; without it no segmenter')
    parser.add_argument('--epochs', type=int, default=3, help='of detectors (the config has 8)')
    parser.add_argument('--iters', type=int, default=350, help='of segmenters (the config has 1,000)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], help='of distillation and training, in pairs')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS))
    parser.add_argument('--corruptions', nargs='*', default=['gaussian_noise'], help='judged too, at severity 3')
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/features_scenes'))
    return parser


def backbone(task: Task, way: str, args: argparse.Namespace, seed: int) -> dict:
    """What a config has in place of the backbone from scratch."""
    if way == 'scratch':
        return {}
    if way != 'network':
        student = args.features / f'robust-distilled-s{seed}' / 'student_best.safetensors'
        settings: dict = dict(checkpoint=str(student.resolve()))
        return dict(backbone=settings | (dict(frozen_stages=len(STRIDES)) if way == 'frozen' else {}))
    loaded = backbones.load(args.network)
    # The last layer of each stride, as `TimmBackbone` counts them.
    channels = {entry['reduction']: entry['num_chs'] for entry in loaded.network.feature_info}
    widths = [channels[stride] for stride in STRIDES]
    shown = {key: [255 * value for value in getattr(loaded.record, key)] for key in ('mean', 'std')}
    plain = dict(_delete_=True, type='TimmBackbone', checkpoint=str(Path(args.network).resolve()))
    if task.section == 'detection':
        pyramid = dict(type='StagePyramid', in_channels=widths, in_strides=list(STRIDES), out_channels=64)
        neck = [pyramid, dict(type='FPN', in_channels=[64] * 4, out_channels=64, num_outs=4)]
        return dict(backbone=dict(plain, strides=STRIDES), neck=neck, data_preprocessor=shown)
    dense = dict(plain, output_stride=8, out_indices=(-4, -3, -2), strides=(4, 8, 8))
    heads = dict(decode_head=dict(in_channels=widths[2]), auxiliary_head=dict(in_channels=widths[1]))
    return dict(backbone=dense, data_preprocessor=shown, **heads)


def steps_of(args: argparse.Namespace) -> list[Step]:
    """Training and test of each backbone, seed and task: all of a seed before the next."""
    steps = []
    for seed in args.seeds:
        for name, task in TASKS.items():
            for way in args.ways if getattr(args, name) else ():
                run = f'{name}-{way}-s{seed}'
                config = args.work_dir / 'configs' / f'{run}.py'
                base = f'_base_ = {find(task.config, CONFIG)!r}\n'
                write_text(config, f'{base}model = {backbone(task, way, args, seed)!r}\n')
                where = ['--data-root', str(getattr(args, name)), '--work-dir', str(args.work_dir / run)]
                options = [f'{task.length}={getattr(args, task.length)}', f'seed={seed}', 'num_workers=0']
                train = ['train', str(config), *where, '--resume', '--cfg-options', *options]
                steps.append(Step(run, [*train, 'train_cfg.val_interval=100000']))
                test = ['test', str(config), 'auto', *where, '--per-image', '--cfg-options', 'num_workers=0']
                judged = ['--corruptions', *args.corruptions, '--severities', '3'] if args.corruptions else []
                steps.append(Step(f'test {run}', [*test, *judged], [run]))
    return steps


def table(args: argparse.Namespace) -> list[str]:
    """Rows of markdown: the score of each backbone, and its difference from scratch with an interval over images.

    The images are drawn with replacement, the same ones for both; of several seeds it is their mean.
    """
    rows = ['| task | backbone | score | above scratch | with corruption |', '| --- | --- | ---: | ---: | ---: |']
    for name, task in TASKS.items():
        if not getattr(args, name):
            continue
        draws: dict[str, np.ndarray] = {}
        for way in args.ways:
            folders = [args.work_dir / f'{name}-{way}-s{seed}' for seed in args.seeds]
            entries = [read_results(folder)[task.section] for folder in folders]
            scores = [100 * entry[task.score] for entry in entries]
            records = [read_per_image(per_image_file(folder)) for folder in folders]
            draws[way] = np.mean([record.value(drawn(len(record.images))) for record in records], axis=0)
            above = '–'
            if way != 'scratch' and 'scratch' in draws:
                found = difference(draws[way], draws['scratch'])
                above = f'{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]'
            shown = f'{statistics.fmean(scores):.1f}'
            if len(scores) > 1:
                shown += f' ± {statistics.stdev(scores):.1f}'
            corrupted = [100 * entry['corruption'][task.score]['mPC'] for entry in entries if 'corruption' in entry]
            rows.append(
                f'| {name} | {way} | {shown} | {above} | {f"{statistics.fmean(corrupted):.1f}" if corrupted else "–"} |'
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment, or what is left of it, and print its table."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)  # The pool of several threads would not survive in forks.
    run_steps(steps_of(args), workplace(args.work_dir / 'logs', args.jobs), print)
    rows = table(args)
    write_text(args.work_dir / 'table.md', '\n'.join(rows) + '\n')
    print('\n'.join(rows))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
