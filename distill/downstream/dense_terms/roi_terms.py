"""Terms on the second stage of a detector: both networks look at the student's proposals."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.downstream.dense_terms.base import DenseTerm, Network, Pass
from distill.downstream.dense_terms.heads import (
    check_factors,
    in_precision_of,
    of_teacher,
    only_call,
    over_processes,
    same_coder,
)
from distill.downstream.dense_terms.roi_heads import RoIHeads, in_order
from distill.losses.dense.regions import mask_kl, roi_classes, roi_deltas
from distill.losses.logits import dist, dkd

CLASS_LOSSES = ('kl', 'dist', 'dkd')


class RoITerm(DenseTerm):
    """What the two heads say about the proposals that the student has sampled: ``dict(type='roi')``.

    In each stage of a cascade, the student's proposals of that stage (labelled boxes among them) also go through the
    teacher's head of the same stage, on the teacher's own maps. Compared are

    - classes, with the background among them: T² mean over proposals of Σ_k q_k (log q_k − log p_k), or DIST or DKD;
    - boxes: Σ w ‖d_s − d_t‖₁ / (4 Σ w), the deltas of the teacher's most probable class but the background, and w its
      probability;
    - masks, on the positive proposals, of the labelled class: T² mean over proposals and pixels of the KL divergence
      of the two outcomes.

    Each is a sum over the stages. Where the networks agree all are 0. Published: DIST on the classes of the first stage
    of a cascade with a weight of 1; DKD with α 1, β 0.25 and T 1; neither for a Cascade R-CNN as the student.

    Args:
        type: ``roi``.
        classes: Factor of the classes.
        boxes: Factor of the boxes.
        masks: Factor of the masks; off by default.
        class_loss: How classes are compared: ``kl``, ``dist`` or ``dkd``.
        temperature: T of the classes and masks.
        alpha: DKD's weight of target against the rest.
        beta: DKD's weight of the other classes.
        stages: Stages of the cascade, from 0; by default all of the student's.
        weight: Factor of the term.
        schedule: See `DenseTerm`.
    """

    needs_classes = True

    def __init__(
        self,
        type: str = 'roi',
        classes: float = 1.0,
        boxes: float = 1.0,
        masks: float = 0.0,
        class_loss: str = 'kl',
        temperature: float = 1.0,
        alpha: float = 1.0,
        beta: float = 0.25,
        stages: Sequence[int] = (),
        weight: float = 1.0,
        schedule: Sequence[Sequence[float]] = (),
    ):
        super().__init__(type, weight, schedule)
        check_factors(type, classes=classes, boxes=boxes, masks=masks)
        if class_loss not in CLASS_LOSSES:
            raise ValueError(f"loss {type} has class_loss='{class_loss}'; choose from {', '.join(CLASS_LOSSES)}")
        self.classes, self.boxes, self.masks, self.class_loss = classes, boxes, masks, class_loss
        self.temperature, self.alpha, self.beta = temperature, alpha, beta
        self.stages = tuple(stages)

    def watched(self, student: nn.Module) -> Sequence[str]:
        """Extractors and heads of the compared stages, and what is given the labels."""
        heads = RoIHeads.of(student)
        names = []
        for stage in self.stages or range(heads.stages):
            names += [heads.name('bbox_roi_extractor', stage), heads.name('bbox_head', stage)]
            names += [heads.name('bbox_head', stage) + '.loss_cls'] if self.class_loss == 'dkd' else []
            if self.masks:
                names += [heads.name(part, stage) for part in ('mask_roi_extractor', 'mask_head')]
                names += [heads.name('mask_head', stage) + '.loss_mask']
        return names

    def connect(self, student: Network, teacher: Network) -> None:
        """Compare the heads."""
        mine, its = (RoIHeads.checked(network, self.name, bool(self.masks)) for network in (student, teacher))
        self.stages = mine.common_stages(its, self.stages, self.name)
        for stage in self.stages:
            heads = mine.head('bbox_head', stage), its.head('bbox_head', stage)
            if self.boxes:
                same_coder(heads[0].bbox_coder, heads[1].bbox_coder, self.name, f'box head of stage {stage}')
            agnostic = self.masks and [h.head('mask_head', stage).class_agnostic for h in (mine, its)]
            if agnostic == [True, False]:
                raise ValueError(
                    f"loss {self.name} compares masks; the student's have no classes and the teacher's do; set masks=0"
                )
            counts = [head.num_classes for head in heads]
            if counts[0] != counts[1]:
                raise ValueError(
                    f'loss {self.name} compares classes, of which the student has {counts[0]} and the teacher '
                    f'{counts[1]}; use crosskd_roi, which compares those of the teacher alone'
                )

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """The terms of every stage."""
        losses: dict[str, tuple[Tensor, Tensor | float]] = {}
        for stage in self.stages:
            if RoIHeads.of(student.detector).name('bbox_head', stage) in student.calls:
                found = self._boxes(stage, student, teacher) if self.classes or self.boxes else {}
                if self.masks:
                    loss, count = self._masks(stage, student, teacher)
                    found['masks'] = self.masks * loss, count
            else:
                found = nothing_left(student, classes=self.classes, boxes=self.boxes, masks=self.masks)
            losses |= {f'loss_{self.kind}_{part}_s{stage}': pair for part, pair in found.items()}
        return over_processes(losses)

    def _boxes(self, stage: int, student: Pass, teacher: Pass) -> dict[str, tuple[Tensor, Tensor | float]]:
        heads = RoIHeads.of(student.detector)
        name = heads.name('bbox_head', stage)
        scores, deltas = only_call(student, name, self.name).output
        rois = student.calls[heads.name('bbox_roi_extractor', stage)][0].inputs[1]
        its_scores, its_deltas = boxes_of_teacher(teacher, stage, rois)
        its_scores, its_deltas = in_order(its_scores, its_deltas, teacher.places)
        losses: dict[str, tuple[Tensor, Tensor | float]] = {}
        if self.classes:
            if self.class_loss == 'kl':
                loss = roi_classes(scores, its_scores, self.temperature)
            elif self.class_loss == 'dist':
                loss = dist(scores, its_scores.float(), temperature=self.temperature)
            else:
                labels = only_call(student, f'{name}.loss_cls', self.name).inputs[1]
                loss = dkd(scores, its_scores, labels, self.alpha, self.beta, self.temperature)
            losses['classes'] = self.classes * loss, len(rois)
        if self.boxes:
            losses['boxes'] = self.boxes * roi_deltas(deltas, its_deltas, its_scores), best_of(its_scores).sum()
        return losses

    def _masks(self, stage: int, student: Pass, teacher: Pass) -> tuple[Tensor, float]:
        heads = RoIHeads.of(student.detector)
        name = heads.name('mask_head', stage)
        masks = only_call(student, name, self.name).output
        if not len(masks):
            # Without an object in the batch; the sum keeps the parameters in the graph of every process.
            return masks.float().sum() * 0, 0
        rois = student.calls[heads.name('mask_roi_extractor', stage)][0].inputs[1]
        labels = only_call(student, f'{name}.loss_mask', self.name).inputs[2]
        theirs = RoIHeads.of(teacher.detector)
        its = of_teacher(
            teacher, f'masks of stage {stage}', lambda: theirs.forward('mask', stage, teacher.features, rois)
        )['mask_preds'].float()
        its_labels = labels if teacher.places is None else teacher.places.to(labels.device)[labels]
        row = torch.arange(len(masks), device=masks.device)
        its = its[:, 0] if its.shape[1] == 1 else its[row, its_labels]
        masks = masks[:, 0] if masks.shape[1] == 1 else masks[row, labels]
        if its.shape[-2:] != masks.shape[-2:]:
            its = F.interpolate(its[:, None], masks.shape[-2:], mode='bilinear', align_corners=False)[:, 0]
        return mask_kl(masks, its, self.temperature), len(masks)


class CrossRoITerm(DenseTerm):
    """CrossKD for two stages: the teacher's head reads the student's maps: ``dict(type='crosskd_roi')``.

    In each stage of a cascade, the teacher's head of that stage reads the student's proposals of that stage twice, on
    the student's maps and on the teacher's own. Compared are classes and boxes as in `RoITerm`. The student's own heads
    get no gradient from it, its neck and backbone do, through the teacher's frozen head. The classes are the teacher's
    on both sides, so that the two networks may have different ones.

    The maps are those that the teacher's head reads, by stride, and not rescaled; where widths differ, a 1 × 1
    convolution of each map is trained along. The loss is not 0 for equal heads, but for equal maps.

    The defaults are those of the authors' branch for Faster R-CNN, for which no result is published; one head a stage
    is the extension to cascades.

    Args:
        type: ``crosskd_roi``.
        classes: Factor of the classes.
        boxes: Factor of the boxes.
        temperature: T of the classes.
        stages: Stages of the cascade, from 0; by default all of the student's.
        weight: Factor of the term.
        schedule: See `DenseTerm`.
    """

    def __init__(
        self,
        type: str = 'crosskd_roi',
        classes: float = 0.5,
        boxes: float = 1.0,
        temperature: float = 3.0,
        stages: Sequence[int] = (),
        weight: float = 1.0,
        schedule: Sequence[Sequence[float]] = (),
    ):
        super().__init__(type, weight, schedule)
        check_factors(type, classes=classes, boxes=boxes)
        self.classes, self.boxes, self.temperature, self.stages = classes, boxes, temperature, tuple(stages)
        self.adaptors = nn.ModuleDict()

    def watched(self, student: nn.Module) -> Sequence[str]:
        """The extractors of the compared stages, which are given the proposals."""
        heads = RoIHeads.of(student)
        return [heads.name('bbox_roi_extractor', stage) for stage in self.stages or range(heads.stages)]

    def connect(self, student: Network, teacher: Network) -> None:
        """Find the maps that the teacher's heads read, and make the 1 × 1 convolutions."""
        mine, its = (RoIHeads.checked(network, self.name) for network in (student, teacher))
        self.stages = mine.common_stages(its, self.stages, self.name)
        for stage in self.stages:
            for stride in its.strides(stage):
                if stride not in teacher.levels:
                    raise ValueError(
                        f'loss {self.name}: the head of {teacher.name} says that it reads maps of stride {stride}, and '
                        f'its neck has {", ".join(map(str, teacher.levels))}; correct its featmap_strides'
                    )
                if stride not in student.levels:
                    raise ValueError(
                        f'loss {self.name} gives the head of the teacher maps of stride {stride}, and the neck of the '
                        f'student has {", ".join(map(str, student.levels)) or "none"}; drop the loss or make such a map'
                    )
                chs = student.levels[stride].channels, teacher.levels[stride].channels
                if chs[0] != chs[1] and str(stride) not in self.adaptors:
                    self.adaptors[str(stride)] = nn.Conv2d(*chs, 1)

    def forward(self, student: Pass, teacher: Pass) -> dict[str, Tensor]:
        """The terms of every stage."""
        mine, its = RoIHeads.of(student.detector), RoIHeads.of(teacher.detector)
        losses: dict[str, tuple[Tensor, Tensor | float]] = {}
        for stage in self.stages:
            if calls := student.calls.get(mine.name('bbox_roi_extractor', stage)):
                found = self._crossed(its, stage, calls[0].inputs[1], student, teacher)
            else:
                found = nothing_left(student, classes=self.classes, boxes=self.boxes)
            losses |= {f'loss_{self.kind}_{part}_s{stage}': pair for part, pair in found.items()}
        return over_processes(losses)

    def _crossed(
        self, heads: RoIHeads, stage: int, rois: Tensor, student: Pass, teacher: Pass
    ) -> dict[str, tuple[Tensor, Tensor | float]]:
        maps = [self._map(student.levels[stride], stride) for stride in heads.strides(stage)]
        with in_precision_of(maps[0]):
            crossed = heads.forward('bbox', stage, tuple(maps), rois)
        scores, deltas = boxes_of_teacher(teacher, stage, rois)
        found: dict[str, tuple[Tensor, Tensor | float]] = {}
        if self.classes:
            found['classes'] = self.classes * roi_classes(crossed['cls_score'], scores, self.temperature), len(rois)
        if self.boxes:
            found['boxes'] = self.boxes * roi_deltas(crossed['bbox_pred'], deltas, scores), best_of(scores).sum()
        return found

    def _map(self, x: Tensor, stride: int) -> Tensor:
        if str(stride) not in self.adaptors:
            return x
        # The convolution is computed outside autocast, in fp32; the teacher's head goes on in the student's precision.
        return self.adaptors[str(stride)](x.float()).to(x.dtype)


def nothing_left(student: Pass, **factors: float) -> dict[str, tuple[Tensor, Tensor | float]]:
    """The parts of a stage that was not reached: mmdet ends a cascade where no proposal is left for the next one."""
    return {part: (student.inputs.new_zeros(()), 0.0) for part, factor in factors.items() if factor}


def best_of(scores: Tensor) -> Tensor:
    """Probability of the best class but the background, [R], by which boxes are weighted."""
    return scores.softmax(dim=1)[:, :-1].amax(dim=1)


def boxes_of_teacher(teacher: Pass, stage: int, rois: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's logits and deltas of the student's proposals, from its own maps.

    Args:
        teacher: The teacher's run.
        stage: Stage of the cascade.
        rois: Proposals [R, 5], the image's place in the batch and (x1, y1, x2, y2) in pixels of the batch.

    Returns:
        Logits [R, K + 1] and deltas [R, 4 K] or [R, 4].
    """
    heads = RoIHeads.of(teacher.detector)
    found = of_teacher(teacher, f'boxes of stage {stage}', lambda: heads.forward('bbox', stage, teacher.features, rois))
    return found['cls_score'].float(), found['bbox_pred'].float()
