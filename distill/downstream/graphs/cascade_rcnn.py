"""Cascade R-CNN and Cascade Mask R-CNN as a graph that can be exported: from an image to boxes, scores, labels, masks.

mmdet's own ``predict`` cannot be traced: it branches on what it finds. The graph computes the same, step by step, with
a fixed number of proposals and of objects: where there are fewer, the rest is filled up, and scores 0 in the end.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.downstream.graphs.preprocess import Preprocess

NONE = -1
"""Label of an entry that holds no object."""
WIDEST = 16 / 1000
"""mmdet's bound of how much wider or higher than the box before a box can be: 1 / 0.016."""


class CascadeGraph(nn.Module):
    """A cascade detector with its preprocessing and its postprocessing.

    Args:
        network: mmdet's `CascadeRCNN` in eval mode, see `check_cascade`.
        preprocess: Its preprocessing.

    Attributes:
        with_mask: Whether the graph returns masks.
        count: Number of objects that it returns, found or not.
    """

    def __init__(self, network: Any, preprocess: Preprocess):
        super().__init__()
        check_cascade(network)
        self.network, self.preprocess = network, preprocess
        self.with_mask: bool = network.roi_head.with_mask
        self.count: int = network.test_cfg.rcnn.max_per_img

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        return ('boxes', 'scores', 'labels', 'masks') if self.with_mask else ('boxes', 'scores', 'labels')

    def forward(self, images: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Find the objects of an image.

        Args:
            images: One image [1, 3, H, W] as `Preprocess` takes it, resized as the network wants it.
            size: Height and width in pixels of the image before it was resized, int64 [2].

        Returns:
            The objects, the surest first, in the pixels of the image before it was resized: left, top, right and bottom
            [1, N, 4]; scores [1, N], 0 where there is no object; labels, int64 [1, N], -1 there; and, of a detector
            with masks, the probability of each of 28 × 28 cells of a box to belong to the object [1, N, 28, 28].
        """
        # As a tensor: in a list, sizes that are dynamic would become constants.
        extent = torch.cat([images.new_full((1,), side, dtype=torch.float32) for side in images.shape[:1:-1]])
        scale = (size.flip(0) / extent).repeat(2)
        maps = self.network.extract_feat(self.preprocess(images))
        proposals, there = self.propose(maps, extent)
        scores, boxes = self.refine(maps, proposals, extent)
        scores = scores.masked_fill(~there[:, None], 0)
        # mmdet suppresses in the pixels of the image, except where masks are to come.
        boxes, scores, labels = self.choose(boxes if self.with_mask else boxes * scale, scores)
        if not self.with_mask:
            return boxes[None], scores[None], labels[None]
        masks = self.masks(maps, boxes, labels)
        return (boxes * scale)[None], scores[None], labels[None], masks[None]

    def propose(self, maps: tuple[Tensor, ...], extent: Tensor) -> tuple[Tensor, Tensor]:
        """mmdet's `RPNHead.predict_by_feat`: the best anchors of each level, refined, without those that overlap.

        Returns:
            Boxes [P, 4], and whether each is there, bool [P].
        """
        head, settings = self.network.rpn_head, self.network.test_cfg.rpn
        logits, deltas = head(maps)
        anchors = head.prior_generator.grid_priors([one.shape[-2:] for one in logits], device=logits[0].device)
        boxes, scores, levels = [], [], []
        for level, parts in enumerate(zip(logits, deltas, anchors, strict=True)):
            score, delta, anchor = self._best_anchors(*parts, settings.get('nms_pre', -1))
            boxes.append(decode(head.bbox_coder, anchor, delta, extent))
            scores.append(score)
            levels.append(torch.full_like(score, level))
        found, score, level = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        there = score >= 0
        if (least := settings.get('min_bbox_size', -1)) >= 0:
            there = there & ((found[:, 2:] - found[:, :2]) > least).all(1)
        # What is not there comes last, and suppresses nothing.
        score = torch.where(there, score, -1.0)
        kept = batched_nms(torch.where(there[:, None], found, 0), score, level, settings.nms.iou_threshold)
        places, filled = first(kept, settings.max_per_img)
        there = filled & (score[places] >= 0)
        return torch.where(there[:, None], found[places], 0), there

    def _best_anchors(self, logits: Tensor, deltas: Tensor, anchors: Tensor, most: int) -> tuple[Tensor, ...]:
        """Scores [K], deltas [K, 4] and anchors [K, 4] of the best anchors of a level; a score of -1 fills up."""
        head = self.network.rpn_head
        by_class = logits[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
        scores = by_class.sigmoid()[:, 0] if head.use_sigmoid_cls else by_class.softmax(-1)[:, 0]
        deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        if most <= 0:
            return scores, deltas, anchors
        # How many anchors a level has depends on the image, how many the graph looks at does not.
        scores, places = F.pad(scores, (0, most), value=-1.0).topk(most)
        places = torch.where(scores >= 0, places, 0)
        return scores, deltas[places], anchors[places]

    def refine(self, maps: tuple[Tensor, ...], boxes: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """mmdet's `CascadeRoIHead`: each stage refines the boxes of the one before, and all vote for the class.

        Returns:
            Scores [P, K], without the background's, and boxes [P, 4], or [P, K, 4] where each class has its own.
        """
        roi_head = self.network.roi_head
        votes = []
        for stage, (extractor, head) in enumerate(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True)):
            logits, deltas = head(pool(extractor, maps, boxes))
            votes.append(logits)
            if stage < roi_head.num_stages - 1:
                if not head.reg_class_agnostic:
                    deltas = of_class(deltas.unflatten(1, (-1, 4)), logits[:, :-1].argmax(1))
                boxes = decode(head.bbox_coder, boxes, deltas, extent)
        scores = (sum(votes) / len(votes)).softmax(-1)[:, :-1]
        if head.reg_class_agnostic:
            return scores, decode(head.bbox_coder, boxes, deltas, extent)
        return scores, decode(head.bbox_coder, boxes[:, None], deltas.unflatten(1, (-1, 4)), extent)

    def choose(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """mmdet's `multiclass_nms`: the sure ones, without those that overlap another of their class.

        Returns:
            Boxes [N, 4], scores [N] and labels [N], the surest first.
        """
        settings = self.network.test_cfg.rcnn
        # Scores of 0 stand for proposals that are not there.
        proposals, labels = (scores > max(settings.score_thr, 0)).nonzero().unbind(1)
        candidates = boxes[proposals] if boxes.ndim == 2 else boxes[proposals, labels]
        sure = scores[proposals, labels]
        kept = batched_nms(candidates, sure, labels, settings.nms.iou_threshold)
        # A row of nothing in front, so that there is something to fill up with.
        places, filled = first(kept + 1, self.count)
        places = torch.where(filled, places, 0)
        return (
            F.pad(candidates, (0, 0, 1, 0))[places],
            F.pad(sure, (1, 0))[places],
            F.pad(labels, (1, 0), value=NONE)[places],
        )

    def masks(self, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """mmdet's `CascadeRoIHead.predict_mask` without pasting: the mean of the stages' masks [N, M, M]."""
        roi_head = self.network.roi_head
        stages = [
            head(pool(extractor, maps, boxes)).sigmoid()
            for extractor, head in zip(roi_head.mask_roi_extractor, roi_head.mask_head, strict=True)
        ]
        mean = torch.stack(stages).mean(0)
        return mean[:, 0] if roi_head.mask_head[-1].class_agnostic else of_class(mean, labels.clamp(min=0))


def decode(coder: Any, boxes: Tensor, deltas: Tensor, extent: Tensor) -> Tensor:
    """mmdet's `delta2bbox`: move and scale boxes [..., 4] by what a head predicts, and cut them to the image."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    middle, sides = (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]
    most = abs(torch.tensor(WIDEST, dtype=torch.float64).log().item())
    middle = middle + sides * deltas[..., :2]
    sides = sides * deltas[..., 2:].clamp(min=-most, max=most).exp()
    corners = torch.stack([middle - sides * 0.5, middle + sides * 0.5], -2)
    if coder.clip_border:
        corners = torch.minimum(corners.clamp(min=0), extent)
    return corners.flatten(-2)


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """mmcv's `batched_nms`: suppress boxes [N, 4] within each of the groups [N], which are moved apart for it.

    Returns:
        The places of the boxes that are kept, the surest first.
    """
    apart = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max() + 1
    # mmcv compares in single precision.
    threshold = torch.tensor(threshold, dtype=torch.float32).item()
    return torch.ops.torchvision.nms(boxes + (groups.to(boxes) * apart)[:, None], scores, threshold)


def first(places: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first so many places, filled up with zeros, and whether each is one of them, bool [count]."""
    filled = torch.cat([places, places.new_zeros(count)])[:count]
    return filled, torch.arange(count, device=places.device) < places.shape[0]


def of_class(values: Tensor, labels: Tensor) -> Tensor:
    """What values [N, K, ...] say of the class of each of N: [N, ...]."""
    return values[torch.arange(len(labels), device=labels.device), labels]


def pool(extractor: Any, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """mmdet's `SingleRoIExtractor`: RoIAlign of each box on the map that fits its size.

    Args:
        extractor: Says which map fits.
        maps: Feature maps, of which the extractor takes the first ones.
        boxes: [P, 4], in pixels of the image.

    Returns:
        [P, C, M, M].
    """
    rois = F.pad(boxes, (1, 0))  # Each box is of image 0.
    layers = extractor.roi_layers
    if len(layers) == 1:
        return align(layers[0], maps[0], rois)
    levels = extractor.map_roi_levels(rois, len(layers))
    pooled, place, start = [], torch.zeros_like(levels), torch.zeros((), dtype=torch.int64, device=levels.device)
    for level, layer in enumerate(layers):
        mine = levels == level
        # One more, so that no level is without any: not every engine takes that.
        rows = F.pad(mine.nonzero()[:, 0], (1, 0))
        pooled.append(align(layer, maps[level], rois[rows]))
        place = torch.where(mine, start + mine.cumsum(0), place)
        start = start + mine.sum() + 1
    return torch.cat(pooled)[place]


def align(layer: Any, map_: Tensor, rois: Tensor) -> Tensor:
    """mmcv's `RoIAlign` by torchvision's kernel."""
    return torch.ops.torchvision.roi_align(
        map_, rois, layer.spatial_scale, *layer.output_size, layer.sampling_ratio, layer.aligned
    )


def check_cascade(network: Any) -> None:
    """Check that a detector is one that `CascadeGraph` computes as mmdet does.

    Raises:
        ValueError: It is none; the message says what differs.
    """
    kind = type(network).__name__
    if kind != 'CascadeRCNN':
        raise ValueError(f'a {kind} cannot be exported; choose a CascadeRCNN, with or without masks')
    roi_head, settings = network.roi_head, network.test_cfg
    heads = list(roi_head.bbox_head)
    coders = [network.rpn_head.bbox_coder, *(head.bbox_coder for head in heads)]
    extractors = [*roi_head.bbox_roi_extractor, *(roi_head.mask_roi_extractor if roi_head.with_mask else [])]
    reasons = {
        'rpn_head': type(network.rpn_head).__name__ != 'RPNHead',
        'roi_head': type(roi_head).__name__ != 'CascadeRoIHead' or roi_head.with_shared_head,
        'bbox_coder': any(type(one).__name__ != 'DeltaXYWHBBoxCoder' or one.add_ctr_clamp for one in coders),
        'roi_extractor': any(type(one).__name__ != 'SingleRoIExtractor' for one in extractors),
        'roi_layer': any(layer.pool_mode != 'avg' for one in extractors for layer in one.roi_layers),
        'loss_cls': any(head.custom_activation or head.custom_cls_channels for head in heads),
        'mask_head': roi_head.with_mask and any(type(one).__name__ != 'FCNMaskHead' for one in roi_head.mask_head),
        'nms': any(one.nms.get('type', 'nms') != 'nms' for one in (settings.rpn, settings.rcnn)),
        'max_per_img': min(settings.rpn.max_per_img, settings.rcnn.max_per_img) < 1,
    }
    if wrong := [name for name, differs in reasons.items() if differs]:
        raise ValueError(f"the detector's {wrong[0]} is of a kind that cannot be exported; see docs/deploy_dense.md")
