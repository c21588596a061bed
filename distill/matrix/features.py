"""The experiment on features: what a teacher's features, learnt on images without labels, are worth to a small student.

OMP_NUM_THREADS=1 python -m distill.matrix.features --teacher models/tf_efficientnet_lite2 --data-root data/cifar10 \
    --images data/cifar10/train data/bccd_coco/train2017 data/camvid_ade/images/training data/imagenet_samples/val

Students learn the teacher's features on views of 32 pixels, out of one cache. Beside each stands the same network
untrained, and trained alone on a tenth of CIFAR-10's labels. All are judged by k-NN and linear probe on clean and
corrupted images; a probe of a seed learns from the labels that the student of that seed was trained on alone, or from
some of them, so that none has seen more. Each step is a command of this project in a process of its own; what is done
is not done again: run it again after a stop. Differs from the transfer experiment in what is compared: features and not
predictions.
"""

import argparse
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from backbones.checkpoint import build_model
from backbones.record import ModelRecord
from distill.base.files import write_text
from distill.base.folders import ClassFolders, find_images
from distill.base.packaged import ROOT
from distill.jobs.local import LocalEngine, can_fork, prepare_forks
from distill.jobs.steps import Step, Workplace, run_steps
from distill.results.statistics import mean_and_half_width95
from distill.robustness.probe.labels import choose_labelled
from distill.training.hooks.save_student import save_student

