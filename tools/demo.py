"""The whole chain on the embedded data: distil both ways, measure robustness, detect, segment, report.

python tools/demo.py

Twenty minutes at most on two CPU cores; everything goes to work_dirs/demo. Run it again to go on after a stop.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.cli import run_command
from distill.hooks import write_json

REPO = Path(__file__).resolve().parents[1]
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


@dataclass
class Step:
    """One command of the chain.

    Attributes:
        name: For people, and of its log.
        command: Arguments of ``python tools/…``.
        needs: Names of the steps before it.
    """

    name: str
    command: list[str]
    needs: list[str] = field(default_factory=list)


def plan(work: Path) -> list[Step]:
    """The chain's steps, the most urgent first among those that can run."""
    data = work / 'data'
    sizes = '--size 32 --train 6000 --val 500 --shifted 500 --scene-size 128 --scenes-train 400 --scenes-val 100'
    steps = [Step('data', ['make_data.py', str(data), *sizes.split(), '--workers', '2'])]
    for run in RUNS:
        steps.append(training(run, work))
        if run == BACKBONE:
            steps += downstream('cascade_rcnn', 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco', 'coco', work)
            steps += downstream('deeplabv3', 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k', 'ade20k', work)
    checkpoints = [str(work / run / 'student_best.pth') for run in RUNS]
    options = ['--data-root', str(data / 'imagenet'), '--out', str(work / 'robustness'), '--corruption-limit', '200']
    steps.append(Step('robustness', ['robustness.py', *checkpoints, *options], list(RUNS)))
    parts = ['robustness', 'cascade_rcnn', 'deeplabv3']
    command = ['report.py', *(str(work / part) for part in parts), '--out', str(work)]
    steps.append(Step('report', command, ['robustness', 'cascade_rcnn test', 'deeplabv3 test']))
    return steps


def training(run: str, work: Path) -> Step:
    """The step that trains a run of `RUNS`."""
    config, teacher = RUNS[run]
    command = ['train.py', f'distill/configs/shapes/{config}.py', '--work-dir', str(work / run), '--resume']
    command += ['--data-root', str(work / 'data' / 'imagenet')]
    if teacher is not None:
        command += ['--cfg-options', f'model.teacher.checkpoint={work / teacher / "student_best.pth"}']
    return Step(run, command, ['data', teacher] if teacher else ['data'])


def downstream(task: str, config: str, kind: str, work: Path) -> list[Step]:
    """The steps that train and test a detector or segmenter on the distilled student."""
    config, folder = f'downstream_configs/{task}/{config}.py', work / task
    common = ['--work-dir', str(folder), '--data-root', str(work / 'data' / kind)]
    backbone = ['--cfg-options', f'model.backbone.checkpoint={work / BACKBONE / "student_best.pth"}']
    show = ['--show-dir', str(folder / 'pictures'), '--show-interval', '20']
    return [
        Step(task, ['train.py', config, *common, '--resume', *backbone], [BACKBONE]),
        Step(f'{task} test', ['test.py', config, 'auto', *common, *show, *backbone], [task]),
    ]


def run_step(step: Step, work: Path, threads: int) -> float:
    """Run a step's command, unless it has been done before, and log what it prints.

    Returns:
        Seconds it took; 0 if there was nothing to do.

    Raises:
        ValueError: The command failed.
    """
    log = work / 'logs' / f'{step.name.replace(" ", "-")}.log'
    done = log.with_suffix('.json')
    if done.is_file() and json.loads(done.read_text())['command'] == step.command:
        return 0.0
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    # One thread a process: the models are too small to share.
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'COLUMNS': '120'}
    with log.open('a') as file:
        file.write(f'$ python {shlex.join(["tools/" + step.command[0], *step.command[1:]])}\n')
        file.flush()
        command = [sys.executable, str(REPO / 'tools' / step.command[0]), *step.command[1:]]
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, cwd=REPO, env=environment).returncode
    if code != 0:
        last = log.read_text().strip().splitlines()[-1]
        raise ValueError(f"step '{step.name}' failed: {last} (see {log}); run the demo again to go on from here")
    seconds = time.monotonic() - start
    write_json(done, {'command': step.command, 'seconds': seconds})
    return seconds


def run_all(steps: list[Step], work: Path, jobs: int, threads: int, console: Console) -> None:
    """Run the steps, several at a time, each after those that it needs."""
    waiting, finished, start = list(steps), set(), time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        running: dict[Future, Step] = {}
        while waiting or running:
            for step in [s for s in waiting if finished.issuperset(s.needs)][: jobs - len(running)]:
                waiting.remove(step)
                console.print(f'[{time.monotonic() - start:5.0f} s] {step.name} …')
                running[pool.submit(run_step, step, work, threads)] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                seconds = future.result()
                finished.add(step.name)
                took = f'took {seconds:.0f} s' if seconds else 'was done before'
                console.print(f'[{time.monotonic() - start:5.0f} s] {step.name} {took}')


def goals_table(results: dict) -> Table:
    """What was reached beside what the demo is meant to reach."""
    table = Table('score', 'value', 'goal', 'met')
    rows = [
        (f'clean top-1 % {run}', scores['clean']['top1_pct'], GOALS['teacher' if 'teacher' in run else 'student'])
        for run, scores in results['classification'].items()
    ]
    rows.append(('box mAP', results['detection']['bbox_mAP'], GOALS['bbox_mAP']))
    rows.append(('mIoU', results['segmentation']['mIoU'], GOALS['mIoU']))
    for name, value, goal in rows:
        table.add_row(name, f'{value:.3g}', f'{goal:g}', 'yes' if value >= goal else 'NO')
    return table


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'), help='where everything goes')
    parser.add_argument('--jobs', type=int, default=2, help='steps that run at a time')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads a step')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Run the chain; returns the contents of the report's results.json."""
    console = Console()
    work = args.work_dir.resolve()
    run_all(plan(work), work, args.jobs, args.threads, console)
    results = json.loads((work / 'results.json').read_text())
    console.print(goals_table(results))
    console.print(f'report: {args.work_dir / "report.html"}')
    return results


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
