"""Bad input: a right input is broken in one way, and a command reads it.

The command must refuse it in one line, or give the results of the input that was not broken; what is allowed stands
with each way of breaking. A traceback, an exit status of 0 with other results, a change of the input and a damaged
output are findings.
"""

import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from campaign.kills import broken_files, trained
from campaign.ledger import Trial
from campaign.stage import (
    CLASSIFIER,
    DETECTION,
    DETECTOR,
    PUPIL,
    SEGMENTATION,
    SEGMENTER,
    STUDENT,
    Stage,
    cache_arguments,
    hashes,
    run,
)

PART = 'bad input'


@dataclass
class Scene:
    """The inputs and the command of one trial, for a way of breaking to change.

    Attributes:
        stage: What commands have written; never changed.
        folder: Of this trial. ``inputs`` in it is a copy of what the command reads.
        rng: The trial's random numbers.
        reader: Name of the command and its inputs.
        command: A module of `distill.cli`.
        arguments: Of the command line.
    """

    stage: Stage
    folder: Path
    rng: random.Random
    reader: str
    command: str = ''
    arguments: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> Path:
        """The copy of what the command reads."""
        return self.folder / 'inputs'

    @property
    def out(self) -> Path:
        """Where the command writes."""
        return self.folder / 'out'

    def copy(self, name: str) -> Path:
        """Copy a part of the stage into the inputs; returns its path there."""
        source, target = self.stage.root / name, self.inputs / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return target

    def pick(self, pattern: str) -> Path:
        """One of the input files that match a pattern."""
        return self.rng.choice(sorted(path for path in self.inputs.glob(pattern) if path.is_file()))

    def edit_json(self, path: Path, change: Callable[[dict], object]) -> None:
        """Change what a JSON file holds."""
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def set_options(self, *options: str) -> None:
        """Add settings to the command line."""
        self.arguments += [*([] if '--cfg-options' in self.arguments else ['--cfg-options']), *options]


@dataclass(frozen=True)
class Allowed:
    """What a command may do with a broken input.

    Attributes:
        refuse: End in one line.
        accept: End with the results of the input that was not broken.
        says: Text that must be among the output where the command accepts.
        differs: The results may be others, where the command says what it has left out or filled in.
    """

    refuse: bool = True
    accept: bool = False
    says: str = ''
    differs: bool = False


REFUSE, EITHER, ACCEPT = Allowed(), Allowed(accept=True), Allowed(refuse=False, accept=True)
LEAVE_OUT = Allowed(accept=True, says='left out', differs=True)
FILL_IN = Allowed(accept=True, says='filled in or corrected', differs=True)


@dataclass(frozen=True)
class Break:
    """A way of breaking inputs.

    Attributes:
        kind: In the table.
        name: The function's name.
        readers: Commands that read what is broken.
        break_it: Changes a scene; what it returns takes the place of ``allowed``.
        allowed: What a command may do.
    """

    kind: str
    name: str
    readers: tuple[str, ...]
    break_it: Callable[[Scene], Allowed | None]
    allowed: Allowed


BREAKS: list[Break] = []
SPREAD = 37
"""A prime number; the number of ways is no multiple of it."""


def breaks(kind: str, readers: tuple[str, ...], allowed: Allowed = REFUSE) -> Callable:
    """Enter a function of a `Scene` as a way of breaking inputs."""

    def enter(function: Callable[[Scene], Allowed | None]) -> Callable:
        BREAKS.append(Break(kind, function.__name__.replace('_', ' '), readers, function, allowed))
        return function

    return enter


def _train(config: Path, data: str, options: list[str]) -> Callable[[Scene], tuple[str, list[str]]]:
    return lambda scene: ('train', scene.stage.train(config, scene.copy(data), scene.out, options))


