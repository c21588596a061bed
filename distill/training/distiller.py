"""Teacher and student in one mmengine model."""

from collections.abc import Sequence

import torch
from mmengine.registry import MODELS
from torch import Tensor

from distill.base.forward import compiled, layer_channels
from distill.losses.terms import build_losses
from distill.teachers.build import build_teacher
from distill.teachers.protocol import Prediction, Teacher
from distill.training.student import StudentModel, repeated


@MODELS.register_module()
class Distiller(StudentModel):
    """A student that learns from labels, from a teacher, or from both.

    A student with a distillation token (timm's ``*_distilled`` models) trains that token with the teacher, see
    `distill.losses.terms`; without a teacher it trains the mean of its two predictions.

    Where the data set makes corrupted copies of its views (``corrupt``), the student sees the copies and the teacher
    the views themselves, so that the student learns to answer as the teacher does on clean images; a loss that compares
    the two (``jsd_cross_entropy``) has the student see both. Without a teacher the corruption is an augmentation.

    Args:
        student: Arguments of `backbones.checkpoint.build_model`.
        teacher: The same for the teacher, or for a cache of its predictions or several teachers see
            `distill.teachers.build.build_teacher`; None trains on labels alone.
        losses: Terms of the loss, see `distill.losses.terms.WeightedLoss`.
        data_preprocessor: Config of a `distill.data.preprocessor.ViewPreprocessor`.
        compile: Whether to compile student and teacher, or options of `torch.compile`. In place of mmengine's own key
            of that name, which would compile mixing and optimizer with them.
        sync_bn: See `StudentModel`.
        cut_kernels: See `StudentModel`.

    Attributes:
        teacher: The teacher, which is no submodule, or None.
        losses: Terms of the loss, with their projectors.

    Raises:
        ValueError: A loss needs a teacher and there is none; a teacher serves no loss or cannot give what a loss
            needs; or the two do not have the same number of classes.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict | Sequence[dict] | None = None,
        losses: Sequence[dict] = (dict(type='cross_entropy'),),
        data_preprocessor: dict | None = None,
        compile: bool | dict = False,
        sync_bn: bool = False,
        cut_kernels: bool = False,
    ):
        super().__init__(student, data_preprocessor, sync_bn, cut_kernels)
        self.predict = compiled(compile)
        self.losses = build_losses(losses)
        self._check_mixing()
        self.teacher: Teacher | None = self._build_teacher(teacher, compile)
        if self.teacher is not None and hasattr(self.student, 'set_distilled_training'):
            self.student.set_distilled_training(True)
        pairs = [pair for loss in self.losses for pair in loss.layers]
        self.student_layers, self.teacher_layers = sorted({s for s, _ in pairs}), sorted({t for _, t in pairs})

    def _check_mixing(self) -> None:
        """Check that the labels which mixing makes are labels that the losses take."""
        mixup = getattr(self.data_preprocessor, 'mixup', None)
        if mixup is None:
            return
        for place, loss in enumerate(self.losses):
            if loss.kind == 'cross_entropy' and loss.options.get('label_smoothing'):
                raise ValueError(
                    f'{loss.name} smooths labels, which mixing has made probabilities; set model.losses.{place}'
                    '.label_smoothing=0, and model.data_preprocessor.mixup.label_smoothing in its place'
                )
            if loss.needs_clean:
                raise ValueError(
                    f'{loss.name} takes labels, which mixing has made probabilities; drop '
                    'model.data_preprocessor.mixup, or take cross_entropy in its place'
                )

    def _build_teacher(self, config: dict | Sequence[dict] | None, compile: bool | dict) -> Teacher | None:
        """Build the teacher that the losses need, and connect the losses that compare feature maps to its layers."""
        needing = [loss for loss in self.losses if loss.needs_teacher]
        names = ', '.join(loss.name for loss in needing)
        if needing and config is None:
            raise ValueError(f'{names} needs a teacher and model.teacher is None; name one or drop it')
        if config is None:
            return None
        if not needing:
            raise ValueError('model.teacher serves no loss; add soft_target_kl or hard_label to model.losses')
        teacher = build_teacher(config, compile)
        if teacher.num_classes != self.student.num_classes:
            raise ValueError(
                f'the teacher has {teacher.num_classes} classes and the student {self.student.num_classes}; '
                'both must be trained for the same classes'
            )
        for loss in needing:
            if loss.needs_all_classes and not teacher.exact:
                raise ValueError(
                    f'{loss.name} softens or standardises logits and the teacher does not know those of all classes; '
                    'set temperature=1.0, cache all classes or use the teacher itself'
                )
            if loss.layers:
                teacher_chs = teacher.layer_channels()
                if not teacher_chs:
                    raise ValueError(
                        f'{loss.name} compares feature maps, which only a single teacher that runs itself has; drop '
                        'the loss, or the cache and the other teachers'
                    )
                loss.connect(layer_channels(self.student, 'student'), teacher_chs)
        return teacher

    @property
    def all_teachers(self) -> list[Teacher]:
        """The teacher, if there is one."""
        teacher = getattr(self, 'teacher', None)
        return [] if teacher is None else [teacher]

    def forward(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        keys: Tensor | None = None,
        corrupted: Tensor | None = None,
        mode: str = 'tensor',
    ):
        """Run the student, and in ``loss`` mode the teacher beside it.

        Args:
            images: Normalised views [B, 3, H, W].
            targets: Labels [B], or probabilities [B, K].
            keys: Index and view of each image [B, 2], by which a cache finds the teacher's predictions.
            corrupted: Corrupted copies of the views [copies · B, 3, H, W], which the student sees in ``loss`` mode.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: the terms by name. ``predict``: one dict with ``logits`` [B, K] and ``targets``, in a list.
            ``tensor``: logits [B, K].
        """
        prediction: Prediction | None = None
        # The teacher first: the memory of its activations is free again when the student's pile up.
        if mode == 'loss' and self.teacher is not None:
            prediction = self.teacher(self.data_preprocessor.view_batch(images, keys), self.teacher_layers)
        shown, clean = images, 0
        if mode == 'loss':
            needing = [loss.name for loss in self.losses if loss.needs_clean]
            if needing and corrupted is None:
                raise ValueError(
                    f'{needing[0]} compares views with corrupted copies and there are none; set '
                    'train_dataloader.dataset.corrupt'
                )
            if corrupted is not None:
                clean = len(images) if needing else 0
                shown = torch.cat([images, corrupted]) if needing else corrupted
        logits, maps = self.predict(self.student, shown, self.student_layers if mode == 'loss' else ())
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            return [dict(logits=logits.float(), targets=targets)]
        by_label, by_teacher = logits if isinstance(logits, tuple) else (logits, logits)
        of_all = by_label
        maps = dict(zip(self.student_layers, maps, strict=True))
        teacher_logits, teacher_maps = None, {}
        if prediction is not None:
            teacher_logits = prediction.logits
            teacher_maps = dict(zip(self.teacher_layers, prediction.maps, strict=True))
        if corrupted is not None:
            # What holds for a view holds for each of its copies.
            copies = len(corrupted) // len(images)
            by_label, by_teacher = by_label[clean:], by_teacher[clean:]
            maps = {layer: values[clean:] for layer, values in maps.items()}
            targets = repeated(targets, copies)
            teacher_logits = repeated(teacher_logits, copies)
            teacher_maps = {layer: repeated(values, copies) for layer, values in teacher_maps.items()}
        return {
            loss.name: loss(
                by_teacher if loss.needs_teacher else by_label, targets, teacher_logits, maps, teacher_maps, of_all
            )
            for loss in self.losses
        }
