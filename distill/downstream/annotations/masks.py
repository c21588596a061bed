"""The masks of objects: polygons and run-length encodings as mmdet and pycocotools can use both alike."""

import math

import numpy as np
from pycocotools import mask as coco_masks

POLYGON = 6
"""Numbers that a polygon has at the least."""


def mend_polygons(segmentation) -> list | dict | None:
    """Mend an object's mask, as far as that loses nothing.

    Args:
        segmentation: ``segmentation`` of an annotation.

    Returns:
        The mask: a list of polygons with at least 3 points each, or a run-length encoding; None if that cannot be.
        mmdet passes over polygons with fewer points when it trains, and pycocotools takes some of them for boxes.
    """
    if isinstance(segmentation, dict):
        return segmentation if _is_rle(segmentation) else None
    if not isinstance(segmentation, list) or not segmentation:
        return None
    polygons = [segmentation] if isinstance(segmentation[0], int | float) else segmentation
    if not all(_is_numbers(polygon) for polygon in polygons):
        return None
    good = [polygon for polygon in polygons if len(polygon) >= POLYGON and len(polygon) % 2 == 0]
    if good == segmentation:
        return segmentation
    return good or None


def _is_rle(mask: dict) -> bool:
    size = mask.get('size')
    return (
        isinstance(mask.get('counts'), str | list)
        and isinstance(size, list)
        and len(size) == 2
        and all(type(pixels) is int and pixels > 0 for pixels in size)
    )


def _is_numbers(polygon) -> bool:
    try:
        return math.isfinite(sum(polygon))
    except TypeError:
        return False


def encoded(mask: dict) -> dict:
    """A run-length encoding in the compressed form, which pycocotools measures."""
    return mask if isinstance(mask['counts'], str) else coco_masks.frPyObjects(mask, *mask['size'])


def mask_area(mask: list | dict) -> float:
    """The area of a mask in pixels; polygons of an object are parts of it."""
    if isinstance(mask, dict):
        return float(coco_masks.area(encoded(mask)))
    total = 0.0
    for polygon in mask:
        x, y = np.asarray(polygon, float).reshape(-1, 2).T
        total += 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
    return total


def mask_box(mask: list | dict) -> list[float]:
    """The box around a mask: x, y, width, height."""
    if isinstance(mask, dict):
        return [float(value) for value in coco_masks.toBbox(encoded(mask))]
    points = np.concatenate([np.asarray(polygon, float).reshape(-1, 2) for polygon in mask])
    low, high = points.min(axis=0), points.max(axis=0)
    return [*map(float, low), *map(float, high - low)]