def _test(config: Path, data: str, checkpoint: str) -> Callable[[Scene], tuple[str, list[str]]]:
    def prepare(scene: Scene) -> tuple[str, list[str]]:
        folder, weights = scene.copy(data), scene.copy(checkpoint)
        options = ['test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False']
        return 'test', scene.stage.train(config, folder, scene.out, options, weights)

    return prepare


def _judge(scene: Scene) -> tuple[str, list[str]]:
    for name in ('student_best.pth', 'student_best.json'):
        scene.copy(f'student/{name}')
    data, student = scene.copy('data/imagenet'), scene.inputs / 'student/student_best.pth'
    places = [student, '--data-root', data, '--out', scene.out]
    return 'robustness', [*map(str, places), '--suite', 'clean', 'rendition', '--workers', '0']


def _cached(scene: Scene) -> tuple[str, list[str]]:
    options = scene.stage.teacher_options(f'model.teacher.cache={scene.copy("cache")}')
    return 'train', scene.stage.train(PUPIL, scene.copy('data/imagenet'), scene.out, options)


def _taught(scene: Scene) -> tuple[str, list[str]]:
    for name in ('student_best.pth', 'student_best.json'):
        scene.copy(f'student/{name}')
    options = [*scene.stage.teacher_options(), f'model.teacher.checkpoint={scene.inputs}/student/student_best.pth']
    return 'train', scene.stage.train(PUPIL, scene.copy('data/imagenet'), scene.out, options)


def _resume(scene: Scene) -> tuple[str, list[str]]:
    checkpoint = scene.copy('detector/epoch_1.pth')
    data = scene.copy('data/coco')
    return 'train', scene.stage.train(DETECTOR, data, scene.out, DETECTION, '--resume', checkpoint)


def _explain(scene: Scene) -> tuple[str, list[str]]:
    for name in ('student_best.pth', 'student_best.json'):
        scene.copy(f'student/{name}')
    student, images = scene.inputs / 'student/student_best.pth', scene.copy('data/imagenet/val')
    places = [f'a={student}', f'b={scene.stage.root}/student/student_best.pth', '--images', images, '--out', scene.out]
    return 'explain', [*map(str, places), '--count', '40', '--workers', '0']


READERS: dict[str, tuple[Callable[[Scene], tuple[str, list[str]]], Callable[[Path], dict]]] = {
    'classifier training': (_train(STUDENT, 'data/imagenet', CLASSIFIER), trained),
    'distillation': (_taught, trained),
    'training from a cache': (_cached, trained),
    'cache writing': (
        lambda scene: ('cache', cache_arguments(scene.stage, scene.copy('data/imagenet'), scene.out)),
        hashes,
    ),
    'robustness run': (_judge, lambda out: decided(out)),
    'explain': (_explain, lambda out: {}),
    'detector training': (_train(DETECTOR, 'data/coco', DETECTION), trained),
    'resumed detector': (_resume, trained),
    'segmenter training': (_train(SEGMENTER, 'data/ade20k', SEGMENTATION), trained),
    'detector test': (_test(DETECTOR, 'data/coco', 'detector/epoch_2.pth'), lambda out: tested(out)),
    'segmenter test': (_test(SEGMENTER, 'data/ade20k', 'segmenter/iter_2.pth'), lambda out: tested(out)),
    'report': (lambda scene: ('report', [str(scene.copy('judged')), '--out', str(scene.out)]), lambda out: {}),
}
"""For each command that reads inputs: what prepares a scene, and what its results are."""


def tested(out: Path) -> dict:
    """The scores of a detector or segmenter."""
    results = json.loads((out / 'results.json').read_text())
    keys = ('metrics', 'scores', 'classwise', 'per_class', 'bbox', 'segm')
    section = next(results[key] for key in ('detection', 'segmentation') if key in results)
    return {key: section[key] for key in keys if key in section}


def decided(out: Path) -> dict:
    """What models decided for the images of each suite."""
    found = {}
    for path in sorted(out.glob('predictions/*/*.npz')):
        with np.load(path) as arrays:
            found |= {f'{path.stem} {name}': arrays[name].tobytes() for name in arrays.files}
    return found


