"""The losses on two maps by name, what each needs, and a module that gives it that."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from distill.losses.dense.context_pyramid import hcl
from distill.losses.dense.factorised import FBKD
from distill.losses.dense.focal_global import FGD
from distill.losses.dense.masked_generation import MGD
from distill.losses.dense.pearson import pkd
from distill.losses.dense.pixel import pixel_dist, pixel_kl
from distill.losses.dense.precision import in_full_precision
from distill.losses.dense.structure import skd_pairwise, skd_patches, skd_pixel
from distill.losses.features import attention_transfer, cwd, fitnet

DENSE_LOSSES: dict[str, Callable[..., Any]] = {
    'pkd': pkd,
    'cwd': cwd,
    'l2': fitnet,
    'mgd': MGD,
    'fgd': FGD,
    'fbkd': FBKD,
    'skd_pixel': skd_pixel,
    'skd_pairwise': skd_pairwise,
    'skd_patches': skd_patches,
    'pixel_kl': pixel_kl,
    'dist': pixel_dist,
    'hcl': hcl,
    'attention_transfer': attention_transfer,
}
"""Functions of (student, teacher) and modules, which are made with (student_chs, teacher_chs)."""


@dataclass(frozen=True)
class Needs:
    """What a loss asks for.

    Attributes:
        adaptor: When a trained 1×1 convolution stands in front of the student's map: 'widths', where the numbers of
            channels differ; 'always'; 'own', the loss brings it along; 'none', any widths will do; 'classes', the
            channels are classes, so that their numbers must agree and nothing may be projected.
        boxes: Whether it takes `boxes` and `batch_shape`.
        grows: Whether it is a sum over positions (or a length), so that a map of twice the height and width gives more;
            such a loss may be divided by H·W.
        keep: Whether it can leave out pixels, by `keep`.
        same_size: Whether heights and widths must agree; otherwise the loss resizes one of the maps.
    """

    adaptor: Literal['widths', 'always', 'own', 'none', 'classes']
    boxes: bool = False
    grows: bool = False
    keep: bool = False
    same_size: bool = True


NEEDS: dict[str, Needs] = {
    'pkd': Needs('widths', same_size=False),
    'cwd': Needs('widths', same_size=False),
    'l2': Needs('always', same_size=False),
    'mgd': Needs('own', grows=True),
    'fgd': Needs('own', boxes=True, grows=True),
    'fbkd': Needs('own', grows=True),
    'skd_pixel': Needs('classes'),
    'skd_pairwise': Needs('none'),
    'skd_patches': Needs('none'),
    'pixel_kl': Needs('classes', keep=True),
    'dist': Needs('classes', keep=True),
    'hcl': Needs('widths'),
    'attention_transfer': Needs('none', same_size=False),
}


class DenseLoss(nn.Module):
    """One loss between a level of the student and one of the teacher, with the adaptor that it needs.

    Adaptors and the loss's own parameters are trained with the student and stay out of the saved student.

    Args:
        type: Name in `DENSE_LOSSES`.
        student_chs: Channels of the student's map.
        teacher_chs: Channels of the teacher's map.
        per_position: Divide by the H·W of the teacher's map; for losses that are sums over positions.
        **options: Options of the loss.

    Raises:
        ValueError: The type or an option is unknown, the numbers of classes differ, or the loss is a mean already.
    """

    def __init__(
        self, type: str, student_chs: int, teacher_chs: int, per_position: bool = False, **options: Any
    ) -> None:
        super().__init__()
        check_dense_loss(type, per_position, **options)
        self.needs, self.per_position, self.options = NEEDS[type], per_position, options
        if self.needs.adaptor == 'classes' and student_chs != teacher_chs:
            raise ValueError(
                f'loss {type} compares classes, of which the student has {student_chs} and the teacher {teacher_chs}'
            )
        make = DENSE_LOSSES[type]
        if inspect.isclass(make):
            self.loss, self.options = make(student_chs, teacher_chs, **options), {}
        else:
            self.loss = make
        adapts = self.needs.adaptor == 'always' or (self.needs.adaptor == 'widths' and student_chs != teacher_chs)
        self.adaptor = nn.Conv2d(student_chs, teacher_chs, 1) if adapts else nn.Identity()

    @in_full_precision
    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        boxes: Sequence[Tensor] | None = None,
        batch_shape: tuple[int, int] | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """The unweighted loss.

        Args:
            student: Student's map [N, C, H, W].
            teacher: Teacher's map [N, C', H', W'].
            boxes: Labelled boxes [n, 4] of each image in pixels of the padded batch, for losses that need them.
            batch_shape: Height and width of the padded batch in pixels, for losses that need boxes.
            keep: Pixels that count [N, H, W], bool, for losses that can leave out others.

        Returns:
            Scalar.
        """
        more: dict[str, Any] = dict(boxes=boxes, batch_shape=batch_shape) if self.needs.boxes else {}
        if self.needs.keep:
            more['keep'] = keep
        loss = self.loss(self.adaptor(student), teacher, **more, **self.options)
        return loss / teacher[0, 0].numel() if self.per_position else loss


def dense_loss_options(type: str) -> list[str]:
    """Names of the options that a loss takes."""
    parameters = inspect.signature(DENSE_LOSSES[type]).parameters.values()
    return [p.name for p in parameters if p.default is not p.empty and p.name != 'keep']


def check_dense_loss(type: str, per_position: bool = False, **options: Any) -> None:
    """Look at a loss's type and options before anything is built.

    Raises:
        ValueError: The type or an option is unknown, or the loss is a mean already.
    """
    if type not in DENSE_LOSSES:
        raise ValueError(f"loss '{type}' is unknown; choose from {', '.join(DENSE_LOSSES)}")
    known = dense_loss_options(type)
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"loss {type} has no option '{unknown[0]}'; choose from {', '.join(known) or 'none'}")
    if per_position and not NEEDS[type].grows:
        sums = ', '.join(name for name, needs in NEEDS.items() if needs.grows)
        raise ValueError(f'loss {type} does not grow with the map; per_position=True is for {sums}')
