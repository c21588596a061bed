"""PKD: features are to be correlated with the teacher's, whatever their scale.

Source: Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
NeurIPS 2022; every published setting has a weight of 6 (10 for FCOS3D) on the outputs of the FPN but the coarsest.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.dense.precision import in_full_precision

TINY = torch.finfo(torch.float32).tiny
"""Keeps the deviation of a constant channel from being divided by."""


@in_full_precision
def pkd(student: Tensor, teacher: Tensor, resize_student: bool = True, eps: float = 1e-6) -> Tensor:
    """Half the mean squared difference of standardised maps: mean over all elements of (s' − t')² / 2.

    s' is the map minus its channel's mean, divided by its channel's standard deviation plus eps; both over positions
    *and images* of the batch on this process, with n − 1 in the denominator. The value is the mean over channels of
    (1 − r) (n − 1) / n with Pearson's correlation r: between 0 and 2, without unit, and the same for a map of any size.

    Differs from the public code, whose gradient at a channel that is constant is divided by eps (5.8e4 for a small
    map): here such a channel gives the same value and no gradient.

    Args:
        student: Student's map [N, C, H, W].
        teacher: Teacher's map [N, C, H', W'].
        resize_student: Where the sizes differ, the student's map is resized to the teacher's (bilinear, corners not
            aligned); False resizes the teacher's to the student's.
        eps: Added to the standard deviation.

    Returns:
        Scalar.

    Raises:
        ValueError: The batch has a single position, which has no deviation.
    """
    if student.shape[2:] != teacher.shape[2:]:
        if resize_student:
            student = F.interpolate(student, teacher.shape[2:], mode='bilinear', align_corners=False)
        else:
            teacher = F.interpolate(teacher, student.shape[2:], mode='bilinear', align_corners=False)
    if student[:, 0].numel() < 2:
        raise ValueError('pkd needs at least two positions in a batch; leave out the coarsest level or take two images')
    return 0.5 * F.mse_loss(_standardised(student, eps), _standardised(teacher, eps))


def _standardised(x: Tensor, eps: float) -> Tensor:
    # The kernel of batch norms, in a third of the time of a mean, a deviation and a division on a CPU.
    y, _, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, TINY)
    deviation = (x[:, 0].numel() / (x[:, 0].numel() - 1)) ** 0.5 / inverse
    scale = torch.where(deviation > eps, 1 / (inverse * (deviation + eps)), 0.0)
    return y * scale.view(1, -1, 1, 1)
