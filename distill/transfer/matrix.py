"""The runs of a transfer experiment, and the commands that make them.

A matrix is a config with teachers, students, losses and seeds. Each student is trained alone, with each teacher by
each loss, and, where a teacher made training longer, alone once more for that much longer: all once a seed.
"""

import copy
import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from backbones.files import atomic_write
from distill.transfer.steps import REPO, Step

ALONE = 'alone'


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        student: Name of the student.
        seed: Seed of its weights and of what is random in training.
        teacher: Name of the teacher; None for a student alone.
        loss: Name of the loss; None for a student alone.
        epochs: Epochs in place of the config's; None keeps them.
    """

    student: str
    seed: int
    teacher: str | None = None
    loss: str | None = None
    epochs: int | None = None

    @property
    def group(self) -> str:
        """What the runs that differ by their seed only have in common."""
        if self.teacher is not None:
            return f'{self.student}_from_{self.teacher}_{self.loss}'
        return f'{self.student}_{ALONE}' + (f'_{self.epochs}e' if self.epochs else '')

    @property
    def name(self) -> str:
        """Name of the run and of its folder."""
        return f'{self.group}_s{self.seed}'


@dataclass
class Matrix:
    """What a matrix config says.

    Attributes:
        data_root: The data set's folder, with the shifted sets beside the clean ones.
        students: Training config of each student, without a teacher, by name; this project's are found from anywhere.
        teachers: By name, either ``dict(student=NAME)``, the student of that name alone with the first seed, or the
            arguments of ``model.teacher``.
        losses: ``model.losses`` by name.
        seeds: The seeds.
        cache: Arguments of tools/cache_teacher.py such as ``topk``, with as many views as epochs unless it says
            otherwise; None asks the teachers anew in each run.
        epochs: How long students are trained, their schedules with it: a number for all, or by name; what is left out
            is left to the configs.
        equal_time: Whether students are also trained alone for as long as they took with a teacher.
        robustness: Further arguments of tools/robustness.py.
        work_dir: Where everything goes.
    """

    data_root: str
    students: dict[str, str]
    teachers: dict[str, dict]
    losses: dict[str, list[dict]]
    work_dir: Path
    seeds: Sequence[int] = (0, 1, 2)
    cache: dict | None = None
    epochs: int | Mapping[str, int] | None = None
    equal_time: bool = True
    robustness: Sequence[str] = ()

    def __post_init__(self):
        for name, path in self.students.items():
            if not Path(path).is_file() and (REPO / path).is_file():
                self.students[name] = str(REPO / path)
        for name, teacher in self.teachers.items():
            if 'student' in teacher and teacher['student'] not in self.students:
                raise ValueError(
                    f"teacher '{name}' is student '{teacher['student']}', which there is none of; "
                    f'choose from {", ".join(self.students)}'
                )
        strangers = self.epochs.keys() - self.students.keys() if isinstance(self.epochs, Mapping) else ()
        if strangers:
            raise ValueError(
                f"epochs are given for '{min(strangers)}', which there is no student of; "
                f'choose from {", ".join(self.students)}'
            )
        if not (self.students and self.teachers and self.losses and self.seeds):
            raise ValueError('a matrix needs students, teachers, losses and seeds; one of them is empty')
        missing = [path for path in self.students.values() if not Path(path).is_file()]
        if missing:
            raise FileNotFoundError(f"student config '{missing[0]}' does not exist; correct the matrix")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f'seeds {list(self.seeds)} are not all different; name each once')

    def alone(self) -> list[Run]:
        """Every student alone."""
        return [Run(student, seed) for seed in self.seeds for student in self.students]

    def taught(self) -> list[Run]:
        """Every student with every teacher but itself, by every loss."""
        return [
            Run(student, seed, teacher, loss)
            for seed in self.seeds
            for teacher in self.teachers
            for student in self.students
            for loss in self.losses
            if self.teachers[teacher].get('student') != student
        ]

    def folder(self, run: Run) -> Path:
        """Where a run goes."""
        return self.work_dir / 'runs' / run.name

    def checkpoint(self, run: Run) -> Path:
        """The student that a run leaves."""
        return self.folder(run) / 'student_best.pth'

    def teacher(self, name: str) -> dict:
        """Arguments of ``model.teacher``, but for the cache."""
        arguments = dict(self.teachers[name])
        student = arguments.pop('student', None)
        if student is not None:
            arguments['checkpoint'] = str(self.checkpoint(Run(student, self.seeds[0])))
        return arguments

    def teacher_needs(self, name: str) -> list[str]:
        """The run that makes a teacher, if it is one of the experiment's own."""
        student = self.teachers[name].get('student')
        return [Run(student, self.seeds[0]).name] if student is not None else []

    def config(self, student: str) -> Config:
        """A student's training config."""
        return Config.fromfile(self.students[student])

    def epochs_of(self, student: str) -> int:
        """How long a student is trained."""
        epochs = self.epochs.get(student) if isinstance(self.epochs, Mapping) else self.epochs
        return epochs or self.config(student).train_cfg.max_epochs

    def cache_folder(self, teacher: str, student: str) -> Path:
        """Where a teacher's predictions go; students that see the same views share them."""
        config = self.config(student)
        views = [config.train_dataloader, config.model.data_preprocessor, self.epochs_of(student)]
        digest = hashlib.sha256(repr(views).encode()).hexdigest()
        return self.work_dir / 'caches' / f'{teacher}_{digest[:8]}'


