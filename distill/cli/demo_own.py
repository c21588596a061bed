"""The demo on images of one's own: ``robust-backbones demo --data FOLDER``. Not a command by itself."""

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.cli import demo_plan
from distill.cli.demo_plan import Training, check_same_demo, checkpoint, glance, show_end

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from distill.jobs.steps import Step

RUNS = {
    name: demo_plan.RUNS[name]
    for name in ('deit-teacher', 'robust-teacher', 'robust-alone', 'robust-from-deit', 'deit-alone', 'deit-from-robust')
}
"""Those that need no images besides a user's own."""
SMALL_PX, LARGE_PX = 32, 64
"""Sides of the pictures: the small one where a user's are small too."""
STEPS = 750
"""Steps that a run should have, up to `MOST_EPOCHS`: few images are shown more often."""
MOST_EPOCHS = 40
BATCH = 32
LEFT_OUT = (
    'Left out: detection and segmentation, which need boxes and label maps; stylized pictures, renditions, sketches '
    'and difficult pictures, which cannot be made honestly of your own.'
)


@dataclass(frozen=True)
class OwnSet:
    """The small set, and what its trainings depend on.

    Attributes:
        root: Its folder.
        classes: Number of its classes.
        train: Number of its training images.
        size: Side of its pictures in pixels.
    """

    root: Path
    classes: int
    train: int
    size: int

    def options(self, run: Training) -> list[str]:
        """What differs from the config of the embedded shapes."""
        patch, scale = ('patch_size', self.size // SMALL_PX)
        options = [f'model.student.num_classes={self.classes}', f'num_classes={self.classes}']
        if scale > 1:
            student = run.config.removesuffix('_shapes').split('_')[-1]
            patches = 8 if student.startswith('deit') else 4
            options += [f'model.student.{patch}={patches * scale}']
            options += [f'model.student.img_size={self.size}'] if student.startswith('deit') else []
            parts = ('train', 'val', 'test')
            options += [f'{part}_dataloader.dataset.transform.input_size={self.size}' for part in parts]
        batch = min(BATCH, self.train // 2 * 2)
        if batch < BATCH:
            options += [f'train_dataloader.batch_size={batch}']
        return options

    def epochs(self, planned: int) -> int:
        """Epochs of a run whose config has so many: more where an epoch is short."""
        steps = max(1, self.train // BATCH)
        return min(MOST_EPOCHS, max(planned, math.ceil(STEPS / steps)))


def run(args: argparse.Namespace, console: 'Console') -> dict:
    """Run the chain on a user's images; returns the contents of the report's results.json."""
    from distill.data.memory import hold_images
    from distill.jobs.local import LocalEngine, can_fork, prepare_forks
    from distill.jobs.steps import Workplace, run_steps

    work = args.work_dir.resolve()
    own = prepare(args.data, work / 'data', console)
    steps = plan(own, work)
    engine = LocalEngine(forks=can_fork())
    place = Workplace(work / 'logs', args.jobs, args.threads, again='the demo', engine=engine)
    check_same_demo(steps, place, args.work_dir)
    if engine.forks:
        prepare_forks()
        hold_images(str(own.root), ('train', 'val'), own.size)
    run_steps(steps, place, console.print, lambda step: found(step, own, work))
    results = json.loads((work / 'robustness' / 'results.json').read_text())
    show_end(console, results, scores_table(results), args.work_dir)
    return results


def prepare(folder: Path, root: Path, console: 'Console') -> OwnSet:
    """Make the small set of a user's folder, and say what was done."""
    from distill.base.screen import counting_progress
    from distill.data.small_set import MOST, VAL_SHARE, find_source, smaller_side, write_small_set

    source = find_source(folder)
    size = SMALL_PX if smaller_side(source) < LARGE_PX else LARGE_PX
    total = sum(len(paths) for classes in source.images.values() for paths in classes.values())
    with counting_progress(console, transient=True) as progress:
        task = progress.add_task('small pictures', total=total)
        record = write_small_set(source, root, size, str(folder.resolve()), lambda: progress.advance(task))
    counts, broken = record['images'], record['broken']
    how = f'a seeded fifth of each class ({VAL_SHARE:.0%}) is kept for judging' if source.is_split else 'its own parts'
    console.print(
        f"'{folder}': {len(record['classes'])} classes, {counts['train']} images to learn from and {counts['val']} to "
        f'judge by ({how}; at most {MOST["train"]} and {MOST["val"]}), brought to {size} x {size} pixels.'
    )
    for note in source.notes:
        console.print(note)
    if broken:
        console.print(f'{len(broken)} broken images left out, the first: {broken[0]}')
    console.print(LEFT_OUT)
    if counts['val'] < 200:
        console.print(f'{counts["val"]} images to judge by are few: intervals will be wide.')
    return OwnSet(root, len(record['classes']), counts['train'], size)


def plan(own: OwnSet, work: Path) -> 'list[Step]':
    """The chain's steps, the most urgent first among those that can run."""
    from distill.jobs.steps import Step

    steps = [training(name, own, work) for name in RUNS]
    checkpoints = [str(checkpoint(name, work)) for name in RUNS]
    options = ['--data-root', str(own.root), '--out', str(work / 'robustness'), '--corruption-limit', '100']
    judge = ['robustness', *checkpoints, *options, '--workers', '0']
    steps.append(Step('robustness', judge, list(RUNS), 'judging all six on corrupted pictures', 30))
    report = [
        'report',
        str(work / 'robustness'),
        '--out',
        str(work),
        '--title',
        'Robustness transfer on your own images',
    ]
    return [*steps, Step('report', report, ['robustness'], 'writing the report', 5)]


def training(name: str, own: OwnSet, work: Path) -> 'Step':
    """The step that trains a run of `RUNS`."""
    from distill.base.packaged import CONFIG, find
    from distill.jobs.steps import Step
    from distill.matrix.matrix import read_config

    run = RUNS[name]
    path = f'distill/configs/shapes/{run.config}.py'
    config = read_config(find(path, CONFIG))
    options = own.options(run)
    epochs = own.epochs(config.train_cfg.max_epochs)
    if epochs != config.train_cfg.max_epochs:
        options.append(f'epochs={epochs}')
    if run.teacher is not None:
        options.append(f'model.teacher.checkpoint={checkpoint(run.teacher, work)}')
    command = ['train', path, '--work-dir', str(work / name), '--resume', '--data-root', str(own.root)]
    command += ['--cfg-options', *options]
    return Step(name, command, [run.teacher] if run.teacher else [], f'training {run.who}', run.expected_s)


def found(step: 'Step', own: OwnSet, work: Path) -> str | None:
    """What a step that is done has found, in words."""
    return glance(step.name, RUNS[step.name], own.root, work, suites=('clean',)) if step.name in RUNS else None


def scores_table(results: Mapping) -> 'Table':
    """Clean and corrupted accuracy of each run."""
    from distill.base.screen import result_table

    rows = [
        (name, *(f'{suites[suite]["top1_pct"]:.1f}' if suite in suites else '-' for suite in ('clean', 'corruption')))
        for name, suites in results['classification'].items()
    ]
    return result_table(('top-1 %', 'clean', 'corrupted'), rows)
