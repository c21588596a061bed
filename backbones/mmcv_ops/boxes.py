"""Overlap of upright boxes and the suppressions built on it: nms, soft-nms, nms_match and bbox_overlaps; and of lanes.

Conventions of mmcv 2.1, ``ops/csrc/pytorch/cpu/{nms,bbox_overlaps_cpu}.cpp``; onedl-mmcv has the one on lanes.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.mmcv_ops.common import BUDGET, full, kernels


def bbox_overlaps(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int) -> None:
    """Overlap of every pair of boxes, into ``ious``.

    Args:
        bboxes1: Corners x1, y1, x2, y2 [M, 4].
        bboxes2: Corners [N, 4].
        ious: Receives the overlaps [M, N], or [M] if aligned.
        mode: 0 intersection over union, 1 intersection over the area of the first.
        aligned: Compare row by row (M = N) instead of all pairs.
        offset: 1 counts pixels, so that a box is x2 - x1 + 1 wide; 0 measures lengths.
    """
    a, b = full(bboxes1) if aligned else full(bboxes1)[:, None], full(bboxes2)
    extent = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + offset
    shared = extent.clamp(min=0).prod(-1)
    area_a, area_b = ((boxes[..., 2:] - boxes[..., :2] + offset).prod(-1) for boxes in (a, b))
    ious.copy_(shared / (area_a if mode == 1 else area_a + area_b - shared))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: Corners x1, y1, x2, y2 [N, 4].
        scores: [N].
        iou_threshold: A box is dropped if its IoU with a better box is above this.
        offset: As in :func:`bbox_overlaps`.

    Returns:
        Indices of the boxes that are kept, best first.
    """
    # A box counted in pixels is as wide as one measured in lengths whose far corner is moved by one.
    boxes = full(boxes) + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in single precision and torchvision in double, where float32(0.3) is above 0.3.
    iou_threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    return kernels.nms(boxes, scores.to(boxes), iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., ICCV 2017): neighbours of a better box lose score instead of being dropped at once.

    Args:
        boxes: Corners [N, 4]; mmcv moves all arguments to the CPU.
        scores: [N].
        dets: Receives box and decayed score [N, 5], in the order of selection; rows beyond are left alone.
        iou_threshold: Overlap from which a neighbour is decayed (naive, linear).
        sigma: Width of the Gaussian decay exp(-IoU² / sigma).
        min_score: A neighbour whose score decays below this is dropped.
        method: 0 naive (score 0), 1 linear (× 1 - IoU), 2 Gaussian.
        offset: As in :func:`bbox_overlaps`.

    Returns:
        Indices of the boxes that are kept, in the order of selection.
    """
    corners, decayed = (full(x.detach()).numpy() for x in (boxes, scores.clone()))
    left: np.ndarray = np.arange(len(corners))
    chosen = []
    while len(left):
        place = decayed[left].argmax()
        best = left[place]
        chosen.append(best)
        left[place] = left[0]
        left = left[1:]

        iou = _iou(corners[best], corners[left], offset)
        if method == 2:
            decayed[left] *= np.exp(-(iou**2) / sigma)
        else:
            decayed[left] *= np.where(iou >= iou_threshold, 1 - iou if method == 1 else 0, 1)
        left = _drop(left, decayed[left] < min_score)
    kept = torch.from_numpy(np.array(chosen, dtype=np.int64))
    dets[: len(kept)] = torch.cat((boxes[kept], torch.from_numpy(decayed)[kept, None].to(boxes)), 1)
    return kept


def _drop(left: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Remove entries of ``left`` and fill each gap from the end: equal scores are then selected in mmcv's order."""
    size = len(left) - gone.sum()
    remaining = left[:size].copy()
    remaining[gone[:size]] = left[size:][~gone[size:]][::-1]
    return remaining


def _iou(box: np.ndarray, others: np.ndarray, offset: int) -> np.ndarray:
    """Intersection over union of a box [4] and others [N, 4], 0 where neither has an area."""
    extent = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]) + offset
    shared = extent.clip(min=0).prod(1)
    union = (box[2:] - box[:2] + offset).prod() + (others[:, 2:] - others[:, :2] + offset).prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy suppression that names the boxes that each kept box suppresses.

    Args:
        dets: Corners and score [N, 5]; mmcv moves them to the CPU.
        iou_threshold: A box is dropped if its IoU with a better box is at least this.

    Returns:
        A group for each box that is kept, best first: its index and those of the boxes that it suppresses.
    """
    boxes = full(dets.detach()).numpy()
    left, groups = np.argsort(-boxes[:, 4], kind='stable'), []
    while len(left):
        best, left = left[0], left[1:]
        joins = _iou(boxes[best, :4], boxes[left, :4], 0) >= iou_threshold
        groups.append([int(best), *left[joins].tolist()])
        left = left[~joins]
    return groups


def line_nms_forward(boxes: Tensor, scores: Tensor, overlap: float, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy suppression of lanes (Zheng et al., "CLRNet", CVPR 2022).

    Differs from onedl-mmcv 2.3: its kernel compares the lane at a position of the unsorted list where CLRNet's own
    compares the lane at that rank, so that a lane can suppress a better one.

    Args:
        boxes: Two scores, the first row of a lane from 0 to 1, a coordinate, the number of rows, and x in pixels at
            each row of the image's grid [N, 5 + rows].
        scores: [N].
        overlap: A lane is dropped if its mean distance in x from a better lane, over the rows of both, is below this.
        top_k: Lanes to keep at most.

    Returns:
        Indices of the lanes that are kept, best first, then zeros [N]; their number []; and for each lane the rank,
        from 1, of the last kept lane that it is or is close to, 0 if there is none [N].
    """
    order = scores.argsort(descending=True, stable=True)
    lanes, count = full(boxes)[order], boxes.shape[1] - 5
    first = (lanes[:, 2] * (count - 1) + 0.5).long()
    last = first + lanes[:, 4].long() - 1
    close = torch.zeros(len(lanes), len(lanes), dtype=torch.bool)
    rows = torch.arange(count, device=lanes.device)
    for some in torch.arange(len(lanes), device=lanes.device).split(max(1, BUDGET // max(1, len(lanes) * count))):
        start = torch.maximum(first[some, None], first)
        end = torch.minimum(last[some, None], last).clamp(max=count - 1)
        both = (rows >= start[..., None]) & (rows <= end[..., None])
        distance = torch.where(both, (lanes[some, None, 5:] - lanes[:, 5:]).abs(), 0).sum(-1)
        close[some.cpu()] = ((distance < overlap * (end - start + 1)) & (start >= 0) & (end >= start)).cpu()

    chosen: list[int] = []
    parents = torch.zeros(len(lanes), dtype=torch.long)
    gone = torch.zeros(len(lanes), dtype=torch.bool)
    for lane in range(len(lanes)):
        if gone[lane] or len(chosen) == top_k:
            continue
        chosen.append(lane)
        rivals = close[lane] & (torch.arange(len(lanes)) > lane)
        gone |= rivals
        rivals[lane] = True
        parents[rivals] = len(chosen)
    keep, by_lane = torch.zeros_like(order), torch.zeros_like(order)
    keep[: len(chosen)] = order[chosen]
    by_lane[order] = parents.to(order)
    return keep, order.new_tensor(len(chosen)), by_lane