STUDENTS = {
    'robust': dict(
        model='robust_resnet_dw_small', dims=(16, 32, 64, 128), depths=(2, 2, 4, 2), patch_size=4, kernel_size=7
    ),
    'resnet': dict(model='wide_resnet28_10', depth=10, widen_factor=1),
}
ALONE = {'robust': 'robust-resnet-tiny_cifar10', 'resnet': 'resnet-tiny_cifar10'}
LAYERS = {'robust': 2, 'resnet': None}
"""The student's map that is compared with the teacher's: of stride 16, and the last one."""
SIDE_PX = 32
SHARE = 0.1
"""Share of the labels that a student which is trained alone gets."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--teacher', required=True, help='a source of backbones.load')
    parser.add_argument('--data-root', type=Path, required=True, help='class folders in train/ and val/')
    parser.add_argument('--images', type=Path, nargs='+', required=True, help='folders of images without labels')
    parser.add_argument('--limit', type=int, help='images of each folder at the most, spread evenly')
    parser.add_argument('--teacher-size', type=int, default=128, help='side in pixels that the teacher is shown')
    parser.add_argument('--views', type=int, default=1, help='views of each image that the teacher is shown')
    parser.add_argument('--epochs', type=int, default=8, help='of the distillations, which go through these views')
    parser.add_argument('--alone-epochs', type=int, default=80, help='of the students that are trained alone')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--students', nargs='+', choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument('--labels', type=float, nargs='+', default=[0.1, 0.01], help='shares that probes learn from')
    parser.add_argument('--corruption-limit', type=int, default=200)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/features'))
    return parser


def write_config(path: Path, content: Mapping) -> str:
    """Write a config that inherits from the hooks and logs of every run; returns its path."""
    base = ROOT / 'distill' / 'configs' / '_base_' / 'default_runtime.py'
    lines = [f'_base_ = {str(base)!r}', *(f'{key} = {value!r}' for key, value in content.items())]
    write_text(path, '\n'.join(lines) + '\n')
    return str(path)


def distillation(args: argparse.Namespace, lists: Sequence[str], student: str, seed: int, cache: Path | None) -> dict:
    """The settings of a distillation of features."""
    # Linear heads: what a linear probe shall read must be there linearly. Standardised targets, which `radio` has: what
    # all images have in common would be most of a network's features after a ReLU, and of their cosine.
    losses = [
        dict(type='radio', on='pooled', head='linear'),
        dict(type='radio', on='grid', head='linear', student_layer=LAYERS[student], weight=0.5),
    ]
    teacher = dict(name='teacher', checkpoint=args.teacher, size=args.teacher_size, losses=losses)
    views = dict(input_size=SIDE_PX, is_training=True, scale=(0.6, 1.0), color_jitter=0.2, interpolation='bicubic')
    return dict(
        train_dataloader=dict(
            batch_size=64,
            num_workers=0,
            drop_last=True,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='ViewSampler', shuffle=True),
            dataset=dict(type='MemoryViews', labels=False, sources=[dict(root=one) for one in lists], transform=views),
        ),
        model=dict(
            type='FeatureDistiller',
            student=STUDENTS[student],
            teachers=[teacher if cache is None else {**teacher, 'cache': str(cache)}],
            data_preprocessor=dict(type='ViewPreprocessor'),
            cut_kernels=True,
        ),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
            constructor='TimmOptimWrapperConstructor',
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(type='TimmCosineLR', end=args.epochs, warmup=0.5, lr_min=1e-5, convert_to_iter_based=True)
        ],
        train_cfg=dict(by_epoch=True, max_epochs=args.epochs),
        default_hooks=dict(save_student=dict(metric='last')),
        randomness=dict(seed=seed),
    )


def write_lists(args: argparse.Namespace) -> list[str]:
    """Write a list of the images of each folder; returns the paths of the lists."""
    lists = []
    for number, folder in enumerate(args.images):
        found = sorted(find_images(folder))
        if args.limit is not None and len(found) > args.limit:
            found = [found[k] for k in np.linspace(0, len(found) - 1, args.limit).round().astype(int)]
        path = args.work_dir / 'lists' / f'{number}.txt'
        write_text(path, ''.join(f'{(folder / name).resolve()}\n' for name in found))
        lists.append(str(path))
    return lists


def write_subset(args: argparse.Namespace, seed: int) -> Path:
    """Link the labelled tenth of a seed, the one that a probe of that seed learns from; returns the data root."""
    root = args.work_dir / 'subsets' / f's{seed}'
    found = ClassFolders.read(args.data_root / 'train')
    # In the order in which the judge lists images: by their paths.
    images = [(path, label) for label, paths in enumerate(found.images.values()) for path in paths]
    images.sort(key=lambda one: one[0].split('/'))
    for k in choose_labelled(np.array([label for _, label in images]), SHARE, seed):
        link = root / 'train' / images[k][0]
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((args.data_root / 'train' / images[k][0]).resolve())
    if not (root / 'val').is_symlink():
        (root / 'val').symlink_to((args.data_root / 'val').resolve())
    return root


def write_untrained(path: Path, student: str, seed: int) -> Path:
    """Write a student as it begins."""
    if not path.is_file():
        torch.manual_seed(seed)
        model = build_model(**STUDENTS[student], num_classes=0)
        kwargs = {key: value for key, value in STUDENTS[student].items() if key != 'model'} | {'num_classes': 0}
        shown = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
        record = ModelRecord(STUDENTS[student]['model'], kwargs, input_size=[3, SIDE_PX, SIDE_PX], **shown)
        save_student(path, model.state_dict(), record)
    return path


def steps_of(args: argparse.Namespace) -> list[Step]:
    """The cache, and the trainings and the judgement of each seed."""
    work = args.work_dir
    lists = write_lists(args)
    cache = work / 'cache'
    first = write_config(work / 'configs' / 'cache.py', distillation(args, lists, args.students[0], 0, None))
    command = ['cache', first, '--out', str(cache), '--views', str(args.views)]
    steps = [Step('cache', command, says='teacher on all views')]
    for seed in args.seeds:
        subset, models = write_subset(args, seed), {}
        for student in args.students:
            name = f'{student}-{{}}-s{seed}'
            path = work / name.format('untrained') / 'student_best.safetensors'
            models[name.format('untrained')] = write_untrained(path, student, seed)
            path = work / 'configs' / f'{name.format("distilled")}.py'
            config = write_config(path, distillation(args, lists, student, seed, cache))
            folder = work / name.format('distilled')
            command = ['train', config, '--work-dir', str(folder), '--resume']
            steps.append(Step(name.format('distilled'), command, ['cache']))
            models[name.format('distilled')] = folder / 'student_best.safetensors'
            folder = work / name.format('alone')
            steps.append(Step(name.format('alone'), alone(args, student, seed, subset, folder)))
            models[name.format('alone')] = folder / 'student_best.safetensors'
        judged = [f'{name}={path}' for name, path in models.items()]
        probe = ['probe', *judged, '--data-root', str(args.data_root), '--out', str(work / f'probe-s{seed}')]
        probe += ['--labels', *map(str, args.labels), '--seeds', str(seed), '--suite', 'clean', 'corruption']
        probe += ['--corruption-limit', str(args.corruption_limit), '--workers', '0']
        steps.append(Step(f'probe-s{seed}', probe, [name for name in models if 'untrained' not in name]))
    return steps


def alone(args: argparse.Namespace, student: str, seed: int, subset: Path, folder: Path) -> list[str]:
    """The command that trains a student alone on a tenth of the labels, by the schedule of its own config."""
    options = [f'epochs={args.alone_epochs}', f'seed={seed}', 'num_workers=0', 'model.cut_kernels=True']
    options += [f'{part}_dataloader.dataset.type=MemoryViews' for part in ('train', 'val')]
    options += [f'train_cfg.val_interval={args.alone_epochs}']
    command = ['train', ALONE[student], '--work-dir', str(folder), '--resume', '--data-root', str(subset)]
    return [*command, '--cfg-options', *options]


Scores = dict[tuple[str, str, str], dict[str, list[float]]]
"""Top-1 in percent, a number a seed, by (student, method and share of labels, suite) and by what was done with it."""


def collect(args: argparse.Namespace) -> Scores:
    """The scores of all probes, the seeds in the order that was given."""
    found: Scores = {}
    for seed in args.seeds:
        results = json.loads((args.work_dir / f'probe-s{seed}' / 'results.json').read_text())
        for run, suites in results['classification'].items():
            student, what, _ = run.partition('.')[0].split('-')
            probe = results['runs'][run]['probe']
            kind = f'{probe["method"]}, {100 * probe["share"]:g} %'
            for suite, entry in suites.items():
                found.setdefault((student, kind, suite), {}).setdefault(what, []).append(entry['top1_pct'])
    return found


def table(scores: Scores) -> list[str]:
    """Rows of markdown: means over the seeds, and of several the halves of 95 % intervals by Student's t."""
    ways = ('untrained', 'alone', 'distilled')
    head = ['student', 'probe, labels', 'images', *ways, 'distilled − untrained', 'distilled − alone']
    rows = [f'| {" | ".join(head)} |', '| --- ' * 3 + '| ---: ' * 5 + '|']
    for key, of in scores.items():
        differences = [[one - other for one, other in zip(of['distilled'], of[way], strict=True)] for way in ways[:2]]
        cells = [_interval(of[way]) for way in ways] + [_interval(one, '+') for one in differences]
        rows.append(f'| {" | ".join([*key, *cells])} |')
    return rows


def _interval(values: Sequence[float], sign: str = '') -> str:
    if len(values) < 2:
        return f'{statistics.fmean(values):{sign}.1f}'
    mean, half = mean_and_half_width95(values)
    apart = ' \\*' if sign and abs(mean) > half else ''
    return f'{mean:{sign}.1f} ± {half:.1f}{apart}'


def workplace(logs: Path, jobs: int) -> Workplace:
    """Where steps run: as forks of this process, which has imported what they need, where that can be."""
    forks = can_fork()
    if forks:
        prepare_forks()
    threads = int(os.environ.get('OMP_NUM_THREADS', '1'))
    return Workplace(logs, jobs, threads, again='the experiment', engine=LocalEngine(forks))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiment, or what is left of it, and print its table."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)  # The pool of several threads would not survive in forks.
    steps = steps_of(args)
    run_steps(steps, workplace(args.work_dir / 'logs', args.jobs), print)
    rows = table(collect(args))
    write_text(args.work_dir / 'table.md', '\n'.join(rows) + '\n')
    print('\n'.join(rows))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
