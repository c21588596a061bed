"""A transfer experiment as its config states it: students, teachers, losses, seeds, and the runs that follow.

Each student is trained alone and with each teacher by each loss, and all of this once more on corrupted images for each
corruption. Where a teacher made training longer, the student is
trained alone once more for that much longer. All of this is done once a seed.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from distill.base.packaged import CONFIG, find
from distill.corruptions.training import build_corruption

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
        corruption: Name of what corrupts the images that the student trains on; None for clean images.
    """

    student: str
    seed: int
    teacher: str | None = None
    loss: str | None = None
    epochs: int | None = None
    corruption: str | None = None

    @property
    def group(self) -> str:
        """The name without the seed, which runs that differ by their seed only have in common."""
        corrupted = f'_{self.corruption}' if self.corruption else ''
        if self.teacher is not None:
            return f'{self.student}_from_{self.teacher}_{self.loss}{corrupted}'
        return f'{self.student}_{ALONE}' + (f'_{self.epochs}e' if self.epochs else '') + corrupted

    @property
    def name(self) -> str:
        """The name of the run and of its folder."""
        return f'{self.group}_s{self.seed}'


@dataclass
class Matrix:
    """The contents of a matrix config.

    Attributes:
        data_root: The data set's folder, with the shifted sets beside the clean ones.
        students: Training config of each student, without a teacher, by name; a path that starts at the root of this
            project is found from any folder.
        teachers: By name, either ``dict(student=NAME)``, the student of that name alone with the first seed, or the
            arguments of ``model.teacher``.
        losses: ``model.losses`` by name.
        seeds: The seeds.
        corruptions: By name, what corrupts the images that students train on while teachers see clean ones: arguments
            of `distill.corruptions.training.TrainingCorruption`. For students alone it is an augmentation.
        cache: Arguments of tools/cache_teacher.py such as ``topk``; ``views`` is the number of epochs unless it is
            given. None asks the teachers anew in each run.
        epochs: Length of training, with which the schedules are stretched: a number for all students, or one by name.
            Students without a number keep the epochs of their configs.
        equal_time: Whether students are also trained alone for as long as they took with a teacher.
        robustness: Further arguments of tools/robustness.py.
        work_dir: Folder of all runs and results.

    Raises:
        FileNotFoundError: A student's config does not exist.
        ValueError: The settings contradict one another, or one is empty.
    """

    data_root: str
    students: dict[str, str]
    teachers: dict[str, dict]
    losses: dict[str, list[dict]]
    work_dir: Path
    seeds: Sequence[int] = (0, 1, 2)
    corruptions: dict[str, dict] = field(default_factory=dict)
    cache: dict | None = None
    epochs: int | Mapping[str, int] | None = None
    equal_time: bool = True
    robustness: Sequence[str] = ()

    def __post_init__(self):
        for name, path in self.students.items():
            self.students[name] = find(path, CONFIG)
        for name, corruption in self.corruptions.items():
            build_corruption(corruption, f'corruptions.{name}')
        for name, teacher in self.teachers.items():
            if 'student' in teacher and teacher['student'] not in self.students:
                raise ValueError(
                    f"teacher '{name}' is student '{teacher['student']}', and there is no such student; "
                    f'choose from {", ".join(self.students)}'
                )
        strangers = self.epochs.keys() - self.students.keys() if isinstance(self.epochs, Mapping) else ()
        if strangers:
            raise ValueError(
                f"epochs are given for '{min(strangers)}', and there is no such student; "
                f'choose from {", ".join(self.students)}'
            )
        if not (self.students and self.teachers and self.losses and self.seeds):
            raise ValueError('a matrix needs students, teachers, losses and seeds; one of them is empty')
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f'seeds {list(self.seeds)} are not all different; name each once')

    def alone(self) -> list[Run]:
        """The runs of every student alone, on clean images and on corrupted ones."""
        return [
            Run(student, seed, corruption=corruption)
            for seed in self.seeds
            for corruption in (None, *self.corruptions)
            for student in self.students
        ]

    def taught(self) -> list[Run]:
        """The runs of every student with every teacher but itself, by every loss."""
        return [
            Run(student, seed, teacher, loss, corruption=corruption)
            for seed in self.seeds
            for teacher in self.teachers
            for student in self.students
            for loss in self.losses
            for corruption in (None, *self.corruptions)
            if self.teachers[teacher].get('student') != student
        ]

    def folder(self, run: Run) -> Path:
        """The folder of a run."""
        return self.work_dir / 'runs' / run.name

    def checkpoint(self, run: Run) -> Path:
        """The trained student of a run."""
        return self.folder(run) / 'student_best.pth'

    def scores_folder(self, student: str) -> Path:
        """The folder with the scores of a student's runs."""
        return self.work_dir / 'robustness' / student

    def teacher(self, name: str) -> dict:
        """Arguments of ``model.teacher``, but for the cache."""
        arguments = dict(self.teachers[name])
        student = arguments.pop('student', None)
        if student is not None:
            arguments['checkpoint'] = str(self.checkpoint(Run(student, self.seeds[0])))
        return arguments

    def teacher_needs(self, name: str) -> list[str]:
        """The run that makes a teacher; none for a teacher from outside of the experiment."""
        student = self.teachers[name].get('student')
        return [Run(student, self.seeds[0]).name] if student is not None else []

    def config(self, student: str) -> Config:
        """A student's training config, which must not be changed."""
        return read_config(self.students[student])

    def epochs_of(self, student: str) -> int:
        """Epochs for which a student is trained."""
        epochs = self.epochs.get(student) if isinstance(self.epochs, Mapping) else self.epochs
        return epochs or self.config(student).train_cfg.max_epochs

    def cache_folder(self, teacher: str, student: str) -> Path:
        """The folder of a teacher's predictions; students that see the same views share it."""
        config = self.config(student)
        views = [config.train_dataloader, config.model.data_preprocessor, self.epochs_of(student)]
        digest = hashlib.sha256(repr(views).encode()).hexdigest()
        return self.work_dir / 'caches' / f'{teacher}_{digest[:8]}'


@functools.cache
def read_config(path: str) -> Config:
    """A config by its path, which must not be changed."""
    return Config.fromfile(path)


def load_matrix(path: str, data_root: str | None = None, work_dir: str | None = None) -> Matrix:
    """Read a matrix config.

    Args:
        path: The config.
        data_root: Data root in place of the config's.
        work_dir: Work folder in place of the config's.

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
