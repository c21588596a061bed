"""CrossKD for one-stage detectors: the teacher's head goes on from the middle of the student's."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.downstream.dense_terms.anchors import rows_of_anchors, same_anchors
from distill.downstream.dense_terms.base import DenseTerm, Network, Pass
from distill.downstream.dense_terms.feature_terms import common_part
from distill.downstream.dense_terms.heads import (
    check_factors,
    in_precision_of,
    of_teacher,
    over_processes,
    the_module,
)
from distill.losses.dense.crosskd import align_scale, giou, quality_focal

TOWERS = ('cls', 'reg')


class CrossRetinaTerm(DenseTerm):
    """CrossKD for a RetinaNet: the teacher's last layers read the student's maps: ``dict(type='crosskd')``.

    The maps behind the first `after` convolutions of the student's two towers, before the activation, get the mean and
    the deviation of the teacher's (`align_scale`) and go through what is left of the teacher's frozen towers. The
    outcome is compared with the teacher's own predictions:

    - classes: Σ w BCE(p, y) abs(p − y) / P over anchors and classes (`quality_focal`), w the weight that the detector
      gives the anchor (0 for those between object and background), P its number of positive anchors, at least 1;
    - boxes: Σ v (1 − GIoU) / P of the decoded boxes, v the teacher's largest score where w is not 0.

    The student's own last layers get no gradient from it. At equal maps it is 0. The classes are the teacher's on both
    sides, but both need the same anchors. Where the towers' widths differ, a 1 × 1 convolution each is trained.

    Source: Wang et al., CVPR 2024; the defaults are those for RetinaNet (37.4 → 39.7 on COCO with a ResNet-50).

    Args:
        type: ``crosskd``.
        classes: Factor of the classes.
        boxes: Factor of the boxes.
        after: How many of the student's convolutions come before.
        strides: Strides of the levels; by default all that both have.
        weight: Factor of the term.
        schedule: See `DenseTerm`.
    """

    def __init__(
        self,
        type: str = 'crosskd',
        classes: float = 1.0,
        boxes: float = 1.0,
        after: int = 3,
        strides: Sequence[int] = (),
        weight: float = 1.0,
        schedule: Sequence[Sequence[float]] = (),
    ):
        super().__init__(type, weight, schedule)
        check_factors(type, classes=classes, boxes=boxes)
        self.classes, self.boxes, self.after, self.strides = classes, boxes, after, tuple(strides)
        self.adaptors = nn.ModuleDict()
        self.pairs: list[tuple[int, int]] = []
        self.points = dict.fromkeys(TOWERS, '')

    def watched(self, student: nn.Module) -> Sequence[str]:
        """The layers whose maps are taken, and what is given the labels of anchors."""
        return [*self.points.values(), 'bbox_head.loss_cls']

    def connect(self, student: Network, teacher: Network) -> None:
        """Compare the heads, and make the 1 × 1 convolutions."""
        from mmdet.models.dense_heads import RetinaHead

        heads = [the_module(network, 'bbox_head', ['RetinaHead'], self.name) for network in (student, teacher)]
        for network, head in zip((student, teacher), heads, strict=True):
            if type(head).forward_single is not RetinaHead.forward_single or not head.use_sigmoid_cls:
                raise ValueError(
                    f"loss {self.name} knows RetinaNet's own head, and {network.name} has a {type(head).__name__} that "
                    "works otherwise; compare its maps instead, for example dict(type='pkd', on='neck')"
                )
            if not 1 <= self.after <= len(head.cls_convs):
                raise ValueError(
                    f'loss {self.name} has after={self.after}, and the towers of {network.name} have '
                    f'{len(head.cls_convs)} convolutions; choose from 1 … {len(head.cls_convs)}'
                )
        self.pairs = same_anchors(heads, (student, teacher), self.strides, self.name)
        for tower in TOWERS:
            own, its = (getattr(head, f'{tower}_convs')[self.after - 1] for head in heads)
            # The activation would overwrite the map that is taken; its values stay the same.
            if own.with_activation and hasattr(own.activate, 'inplace'):
                own.activate.inplace = False
            layer = own.norm_name if own.with_norm else 'conv'
            self.points[tower] = f'bbox_head.{tower}_convs.{self.after - 1}.{layer}'
            if own.out_channels != its.out_channels:
                self.adaptors[tower] = nn.Conv2d(own.out_channels, its.out_channels, 1)

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """The terms of classes and of boxes."""
        head = teacher.detector.bbox_head
        own = of_teacher(teacher, f'towers after {self.after}', lambda: self._own(head, teacher.features))
        labels = student.calls['bbox_head.loss_cls']
        classes = student.detector.bbox_head.num_classes
        positive = sum((call.inputs[1] < classes).sum() for call in labels).clamp(min=1)
        losses: dict[str, Any] = {}
        for mine, its in self.pairs:
            weight = labels[mine].inputs[2].float().flatten()
            logits, deltas = [], []
            for tower, rows, size in zip(TOWERS, (logits, deltas), (head.cls_out_channels, 4), strict=True):
                taken = student.calls[self.points[tower]][mine].output
                middle, out = (common_part(x, student, teacher) for x in own[tower][its])
                rows += [rows_of_anchors(x, size) for x in (self._crossed(head, tower, taken, middle), out)]
            if self.classes:
                value = self.classes * quality_focal(*logits, weight, positive)
                losses['classes'] = losses.get('classes', 0.0) + value
            if self.boxes:
                size = student.calls[self.points['reg']][mine].output.shape[-2:]
                anchors = head.prior_generator.single_level_grid_priors(size, its, device=weight.device)
                anchors = anchors.repeat(len(weight) // len(anchors), 1)
                best = logits[1].sigmoid().amax(dim=1) * (weight > 0)
                boxes = (head.bbox_coder.decode(anchors, each) for each in deltas)
                boxes = (getattr(each, 'tensor', each) for each in boxes)
                losses['boxes'] = losses.get('boxes', 0.0) + self.boxes * giou(*boxes, best, positive)
        return over_processes({f'loss_{self.kind}_{name}': (value, positive) for name, value in losses.items()})

    def _own(self, head: Any, features: Sequence[Tensor]) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """The teacher's map in the middle and its output, of each tower and level."""
        found: dict[str, list[tuple[Tensor, Tensor]]] = {tower: [] for tower in TOWERS}
        for tower, pairs in found.items():
            convs = getattr(head, f'{tower}_convs')
            for x in features:
                for conv in convs[: self.after - 1]:
                    x = conv(x)
                middle = convs[self.after - 1](x, activate=False)
                pairs.append((middle, self._rest(head, tower, middle)))
        return found

    def _rest(self, head: Any, tower: str, middle: Tensor) -> Tensor:
        x = torch.relu(middle)
        for conv in getattr(head, f'{tower}_convs')[self.after :]:
            x = conv(x)
        return getattr(head, f'retina_{tower}')(x)

    def _crossed(self, head: Any, tower: str, taken: Tensor, middle: Tensor) -> Tensor:
        """What the teacher's last layers make of a student's map."""
        x = self.adaptors[tower](taken.float()) if tower in self.adaptors else taken
        with in_precision_of(taken):
            return self._rest(head, tower, align_scale(x, middle))
