"""Losses on embeddings and on the positions of feature maps, without labels.

They are pure functions in fp32 of the student's projected features and the teacher's, [..., D]: [B, D] of images, or
[B, H, W, D] of the positions of maps of one size. Each is the mean over images or over images and positions.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Distance of directions: mean of 1 − x·y / (‖x‖ ‖y‖).

    Source: Ranzinger et al., "AM-RADIO", CVPR 2024, for its summary tokens; the product of the norms is 1e-8 or more.

    Args:
        x: Student's features [..., D].
        y: Teacher's features [..., D].

    Returns:
        Scalar, from 0 to 2.
    """
    return 1 - F.cosine_similarity(x, y, dim=-1, eps=1e-8).mean()


def mse(x: Tensor, y: Tensor) -> Tensor:
    """Squared difference: mean over all elements of (x − y)².

    Source: Ranzinger et al., "PHI-S", 2024, where the teacher's features are standardised first; and lightly-train's
    second method, where they are not.

    Args:
        x: Student's features [..., D].
        y: Teacher's features [..., D].

    Returns:
        Scalar.
    """
    return F.mse_loss(x, y)


def smooth_l1(x: Tensor, y: Tensor, beta: float = 2.0) -> Tensor:
    """Mean of d²/2β where ``d = |x − y|`` is below β, and of d − β/2 elsewhere.

    Source: Wei et al., "Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature Distillation",
    2022, with β = 2, on the teacher's features after a LayerNorm without weights (``statistics='layer_norm'``).

    Args:
        x: Student's features [..., D].
        y: Teacher's features [..., D].
        beta: β, above 0.

    Returns:
        Scalar.
    """
    return F.smooth_l1_loss(x, y, beta=beta)


def radio(x: Tensor, y: Tensor, direction: float = 0.9, size: float = 0.1, beta: float = 2.0) -> Tensor:
    """RADIO's mix: ``direction`` · `cosine` + ``size`` · `smooth_l1`.

    Source: Ranzinger et al., "AM-RADIO", CVPR 2024, for patch tokens, with 0.9 and 0.1. The paper gives no β; NVIDIA's
    public code in the TAO toolkit has 2.

    Args:
        x: Student's features [..., D].
        y: Teacher's features [..., D].
        direction: Weight of the distance of directions.
        size: Weight of the difference.
        beta: β of `smooth_l1`.

    Returns:
        Scalar.
    """
    return direction * cosine(x, y) + size * smooth_l1(x, y, beta)


def pseudo_classes(x: Tensor, y: Tensor, queue: Tensor, temperature: float = 0.07) -> Tensor:
    """KL divergence between distributions over pseudo-classes: KL(softmax(ŷ·Q/T) ‖ softmax(x̂·Q/T)), mean over images.

    x̂ and ŷ have a norm of 1; the rows of Q are embeddings that the teacher has given of other images and of these, each
    with a norm of 1, or 0 where there is none yet. There is no factor T².

    Source: lightly-train's first method of distillation, by its documentation, with T = 0.07.

    Args:
        x: Student's embeddings [B, D].
        y: Teacher's embeddings [B, D].
        queue: Q [N, D].
        temperature: T.

    Returns:
        Scalar, in nats.
    """
    log_p, log_q = (F.log_softmax(F.normalize(z, dim=-1) @ queue.t() / temperature, dim=1) for z in (x, y))
    return F.kl_div(log_p, log_q, reduction='batchmean', log_target=True)


def token_relations(x: Tensor, y: Tensor, temperature: float = 0.07) -> Tensor:
    """KL divergence between the relations of positions: of each row of softmax(ŷŷᵀ/T) and softmax(x̂x̂ᵀ/T) of an image.

    x̂ and ŷ have a norm of 1 at each position. Widths may differ, since only relations are compared; memory grows with
    the square of the number of positions.

    Source: the local term of lightly-train's third method, by its documentation, with T = 0.07.

    Args:
        x: Student's features [B, ..., D].
        y: Teacher's features [B, ..., D'].
        temperature: T.

    Returns:
        Scalar, in nats, mean over images and positions.
    """
    log_p, log_q = (F.log_softmax(_gram(z) / temperature, dim=2).flatten(0, 1) for z in (x, y))
    return F.kl_div(log_p, log_q, reduction='batchmean', log_target=True)


def gram(x: Tensor, y: Tensor, remove_negative: bool = False) -> Tensor:
    """Squared difference of the cosines between positions: mean over images and pairs of (x̂x̂ᵀ − ŷŷᵀ)².

    Source: Siméoni et al., "DINOv3", 2025, whose configuration keeps negative cosines.

    Args:
        x: Student's features [B, ..., D].
        y: Teacher's features [B, ..., D'].
        remove_negative: Whether negative cosines count as 0.

    Returns:
        Scalar.
    """
    ours, theirs = _gram(x), _gram(y)
    return F.mse_loss(ours.relu(), theirs.relu()) if remove_negative else F.mse_loss(ours, theirs)


def _gram(x: Tensor) -> Tensor:
    """Cosines between the positions of an image [B, P, P]."""
    x = F.normalize(x.flatten(1, -2), dim=-1)
    return x @ x.transpose(1, 2)


def resampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample a map at the centres of the cells of another grid over the same image.

    Bilinear between the centres of cells (``align_corners=False``): cell i of n lies at (i + ½)/n of the image's side
    in both grids, so that a feature stays where it is in the image. A finer map is smoothed to the coarser grid, as no
    cell of it should go unseen. This is done by matrix products, whose gradient on a GPU is the same each time; that of
    torch's own function is not.

    Differs from NVIDIA's public code in the TAO toolkit, which puts the corner cells of both grids at one place
    (``align_corners=True``) and so moves the others against the image.

    Args:
        x: Map [B, H, W, C].
        size: Height and width of the other grid.

    Returns:
        Map [B, height, width, C] in fp32.
    """
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = (_sampling(x.shape[axis + 1], size[axis], x.device) for axis in (0, 1))
        x = columns @ x.float()
        return (rows @ x.flatten(2)).unflatten(2, (size[1], -1))


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sampling(cells: int, others: int, device: torch.device) -> Tensor:
    """Weights [others, cells] of the cells of an axis in each cell of another grid; those of a row sum to 1."""
    ours, theirs = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in (cells, others))
    distance = (theirs[:, None] - ours).abs() * min(cells, others)
    weights = (1 - distance).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float().to(device)


EMBEDDING_LOSSES: dict[str, Callable[..., Tensor]] = {
    'cosine': cosine,
    'mse': mse,
    'smooth_l1': smooth_l1,
    'radio': radio,
    'pseudo_classes': pseudo_classes,
    'token_relations': token_relations,
    'gram': gram,
}
