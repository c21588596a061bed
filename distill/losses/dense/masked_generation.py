"""MGD: the student's map with holes in it has to let a small network generate the whole map of the teacher.

Source: Yang et al., "Masked Generative Distillation", ECCV 2022.
"""

import torch
from torch import Tensor, nn

from distill.losses.dense.precision import in_full_precision


class MGD(nn.Module):
    """Squared difference of the generated map: α Σ (G(m · A(s)) − t)² / N, a sum over channels and positions.

    A is a 1×1 convolution, only where the widths differ; G is conv3×3, ReLU, conv3×3 of the teacher's width, trained
    along with the student; m is 0 with the probability `mask_ratio`, drawn anew for each position of each image (or
    each channel). The loss does not reach 0 at an equal student, since G begins at random.

    As a sum over positions the loss is four times as large on a map of twice the height and width: with the levels of
    an FPN, the finest gives most of it.

    Published settings: α 2e-5 and mask ratio 0.65 for one-stage detectors, 5e-7 and 0.45 for two-stage ones (levels of
    strides 4 to 32), 2e-5 and 0.75 for segmentation (last stage of the backbone, together with CWD on the logits), 7e-5
    and 0.15 with masked channels for classifiers; gradients clipped at a norm of 35 in detection.

    Args:
        student_chs: Channels of the student's map.
        teacher_chs: Channels of the teacher's map.
        alpha: α.
        mask_ratio: Share of positions (or channels) that are hidden.
        mask: What is hidden: 'positions' or 'channels'.
    """

    def __init__(
        self,
        student_chs: int,
        teacher_chs: int,
        alpha: float = 2e-5,
        mask_ratio: float = 0.65,
        mask: str = 'positions',
    ) -> None:
        super().__init__()
        if mask not in ('positions', 'channels'):
            raise ValueError(f"mgd has mask='{mask}'; choose from positions, channels")
        if not 0 <= mask_ratio < 1:
            raise ValueError(f'mgd has mask_ratio={mask_ratio}; give a share from 0 to below 1')
        self.alpha, self.mask_ratio, self.mask = alpha, mask_ratio, mask
        self.align = nn.Conv2d(student_chs, teacher_chs, 1) if student_chs != teacher_chs else nn.Identity()
        self.generation = nn.Sequential(
            nn.Conv2d(teacher_chs, teacher_chs, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(teacher_chs, teacher_chs, 3, padding=1),
        )

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Numbers in [0, 1) that decide what is hidden, from torch's global generator."""
        return torch.rand(shape, device=like.device)

    @in_full_precision
    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one level.

        Args:
            student: Student's map [N, C, H, W].
            teacher: Teacher's map [N, C', H, W].

        Returns:
            Scalar.
        """
        x = self.align(student)
        n, channels, height, width = x.shape
        shape = (n, 1, height, width) if self.mask == 'positions' else (n, channels, 1, 1)
        keep = self.uniform(shape, x) <= 1 - self.mask_ratio
        return self.alpha * (self.generation(x * keep) - teacher).square().sum() / n
