"""FGD: features inside and outside of the boxes apart, where the teacher looks, and the context of the whole map.

Source: Yang et al., "Focal and Global Knowledge Distillation for Detectors", CVPR 2022.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.dense.precision import in_full_precision


def spatial_attention(magnitude: Tensor, temperature: float) -> Tensor:
    """Where a map x is large: H·W softmax over positions of mean_c abs(x) / T, [N, 1, H, W], with a mean of 1.

    Args:
        magnitude: abs(x), [N, C, H, W].
        temperature: T.
    """
    strength = magnitude.mean(dim=1, keepdim=True)
    shares = (strength.flatten(1) / temperature).softmax(dim=1)
    return shares.view_as(strength) * strength[0].numel()


def channel_attention(magnitude: Tensor, temperature: float) -> Tensor:
    """Which channels of x are large: C softmax over channels of mean_hw abs(x) / T, [N, C, 1, 1], with a mean of 1.

    Args:
        magnitude: abs(x), [N, C, H, W].
        temperature: T.
    """
    strength = magnitude.mean(dim=(2, 3), keepdim=True)
    return (strength / temperature).softmax(dim=1) * strength.shape[1]


def box_masks(
    boxes: Sequence[Tensor], size: tuple[int, int], batch_shape: tuple[int, int], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Weights of the cells inside and outside of boxes.

    A box covers the cells floor(x1) … ceil(x2) and floor(y1) … ceil(y2) of the map, both ends included, with the weight
    1 / (rows · columns); where boxes overlap, the smallest one counts. A cell outside of all boxes has
    1 / (number of such cells in the image). The rows and columns are those of the box, even where it leaves the map.

    Differs from the public code, which scales boxes by an image's own size although the map covers the padded batch,
    so that the masks of padded images are shifted.

    Args:
        boxes: For each image, boxes [n, 4] as (x1, y1, x2, y2) in pixels of the padded batch; n may be 0.
        size: Rows and columns of the map.
        batch_shape: Height and width of the padded batch in pixels.
        like: A tensor of the type and on the device of the result.

    Returns:
        Weights inside of the boxes [N, 1, H, W] and outside [N, 1, H, W].
    """
    rows, columns = torch.arange(size[0], device=like.device), torch.arange(size[1], device=like.device)
    scale = like.new_tensor([size[1] / batch_shape[1], size[0] / batch_shape[0]]).repeat(2)
    inside = []
    for of_image in boxes:
        x1, y1, x2, y2 = (of_image.to(like).reshape(-1, 4) * scale).unbind(dim=1)
        x1, y1, x2, y2 = x1.floor(), y1.floor(), x2.ceil(), y2.ceil()
        in_rows = (rows >= y1[:, None]) & (rows <= y2[:, None])
        in_columns = (columns >= x1[:, None]) & (columns <= x2[:, None])
        weight = 1 / ((y2 - y1 + 1) * (x2 - x1 + 1))
        cells = in_rows[:, :, None] * in_columns[:, None, :] * weight[:, None, None]
        inside.append(torch.cat([like.new_zeros(1, *size), cells]).amax(dim=0))
    foreground = torch.stack(inside)[:, None]
    background = (foreground == 0).to(like)
    return foreground, background / background.sum(dim=(2, 3), keepdim=True).clamp(min=1)


