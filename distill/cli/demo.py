"""The whole chain on the embedded data: distil both ways, measure robustness, detect, segment, report.

robust-backbones demo

Twenty minutes at most on two CPU cores; everything goes to work_dirs/demo. Run it again to go on after a stop.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli.arguments import check_at_least, check_can_write
from distill.cli.command import run_command

if TYPE_CHECKING:
    from rich.table import Table

    from distill.matrix.steps import Step

RUNS = {
    # run: (config, teacher)
    'deit-teacher': ('deit-mini_shapes', None),
    'robust-teacher': ('robust-resnet-mini_shapes', None),
    'robust-from-deit': ('deit-mini_robust-resnet-tiny_shapes', 'deit-teacher'),
    'deit-from-robust': ('robust-resnet-mini_deit-tiny_shapes', 'robust-teacher'),
    'robust-alone': ('robust-resnet-tiny_shapes', None),
    'deit-alone': ('deit-tiny_shapes', None),
}
BACKBONE = 'robust-from-deit'
GOALS = {'teacher': 90.0, 'student': 85.0, 'bbox_mAP': 0.30, 'mIoU': 0.50}


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'), help='where everything goes')
    parser.add_argument('--jobs', type=int, default=2, help='steps that run at a time')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads a step')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    check_at_least(args, 1, 'jobs', 'threads')
    check_can_write(args.work_dir, '--work-dir', is_folder=True)


def run(args: argparse.Namespace) -> dict:
    """Run the chain; returns the contents of the report's results.json."""
    check(args)
    from rich.console import Console

    from distill.matrix.steps import Workplace, run_steps

    console = Console()
    work = args.work_dir.resolve()
    place = Workplace(work / 'logs', args.jobs, args.threads, again='the demo')
    run_steps(plan(work), place, console.print)
    results = json.loads((work / 'results.json').read_text())
    console.print(goals_table(results))
    console.print(f'report: {args.work_dir / "report.html"}')
    return results


def plan(work: Path) -> 'list[Step]':
    """The chain's steps, the most urgent first among those that can run.

    Args:
        work: Folder that everything goes to.
    """
    from distill.matrix.steps import Step

    data = work / 'data'
    sizes = '--size 32 --train 6000 --val 500 --shifted 500 --scene-size 128 --scenes-train 400 --scenes-val 100'
    steps = [Step('data', ['data', str(data), *sizes.split(), '--workers', '2'])]
    for run in RUNS:
        steps.append(training(run, work))
        if run == BACKBONE:
            steps += downstream('cascade_rcnn', 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco', 'coco', work)
            steps += downstream('deeplabv3', 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k', 'ade20k', work)
    checkpoints = [str(work / run / 'student_best.pth') for run in RUNS]
    options = ['--data-root', str(data / 'imagenet'), '--out', str(work / 'robustness'), '--corruption-limit', '200']
    steps.append(Step('robustness', ['robustness', *checkpoints, *options], list(RUNS)))
    parts = ['robustness', 'cascade_rcnn', 'deeplabv3']
    command = ['report', *(str(work / part) for part in parts), '--out', str(work)]
    steps.append(Step('report', command, ['robustness', 'cascade_rcnn test', 'deeplabv3 test']))
    return steps


def training(run: str, work: Path) -> 'Step':
    """The step that trains a run of `RUNS`."""
    from distill.matrix.steps import Step

    config, teacher = RUNS[run]
    command = ['train', f'distill/configs/shapes/{config}.py', '--work-dir', str(work / run), '--resume']
    command += ['--data-root', str(work / 'data' / 'imagenet')]
    if teacher is not None:
        command += ['--cfg-options', f'model.teacher.checkpoint={work / teacher / "student_best.pth"}']
    return Step(run, command, ['data', teacher] if teacher else ['data'])


def downstream(task: str, config: str, data: str, work: Path) -> 'list[Step]':
    """The steps that train and test a detector or segmenter on the distilled student.

    Args:
        task: Folder of the configs, and of the step's results.
        config: Name of the config.
        data: Name of the embedded data set.
        work: Folder that everything goes to.
    """
    from distill.matrix.steps import Step

    config, folder = f'downstream_configs/{task}/{config}.py', work / task
    common = ['--work-dir', str(folder), '--data-root', str(work / 'data' / data)]
    backbone = ['--cfg-options', f'model.backbone.checkpoint={work / BACKBONE / "student_best.pth"}']
    show = ['--show-dir', str(folder / 'pictures'), '--show-interval', '20']
    return [
        Step(task, ['train', config, *common, '--resume', *backbone], [BACKBONE]),
        Step(f'{task} test', ['test', config, 'auto', *common, *show, *backbone], [task]),
    ]


def goals_table(results: dict) -> 'Table':
    """The scores beside what the demo is meant to reach."""
    from distill.cli.screen import result_table

    scores = [
        (f'clean top-1 % {run}', suites['clean']['top1_pct'], GOALS['teacher' if 'teacher' in run else 'student'])
        for run, suites in results['classification'].items()
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
