"""Hooks of a run that distils a detector or segmenter: what is compared before it, and the student's own file."""

from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from backbones.files import atomic_write
from distill.base.classes import first
from distill.downstream.checks.hook import base_datasets, class_names
from distill.downstream.dense_distiller import Distilled
from distill.downstream.student_config import student_weights
from distill.training.hooks.plain_checkpoint import to_loadable
from distill.training.runner import bare_model


@HOOKS.register_module()
class CheckTeacherHook(Hook):
    """Compare a detector's or segmenter's teacher with the data and with the student, before training."""

    def before_train(self, runner) -> None:
        """Compare classes by name, where a term needs them, and the weights of both networks.

        Raises:
            ValueError: The classes differ; or the teacher has the very weights that the student begins with.
        """
        model: Any = bare_model(runner.model)
        if not isinstance(model, Distilled):
            return
        teacher = model.distillation.teacher
        dataset = base_datasets(runner.train_loop.dataloader.dataset)[0]
        where = f"the training set '{getattr(dataset, 'ann_file', '') or dataset.data_root}'"
        needing = [term.name for term in model.distillation.terms if term.needs_classes]
        if needing:
            try:
                teacher.order_classes(class_names(dataset), where)
            except ValueError as error:
                raise ValueError(f'loss {first(needing)} compares classes: {error}') from None
        terms = ', '.join(f'{term.name} (weight {term.full_weight:g})' for term in model.distillation.terms)
        runner.logger.info(
            f"{teacher.described.name} is '{teacher.source['checkpoint']}'; the student learns by {terms}"
        )
        if not runner._resume and same_weights(model, teacher.network):
            raise ValueError(
                f"the teacher '{teacher.source['checkpoint']}' has the very weights that the student begins with, from "
                'which there is nothing to learn; choose another teacher, or another load_from'
            )


def same_weights(student: nn.Module, teacher: nn.Module) -> bool:
    """Whether a student's own weights equal a teacher's, by name."""
    own, its = student_weights(student.state_dict()), teacher.state_dict()
    return own.keys() == its.keys() and all(
        its[name].shape == value.shape and torch.equal(its[name], value) for name, value in own.items()
    )


@HOOKS.register_module()
class SaveDenseStudentHook(Hook):
    """Write the student alone, without what the distillation trains beside it.

    Beside each checkpoint that a run can resume, ``student_last.pth`` in the work directory is the student of the
    newest one. A checkpoint that is written without an optimizer, as the best one of ``save_best`` is, holds the
    student alone. With `EMAHook` it is the average in either case. Both files are plain checkpoints of the student's
    own config, for mmdet's and mmseg's tools too. The ``meta`` of all names the teacher.
    """

    # After EMAHook, which puts the average in place of the weights, and StopOnBadLossHook, which may refuse them.
    priority = 'LOW'

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write the student, or leave it alone in the checkpoint."""
        model: Any = bare_model(runner.model)
        if isinstance(model, Distilled):
            checkpoint['meta']['teacher'] = dict(model.distillation.teacher.source)
        student = student_weights(checkpoint['state_dict'])
        if 'optimizer' not in checkpoint:
            checkpoint['state_dict'] = student
            return
        content = {'meta': to_loadable(checkpoint['meta'], 'meta', []), 'state_dict': student}
        with atomic_write(Path(runner.work_dir) / 'student_last.pth') as path:
            torch.save(content, path)
