"""Losses on a segmenter's logits, pixel by pixel."""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.dense.precision import in_full_precision
from distill.losses.logits import dist


@in_full_precision
def pixel_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0, keep: Tensor | None = None) -> Tensor:
    """KL divergence from the teacher's classes: T² mean over images and pixels of Σ_k q_k (log q_k − log p_k).

    The sum over classes is a sum: public code that takes torch's mean over all elements (TorchDistiller, with a weight
    of 10) is as many times smaller as there are classes, and leaves out T².

    Source: Hinton et al., 2015, at each pixel, as in the public code of Yang et al., "Cross-Image Relational Knowledge
    Distillation for Semantic Segmentation", CVPR 2022, where T and the weight are 1.

    Args:
        student: Student's logits [N, K, H, W].
        teacher: Teacher's logits [N, K, H, W].
        temperature: T; divides both logits.
        keep: Pixels that count [N, H, W], bool; the mean is over these. All count by default; 0 where none does.

    Returns:
        Scalar, in nats.
    """
    log_p, log_q = (F.log_softmax(z / temperature, dim=1) for z in (student, teacher))
    divergence = F.kl_div(log_p, log_q, reduction='none', log_target=True).sum(dim=1)
    if keep is None:
        return divergence.mean() * temperature**2
    return (divergence * keep).sum() / keep.sum().clamp(min=1) * temperature**2


@in_full_precision
def pixel_dist(
    student: Tensor,
    teacher: Tensor,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    keep: Tensor | None = None,
) -> Tensor:
    """Correlation with the teacher's classes, `distill.losses.logits.dist` with every pixel of the batch as a row.

    β weighs the correlation over the classes of a pixel, γ that over all pixels of the batch (on this process) for one
    class. mmrazor's class does not flatten maps and correlates over the images at each pixel instead.

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, with a weight of 1 on
    the main logits and of 0.4 on those of the auxiliary head.

    Args:
        student: Student's logits [N, K, H, W].
        teacher: Teacher's logits [N, K, H, W].
        beta: Weight of the relation between classes.
        gamma: Weight of the relation within a class.
        temperature: T; divides both logits.
        keep: Pixels that are rows [N, H, W], bool; all by default.

    Returns:
        Scalar.
    """
    rows = (z.permute(0, 2, 3, 1).flatten(0, 2) for z in (student, teacher))
    if keep is not None:
        rows = (z[keep.flatten()] for z in rows)
    return dist(*rows, beta=beta, gamma=gamma, temperature=temperature)
