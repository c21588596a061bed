"""Look at each object of a file: its box, area, crowd flag and mask."""

import math
from collections import Counter
from dataclasses import dataclass, field

from distill.downstream.annotations.masks import mask_area, mask_box, mend_polygons
from distill.downstream.annotations.reading import refuse

BOXES = "COCO's boxes are x, y, width, height in pixels"


@dataclass
class Objects:
    """What was found out about a file's objects.

    Attributes:
        filled: What was filled in or mended, with the number of objects.
        tiny: Objects with a side below a pixel, which mmdet leaves out of training.
        outside: Objects whose box lies outside their image, which mmdet leaves out of training.
        beyond: Objects whose box reaches out of its image by more than a pixel, and the first such.
    """

    filled: Counter = field(default_factory=Counter)
    tiny: int = 0
    outside: int = 0
    beyond: list[int] = field(default_factory=list)


def mend_objects(annotations: list[dict], sizes: dict, where: str, masks: bool, masked: bool) -> Objects:
    """Mend the objects of a file in place.

    Args:
        annotations: Annotations with ``image_id``.
        sizes: Id of an image → width and height in pixels, as far as known.
        where: The file's name in messages.
        masks: Masks are used, so they are mended too.
        masked: Every object must have a mask.

    Raises:
        ValueError: A box, an area, a crowd flag or a mask is malformed, or missing where nothing tells it.
    """
    found = Objects()
    for place, annotation in enumerate(annotations):
        mask = annotation.get('segmentation')
        if mask and (masks or not annotation.get('bbox') or not _positive(annotation.get('area'))):
            mask = _mask(annotation, found)
        if masked and not mask:
            problem = (
                'has a segmentation that is no polygon of 3 points or more and no run-length encoding'
                if annotation.get('segmentation')
                else 'has no segmentation'
            )
            refuse(where, 'annotations', place, annotation, problem, 'add its mask, or train boxes only')
        box = annotation.get('bbox')
        if not box and mask:
            box = annotation['bbox'] = mask_box(mask)
            found.filled['bbox'] += 1
        x, y, width, height = _check_box(box, where, place, annotation)
        if width < 1 or height < 1:
            found.tiny += 1
        if not _positive(annotation.get('area')):
            _fill_area(annotation, width, height, mask, found, where, place)
        crowd = annotation.get('iscrowd')
        if crowd is None:
            annotation['iscrowd'] = 0
            found.filled['iscrowd'] += 1
        elif crowd not in (0, 1):
            refuse(where, 'annotations', place, annotation, f'has iscrowd {crowd!r:.40}', 'give 0 or 1')
        size = sizes.get(annotation['image_id'])
        if size and (x + width > size[0] + 1 or y + height > size[1] + 1 or x < -1 or y < -1):
            found.beyond.append(place)
            if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
                found.outside += 1
    return found


def _mask(annotation: dict, found: Objects) -> list | dict | None:
    """The object's mask, mended in place."""
    mask = mend_polygons(annotation['segmentation'])
    if mask is not None and mask is not annotation['segmentation']:
        annotation['segmentation'] = mask
        found.filled['polygons'] += 1
    return mask


def _check_box(box, where: str, place: int, annotation: dict) -> list[float]:
    """Check that a box is four numbers with sides that are not negative."""
    try:
        x, y, width, height = box
        if width >= 0 and height >= 0 and math.isfinite(x + y + width + height):
            return box
    except (TypeError, ValueError):
        pass
    problem = f'has the bbox {box!r:.60}' if 'bbox' in annotation else 'has no bbox'
    refuse(where, 'annotations', place, annotation, problem, f'{BOXES}; correct or remove it')


def _positive(value) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _fill_area(annotation: dict, width: float, height: float, mask, found: Objects, where: str, place: int) -> None:
    """Fill in the area from the mask, or from the box: mmdet trains no object whose area is 0."""
    area = annotation.get('area')
    if area is not None and (not isinstance(area, int | float) or area < 0 or area == math.inf):
        refuse(where, 'annotations', place, annotation, f'has the area {area!r:.40}', 'give pixels, or leave it out')
    if area == 0 and width * height == 0:
        return
    annotation['area'] = (mask_area(mask) if mask else 0) or width * height
    found.filled['area'] += 1
