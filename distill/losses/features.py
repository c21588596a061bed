"""Losses on feature maps.

They are pure functions of two maps in fp32, [B, C, H, W] and [B, C', H', W']. A map is the output of a CNN's stage or
of a transformer's block; of the latter timm lays the patch tokens out as a map and leaves other tokens out. Where the
sizes differ, the larger map is average-pooled to the smaller one (`same_size`).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def same_size(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two maps to the smaller height and the smaller width of the two."""
    size = (min(x.shape[2], y.shape[2]), min(x.shape[3], y.shape[3]))
    # Pooling to its own size would copy a map.
    x, y = (z if tuple(z.shape[2:]) == size else F.adaptive_avg_pool2d(z, size) for z in (x, y))
    return x, y


def attention_transfer(x: Tensor, y: Tensor) -> Tensor:
    """Squared difference of attention: mean over positions of (a/‖a‖ − b/‖b‖)² with a = mean_c x², b = mean_c y².

    Source: Zagoruyko & Komodakis, "Paying More Attention to Attention", ICLR 2017, as a mean over images
    and positions and with p = 2 as in its public code (https://github.com/szagoruyko/attention-transfer), which gives
    the term a weight of 1000.

    Args:
        x: Student's map [B, C, H, W].
        y: Teacher's map [B, C', H', W'].

    Returns:
        Scalar.
    """
    x, y = (F.normalize(z.pow(2).mean(dim=1).flatten(1)) for z in same_size(x, y))
    return F.mse_loss(x, y)


def fitnet(x: Tensor, y: Tensor) -> Tensor:
    """Squared difference of features: mean over all elements of (x − y)².

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, as a mean and without the ½. The
    student's map comes through a trained 1×1 convolution.

    Args:
        x: Student's projected map [B, C, H, W].
        y: Teacher's map [B, C, H', W'].

    Returns:
        Scalar.
    """
    return F.mse_loss(*same_size(x, y))


def cwd(x: Tensor, y: Tensor, temperature: float = 4.0) -> Tensor:
    """Channel-wise KL divergence over positions: T² mean over images and channels of KL(softmax(y/T) ‖ softmax(x/T)).

    Source: Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, and its
    public code (https://github.com/irfanICMLL/TorchDistiller), whose command for maps of logits has a weight of 3 and
    T = 4. A 1×1 convolution is trained in front where the numbers of channels differ.

    Args:
        x: Student's map [B, C, H, W].
        y: Teacher's map [B, C, H', W'].
        temperature: T; divides both maps.

    Returns:
        Scalar.
    """
    log_p, log_q = (F.log_softmax(z.flatten(2) / temperature, dim=2) for z in same_size(x, y))
    return F.kl_div(log_p.flatten(0, 1), log_q.flatten(0, 1), reduction='batchmean', log_target=True) * temperature**2


def rkd(x: Tensor, y: Tensor, distance: float = 1.0, angle: float = 2.0) -> Tensor:
    """Relations between the images of the batch (on this process): distances of pairs and angles of triplets.

    The embedding of an image is its map's mean over positions. Distances are divided by the mean of those above 0;
    an angle is the cosine at one image between the directions to two others. Each is compared with the Huber loss
    (δ = 1), mean over all B² pairs or B³ triplets: memory grows with B³.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, and its public code
    (https://github.com/lenscloth/RKD) with weights of 1 and 2; mdistiller has 25 and 50.

    Args:
        x: Student's map [B, C, H, W].
        y: Teacher's map [B, C', H', W'].
        distance: Weight of the distances.
        angle: Weight of the angles.

    Returns:
        Scalar.
    """
    x, y = x.mean(dim=(2, 3)), y.mean(dim=(2, 3))
    distance_loss = F.smooth_l1_loss(_distances(x), _distances(y))
    return distance * distance_loss + angle * F.smooth_l1_loss(_angles(x), _angles(y))


def _distances(x: Tensor) -> Tensor:
    # Not by the matrix product that cdist would take for more than 25 images: it is off by 1e-3 for close ones.
    distances = torch.cdist(x, x, compute_mode='donot_use_mm_for_euclid_dist')
    return distances * (distances > 0).sum() / distances.sum().clamp(min=1e-12)


def _angles(x: Tensor) -> Tensor:
    directions = F.normalize(x.unsqueeze(0) - x.unsqueeze(1), dim=2)
    return directions @ directions.transpose(1, 2)


FEATURE_LOSSES: dict[str, Callable[..., Tensor]] = {
    'attention_transfer': attention_transfer,
    'fitnet': fitnet,
    'cwd': cwd,
    'rkd': rkd,
}


def needs_projector(type: str, student_chs: int, teacher_chs: int) -> bool:
    """Whether the student's map goes through a trained 1×1 convolution before this loss."""
    return type == 'fitnet' or (type == 'cwd' and student_chs != teacher_chs)
