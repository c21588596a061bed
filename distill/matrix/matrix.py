"""A transfer experiment as its config states it: students, teachers, losses, seeds, and the runs that follow.

Each student is trained alone and with each teacher by each loss, and all of this once more on corrupted images for each
corruption. Where a teacher made training longer, the student is
trained alone once more for that much longer. All of this is done once a seed.
"""

import copy
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mmengine.config import Config

from distill.base.packaged import CONFIG, find
from distill.corruptions.training import build_corruption
from distill.training.length import EPOCHS, Unit

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
        teachers: By name, either ``dict(student=NAME)``, the student of that name alone with the first seed;
            ``dict(config=CONFIG)``, what the experiment first trains by that config, once, with the first seed; or the
            arguments of ``model.teacher``.
        losses: ``model.losses`` by name.
        seeds: The seeds.
        corruptions: By name, what corrupts the images that students train on while teachers see clean ones: arguments
            of `distill.corruptions.training.TrainingCorruption`. For students alone it is an augmentation.
        corrupted_losses: Names of the losses by which students also learn on corrupted images; None for all.
        cache: Arguments of tools/cache_teacher.py such as ``topk``; ``views`` is the number of epochs unless it is
            given. None asks the teachers anew in each run.
        epochs: Length of training, with which the schedules are stretched: a number for all students, or one by name.
            Students without a number keep the epochs of their configs.
        common: Settings that all trainings have in place of their configs', such as the size of a batch.
        equal_time: Whether students are also trained alone for as long as they took with a teacher.
        robustness: Further arguments of the command that judges, ``robustness``.
        work_dir: Folder of all runs and results.
        own_teachers: Training config of each teacher that is no student, by name.

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
    corrupted_losses: Sequence[str] | None = None
    cache: dict | None = None
    epochs: int | Mapping[str, int] | None = None
    common: dict[str, Any] = field(default_factory=dict)
    equal_time: bool = True
    robustness: Sequence[str] = ()
    own_teachers: dict[str, str] = field(default_factory=dict, init=False)

    unit: ClassVar[Unit] = EPOCHS
    """What the length of a training is counted in."""
    made_by: ClassVar[Mapping[str, Any]] = {}
    """How corruptions are made, beside their own settings."""

    def __post_init__(self):
        for name, path in self.students.items():
            self.students[name] = find(path, CONFIG)
        for name, corruption in self.corruptions.items():
            build_corruption(corruption, f'corruptions.{name}', **self.made_by)
        for name, teacher in self.teachers.items():
            if 'config' in teacher and not teacher.get('checkpoint'):
                self.own_teachers[name] = find(teacher['config'], CONFIG)
        if twice := self.own_teachers.keys() & self.students.keys():
            raise ValueError(f"'{min(twice)}' is a student and a teacher; give one of them another name")
        for name, teacher in self.teachers.items():
            if 'student' in teacher and teacher['student'] not in self.students:
                raise ValueError(
                    f"teacher '{name}' is student '{teacher['student']}', and there is no such student; "
                    f'choose from {", ".join(self.students)}'
                )
        strangers = self.lengths.keys() - self.bases.keys() if isinstance(self.lengths, Mapping) else ()
        if strangers:
            raise ValueError(
                f"{self.unit.word} are given for '{min(strangers)}', and there is no such student; "
                f'choose from {", ".join(self.bases)}'
            )
        if unknown := set(self.corrupted_losses or ()) - self.losses.keys():
            raise ValueError(
                f"corrupted_losses has '{min(unknown)}', which is no loss; choose from {', '.join(self.losses)}"
            )
        if not (self.students and self.teachers and self.losses and self.seeds):
            raise ValueError('a matrix needs students, teachers, losses and seeds; one of them is empty')
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f'seeds {list(self.seeds)} are not all different; name each once')

    def alone(self) -> list[Run]:
        """The teachers that the experiment trains; every student alone, on clean images and on corrupted ones."""
        teachers = [Run(name, self.seeds[0]) for name in self.own_teachers]
        return teachers + [
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
            for corruption in (None, *(self.corruptions if self._is_corrupted(loss) else ()))
            if self.teachers[teacher].get('student') != student
        ]

    def _is_corrupted(self, loss: str) -> bool:
        return self.corrupted_losses is None or loss in self.corrupted_losses

    @property
    def bases(self) -> dict[str, str]:
        """Training config without a teacher of all that the experiment trains, by name: teachers first."""
        return {**self.own_teachers, **self.students}

    @property
    def lengths(self) -> int | Mapping[str, int] | None:
        """Lengths of the trainings in the matrix's unit, as its config gives them."""
        return self.epochs

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
        maker = self.maker(name)
        if maker is not None:
            arguments = {key: value for key, value in arguments.items() if key not in ('student', 'config')}
            arguments['checkpoint'] = str(self.checkpoint(Run(maker, self.seeds[0])))
        return arguments

    def maker(self, teacher: str) -> str | None:
        """Name of the training whose first seed makes a teacher; None for a teacher from outside of the experiment."""
        return self.teachers[teacher].get('student', teacher if teacher in self.own_teachers else None)

    def teacher_needs(self, name: str) -> list[str]:
        """The run that makes a teacher; none for a teacher from outside of the experiment."""
        maker = self.maker(name)
        return [Run(maker, self.seeds[0]).name] if maker is not None else []

    def settings(self, run: Run, teacher: dict | None) -> dict[str, Any]:
        """What the config of a run has in place of its base's, but for seed and length.

        Args:
            run: The run.
            teacher: Arguments of ``model.teacher``; None for a student alone.
        """
        settings: dict[str, Any] = {}
        if teacher is not None:
            settings['model'] = {'teacher': teacher, 'losses': copy.deepcopy(self.losses[run.loss])}
        if run.corruption is not None:
            corrupt = copy.deepcopy(self.corruptions[run.corruption])
            settings['train_dataloader'] = {'dataset': {'corrupt': corrupt}}
        return settings

    def config(self, student: str) -> Config:
        """A student's training config, which must not be changed."""
        return read_config(self.bases[student])

    def epochs_of(self, student: str) -> int:
        """Length of a student's training in the matrix's unit, epochs unless it says otherwise."""
        length = self.lengths.get(student) if isinstance(self.lengths, Mapping) else self.lengths
        return length or self.config(student).train_cfg[self.unit.key]

    def cache_folder(self, teacher: str, student: str) -> Path:
        """The folder of a teacher's predictions; students that see the same views share it."""
        config = self.config(student)
        views = [config.train_dataloader, config.model.data_preprocessor, self.epochs_of(student)]
        views += [self.common] if self.common else []
        digest = hashlib.sha256(repr(views).encode()).hexdigest()
        return self.work_dir / 'caches' / f'{teacher}_{digest[:8]}'


@functools.cache
def read_config(path: str) -> Config:
    """A config by its path, which must not be changed."""
    return Config.fromfile(path, import_custom_modules=False)
