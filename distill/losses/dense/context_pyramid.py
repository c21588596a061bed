"""HCL: differences at several resolutions.

Source: Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, whose fusion of levels is left out.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from distill.losses.dense.precision import in_full_precision


@in_full_precision
def hcl(student: Tensor, teacher: Tensor, pool_sizes: Sequence[int] = (4, 2, 1)) -> Tensor:
    """Weighted mean of squared differences of a map and of its average-pooled versions.

    (MSE(s, t) + ½ MSE(pool₄) + ¼ MSE(pool₂) + ⅛ MSE(pool₁)) / (1 + ½ + ¼ + ⅛), each a mean over all elements; a pooled
    size that the map's height does not exceed is left out, and so is its weight.

    Args:
        student: Student's map [N, C, H, W].
        teacher: Teacher's map [N, C, H, W].
        pool_sizes: Heights and widths of the pooled maps, from the finest.

    Returns:
        Scalar.
    """
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for size in pool_sizes:
        if size < student.shape[2]:
            weight /= 2
            pooled = (F.adaptive_avg_pool2d(x, size) for x in (student, teacher))
            total, weights = total + weight * F.mse_loss(*pooled), weights + weight
    return total / weights
