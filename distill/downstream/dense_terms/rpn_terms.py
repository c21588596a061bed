"""A term on region proposals: objectness and boxes of every anchor."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from distill.downstream.dense_terms.anchors import rows_of_anchors, same_anchors
from distill.downstream.dense_terms.base import DenseTerm, Network, Pass
from distill.downstream.dense_terms.feature_terms import common_part
from distill.downstream.dense_terms.heads import (
    check_factors,
    of_teacher,
    only_call,
    over_processes,
    same_coder,
    the_module,
)
from distill.losses.dense.regions import objectness, weighted_l1


class RPNTerm(DenseTerm):
    """What the two region proposal networks say about the same anchors: ``dict(type='rpn')``.

    objectness · Σ BCE(p, y) abs(p − y)^β / Σ y + boxes · Σ y ‖d_s − d_t‖₁ / (4 Σ y), over all anchors of all levels and
    images, with p and y the student's and the teacher's objectness and d their box deltas. Both parts are 0 where the
    two agree. Anchors on the padding take part. See `distill.losses.dense.regions`; no published setting has this form
    (the idea is that of Chen et al., "Learning Efficient Object Detection Models with Knowledge Distillation", 2017).

    The levels are paired by stride; both networks must have the same anchors there.

    Args:
        type: ``rpn``.
        objectness: Factor of the objectness.
        boxes: Factor of the boxes.
        beta: β.
        strides: Strides of the levels; by default all that both have.
        weight: Factor of the term.
        schedule: See `DenseTerm`.
    """

    def __init__(
        self,
        type: str = 'rpn',
        objectness: float = 1.0,
        boxes: float = 1.0,
        beta: float = 1.0,
        strides: Sequence[int] = (),
        weight: float = 1.0,
        schedule: Sequence[Sequence[float]] = (),
    ):
        super().__init__(type, weight, schedule)
        check_factors(type, objectness=objectness, boxes=boxes)
        self.objectness, self.boxes, self.beta, self.strides = objectness, boxes, beta, tuple(strides)
        self.pairs: list[tuple[int, int]] = []

    def watched(self, student: Any) -> Sequence[str]:
        """The student's RPN."""
        return ['rpn_head']

    def connect(self, student: Network, teacher: Network) -> None:
        """Pair the levels and compare the anchors."""
        heads = [the_module(network, 'rpn_head', ['RPNHead'], self.name) for network in (student, teacher)]
        self.pairs = same_anchors(heads, (student, teacher), self.strides, self.name)
        if not all(head.use_sigmoid_cls for head in heads):
            raise ValueError(f'loss {self.name} needs objectness as a sigmoid; set use_sigmoid=True in loss_cls')
        if self.boxes:
            same_coder(heads[0].bbox_coder, heads[1].bbox_coder, self.name, 'RPN')

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """The terms of objectness and of boxes."""
        mine = only_call(student, 'rpn_head', self.name).output
        its = of_teacher(teacher, 'rpn_head', lambda: teacher.detector.rpn_head(teacher.features))
        scores, deltas = [], []
        for of_student, of_teacher_ in self.pairs:
            maps = [(mine[i][of_student], common_part(its[i][of_teacher_], student, teacher)) for i in (0, 1)]
            scores.append([rows_of_anchors(x, 1)[:, 0] for x in maps[0]])
            deltas.append([rows_of_anchors(x, 4) for x in maps[1]])
        of_student, of_teacher_ = (torch.cat(levels) for levels in zip(*scores, strict=True))
        objects = of_teacher_.sigmoid()
        losses = {}
        if self.objectness:
            losses['loss_rpn_objectness'] = self.objectness * objectness(of_student, of_teacher_, self.beta)
        if self.boxes:
            boxes = (torch.cat(levels) for levels in zip(*deltas, strict=True))
            losses['loss_rpn_boxes'] = self.boxes * weighted_l1(*boxes, objects)
        return over_processes({name: (loss, objects.sum()) for name, loss in losses.items()})