def load_matrix(path: str, data_root: str | None = None, work_dir: str | None = None) -> Matrix:
    """Read a matrix config.

    Args:
        path: The config.
        data_root: In place of the config's.
        work_dir: In place of the config's.

    Raises:
        FileNotFoundError: The config, a student's config or the data is not there.
        ValueError: The config has a setting that no matrix has, lacks one, or contradicts itself.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"matrix '{path}' does not exist; see distill/matrices")
    content = {key: value for key, value in Config.fromfile(path).to_dict().items() if not key.startswith('__')}
    if data_root is not None:
        content['data_root'] = data_root
    content['work_dir'] = Path(work_dir or content.get('work_dir') or f'work_dirs/{Path(path).stem}')
    known = set(Matrix.__dataclass_fields__)
    unknown, missing = content.keys() - known, {'data_root', 'students', 'teachers', 'losses'} - content.keys()
    if unknown or missing:
        wrong = f'unknown: {", ".join(sorted(unknown))}' if unknown else f'missing: {", ".join(sorted(missing))}'
        raise ValueError(
            f"matrix '{path}' has settings that do not fit ({wrong}); a matrix has {', '.join(sorted(known))}"
        )
    if not Path(content['data_root']).is_dir():
        raise FileNotFoundError(f"data root '{content['data_root']}' does not exist; make the data or pass --data-root")
    return Matrix(**content)


def training(matrix: Matrix, run: Run) -> Step:
    """The step that trains a run; writes its config."""
    settings = {'randomness': {'seed': run.seed}}
    needs = []
    if run.teacher is not None:
        teacher, needs = matrix.teacher(run.teacher), matrix.teacher_needs(run.teacher)
        if matrix.cache is not None:
            teacher['cache'] = str(matrix.cache_folder(run.teacher, run.student))
            needs = [caching(matrix, run.teacher, run.student).name]
        settings['model'] = {'teacher': teacher, 'losses': copy.deepcopy(matrix.losses[run.loss])}
    epochs = run.epochs or matrix.epochs_of(run.student)
    own = matrix.config(run.student)
    if epochs != own.train_cfg.max_epochs:
        settings |= stretched(own, epochs)
    config = _write_config(matrix, run.name, matrix.students[run.student], settings)
    command = [
        'train',
        str(config),
        '--work-dir',
        str(matrix.folder(run)),
        '--resume',
        '--data-root',
        matrix.data_root,
    ]
    return Step(run.name, command, needs)


def caching(matrix: Matrix, teacher: str, student: str) -> Step:
    """The step that writes a teacher's predictions for a student's views; writes its config."""
    folder = matrix.cache_folder(teacher, student)
    settings = {'model': {'teacher': matrix.teacher(teacher), 'losses': next(iter(matrix.losses.values()))}}
    config = _write_config(matrix, f'cache_{folder.name}', matrix.students[student], settings)
    arguments = {'views': matrix.epochs_of(student), **matrix.cache}
    options = [part for key, value in arguments.items() for part in (f'--{key}', str(value))]
    command = ['cache', str(config), '--out', str(folder), *options, '--data-root', matrix.data_root]
    return Step(f'cache {folder.name}', command, matrix.teacher_needs(teacher))


def trainings(matrix: Matrix) -> list[Step]:
    """All steps up to the students at equal epochs, those that others need first."""
    steps = {step.name: step for step in (training(matrix, run) for run in matrix.alone())}
    for run in matrix.taught():
        if matrix.cache is not None:
            step = caching(matrix, run.teacher, run.student)
            steps.setdefault(step.name, step)
        steps[run.name] = training(matrix, run)
    return list(steps.values())


def evaluations(matrix: Matrix, runs: Sequence[Run]) -> list[Step]:
    """The steps that measure all runs of each student side by side."""
    steps = []
    for student in matrix.students:
        mine = [run for run in runs if run.student == student]
        models = [f'{run.name}={matrix.checkpoint(run)}' for run in mine]
        options = ['--data-root', matrix.data_root, '--out', str(evaluation_folder(matrix, student))]
        command = ['robustness', *models, *options, *matrix.robustness]
        steps.append(Step(f'robustness {student}', command, []))
    return steps


def evaluation_folder(matrix: Matrix, student: str) -> Path:
    """Where the scores of a student's runs go."""
    return matrix.work_dir / 'robustness' / student


