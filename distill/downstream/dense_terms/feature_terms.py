"""Terms on feature maps: of necks, paired by stride, or of backbones."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from distill.downstream.dense_terms.base import DenseTerm, Level, Network, Pass
from distill.losses.dense import NEEDS, DenseLoss, check_dense_loss

ON = ('neck', 'backbone')


class FeatureTerm(DenseTerm):
    """A loss of `distill.losses.dense.DENSE_LOSSES`, summed over pairs of maps.

    Maps are paired by stride, not by their place: the maps of a two-stage detector's neck begin at stride 4, those of a
    one-stage detector's at stride 8. Both networks see the same padded batch, and the whole maps are compared, what
    lies on the padding too; boxes are in the batch's pixels. Where the two maps of a pair differ in size (dilated
    backbones), the losses that need one size get the student's map resized to the teacher's, bilinearly.

    Args:
        type: Name of the loss.
        on: ``neck`` or ``backbone``.
        strides: Strides of the maps that are compared. By default those that both necks have; of backbones the last
            map of each alone. Of several maps of one stride, the last one is taken.
        stages: In place of ``strides``, pairs (student's stage, teacher's stage) of the backbones, from 0, negative
            from the end.
        per_position: Divide each map's loss by its H·W; for losses that are sums over positions (MGD, FGD) or lengths
            (FBKD). Off by default, because the weights that are published for these losses go with the sums, and would
            silently do nothing with it: 2e-5 times a mean. On, every map counts alike and a weight holds for any size
            of image, but it must be chosen anew, H·W of the map times larger (about 2e4 at stride 8 and 800 × 1333
            pixels). A detector with a map of stride 4 may need it: that map has three times the positions of all
            coarser ones together, and users of FGD report that it drowns the others where a Cascade R-CNN on ResNet-50
            teaches one on ResNet-18.
        weight: Factor of the term.
        schedule: See `DenseTerm`.
        **options: Options of the loss.

    Attributes:
        pairs: Of each pair the student's key in `Pass.levels` or `Pass.stages`, and the teacher's.

    Raises:
        ValueError: The loss, an option or a place is unknown.
    """

    def __init__(
        self,
        type: str,
        on: str = 'neck',
        strides: Sequence[int] = (),
        stages: Sequence[Sequence[int]] = (),
        per_position: bool = False,
        weight: float = 1.0,
        schedule: Sequence[Sequence[float]] = (),
        **options: Any,
    ):
        super().__init__(type, weight, schedule)
        check_dense_loss(type, per_position, **options)
        if on not in ON:
            raise ValueError(f"loss {type} is on '{on}'; choose from {', '.join(ON)}")
        if stages and (strides or on == 'neck'):
            raise ValueError(f'loss {type} has stages, which are those of a backbone; drop strides and on')
        if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in stages):
            raise ValueError(f'loss {type} has the stages {stages!r}; give pairs, such as [(-1, -1)]')
        self.on, self.strides, self.stages = on, tuple(strides), [tuple(pair) for pair in stages]
        self.options = dict(options, per_position=per_position)
        self.pairs: list[tuple[int, int]] = []
        self.losses = nn.ModuleList()

    def connect(self, student: Network, teacher: Network) -> None:
        """Pair the maps and make the losses with what they train."""
        if NEEDS[self.kind].boxes and hasattr(student.detector, 'decode_head'):
            raise ValueError(f'loss {self.kind} needs labelled boxes, which {student.name} is trained without; use mgd')
        found = self._levels(student), self._levels(teacher)
        if self.on == 'neck':
            self.pairs = self._by_stride(student, teacher, *({key: key for key in levels} for levels in found))
        elif self.strides:
            last = ({level.stride: place for place, level in levels.items()} for levels in found)
            self.pairs = self._by_stride(student, teacher, *last)
        else:
            self.pairs = [
                (self._stage(student, of_student), self._stage(teacher, of_teacher))
                for of_student, of_teacher in self.stages or [(-1, -1)]
            ]
        for mine, its in self.pairs:
            self.losses.append(DenseLoss(self.kind, found[0][mine].channels, found[1][its].channels, **self.options))

    def _levels(self, network: Network) -> dict[int, Level]:
        levels = network.levels if self.on == 'neck' else dict(enumerate(network.stages))
        if not levels:
            raise ValueError(
                f"loss {self.kind} compares maps of necks and {network.name} has none; give it on='backbone'"
            )
        return levels

    def _by_stride(
        self, student: Network, teacher: Network, mine: dict[int, int], its: dict[int, int]
    ) -> list[tuple[int, int]]:
        """Pairs of keys, given each network's keys by stride."""
        strides = self.strides or [stride for stride in mine if stride in its]
        if not strides:
            raise ValueError(
                f'loss {self.kind} compares maps of one stride, and the necks of {student.name}, {_listed(mine)}, and '
                f"of {teacher.name}, {_listed(its)}, have none in common; give it on='backbone' and stages"
            )
        for network, keys in ((student, mine), (teacher, its)):
            missing = [stride for stride in strides if stride not in keys]
            if missing:
                both = [stride for stride in mine if stride in its]
                raise ValueError(
                    f'loss {self.kind} compares maps of stride {missing[0]}, which the {self.on} of {network.name} '
                    f'does not have: its strides are {_listed(keys)}; set strides to some that both have: '
                    f'{_listed(both) or "none"}'
                )
        return [(mine[stride], its[stride]) for stride in strides]

    def _stage(self, network: Network, place: int) -> int:
        count = len(network.stages)
        if not -count <= place < count:
            raise ValueError(
                f'loss {self.kind} compares stage {place} of {network.name}, whose backbone gives {count} maps, of '
                f'strides {_listed(level.stride for level in network.stages)}; choose from 0 … {count - 1}'
            )
        return place % count

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """The sum over the pairs of maps."""
        mine, its = ((run.levels if self.on == 'neck' else run.stages) for run in (student, teacher))
        boxes = labelled_boxes(student.samples) if NEEDS[self.kind].boxes else None
        total: Any = 0.0
        for loss, (of_student, of_teacher) in zip(self.losses, self.pairs, strict=True):
            x, y = mine[of_student], common_part(its[of_teacher], student, teacher)
            if NEEDS[self.kind].same_size and x.shape[-2:] != y.shape[-2:]:
                x = F.interpolate(x.float(), y.shape[-2:], mode='bilinear', align_corners=False)
            total = total + loss(x, y, boxes, student.batch_shape)
        return {f'loss_{self.kind}': total}


def common_part(y: Tensor, student: Pass, teacher: Pass) -> Tensor:
    """The part of a teacher's map that covers the student's batch, where the teacher's batch is padded to more."""
    sizes = zip(y.shape[-2:], student.batch_shape, teacher.batch_shape, strict=True)
    height, width = (-(-cells * mine // its) for cells, mine, its in sizes)
    return y[..., :height, :width]


def labelled_boxes(samples: Sequence[Any]) -> list[Tensor]:
    """The labelled boxes [n, 4] of each image (x1, y1, x2, y2), in pixels of the padded batch."""
    boxes = [sample.gt_instances.bboxes for sample in samples]
    return [getattr(box, 'tensor', box) for box in boxes]


def _listed(numbers: Any) -> str:
    return ', '.join(map(str, numbers))
