"""Losses that compare a student's answers to a view with those to its corrupted copies."""

from timm.loss import JsdCrossEntropy
from torch import Tensor


def jsd_cross_entropy(
    logits_of_all: Tensor, target: Tensor, views: int, alpha: float = 12.0, label_smoothing: float = 0.0
) -> Tensor:
    """Cross entropy of the clean view, and the Jensen-Shannon divergence of the answers to it and its copies.

    ``CE(p_0, y) + α / n · Σ_i KL(p_i ‖ m)`` with ``m = Σ_i p_i / n``, mean over the batch, in nats.
    Source: Hendrycks et al., "AugMix", ICLR 2020, with two copies; the loss is timm's `JsdCrossEntropy`.

    Args:
        logits_of_all: Logits [n · B, K] of the views, then of their first copies, …
        target: Labels [B].
        views: Number n of the clean view and its copies.
        alpha: Weight α of the divergence.
        label_smoothing: Smoothing of the labels.

    Returns:
        Scalar.
    """
    return JsdCrossEntropy(views, alpha, label_smoothing)(logits_of_all, target)


CONSISTENCY_LOSSES = {'jsd_cross_entropy': jsd_cross_entropy}
