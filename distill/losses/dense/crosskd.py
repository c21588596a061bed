"""CrossKD: what the teacher's own head makes of the student's features is compared with what it makes of its own.

The functions here are those of the comparison, on predictions that are already there; who lets which features through
whose head is a matter of the detector (`distill.downstream.dense_terms`). The student's own last layers get no gradient
from them.

Source: Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024. The parts of
the form for two stages are in `distill.losses.dense.regions`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.dense.precision import in_full_precision

AVG_FACTOR_EPS = torch.finfo(torch.float32).eps
"""mmdet adds this to the number that a weighted sum is divided by."""


@in_full_precision
def align_scale(student: Tensor, teacher: Tensor, eps: float = 1e-6) -> Tensor:
    """The student's map with the mean and the deviation of the teacher's, per channel over positions and images.

    (s − mean_s) / (std_s + eps) · std_t + mean_t, with n − 1 in the denominator. A constant channel of the student
    becomes the teacher's mean, without a gradient.

    Args:
        student: Student's map [N, C, H, W].
        teacher: Teacher's map [N, C, H, W].
        eps: Added to the deviation.

    Returns:
        Map [N, C, H, W].
    """
    (std_s, mean_s), (std_t, mean_t) = (torch.std_mean(x, dim=(0, 2, 3), keepdim=True) for x in (student, teacher))
    standardised = torch.where(std_s > eps, (student - mean_s) / (std_s + eps), 0.0)
    return standardised * std_t + mean_t


@in_full_precision
def quality_focal(
    cross: Tensor, teacher: Tensor, weight: Tensor, avg_factor: float | Tensor, beta: float = 1.0
) -> Tensor:
    """Binary cross entropy with the teacher's scores, focused on where they differ.

    Σ w BCE(σ(cross), y) abs(σ(cross) − y)^β / avg_factor with y = σ(teacher), a sum over anchors and classes. The focal
    factor has a gradient. At equal logits it is 0.

    Args:
        cross: Logits of the teacher's head on the student's features [A, K].
        teacher: Logits of the teacher's head on its own [A, K].
        weight: Weight of each anchor [A].
        avg_factor: What the sum is divided by, as of the detector's own classification loss.
        beta: β, exponent of the focal factor.

    Returns:
        Scalar, in nats.
    """
    target = teacher.sigmoid()
    focus = (cross.sigmoid() - target).abs().pow(beta)
    each = F.binary_cross_entropy_with_logits(cross, target, reduction='none') * focus
    return (each.sum(dim=1) * weight).sum() / (avg_factor + AVG_FACTOR_EPS)


@in_full_precision
def bins_kl(
    cross: Tensor, teacher: Tensor, weight: Tensor, avg_factor: float | Tensor, temperature: float = 1.0
) -> Tensor:
    """KL divergence over the bins of a box side: T² Σ w KL(softmax(teacher/T) ‖ softmax(cross/T)) / avg_factor.

    A sum over bins: mmdet's own KL loss takes their mean and is as many times smaller as there are bins.

    Args:
        cross: Logits of the bins from the student's features [A, B].
        teacher: Logits of the bins from the teacher's own [A, B].
        weight: Weight of each row [A].
        avg_factor: What the sum is divided by.
        temperature: T; divides both logits.

    Returns:
        Scalar, in nats.
    """
    log_p, log_q = (F.log_softmax(z / temperature, dim=1) for z in (cross, teacher))
    each = F.kl_div(log_p, log_q, reduction='none', log_target=True).sum(dim=1) * temperature**2
    return (each * weight).sum() / (avg_factor + AVG_FACTOR_EPS)


@in_full_precision
def giou(cross: Tensor, teacher: Tensor, weight: Tensor, avg_factor: float | Tensor, eps: float = 1e-6) -> Tensor:
    """Generalised IoU of boxes: Σ w (1 − GIoU) / avg_factor, between 0 and 2 a box.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019.

    Args:
        cross: Boxes from the student's features [A, 4] as (x1, y1, x2, y2) in pixels.
        teacher: Boxes from the teacher's own [A, 4].
        weight: Weight of each box [A].
        avg_factor: What the sum is divided by.
        eps: Smallest area that is divided by.

    Returns:
        Scalar.
    """

    def area(corners: tuple[Tensor, Tensor]) -> Tensor:
        return (corners[1] - corners[0]).clamp(min=0).prod(dim=1)

    (from_s, to_s), (from_t, to_t) = cross.split(2, dim=1), teacher.split(2, dim=1)
    overlap = area((torch.maximum(from_s, from_t), torch.minimum(to_s, to_t)))
    union = (area((from_s, to_s)) + area((from_t, to_t)) - overlap).clamp(min=eps)
    hull = area((torch.minimum(from_s, from_t), torch.maximum(to_s, to_t))).clamp(min=eps)
    each = 1 - (overlap / union - (hull - union) / hull)
    return (each * weight).sum() / (avg_factor + AVG_FACTOR_EPS)
