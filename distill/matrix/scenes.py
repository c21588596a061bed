"""A transfer experiment over detectors or segmenters: students and teachers are configs of mmdet or mmsegmentation."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from distill.base.packaged import packaged
from distill.matrix.matrix import Matrix, Run, read_config
from distill.training.length import EPOCHS, ITERS, Unit

SCOPES = ('mmdet', 'mmseg')
"""``default_scope`` of the configs whose trainings these are."""


class Expression(str):
    """Python that a written config has as it is, where other values are written as literals."""

    __repr__ = str.__str__


@dataclass
class SceneMatrix(Matrix):
    """The contents of a matrix config whose students are detectors, or segmenters.

    A student alone is trained by its config; a taught one by that config, whose model is wrapped in a `DenseDistiller`.
    There is one validation, at the end, and no choice of the best: each run is judged as it ends, by ``test`` with the
    arguments ``robustness`` such as ``--corruptions``.

    Teachers are ``dict(student=NAME)``, the arguments of ``model.teacher`` (``config`` and ``checkpoint``), or
    ``dict(config=CONFIG)`` without a checkpoint: the experiment then trains them first, once, with the first seed.

    Attributes:
        losses: ``model.losses`` of a `DenseDistiller` by name.
        corruptions: As in `Matrix`, without ``copies`` and ``geometry``.
        backbones: Weights that the backbone of a student starts from, a ``TimmBackbone``'s ``checkpoint``, by its name.
        equal_time: Not for these; taught students are compared at equal length only.
        iters: Length of training, where configs count iterations; otherwise as ``epochs``.

    Raises:
        ValueError: As `Matrix`; or a setting is none of detectors and segmenters.
    """

    equal_time: bool = False
    iters: int | Mapping[str, int] | None = None
    backbones: dict[str, str] = field(default_factory=dict)

    made_by: ClassVar[Mapping[str, Any]] = {'copies': 1, 'geometry': False}

    def __post_init__(self):
        for name, teacher in self.teachers.items():
            if not {'student', 'config'} & teacher.keys() and not teacher.get('checkpoint'):
                raise ValueError(f"teacher '{name}' has no config; give dict(config=NAME), or dict(student=NAME)")
        if self.equal_time or self.cache is not None:
            wrong = 'equal_time' if self.equal_time else 'cache'
            raise ValueError(f'{wrong} is for students that classify; leave it out for detectors and segmenters')
        super().__post_init__()
        if strangers := self.backbones.keys() - self.bases.keys():
            raise ValueError(
                f"backbones has '{min(strangers)}', and there is no such student; choose from {', '.join(self.bases)}"
            )
        units = {name: self._counted_in(name) for name in self.bases}
        if others := [name for name, unit in units.items() if unit is not self.unit]:
            raise ValueError(
                f"'{others[0]}' counts {units[others[0]].word} and '{next(iter(self.students))}' {self.unit.word}; "
                'one experiment has detectors or segmenters, not both'
            )
        if (self.epochs if self.unit is ITERS else self.iters) is not None:
            wrong = 'epochs' if self.unit is ITERS else 'iters'
            raise ValueError(f'{wrong} are given, and the configs count {self.unit.word}; give {self.unit.key[4:]}')

    def _counted_in(self, name: str) -> Unit:
        return ITERS if self.config(name).train_cfg.get(ITERS.key) else EPOCHS

    @property
    def unit(self) -> Unit:
        """Epochs for detectors and iterations for segmenters, as their configs count."""
        return self._counted_in(next(iter(self.students)))

    @property
    def lengths(self) -> int | Mapping[str, int] | None:
        """Lengths of the trainings in epochs or iterations."""
        return self.epochs if self.iters is None else self.iters

    def checkpoint(self, run: Run) -> Path:
        """The student as its training ends."""
        return self.folder(run) / 'student_last.pth'

    def scores_folder(self, student: str) -> Path:
        """The folder with the scores of one run, by its name."""
        return self.work_dir / 'scores' / student

    def teacher(self, name: str) -> dict:
        """Arguments of ``model.teacher``."""
        maker = self.maker(name)
        if maker is None:
            return dict(self.teachers[name])
        made = self.checkpoint(Run(maker, self.seeds[0])).resolve()
        others = {key: value for key, value in self.teachers[name].items() if key != 'student'}
        return {**others, 'config': self.named(maker), 'checkpoint': str(made)}

    def named(self, name: str) -> str:
        """The config of what the experiment trains: its name if it is this project's, which may move, or its path."""
        path = Path(self.bases[name]).resolve()
        return next((file.name for file in packaged() if file.path == path), str(path))

    def settings(self, run: Run, teacher: dict | None) -> dict[str, Any]:
        """What the config of a run has in place of its base's, but for seed and length."""
        length = run.epochs or self.epochs_of(run.student)
        settings: dict[str, Any] = {
            'default_hooks': {'save_student': {'type': 'SaveDenseStudentHook'}},
            'train_cfg': {'val_interval': length + 1},
        }
        backbone = self.backbones.get(run.student)
        if teacher is None and backbone is not None:
            settings['model'] = {'backbone': {'checkpoint': backbone}}
        elif teacher is not None:
            weights = f'dict(_base_.model, backbone=dict(_base_.model.backbone, checkpoint={backbone!r}))'
            settings['model'] = {
                '_delete_': True,
                'type': 'DenseDistiller',
                'student': Expression('_base_.model' if backbone is None else weights),
                'teacher': teacher,
                'losses': copy.deepcopy(self.losses[run.loss]),
            }
            settings['default_hooks']['check_teacher'] = {'type': 'CheckTeacherHook'}
        if run.corruption is not None:
            step = {'type': 'mmengine.CorruptForStudent', **self.corruptions[run.corruption]}
            pipeline = Expression(f'[*_base_.train_dataloader.dataset.pipeline, {step!r}]')
            settings['train_dataloader'] = {'dataset': {'pipeline': pipeline}}
        return settings


def is_of_scenes(students: Sequence[str]) -> bool:
    """Whether students are detectors or segmenters.

    Args:
        students: Their configs.

    Raises:
        ValueError: Some are and some are not.
    """
    found = {path: read_config(path).get('default_scope') in SCOPES for path in students}
    if len(set(found.values())) > 1:
        one, other = (next(path for path, is_one in found.items() if is_one is wanted) for wanted in (True, False))
        raise ValueError(f"'{one}' is a detector or segmenter and '{other}' is not; give each an experiment of its own")
    return any(found.values())
