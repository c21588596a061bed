"""One batch of views as student and teacher see it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ViewBatch:
    """Views that are normalised, mixed and erased, with what a teacher needs to understand them.

    `distill.data.preprocessor.ViewPreprocessor.view_batch` makes it. Mean and standard deviation travel with the
    images because a teacher may need others: it undoes the student's normalisation and applies its own.

    Attributes:
        images: Normalised views [B, 3, H, W].
        mean: Mean that was subtracted [1, 3, 1, 1], of values in [0, 1]. The same tensor in every batch of a run, so
            that a teacher compares it with its own once and not in each step.
        std: Standard deviation that was divided by [1, 3, 1, 1], of values in [0, 1].
        keys: Index and view of each image [B, 2] on the CPU, which tell the views of a training set apart; None for
            images from elsewhere.
    """

    images: Tensor
    mean: Tensor
    std: Tensor
    keys: Tensor | None = None
