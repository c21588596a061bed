"""Losses on what a two-stage detector says about proposals and regions of interest (RoIs).

The formulas for RoIs are those of CrossKD's branch for Faster R-CNN (Wang et al., CVPR 2024), for which no figures are
published; there the student's side is what the teacher's head makes of the student's features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.dense.crosskd import AVG_FACTOR_EPS, bins_kl, quality_focal
from distill.losses.dense.precision import in_full_precision


@in_full_precision
def objectness(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    """How much objectness differs: Σ_a BCE(p_a, y_a) abs(p_a − y_a)^β / Σ_a y_a, y = σ(teacher) and p = σ(student).

    A sum over all anchors of all levels and images, divided by how many of them the teacher takes for an object: the
    many clear negatives neither drown the others nor shrink the loss. 0 at equal logits where β > 0. It is
    `quality_focal`, divided by what the teacher says instead of the number of positives that the labels give.

    Args:
        student: Student's logits of the anchors [A].
        teacher: Teacher's logits of the same anchors [A].
        beta: β; larger looks more at the anchors that differ.

    Returns:
        Scalar, in nats.
    """
    return quality_focal(student[:, None], teacher[:, None], torch.ones_like(student), teacher.sigmoid().sum(), beta)


@in_full_precision
def weighted_l1(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute difference of box deltas: Σ w ‖d_student − d_teacher‖₁ / (4 Σ w).

    Args:
        student: Student's deltas [A, 4], as the head gives them (not decoded).
        teacher: Teacher's deltas [A, 4].
        weight: Weight of each box [A].

    Returns:
        Scalar, in deltas; 0 without boxes.
    """
    return ((student - teacher).abs().sum(dim=1) * weight).sum() / (4 * weight.sum() + AVG_FACTOR_EPS)


@in_full_precision
def mask_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL divergence of masks' pixels: T² mean over RoIs and pixels of KL(σ(teacher/T) ‖ σ(student/T)).

    Args:
        student: Student's mask logits of one class a RoI [R, h, w].
        teacher: Teacher's mask logits [R, h, w].
        temperature: T; divides both logits.

    Returns:
        Scalar, in nats; 0 without RoIs.
    """
    student, teacher = student / temperature, teacher / temperature
    target = teacher.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student, target, reduction='sum')
    entropy = F.binary_cross_entropy_with_logits(teacher, target, reduction='sum')
    return (cross_entropy - entropy) / max(student.numel(), 1) * temperature**2


@in_full_precision
def roi_classes(student: Tensor, teacher: Tensor, temperature: float = 3.0) -> Tensor:
    """KL divergence of RoIs' classes, background among them: T² mean over RoIs of Σ_k q_k (log q_k − log p_k).

    The published weight is 0.5.

    Args:
        student: Student's logits [R, K + 1], background last.
        teacher: Teacher's logits of the same RoIs [R, K + 1].
        temperature: T; divides both logits.

    Returns:
        Scalar, in nats; 0 without RoIs.
    """
    rows = max(len(student), 1)
    return bins_kl(student, teacher, student.new_ones(len(student)), rows, temperature)


@in_full_precision
def roi_deltas(student: Tensor, teacher: Tensor, teacher_classes: Tensor) -> Tensor:
    """Distance of RoIs' box deltas: Σ w ‖d_student − d_teacher‖₁ / (4 Σ w), w the teacher's largest probability.

    Only the deltas of the teacher's most probable class that is not background count; they are compared as the head
    gives them, not decoded. The published weight is 1.

    Args:
        student: Student's deltas, [R, 4 K], or [R, 4] where all classes share them.
        teacher: Teacher's deltas of the same RoIs, [R, 4 K] or [R, 4].
        teacher_classes: The teacher's logits of the RoIs [R, K + 1], background last.

    Returns:
        Scalar; 0 without RoIs.
    """
    weight, best = teacher_classes.softmax(dim=1)[:, :-1].max(dim=1)
    return weighted_l1(_of_class(student, best), _of_class(teacher, best), weight)


def _of_class(deltas: Tensor, classes: Tensor) -> Tensor:
    """One class's deltas of each RoI, [R, 4]."""
    if deltas.shape[1] == 4:
        return deltas
    return deltas.unflatten(1, (-1, 4))[torch.arange(len(deltas), device=deltas.device), classes]
