"""Several teachers as one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.protocol import Prediction, Teacher


class Ensemble(Teacher):
    """Several teachers as one: the weighted mean of their probabilities.

    The logits are log Σ_i w_i softmax(z_i): a temperature acts on the mean, not on each teacher. There are no feature
    maps.

    Args:
        teachers: At least one.
        weights: One for each teacher, above 0; they are divided by their sum.

    Raises:
        ValueError: The teachers do not have the same number of classes, or a weight is not above 0.
    """

    def __init__(self, teachers: Sequence[Teacher], weights: Sequence[float]):
        classes = [teacher.num_classes for teacher in teachers]
        if len(set(classes)) > 1:
            raise ValueError(f'the teachers have {", ".join(map(str, classes))} classes; all must have the same')
        if min(weights) <= 0:
            raise ValueError(f'teacher weight {min(weights)} is not above 0; raise it or drop the teacher')
        self.teachers = teachers
        self.weights = [weight / sum(weights) for weight in weights]
        self.num_classes = classes[0]
        self.exact = all(teacher.exact for teacher in teachers)
        self.live = all(teacher.live for teacher in teachers)
        self.source = [
            dict(weight=weight, **teacher.source) for weight, teacher in zip(self.weights, teachers, strict=True)
        ]

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Have every teacher follow the student to a device or a type."""
        for teacher in self.teachers:
            teacher.apply(fn)

    def order_classes(self, dataset: Views) -> None:
        """Have every teacher answer in the order of a data set's classes."""
        for teacher in self.teachers:
            teacher.order_classes(dataset)

    def check_run(self, dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> None:
        """Refuse a run that one of the teachers has no predictions for."""
        for teacher in self.teachers:
            teacher.check_run(dataset, sampler, preprocessor)

    @torch.no_grad()
    def __call__(self, views: ViewBatch, layers: Sequence[int] = ()) -> Prediction:
        """Ask every teacher.

        Raises:
            ValueError: Feature maps are wanted, or a teacher has no prediction for a view.
        """
        if layers:
            raise ValueError(f'several teachers as one give no feature maps (layers {tuple(layers)}); name one teacher')
        logits = [teacher(views).logits.float() for teacher in self.teachers]
        log_weights = logits[0].new_tensor(self.weights).log().view(-1, 1, 1)
        return Prediction((torch.stack(logits).log_softmax(dim=2) + log_weights).logsumexp(dim=0))