class BadInput:
    """The trials of bad input, by number.

    Args:
        stage: What commands have written.
        folder: Where trials work.
        seed: Of the campaign.
    """

    def __init__(self, stage: Stage, folder: Path, seed: int):
        self.stage, self.folder, self.seed = stage, folder, seed
        self.right: dict[str, dict] = {}
        for reader in READERS:
            scene = self._scene(folder / f'right {reader}', random.Random(0), reader)
            status, output = run(scene.command, scene.arguments)
            if status != 0:
                raise RuntimeError(f'{reader} fails on right inputs: {output[-2000:]}')
            self.right[reader] = READERS[reader][1](scene.out)

    def _scene(self, folder: Path, rng: random.Random, reader: str) -> Scene:
        scene = Scene(self.stage, folder, rng, reader)
        scene.command, scene.arguments = READERS[reader][0](scene)
        return scene

    def __call__(self, number: int) -> list[Trial]:
        """Break an input, have it read, and judge."""
        # All ways take their turns, and those of a short campaign are spread over all kinds.
        way = BREAKS[number * SPREAD % len(BREAKS)]
        rng = random.Random(f'{self.seed} {number}')
        reader = rng.choice(way.readers)
        folder = self.folder / f'{number:05d}'
        scene = self._scene(folder, rng, reader)
        if rng.random() < 0.5 and scene.command in ('train', 'test'):
            shutil.copytree(self.folder / f'right {reader}' / 'out', scene.out, dirs_exist_ok=True)
        allowed = way.break_it(scene) or way.allowed
        before = hashes(scene.inputs)
        # The config in a work directory is that of the last start.
        outputs = {name: digest for name, digest in hashes(scene.out).items() if not name.endswith('.py')}
        status, output = run(scene.command, scene.arguments, 120)
        outcome, findings = self._judge(scene, allowed, status, output)
        if findings:
            findings.insert(0, f'[{" ".join(scene.arguments[-1:])}]')
        if hashes(scene.inputs) != before:
            findings.append('changes its input')
        if status != 0 and not re.search(r'(Epoch|Iter)\(train\)', output):
            after = hashes(scene.out)
            findings += [f'refuses, and changes {name}' for name in outputs if after.get(name) != outputs[name]][:3]
        findings += broken_files(scene.out)
        shutil.rmtree(folder)
        return [Trial(PART, f'{way.kind}: {way.name}', reader, number, outcome, '; '.join(findings)[:1500])]

    def _judge(self, scene: Scene, allowed: Allowed, status: int | None, output: str) -> tuple[str, list[str]]:
        last = output.strip().rpartition('\n')[2]
        if status is None or status < 0:
            return 'crashed', [f'ends by {"hanging" if status is None else f"signal {-status}"}: {output[-500:]}']
        if 'Traceback (most recent call last)' in output:
            return 'traceback', [f'traceback, {last[-500:]}']
        if status != 0:
            refused = 'error: ' in last
            if not refused:
                return 'refused', [f'exit status {status} without a line: {output[-500:]}']
            return 'refused', [] if allowed.refuse else [f'refuses what can be mended: {last[-500:]}']
        if not allowed.accept:
            return 'silent', [f'exit status 0: {output[-300:]}']
        found, right = READERS[scene.reader][1](scene.out), self.right[scene.reader]
        differing = sorted(name for name in {*found, *right} if found.get(name) != right.get(name))
        if differing and not allowed.differs:
            return 'wrong', [f'exit status 0 with other results: {", ".join(differing[:4])}']
        if allowed.says and allowed.says not in output:
            return 'unsaid', [f'mended, and not said: no "{allowed.says}"']
        return ('left out' if allowed is LEAVE_OUT else 'mended') if allowed.says else 'harmless', []
