"""How far what an artefact finds in images is from what its model finds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from distill.engines.scenes import Objects

SAME = 0.9
"""IoU from which on two boxes of one class are the same object."""


@dataclass(frozen=True)
class SceneComparison:
    """Objects or labels against those that are expected.

    Attributes:
        agreement: Share of objects that have a partner of the same class whose box has an IoU of 0.9; or of pixels that
            have the same label.
        max_difference: The largest difference of a score, or of a side of a box relative to the image's longer side,
            among partners; for labels the share of pixels that differ, in the worst image.
        mean_difference: The mean of the same.
        count: Objects or pixels that were expected.
        details: More of a detector, for the manifest.
    """

    agreement: float
    max_difference: float
    mean_difference: float
    count: int
    details: dict = field(default_factory=dict)


def partners(found: Objects, expected: Objects) -> list[tuple[int, int]]:
    """Pairs of the same object, each in at most one: its place among those that were found and were expected."""
    pairs, left = [], set(range(len(found.scores)))
    overlaps = ious(expected.boxes, found.boxes)
    for place, label in enumerate(expected.labels):
        rivals = [k for k in left if found.labels[k] == label and overlaps[place, k] >= SAME]
        if rivals:
            best = rivals[int(overlaps[place, rivals].argmax())]
            left.discard(best)
            pairs.append((best, place))
    return pairs


def compare_objects(
    found: Sequence[Objects], expected: Sequence[Objects], sizes: Sequence[tuple[int, int]]
) -> SceneComparison:
    """Compare the objects of images with those that are expected.

    Args:
        found: Of each image.
        expected: Of each image.
        sizes: Height and width of each image.
    """
    scores, boxes, masks, matched, total = [0.0], [0.0], [], 0, 0
    for one, other, size in zip(found, expected, sizes, strict=True):
        pairs = partners(one, other)
        matched, total = matched + 2 * len(pairs), total + len(one.scores) + len(other.scores)
        places = [list(part) for part in zip(*pairs, strict=True)] or [[], []]
        scores += list(np.abs(one.scores[places[0]] - other.scores[places[1]]))
        boxes += list(np.abs(one.boxes[places[0]] - other.boxes[places[1]]).ravel() / max(size))
        if one.masks is not None and other.masks is not None:
            masks += [_mask_iou(one.masks[a], other.masks[b]) for a, b in pairs]
    differences = np.array(scores + boxes, np.float64)
    details = {'max_score_difference': float(max(scores)), 'max_box_difference': float(max(boxes))}
    if masks:
        details['mean_mask_iou'] = float(np.mean(masks))
    return SceneComparison(
        matched / total if total else 1.0,
        float(differences.max()),
        float(differences.mean()),
        sum(len(one.scores) for one in expected),
        details,
    )


def compare_labels(found: Iterable[np.ndarray], expected: Iterable[np.ndarray]) -> SceneComparison:
    """Compare the labels [H, W] of images with those that are expected."""
    shares, differing, pixels = [], 0, 0
    for one, other in zip(found, expected, strict=True):
        wrong = int((one != other).sum()) if one.shape == other.shape else other.size
        shares.append(wrong / other.size)
        differing, pixels = differing + wrong, pixels + other.size
    return SceneComparison(1 - differing / pixels, max(shares), differing / pixels, pixels)


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes [N, 4] and others [M, 4]: [N, M]."""
    sides = np.minimum(boxes[:, None, 2:], others[:, 2:]) - np.maximum(boxes[:, None, :2], others[:, :2])
    shared = sides.clip(0).prod(-1)
    area, other = ((one[:, 2:] - one[:, :2]).prod(-1) for one in (boxes, others))
    return shared / np.maximum(area[:, None] + other - shared, np.finfo(np.float32).tiny)


def _mask_iou(one: np.ndarray, other: np.ndarray) -> float:
    union = (one | other).sum()
    return float((one & other).sum() / union) if union else 1.0
