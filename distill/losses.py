"""Distillation losses: pure functions of tensors.

All are means over the batch, in nats, computed in fp32 whatever the inputs' type. ``LOSSES`` names them for
configs; each entry tells whether its target is the label or the teacher's logits.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy with labels: −Σ_k y_k log p_k.

    Args:
        logits: Student's logits [B, K].
        target: Labels [B], or probabilities [B, K] as mixing makes them.
        label_smoothing: Share of each label that is spread evenly; must be 0 for probabilities, which timm's mixing
            smooths itself.

    Returns:
        Scalar.
    """
    return F.cross_entropy(logits.float(), target, label_smoothing=label_smoothing)


def soft_target_kl(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence from the teacher's softened prediction: T² Σ_k q_k (log q_k − log p_k).

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2; T² keeps the gradient's
    size independent of T.

    Args:
        logits: Student's logits [B, K].
        teacher_logits: Teacher's logits [B, K].
        temperature: T; divides both logits.

    Returns:
        Scalar, summed over classes, mean over the batch.
    """
    log_p = F.log_softmax(logits.float() / temperature, dim=1)
    log_q = F.log_softmax(teacher_logits.float() / temperature, dim=1)
    return F.kl_div(log_p, log_q, reduction='batchmean', log_target=True) * temperature**2


def hard_label(logits: Tensor, teacher_logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy with the teacher's decision as label.

    Source: Touvron et al., "Training data-efficient image transformers", ICML 2021, equation 3.

    Args:
        logits: Student's logits [B, K].
        teacher_logits: Teacher's logits [B, K].
        label_smoothing: Share of the decision that is spread evenly over all classes.

    Returns:
        Scalar.
    """
    return F.cross_entropy(logits.float(), teacher_logits.argmax(dim=1), label_smoothing=label_smoothing)


LABEL_LOSSES: dict[str, Callable[..., Tensor]] = {'cross_entropy': cross_entropy}
TEACHER_LOSSES: dict[str, Callable[..., Tensor]] = {
    'soft_target_kl': soft_target_kl,
    'hard_label': hard_label,
}


class WeightedLoss:
    """One term of a weighted sum, as a config writes it: ``dict(type='soft_target_kl', weight=1.0, temperature=2.0)``.

    Args:
        type: A name of ``LABEL_LOSSES`` or ``TEACHER_LOSSES``.
        weight: Factor of the term.
        **options: Arguments of the function.

    Raises:
        ValueError: The name is unknown.
    """

    def __init__(self, type: str, weight: float = 1.0, **options):
        functions = {**LABEL_LOSSES, **TEACHER_LOSSES}
        if type not in functions:
            raise ValueError(f"loss '{type}' is unknown; choose from {', '.join(functions)}")
        self.name = f'loss_{type}'
        self.needs_teacher = type in TEACHER_LOSSES
        self.weight = weight
        self.function = functions[type]
        self.options = options

    def __call__(self, logits: Tensor, label: Tensor, teacher_logits: Tensor | None) -> Tensor:
        """Weighted loss of logits [B, K] against labels or the teacher's logits, outside autocast."""
        with torch.autocast(logits.device.type, enabled=False):
            target = teacher_logits if self.needs_teacher else label
            return self.weight * self.function(logits, target, **self.options)
