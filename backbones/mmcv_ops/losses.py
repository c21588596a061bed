"""Focal losses (Lin et al., ICCV 2017) and their derivatives in closed form, finite for any finite logit.

Conventions of mmcv 2.1, ``ops/csrc/common/cuda/{sigmoid,softmax}_focal_loss_cuda_kernel.cuh``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.mmcv_ops.common import full


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of independent classes: -α_t (1 - p_t)^γ log p_t, unreduced.

    Args:
        input: Logits [N, K].
        target: Class 0..K-1, or K for background [N].
        weight: Weight by class [K], or empty. Background weighs 1.
        output: Receives the loss [N, K].
        gamma: Focusing exponent γ.
        alpha: Weight of the positive entries; negative ones get 1 - α.
    """
    x = full(input)
    p, q = x.sigmoid(), (-x).sigmoid()
    hit = -alpha * q**gamma * F.logsigmoid(x)
    miss = (alpha - 1) * p**gamma * F.logsigmoid(-x)
    output.copy_(_of_target(hit, miss, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the derivative of each loss by its logit into ``grad_input`` [N, K]."""
    x = full(input)
    p, q = x.sigmoid(), (-x).sigmoid()
    hit = alpha * q**gamma * (gamma * p * F.logsigmoid(x) - q)
    miss = (1 - alpha) * p**gamma * (p - gamma * q * F.logsigmoid(-x))
    grad_input.copy_(_of_target(hit, miss, target, weight))


def _of_target(hit: Tensor, miss: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``hit`` at the entry of the target and ``miss`` elsewhere [N, K], times the weight of the target."""
    positive = target[:, None] == torch.arange(hit.size(1), device=hit.device)
    terms = torch.where(positive, hit, miss)
    return terms * F.pad(full(weight), (0, 1), value=1)[target, None] if len(weight) else terms


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of exclusive classes: -α (1 - p_t)^γ log p_t, unreduced.

    Args:
        input: Probabilities, the softmax of the logits [N, K].
        target: Class 0..K-1, or a negative number for a sample without loss [N].
        weight: Weight by class [K], or empty.
        output: Receives the loss [N].
        gamma: Focusing exponent γ.
        alpha: Weight α of every sample.
    """
    p, scale = _probability(input, target, weight, alpha)
    output.copy_(-scale * (1 - p) ** gamma * p.log())


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative of each loss by the logits of its sample into ``grad_input`` [N, K].

    ``buff`` [N] is scratch space.
    """
    p, scale = _probability(input, target, weight, alpha)
    q = (1 - p).clamp(min=torch.finfo(p.dtype).tiny)  # a negative power of 0 would make the next line 0 × ∞
    buff.copy_(scale * (gamma * q ** (gamma - 1) * p * p.log() - q**gamma))  # p · dloss/dp
    one_hot = target[:, None] == torch.arange(input.size(1), device=input.device)
    grad_input.copy_(buff[:, None] * (one_hot.to(buff) - input))  # dp_t / dlogit_k = p_t (δ_tk - p_k)


def _probability(input: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Probability of the target, above 0, and the factor of the loss, [N] each."""
    known = target.clamp(min=0)
    p = full(input).gather(1, known[:, None])[:, 0]
    scale = alpha * (target >= 0).to(p)
    return p.clamp(min=torch.finfo(p.dtype).tiny), scale * full(weight)[known] if len(weight) else scale
