"""SKD: pixels alone, and how alike pairs of regions are.

Source: Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019, and the public code
(https://github.com/irfanICMLL/structure_knowledge_distillation). Its adversarial term is left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.dense.precision import in_full_precision


@in_full_precision
def skd_pixel(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy with the teacher's classes: −Σ over images, pixels and classes of q log p, divided by H·W.

    As in the public code it is not divided by N, so that it grows with the batch, and it is a cross entropy: at an
    equal student it is the teacher's entropy, not 0. The published weight is 10. `pixel_kl` is the same gradient as a
    mean over images, and 0 at an equal student.

    Args:
        student: Student's logits [N, K, H, W].
        teacher: Teacher's logits [N, K, H, W].

    Returns:
        Scalar, in nats.
    """
    log_p = F.log_softmax(student, dim=1)
    return -(teacher.softmax(dim=1) * log_p).sum() / student[0, 0].numel()


@in_full_precision
def skd_pairwise(student: Tensor, teacher: Tensor, scale: float = 0.5) -> Tensor:
    """Squared difference of affinities between regions: mean over images and pairs of regions of (a_s − a_t)².

    A region is `scale` of the map's height and width, max-pooled (rounded up at the border): a half leaves 2×2 regions,
    3×3 on a map of odd size, although the paper speaks of 2×2 *cells* and of average pooling. The affinity of two
    regions is the product of their vectors over channels, each divided by its length + 1e-8 (no gradient goes through
    the length). The published script has a weight of 0.5, on the output of the head's pyramid pooling.

    Args:
        student: Student's map [N, C, H, W].
        teacher: Teacher's map [N, C', H, W]; the widths may differ.
        scale: Size of a region as a share of the map.

    Returns:
        Scalar.
    """
    kernel = tuple(max(int(scale * side), 1) for side in student.shape[2:])
    return F.mse_loss(_affinities(student, kernel, False), _affinities(teacher, kernel, False))


@in_full_precision
def skd_patches(student: Tensor, teacher: Tensor, patch: int = 2) -> Tensor:
    """Squared difference of affinities between small patches: mean over images and pairs of patches of (a_s − a_t)².

    As `skd_pairwise`, with patches of a few cells and with a gradient through the length of the vectors. Memory grows
    with the square of the number of patches. Source: the form of CIRKD (Yang et al., CVPR 2022), with a weight of 10.

    Args:
        student: Student's map [N, C, H, W].
        teacher: Teacher's map [N, C', H, W]; the widths may differ.
        patch: Height and width of a patch in cells.

    Returns:
        Scalar.
    """
    return F.mse_loss(_affinities(student, (patch, patch), True), _affinities(teacher, (patch, patch), True))


def _affinities(x: Tensor, kernel: tuple[int, ...], through_length: bool) -> Tensor:
    vectors = F.max_pool2d(x, kernel, kernel, ceil_mode=True).flatten(2)
    if through_length:
        vectors = F.normalize(vectors, dim=1)
    else:
        vectors = vectors / (vectors.detach().norm(dim=1, keepdim=True) + 1e-8)
    return torch.einsum('ncp,ncq->npq', vectors, vectors)
