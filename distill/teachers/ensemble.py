"""Several teachers as one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.teachers.live import Teacher


class Ensemble:
    """Several teachers as one: the weighted mean of their probabilities.

    Its logits are log Σ_i w_i softmax(z_i): a temperature acts on the mean, not on each teacher.

    Args:
        teachers: At least one.
        weights: One each, above 0; they are divided by their sum.

    Raises:
        ValueError: The teachers do not have the same number of classes, or a weight is not above 0.
    """

    features = False

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
        self.source = [
            dict(weight=weight, **teacher.source) for weight, teacher in zip(self.weights, teachers, strict=True)
        ]

    def apply(self, fn) -> None:
        """Follow the student to a device or type."""
        for teacher in self.teachers:
            teacher.apply(fn)

    def __deepcopy__(self, memo) -> 'Ensemble':
        return self

    @torch.no_grad()
    def __call__(
        self, images: Tensor, mean: Tensor, std: Tensor, keys: Tensor | None = None, layers: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Predict on the student's view, see `Teacher.__call__`; there are no feature maps."""
        logits = [teacher(images, mean, std, keys)[0].float() for teacher in self.teachers]
        log_weights = logits[0].new_tensor(self.weights).log().view(-1, 1, 1)
        return (torch.stack(logits).log_softmax(dim=2) + log_weights).logsumexp(dim=0), []
