"""The whole chain on the embedded data: distil both ways, measure robustness, detect, segment, report.

robust-backbones demo
robust-backbones demo --data FOLDER

Four to seven minutes on two CPU cores; everything goes to work_dirs/demo. Run it again to go on after a stop.
With --data the pictures are one's own: FOLDER/<class>/…, or FOLDER/{train,val}/<class>/….
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.arguments import check_at_least, check_can_write, check_is_folder
from distill.cli.command import run_command
from distill.cli.demo_plan import BROAD, RUNS, Training, check_same_demo, checkpoint, glance, one_thread, show_end

if TYPE_CHECKING:
    from rich.table import Table

    from distill.jobs.steps import Step


BACKBONE = 'robust-from-deit'
GOALS = {'teacher': 92.0, 'student': 85.0, 'bbox_mAP': 0.30, 'mIoU': 0.50}
WELCOME = """\
Ten small classifiers learn to tell ten shapes apart, on 12,000 drawn pictures of 32 pixels. \
In nine of ten the texture gives the shape away: a shortcut. \
Two teachers learn from these pictures, a third one from pictures without the shortcut. \
Students learn alone or from a teacher, and are judged where the shortcut is gone. \
One becomes a detector's and a segmenter's backbone, and a file of ONNX, in fp32 and in int8."""
SIZE_PX = 32
"""Side of the pictures that classifiers learn from."""
SETS = {'data': lambda work: work / 'data', 'broad data': lambda work: work / 'data' / BROAD}
"""The folder of the data that a step draws, in the folder that everything goes to."""
SHARED_VIEWS = 3
"""Epochs of the longest student: all trainings on the same images see the same views in each."""
SCHEDULES = {
    'cascade_rcnn': ['train_cfg.max_epochs=3', 'param_scheduler.1.T_max=3'],
    'deeplabv3': ['train_cfg.max_iters=850', 'param_scheduler.1.end=850'],
}
"""Shorter schedules than those of the configs, which still reach the goals."""
NO_VALIDATION = 'train_cfg.val_begin=1000000'
"""What keeps a training from judging its last weights, which the step after it does."""
WITHOUT_ENGINE = 'Nothing is exported: {reason}'


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, metavar='FOLDER', help='images of your own in class folders')
    parser.add_argument('--work-dir', type=Path, help='where everything goes (work_dirs/demo, with --data demo_own)')
    parser.add_argument('--jobs', type=int, default=2, help='steps that run at a time')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads a step')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_at_least(args, 1, 'jobs', 'threads')
    if args.work_dir is None:
        args.work_dir = Path('work_dirs/demo_own' if args.data else 'work_dirs/demo')
    if args.data:
        check_is_folder(args.data, 'folder', 'pass the folder that has your class folders')
    check_can_write(args.work_dir, '--work-dir', is_folder=True)


def run(args: argparse.Namespace) -> dict:
    """Run the chain; returns the contents of the report's results.json."""
    check(args)
    # Read when torch is imported, which the steps fork from.
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    from rich.console import Console

    from distill.jobs.local import DENSE_MODULES, LocalEngine, can_fork, prepare_forks
    from distill.jobs.steps import Workplace, run_steps

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if args.data:
        from distill.cli import demo_own

        return demo_own.run(args, console)
    console.print(WELCOME)
    if reason := missing_engine():
        console.print(WITHOUT_ENGINE.format(reason=reason))
    work = args.work_dir.resolve()
    steps = plan(work)
    engine = LocalEngine(forks=can_fork())
    place = Workplace(work / 'logs', args.jobs, args.threads, again='the demo', engine=engine)
    check_same_demo(steps, place, args.work_dir)
    if engine.forks:
        prepare_forks(DENSE_MODULES)
    run_steps(steps, place, console.print, lambda step: found(step, work, engine.forks))
    results = json.loads((work / 'results.json').read_text())
    show_end(console, results, goals_table(results), args.work_dir)
    return results


