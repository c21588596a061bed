"""Overlap and suppression of rotated boxes.

Conventions of mmcv 2.1, ``ops/csrc/common/box_iou_rotated_utils.hpp`` and ``ops/csrc/pytorch/nms_rotated.cpp``:
a box is x and y of its centre, width, height and the angle in radians from x towards y.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

PAIRS = 1 << 16
"""Pairs of boxes that are compared at a time; a pair takes about 1 kB."""


@torch.no_grad()
def box_iou_rotated(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Overlap of rotated boxes, into ``ious``.

    Args:
        boxes1: [M, 5].
        boxes2: [N, 5].
        ious: Receives the overlaps [M * N], or [M] if aligned.
        mode_flag: 0 intersection over union, 1 intersection over the area of the first.
        aligned: Compare row by row (M = N) instead of all pairs.
    """
    if aligned:
        for a, b, target in zip(*(x.split(PAIRS) for x in (boxes1, boxes2, ious)), strict=True):
            target.copy_(_overlap(a, b, of_first=mode_flag == 1))
        return
    ious.zero_()
    for i, j in _close_pairs(boxes1, boxes2):
        ious[i * len(boxes2) + j] = _overlap(boxes1[i], boxes2[j], of_first=mode_flag == 1).to(ious)


@torch.no_grad()
def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Greedy non-maximum suppression of rotated boxes.

    Args:
        dets: Boxes, and a label if ``multi_label`` [N, 5 or 6].
        scores: [N].
        order: Indices from the best to the worst [N].
        dets_sorted: ``dets`` in that order [N, 5 or 6].
        labels: [N] or empty, unused: in mmcv too, boxes of different labels suppress one another.
        iou_threshold: A box is dropped if its IoU with a better box is above this.
        multi_label: Whether ``dets`` have a label.

    Returns:
        Indices of the boxes that are kept, best first.
    """
    boxes = dets_sorted[:, :5]
    pairs = [torch.zeros(2, 0, dtype=torch.long)]
    for i, j in _close_pairs(boxes, boxes):
        i, j = i[i < j], j[i < j]
        above = _overlap(boxes[i], boxes[j]) > iou_threshold
        pairs.append(torch.stack((i[above], j[above])).cpu())
    better, worse = torch.cat(pairs, 1)
    keep = torch.ones(len(boxes), dtype=torch.bool)
    for box, rivals in enumerate(worse.split(better.bincount(minlength=len(boxes)).tolist())):
        if keep[box]:
            keep[rivals] = False
    return order[keep.to(order.device)]


def _close_pairs(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices of the boxes whose circumscribed circles meet, by index of the first, in pieces of :data:`PAIRS`."""
    reach_a, reach_b = (boxes[:, 2:4].double().norm(dim=1) / 2 for boxes in (a, b))
    step = max(1, PAIRS // max(1, len(b)))
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        distance = (a[part, None, :2].double() - b[:, :2]).norm(dim=-1)
        i, j = (distance <= reach_a[part, None] + reach_b).nonzero(as_tuple=True)
        yield i + start, j


def _overlap(a: Tensor, b: Tensor, of_first: bool = False) -> Tensor:
    """Intersection over union, or over the first box's area, of pairs of boxes [P, 5]; 0 if one has no area."""
    a, b = a.double(), b.double()
    shared = _intersection(a, b)
    area_a, area_b = (boxes[:, 2] * boxes[:, 3] for boxes in (a, b))
    overlap = shared / (area_a if of_first else area_a + area_b - shared)
    return torch.where((area_a < 1e-14) | (area_b < 1e-14), 0, overlap)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """Area that pairs of rotated boxes [P, 5] share.

    In the coordinates of b, b is the rectangle |x| ≤ w / 2, |y| ≤ h / 2. The shared area is the integral over these y
    of the slices of a, cut to these x: the sum over the edges of a of ∫ clamp(x) dy. Between the points where an edge
    crosses a side of b, clamp(x) is linear, so that trapezoids give the exact value. The method never decides whether
    a vertex is inside or outside, and so the area does not jump where sides coincide.
    """
    centre = _rotate(a[:, :2] - b[:, :2], -b[:, 4])
    signs = a.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    corners = centre[:, None] + _rotate(signs * a[:, None, 2:4] / 2, (a[:, 4] - b[:, 4])[:, None])  # [P, 4, 2]
    (x, y), (dx, dy) = corners.unbind(-1), (corners.roll(-1, 1) - corners).unbind(-1)
    half_w, half_h = b[:, 2, None] / 2, b[:, 3, None] / 2

    start, end = _crossings(y, dy, half_h)
    bends = [torch.minimum(torch.maximum(t, start), end) for t in _crossings(x, dx, half_w)]
    t = torch.stack((start, *bends, end))  # positions along each edge [4, P, 4]
    x = torch.minimum(torch.maximum(x + t * dx, -half_w), half_w)
    return ((x[1:] + x[:-1]) / 2 * t.diff(dim=0) * dy).sum((0, 2)).clamp(min=0)


def _crossings(start: Tensor, along: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Positions on edges where they cross -half and half, the earlier one first, from 0 to 1 [P, 4] each."""
    # An edge parallel to the side divides by 0: ±∞ is cut to the end of the edge, and for 0 / 0 any position serves.
    crossings = [((side - start) / along).nan_to_num(0).clamp(0, 1) for side in (-half, half)]
    return torch.minimum(*crossings), torch.maximum(*crossings)


def _rotate(points: Tensor, angle: Tensor) -> Tensor:
    """Points [..., 2] turned by the angle [...] from x towards y."""
    x, y = points.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack((x * cos - y * sin, x * sin + y * cos), -1)
