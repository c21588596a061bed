"""Teacher and student in one mmengine model."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from timm.data import Mixup
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from backbones.checkpoint import build_model
from distill.losses import WeightedLoss
from distill.teacher import Teacher


@MODELS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """From a batch of decoded views to what a model sees: one tensor for teacher and student alike.

    Normalises, then in training erases and mixes, on the device and for the whole batch.

    Args:
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        random_erasing: Probability of timm's random erasing, with per-pixel noise.
        mixup: Arguments of timm's `Mixup`; ``num_classes`` among them. The labels become probabilities.
        channels_last: Memory format of the result.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
        random_erasing: float = 0.0,
        mixup: dict | None = None,
        channels_last: bool = True,
    ):
        super().__init__(non_blocking=True)
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.random_erasing = random_erasing
        self.mixup = Mixup(**mixup) if mixup else None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: Sequence[Tensor], training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: Views [B, 3, H, W] in uint8, and labels [B].
            training: Erase and mix.

        Returns:
            ``images``: normalised [B, 3, H, W]; ``targets``: labels [B], or probabilities [B, K] if mixed.
        """
        images, targets = self.cast_data(data)
        images = images.to(memory_format=self.memory_format).float().div_(255).sub_(self.mean).div_(self.std)
        if training:
            if self.random_erasing:
                RandomErasing(self.random_erasing, mode='pixel', device=str(images.device))(images)
            if self.mixup is not None:
                images, targets = self.mixup(images, targets)
        return dict(images=images, targets=targets)


@MODELS.register_module()
class Distiller(BaseModel):
    """A student that learns from labels, from a teacher, or from both.

    Args:
        student: Arguments of `backbones.checkpoint.build_model`.
        teacher: The same for the teacher; None trains on labels alone.
        losses: Terms of the loss, see `distill.losses.WeightedLoss`.
        data_preprocessor: Config of a `ViewPreprocessor`.

    Raises:
        ValueError: A loss needs a teacher and there is none; a teacher serves no loss; or the two do not have the
            same number of classes.
    """

    def __init__(
        self,
        student: dict,
        teacher: dict | None = None,
        losses: Sequence[dict] = (dict(type='cross_entropy'),),
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor or dict(type='ViewPreprocessor'))
        self.student = build_model(**student)
        self.student_config = dict(student)
        if self.data_preprocessor.memory_format is torch.channels_last:
            self.student = self.student.to(memory_format=torch.channels_last)
        self.losses = [WeightedLoss(**loss) for loss in losses]
        needing = [loss.name for loss in self.losses if loss.needs_teacher]
        if needing and teacher is None:
            raise ValueError(f'{", ".join(needing)} needs a teacher and model.teacher is None; name one or drop it')
        if teacher is not None and not needing:
            raise ValueError('model.teacher serves no loss; add soft_target_kl or hard_label to model.losses')
        self.teacher = Teacher(**teacher) if teacher is not None else None
        if self.teacher is not None and self.teacher.num_classes != self.student.num_classes:
            raise ValueError(
                f'the teacher has {self.teacher.num_classes} classes and the student {self.student.num_classes}; '
                'both must be trained for the same classes'
            )

    def init_weights(self) -> None:
        """Keep the weights: timm has initialised them, or a checkpoint was loaded."""
        self._is_init = True

    def _apply(self, fn, *args, **kwargs):
        if getattr(self, 'teacher', None) is not None:
            self.teacher.apply(fn)
        return super()._apply(fn, *args, **kwargs)

    def forward(self, images: Tensor, targets: Tensor | None = None, mode: str = 'tensor'):
        """Run the student, and in ``loss`` mode the teacher beside it.

        Args:
            images: Normalised views [B, 3, H, W].
            targets: Labels [B], or probabilities [B, K].
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: the terms by name. ``predict``: one dict with ``logits`` [B, K] and ``targets``, in a list.
            ``tensor``: logits [B, K].
        """
        logits = self.student(images)
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            return [dict(logits=logits.float(), targets=targets)]
        teacher_logits = None
        if self.teacher is not None:
            preprocessor = self.data_preprocessor
            teacher_logits = self.teacher(images, preprocessor.mean, preprocessor.std)
        return {loss.name: loss(logits, targets, teacher_logits) for loss in self.losses}