def plan(work: Path) -> 'list[Step]':
    """The chain's steps, the most urgent first among those that can run.

    Args:
        work: Folder that everything goes to.
    """
    from distill.jobs.steps import Step

    data = work / 'data'
    sizes = (
        f'--size {SIZE_PX} --train 12000 --val 500 --shifted 500 --scene-size 128 --scenes-train 400 --scenes-val 100'
    )
    broad = f'--sets imagenet --size {SIZE_PX} --train 12000 --val 500 --shifted 0 --texture-agreement 0.1'
    steps = [
        Step('data', ['data', str(data), *sizes.split()], says='drawing pictures and scenes', expected_s=23),
        Step(
            'broad data',
            ['data', str(data / BROAD), *broad.split()],
            says='drawing pictures in which a texture tells nothing about the shape',
            expected_s=11,
        ),
    ]
    artefacts = [] if missing_engine() else [work / 'artefacts' / f'{BACKBONE}{end}' for end in ('.onnx', '.int8.onnx')]
    for run in RUNS:
        steps.append(training(run, work))
        if run == BACKBONE:
            steps += [export(artefacts[0].parent, work)] if artefacts else []
            steps += downstream('cascade_rcnn', 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco', 'coco', work)
            steps += downstream('deeplabv3', 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k', 'ade20k', work)
    models = [str(path) for path in (*(checkpoint(run, work) for run in RUNS), *artefacts)]
    options = ['--data-root', str(data / 'imagenet'), '--out', str(work / 'robustness'), '--corruption-limit', '50']
    judge = ['robustness', *models, *options, '--workers', '0']
    says = f'judging all {len(models)} on renditions, sketches, corrupted and difficult pictures'
    steps.append(Step('robustness', judge, [*RUNS, *(['export'] if artefacts else [])], says, 23))
    parts = ['robustness', 'cascade_rcnn', 'deeplabv3']
    command = ['report', *(str(work / part) for part in parts), '--out', str(work)]
    needs = ['robustness', 'cascade_rcnn test', 'deeplabv3 test']
    return [*steps, Step('report', command, needs, 'writing the report', 8)]


def images(run: Training, work: Path) -> Path:
    """The folder of the images of a run."""
    return work / 'data' / 'imagenet' if run.data == 'imagenet' else work / 'data' / run.data / 'imagenet'


def training(name: str, work: Path) -> 'Step':
    """The step that trains a run of `RUNS`."""
    from distill.jobs.steps import Step

    run = RUNS[name]
    command = ['train', f'distill/configs/shapes/{run.config}.py', '--work-dir', str(work / name), '--resume']
    command += ['--data-root', str(images(run, work)), '--cfg-options', f'epochs={run.epochs}']
    if run.teacher is not None:
        command.append(f'model.teacher.checkpoint={checkpoint(run.teacher, work)}')
    needs = ['broad data' if run.data == BROAD else 'data', *([run.teacher] if run.teacher else [])]
    return Step(name, command, needs, f'training {run.who}', run.expected_s)


def downstream(task: str, config: str, data: str, work: Path) -> 'list[Step]':
    """The steps that train and test a detector or segmenter on the distilled student.

    Args:
        task: Folder of the configs, and of the step's results.
        config: Name of the config.
        data: Name of the embedded data set.
        work: Folder that everything goes to.
    """
    from distill.jobs.steps import Step

    config, folder = f'downstream_configs/{task}/{config}.py', work / task
    common = ['--work-dir', str(folder), '--data-root', str(work / 'data' / data)]
    backbone = ['--cfg-options', f'model.backbone.checkpoint={checkpoint(BACKBONE, work)}']
    show = ['--show-dir', str(folder / 'pictures'), '--show-interval', '20']
    what = 'detector (Cascade R-CNN)' if task == 'cascade_rcnn' else 'segmenter (DeepLabV3)'
    says = f'training a {what} on the Robust-ResNet-tiny that DeiT-mini taught'
    return [
        Step(
            task,
            ['train', config, *common, '--resume', *backbone, *SCHEDULES[task], NO_VALIDATION],
            [BACKBONE],
            says,
            75,
        ),
        Step(f'{task} test', ['test', config, 'auto', *common, *show, *backbone], [task], f'testing the {what}', 5),
    ]


def missing_engine() -> str | None:
    """What the engine of the demo's artefacts lacks, in a line; None if nothing."""
    from distill.engines import by_name

    return by_name('onnx').missing()


def export(folder: Path, work: Path) -> 'Step':
    """The step that exports the distilled student in fp32 and int8.

    Args:
        folder: Folder of the artefacts.
        work: Folder that everything goes to.
    """
    from distill.jobs.steps import Step

    data = work / 'data' / 'imagenet'
    command = ['export', str(checkpoint(BACKBONE, work)), '--out', str(folder), '--to', 'onnx', '--fixed-size']
    command += ['--images', str(data / 'val'), '--int8', '--calibration', str(data / 'train'), '--threads', '1']
    says = f'exporting {RUNS[BACKBONE].who}, as ONNX in fp32 and in int8'
    return Step('export', command, [BACKBONE], says, 5)


def found(step: 'Step', work: Path, forks: bool = False) -> str | None:
    """What a step that is done has found, in words.

    Args:
        step: The step.
        work: Folder that everything goes to.
        forks: Whether later steps are forks of this process. Images are then decoded here, once for all of them.
    """
    if step.name in SETS and forks:
        hold(SETS[step.name](work) / 'imagenet', SHARED_VIEWS if step.name == 'data' else 0)
    if step.name in RUNS:
        return glance(step.name, RUNS[step.name], work / 'data' / 'imagenet', work)
    if step.name.endswith(' test'):
        results = json.loads((work / step.name.removesuffix(' test') / 'results.json').read_text())
        if 'detection' in results:
            return f'the detector reaches a box mAP of {results["detection"]["bbox_mAP"]:.2f}'
        return f'the segmenter reaches a mean IoU of {results["segmentation"]["mIoU"]:.2f}'
    return None


def hold(folder: Path, views: int) -> None:
    """Decode the images of a set and make their first views, once for all trainings, which are forks of this process.

    Args:
        folder: Folder of the set.
        views: Views of each image that several trainings see.
    """
    from mmengine.config import Config

    from distill.base.packaged import ROOT
    from distill.data.memory import hold_images, hold_views

    hold_images(str(folder), ('train', 'val'), SIZE_PX)
    if not views:
        return
    dataset = Config.fromfile(ROOT / 'distill/configs/_base_/shapes.py').train_dataloader.dataset.to_dict()
    del dataset['type']
    with one_thread():
        hold_views(views, **{**dataset, 'root': str(folder)})


def goals_table(results: Mapping) -> 'Table':
    """The scores beside what the demo is meant to reach."""
    from distill.base.screen import result_table

    scores = [
        (f'clean top-1 % {run}', suites['clean']['top1_pct'], GOALS['teacher' if 'teacher' in run else 'student'])
        for run, suites in results['classification'].items()
        if run in RUNS
    ]
    scores.append(('box mAP', results['detection']['bbox_mAP'], GOALS['bbox_mAP']))
    scores.append(('mIoU', results['segmentation']['mIoU'], GOALS['mIoU']))
    rows = [(name, f'{value:.3g}', f'{goal:g}', 'yes' if value >= goal else 'NO') for name, value, goal in scores]
    return result_table(('score', 'value', 'goal', 'met'), rows)


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
