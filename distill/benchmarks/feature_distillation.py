"""A step of feature distillation against timm's `FeatureDistillationTask`: pooled embeddings, mean squared error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config
from timm.task import DistillationTeacher, FeatureDistillationTask
from torch import nn

from distill.benchmarks.distillation import Settings
from distill.data.batch import ViewBatch
from distill.teachers.cache.feature_writer import FeatureWriter
from distill.teachers.cached_features import CachedFeatures

NAME = 'teacher'


@dataclass(frozen=True)
class FeatureSettings(Settings):
    """What all variants of a feature distillation share.

    timm's task trains a classifier beside the projection, whose loss is given no weight here; the students of this
    project have no classifier, and neither have the teachers.
    """

    teacher: Mapping = field(
        default_factory=lambda: dict(model='deit_small_patch16_224', pretrained=False, num_classes=0)
    )

    def config(self, teacher: Mapping) -> Config:
        """A training config: the views of the ImageNet recipes without mixing, on embedded images."""
        losses = [dict(type='mse', on='pooled', head='linear', standardise=False)]
        return self.with_views(
            dict(
                type='FeatureDistiller',
                student=dict(self.student),
                teachers=[dict(teacher, name=NAME, losses=losses)],
                data_preprocessor=dict(type='ViewPreprocessor', random_erasing=0.25),
            )
        )

    def write_cache(self, device: str) -> None:
        """Write the cache of the teacher's embeddings for the views of the images."""
        FeatureWriter(self.config(self.teacher), self.cache, device=device).write()

    def open_cache(self) -> Callable[[ViewBatch], Any]:
        """What answers views out of the cache."""
        teacher = CachedFeatures(NAME, self.cache)
        return lambda views: teacher(views, ('pooled',))

    def task(self, student: nn.Module, teacher: nn.Module) -> nn.Module:
        """timm's task for a student and a teacher."""
        return FeatureDistillationTask(
            student,
            DistillationTeacher(teacher),
            nn.CrossEntropyLoss(),
            distill_loss_weight=1.0,
            task_loss_weight=0.0,
            verbose=False,
        )
