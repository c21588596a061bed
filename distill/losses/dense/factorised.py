"""FBKD: where either network looks, channels, positions, and relations between positions, each as a length.

Source: Zhang & Ma, "Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and Efficient
Detectors", ICLR 2021, with the blocks of mmrazor's version.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.linalg import vector_norm

from distill.losses.dense.focal_global import spatial_attention
from distill.losses.dense.precision import in_full_precision


class NonLocal(nn.Module):
    """Relations between positions, added to the map: x + BN(W Σ_q (θ(x)_p · φ(x)_q) g(x)_q / Q).

    The norm's scale is zero at the start, so that the block begins as the identity. φ and g are max-pooled, to
    Q positions.
    """

    def __init__(self, chs: int, reduction: int, pool: int) -> None:
        super().__init__()
        hidden_chs = max(chs // reduction, 1)
        self.theta, self.phi, self.g = (nn.Conv2d(chs, hidden_chs, 1) for _ in range(3))
        self.out = nn.Conv2d(hidden_chs, chs, 1, bias=False)
        self.norm = nn.BatchNorm2d(chs)
        self.pool = pool
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        pool = (min(self.pool, x.shape[2]), min(self.pool, x.shape[3]))
        phi, g = (F.max_pool2d(z, pool).flatten(2) for z in (self.phi(x), self.g(x)))
        # Without a softmax the product is associative: [hidden, hidden] instead of [positions, Q].
        relation = torch.einsum('ncq,ndq->ncd', phi, g) / phi.shape[2]
        y = torch.einsum('ncp,ncd->ndp', self.theta(x).flatten(2), relation)
        return x + self.norm(self.out(y.unflatten(2, tuple(x.shape[2:]))))


def four_lengths(
    feature: tuple[Tensor, Tensor],
    channel: tuple[Tensor, Tensor],
    spatial: tuple[Tensor, Tensor],
    relation: tuple[Tensor, Tensor],
    mask: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lengths of the differences between student and teacher, each over the whole batch.

    Args:
        feature: Maps [N, C, H, W].
        channel: Means over positions [N, C].
        spatial: Means over channels [N, 1, H, W].
        relation: Maps with their relations [N, C, H, W].
        mask: How much a position of `feature` counts [N, 1, H, W].

    Returns:
        Four scalars.
    """
    lengths = [vector_norm(student - teacher) for student, teacher in (channel, spatial, relation)]
    return vector_norm((feature[0] - feature[1]) * mask.sqrt()), lengths[0], lengths[1], lengths[2]


class FBKD(nn.Module):
    """Four lengths over the whole batch, none of them squared, none divided by anything.

    w₁ ‖(t − A(s)) √M‖ + w₂ ‖pool(t) − L(pool(s))‖ + w₃ ‖mean_c t − K(mean_c s)‖ + w₄ ‖R_t(t) − B(R_s(s))‖, with

    - M = H·W softmax over positions of mean_c abs(x) / 0.5, the mean of both networks', without gradient;
    - A, B trained 1×1 convolutions, L a linear layer over channels, K a 3×3 convolution, R a `NonLocal` block of each;
      the teacher's is trained too.

    As a length, its gradient is almost as large for a small difference as for a large one, and it grows with the root
    of the number of images, channels and positions. At an equal student the gradient is 0 here (NaN in code that takes
    the root of a sum).

    Published settings: weights as the defaults, all levels from stride 4 to 32 with reduction 4 and pooling by 8 and 4
    (after a first pooling by 2) on the two finest, 2 and 2 on the others.

    Args:
        student_chs: Channels of the student's map.
        teacher_chs: Channels of the teacher's map.
        feature: w₁.
        channel: w₂.
        spatial: w₃.
        relation: w₄.
        temperature: Divides abs(x) in M.
        reduction: How many times narrower the relations are than the map.
        pool: Height and width of what is pooled into one position for φ and g, in cells.
    """

    def __init__(
        self,
        student_chs: int,
        teacher_chs: int,
        feature: float = 7e-5,
        channel: float = 4e-3,
        spatial: float = 4e-3,
        relation: float = 7e-5,
        temperature: float = 0.5,
        reduction: int = 2,
        pool: int = 4,
    ) -> None:
        super().__init__()
        self.weights, self.temperature = (feature, channel, spatial, relation), temperature
        self.feature_adaptor = nn.Conv2d(student_chs, teacher_chs, 1)
        self.channel_adaptor = nn.Linear(student_chs, teacher_chs)
        self.spatial_adaptor = nn.Conv2d(1, 1, 3, padding=1)
        self.relation_adaptor = nn.Conv2d(student_chs, teacher_chs, 1)
        self.student_relation = NonLocal(student_chs, reduction, pool)
        self.teacher_relation = NonLocal(teacher_chs, reduction, pool)

    def lengths(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four lengths, unweighted; arguments as for `forward`."""
        with torch.no_grad():
            mask = sum(spatial_attention(x.abs(), self.temperature) for x in (student, teacher)) / 2
        return four_lengths(
            (self.feature_adaptor(student), teacher),
            (self.channel_adaptor(student.mean(dim=(2, 3))), teacher.mean(dim=(2, 3))),
            (self.spatial_adaptor(student.mean(dim=1, keepdim=True)), teacher.mean(dim=1, keepdim=True)),
            (self.relation_adaptor(self.student_relation(student)), self.teacher_relation(teacher)),
            mask,
        )

    @in_full_precision
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one level.

        Args:
            student: Student's map [N, C, H, W].
            teacher: Teacher's map [N, C', H, W].

        Returns:
            Scalar.
        """
        lengths = self.lengths(student, teacher)
        return sum(weight * length for weight, length in zip(self.weights, lengths, strict=True))