class Context(nn.Module):
    """The context of a map, which is to be added to it: W₂ ReLU(LN(W₁ Σ_p softmax_p(w·x) x_p)), as in GCNet.

    W₂ is zero at the start, so that the sum begins as the map.
    """

    def __init__(self, chs: int) -> None:
        super().__init__()
        hidden_chs = max(chs // 2, 1)
        self.attend = nn.Conv2d(chs, 1, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(chs, hidden_chs, 1),
            nn.LayerNorm([hidden_chs, 1, 1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden_chs, chs, 1),
        )
        nn.init.kaiming_normal_(self.attend.weight, mode='fan_in')
        nn.init.zeros_(self.attend.bias)
        nn.init.zeros_(self.transform[-1].weight)
        nn.init.zeros_(self.transform[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """The context [N, C, 1, 1] of a map [N, C, H, W]."""
        strength = self.attend(x)
        shares = strength.flatten(1).softmax(dim=1).view_as(strength)
        # No matrix product: of a batch of vectors it is slower on a CPU.
        return self.transform((x * shares).sum(dim=(2, 3), keepdim=True))


class FGD(nn.Module):
    """Focal and global differences of two maps: α L_fg + β L_bg + γ L_attention + λ L_relation, each divided by N.

    With x = A(s) (a 1×1 convolution, only where the widths differ), attention over positions a and over channels c:

    - L_fg = Σ (x − t)² a(t) c(t) m_fg and L_bg the same with m_bg, see `box_masks`;
    - L_attention = Σ abs(c(x) − c(t)) + Σ abs(a(x) − a(t)), with a gradient through the student's attention;
    - L_relation = Σ (R_s(x) − R_t(t))², R a `Context` of each. Both are trained, the teacher's too; at the start, when
      they are identities, the term is Σ (x − t)².

    A map of twice the height and width leaves L_fg and L_bg as they are (for boxes that cover many cells) and makes
    L_attention and L_relation four times as large: with levels of strides 4 to 32, the finest gives most of the sum.
    The author's advice for Cascade R-CNN is to divide each level by H·W and to bring it to the size of the detector's
    own losses (0.1 to 2), keeping the ratios.

    Published settings (α, β, γ, λ; T 0.5): two-stage detectors 5e-5, 2.5e-5, 5e-5, 5e-7; RetinaNet and GFL 1e-3, 5e-4,
    5e-4, 5e-6, which are the defaults; FCOS and RepPoints 1.6e-3, 8e-4, 8e-4, 8e-6 (FCOS T 0.8). For γ the paper's text
    says 1e-3 and 8e-3 instead.

    Args:
        student_chs: Channels of the student's map.
        teacher_chs: Channels of the teacher's map.
        alpha: Weight of the foreground.
        beta: Weight of the background.
        gamma: Weight of the attention.
        relation: λ, weight of the relation.
        temperature: T, of both attentions.
    """

    def __init__(
        self,
        student_chs: int,
        teacher_chs: int,
        alpha: float = 1e-3,
        beta: float = 5e-4,
        gamma: float = 5e-4,
        relation: float = 5e-6,
        temperature: float = 0.5,
    ) -> None:
        super().__init__()
        self.weights, self.temperature = (alpha, beta, gamma, relation), temperature
        self.align = nn.Conv2d(student_chs, teacher_chs, 1) if student_chs != teacher_chs else nn.Identity()
        self.student_context, self.teacher_context = Context(teacher_chs), Context(teacher_chs)

    def terms(
        self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], batch_shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Foreground, background, attention and relation, unweighted; arguments as for `forward`."""
        x, n = self.align(student), student.shape[0]
        (attention_s, channels_s), (attention_t, channels_t) = map(self._attentions, (x, teacher))
        foreground, background = box_masks(boxes, tuple(x.shape[2:]), batch_shape, x)
        difference = x - teacher
        # The sum over channels first: what comes after it costs nothing beside a pass over the whole maps.
        error = (difference.square() * channels_t).sum(dim=1, keepdim=True) * attention_t
        attention = F.l1_loss(channels_s, channels_t, reduction='sum')
        attention = attention + F.l1_loss(attention_s, attention_t, reduction='sum')
        shift = self.student_context(x) - self.teacher_context(teacher)
        relation = (difference + shift).square().sum()
        return (error * foreground).sum() / n, (error * background).sum() / n, attention / n, relation / n

    def _attentions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = x.abs()
        return spatial_attention(magnitude, self.temperature), channel_attention(magnitude, self.temperature)

    @in_full_precision
    def forward(
        self, student: Tensor, teacher: Tensor, boxes: Sequence[Tensor], batch_shape: tuple[int, int]
    ) -> Tensor:
        """The loss of one level; every level sees all boxes.

        Args:
            student: Student's map [N, C, H, W].
            teacher: Teacher's map [N, C', H, W].
            boxes: Labelled boxes [n, 4] of each image, (x1, y1, x2, y2) in pixels of the padded batch.
            batch_shape: Height and width of the padded batch in pixels.

        Returns:
            Scalar.
        """
        terms = self.terms(student, teacher, boxes, batch_shape)
        return sum(weight * term for weight, term in zip(self.weights, terms, strict=True))