def _write_config(matrix: Matrix, name: str, base: str, settings: Mapping) -> Path:
    """A config that inherits from a student's, written only if it changes."""
    path = matrix.work_dir.resolve() / 'configs' / f'{name}.py'
    lines = [f'_base_ = {str(Path(base).resolve())!r}', *(f'{key} = {value!r}' for key, value in settings.items())]
    text = '\n'.join(lines) + '\n'
    if not path.is_file() or path.read_text() != text:
        with atomic_write(path) as temporary:
            temporary.write_text(text)
    return path


def stretched(config: Config, epochs: int) -> dict:
    """Settings that make a config's training last other epochs, its schedule with it.

    Args:
        config: A training config by epochs.
        epochs: How long it shall last.
    """
    schedulers = [dict(scheduler) for scheduler in config.param_scheduler]
    for scheduler in schedulers:
        if scheduler.get('end') == config.train_cfg.max_epochs:
            scheduler['end'] = epochs
    return {'train_cfg': {'max_epochs': epochs}, 'param_scheduler': schedulers}


def train_time_s(folder: Path) -> float:
    """Time that a run's training steps took, validation left out, from its log.

    The median step times their number, so that a pause or a slow first step does not count.
    """
    steps = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if 'loss' in record:
                steps[record['iter']] = record['time']
    if not steps:
        raise ValueError(f"'{folder}' has no training log; delete the folder to train again")
    return statistics.median(steps.values()) * max(steps)


def longer(matrix: Matrix) -> dict[str, int]:
    """For each group of taught runs, the epochs that its student alone has time for; equal ones are left out.

    With a cache, writing it counts too, shared by the runs that read it.
    """
    taught = matrix.taught()
    sharing: dict[Path, int] = {}
    for run in taught:
        folder = matrix.cache_folder(run.teacher, run.student)
        sharing[folder] = sharing.get(folder, 0) + 1
    found = {}
    for group in dict.fromkeys(run.group for run in taught):
        runs = [run for run in taught if run.group == group]
        student = runs[0].student
        alone = [train_time_s(matrix.folder(Run(student, seed))) for seed in matrix.seeds]
        mine = [train_time_s(matrix.folder(run)) for run in runs]
        extra = 0.0
        if matrix.cache is not None:
            mark = matrix.work_dir / 'logs' / f'{caching(matrix, runs[0].teacher, student).name.replace(" ", "-")}.json'
            seconds = json.loads(mark.read_text())['seconds']
            extra = seconds / sharing[matrix.cache_folder(runs[0].teacher, student)]
        epochs = matrix.epochs_of(student)
        found[group] = max(epochs, round(epochs * (statistics.median(mine) + extra) / statistics.median(alone)))
    return found
