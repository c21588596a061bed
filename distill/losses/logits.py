"""Losses on logits.

They are pure functions of tensors: means over the batch, in nats, computed in fp32 from inputs of any type. A constant
that is added to all logits of an image changes none of them, so that a teacher may also give log-probabilities.
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
        label_smoothing: Share of each label that is spread evenly over all classes; must be 0 for probabilities,
            which timm's mixing smooths itself.

    Returns:
        Scalar, mean over the batch.
    """
    return F.cross_entropy(logits.float(), target, label_smoothing=label_smoothing)


def standardised(logits: Tensor) -> Tensor:
    """Logits minus their mean over the classes, divided by their standard deviation (K − 1 in the denominator).

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, and its public code
    (https://github.com/sunshangquan/logit-standardization-KD), which adds 1e-7 to the deviation.

    Args:
        logits: Logits [B, K].

    Returns:
        Standardised logits [B, K].
    """
    deviation, mean = torch.std_mean(logits, dim=1, keepdim=True)
    return (logits - mean) / (deviation + 1e-7)


def soft_target_kl(
    logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, standardise: bool = False
) -> Tensor:
    """KL divergence from the teacher's softened prediction: T² Σ_k q_k (log q_k − log p_k).

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2; T² keeps the gradient's
    size independent of T.

    Args:
        logits: Student's logits [B, K].
        teacher_logits: Teacher's logits [B, K].
        temperature: T; divides both logits.
        standardise: Standardise both logits first, see `standardised`; published with T = 2 and a weight of 9.

    Returns:
        Scalar, summed over classes, mean over the batch.
    """
    log_p, log_q = (_log_softmax(z, temperature, standardise) for z in (logits, teacher_logits))
    return F.kl_div(log_p, log_q, reduction='batchmean', log_target=True) * temperature**2


def hard_label(logits: Tensor, teacher_logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy with the teacher's decision as the label: −log p_k with k = argmax_k q_k.

    Source: Touvron et al., "Training data-efficient image transformers", ICML 2021, equation 3.

    Args:
        logits: Student's logits [B, K].
        teacher_logits: Teacher's logits [B, K].
        label_smoothing: Share of the decision that is spread evenly over all classes.

    Returns:
        Scalar, mean over the batch.
    """
    return F.cross_entropy(logits.float(), teacher_logits.argmax(dim=1), label_smoothing=label_smoothing)


def dkd(
    logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    standardise: bool = False,
) -> Tensor:
    """Decoupled distillation: T² (α KL(target or not) + β KL(among the other classes)).

    Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, and its public code
    (https://github.com/megvii-research/mdistiller). The defaults are those for CIFAR-100; for ImageNet α = 1,
    β = 0.5, T = 1. Its linear warm-up of the weight over the first epochs is left out.

    Args:
        logits: Student's logits [B, K].
        teacher_logits: Teacher's logits [B, K].
        target: Labels [B], or probabilities [B, K], of which the largest is taken as the target class.
        alpha: Weight of the binary divergence between target class and the rest.
        beta: Weight of the divergence between the distributions over the other classes.
        temperature: T; divides both logits.
        standardise: Standardise both logits first, see `standardised`.

    Returns:
        Scalar, summed over classes, mean over the batch.
    """
    target = target.argmax(dim=1) if target.ndim == 2 else target
    is_target = F.one_hot(target, logits.shape[1]).bool()
    log_p, log_q = (_log_softmax(z, temperature, standardise) for z in (logits, teacher_logits))

    def split(log_prob: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of (target, rest) [B, 2], and those within the rest [B, K] with 0 at the target."""
        rest = log_prob.masked_fill(is_target, -torch.inf).logsumexp(dim=1, keepdim=True)
        both = torch.cat([log_prob.gather(1, target[:, None]), rest], dim=1)
        return both, (log_prob - rest).masked_fill(is_target, 0.0)

    (both_p, others_p), (both_q, others_q) = split(log_p), split(log_q)
    target_kl = (both_q.exp() * (both_q - both_p)).sum(dim=1)
    others_kl = (others_q.exp() * (others_q - others_p)).sum(dim=1)
    return (alpha * target_kl + beta * others_kl).mean() * temperature**2


def dist(
    logits: Tensor, teacher_logits: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """Correlation with the teacher: T² (β (1 − mean_b ρ over classes) + γ (1 − mean_k ρ over images)).

    ρ is Pearson's correlation of the two softened predictions: of the classes of one image, and of the images of
    the batch (on this process) for one class.

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, and its
    public code (https://github.com/hunto/image_classification_sota), which gives the term a weight of 2 beside the
    labels' 1, T = 1 on ImageNet and 4 on CIFAR-100.

    Args:
        logits: Student's logits [B, K].
        teacher_logits: Teacher's logits [B, K].
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
        temperature: T; divides both logits.

    Returns:
        Scalar.
    """
    p, q = (logits.float() / temperature).softmax(dim=1), (teacher_logits.float() / temperature).softmax(dim=1)
    between, within = _pearson(p, q, dim=1).mean(), _pearson(p, q, dim=0).mean()
    return (beta * (1 - between) + gamma * (1 - within)) * temperature**2


def _log_softmax(logits: Tensor, temperature: float, standardise: bool) -> Tensor:
    logits = logits.float()
    return F.log_softmax((standardised(logits) if standardise else logits) / temperature, dim=1)


def _pearson(x: Tensor, y: Tensor, dim: int) -> Tensor:
    x, y = x - x.mean(dim, keepdim=True), y - y.mean(dim, keepdim=True)
    return (x * y).sum(dim) / (x.norm(dim=dim) * y.norm(dim=dim) + 1e-8)


LOGIT_LOSSES: dict[str, Callable[..., Tensor]] = {
    'cross_entropy': cross_entropy,
    'soft_target_kl': soft_target_kl,
    'hard_label': hard_label,
    'dkd': dkd,
    'dist': dist,
}
