"""What every model has that trains a student: the student itself, its weights, and teachers that follow it."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from torch import Tensor

from backbones.checkpoint import build_model, resolve_model
from backbones.layers.average_pool import mend_average_pools
from backbones.layers.depthwise import speed_up_depthwise
from backbones.layers.small_maps import speed_up_pointwise
from distill.data.preprocessor import ViewPreprocessor
from distill.teachers.protocol import Companion
from distill.training.batch_norm import share_statistics


class StudentModel(BaseModel):
    """A student, and teachers beside it that are no submodules.

    Args:
        student: Arguments of `backbones.checkpoint.build_model`.
        data_preprocessor: Config of a `distill.data.preprocessor.ViewPreprocessor`.
        sync_bn: Let all processes share the statistics of the student's batch norms: n of them then do what one does
            with n times the batch. In place of mmengine's own key of that name, which drops the activations of timm's
            norms.
        cut_kernels: Train the student in half the time on a CPU where maps are small, as on images of 32 pixels, and
            rounded otherwise: no part of a depthwise kernel is computed that meets padding only, and convolutions over
            a few pixels are products (`backbones.layers.small_maps`).

    Attributes:
        student: The timm model.
        student_config: Arguments that built the student.
        student_record: What the student is, without its weights.
        classifies: Whether the student learns classes; otherwise it has no order of them, and labels are not looked at.
    """

    classifies = True

    def __init__(
        self,
        student: dict,
        data_preprocessor: dict | None = None,
        sync_bn: bool = False,
        cut_kernels: bool = False,
    ):
        super().__init__(data_preprocessor or ViewPreprocessor())
        self.student = speed_up_depthwise(build_model(**student, new_head=True), cut_kernels)
        mend_average_pools(self.student)
        if cut_kernels:
            speed_up_pointwise(self.student)
        if sync_bn:
            self.student = share_statistics(self.student)
        self.student_config = dict(student)
        self.student_record = resolve_model(**student)
        if self.data_preprocessor.memory_format is torch.channels_last:
            self.student = self.student.to(memory_format=torch.channels_last)

    @property
    def all_teachers(self) -> Sequence[Companion]:
        """The teachers of the student, none or some."""
        return ()

    def init_weights(self) -> None:
        """Keep the weights, which timm has initialised or a checkpoint has given.

        mmengine calls this when training starts, and would initialise the layers of the student anew.
        """
        self._is_init = True

    def _apply(self, fn, *args, **kwargs):
        for teacher in self.all_teachers:
            teacher.apply(fn)
        return super()._apply(fn, *args, **kwargs)


def repeated(values: Tensor | None, times: int) -> Tensor | None:
    """Values [B, …] once for each copy of their views [times · B, …]; None stays None."""
    if values is None or times == 1:
        return values
    return values.repeat(times, *[1] * (values.ndim - 1))
