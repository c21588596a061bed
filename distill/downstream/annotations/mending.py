"""Mend the content of an annotation file, and say in one line what was mended."""

import os
from pathlib import Path

from PIL import Image

from distill.downstream.annotations.ids import mend_ids, whole_number
from distill.downstream.annotations.objects import BOXES, Objects, mend_objects
from distill.downstream.annotations.reading import refuse

EXIF_ORIENTATION = 0x0112
"""Of 5 to 8, the image is stored lying on its side."""


def mend(content: dict, where: str, masks: bool = False, masked: bool = False, folder: str | None = None) -> list[str]:
    """Mend the content of a COCO file in place. An intact file stays as it is.

    Args:
        content: Contents of the file, as `reading.read_coco` returns them.
        where: The file's name in messages.
        masks: Masks are used, so they are mended too.
        masked: Every object must have a mask.
        folder: Where the images are, to look up a size that the file lacks. None looks nothing up.

    Returns:
        Lines for the log.

    Raises:
        ValueError: Something is wrong that cannot be mended without a guess; the message names the entry.
        FileNotFoundError: An image whose size the file lacks does not exist.
    """
    done = mend_ids(content, where)
    done += _sizes(content['images'], where, folder)
    sizes = {image['id']: (image['width'], image['height']) for image in content['images'] if image.get('width')}
    found = mend_objects(content['annotations'], sizes, where, masks, masked)
    done += [f'filled in or corrected {key} of {count} objects' for key, count in found.filled.items()]
    lines = [f'{where}: {"; ".join(done)}'] if done else []
    return lines + ([] if folder is None else _boxes(content, found, sizes, where))


def _sizes(images: list[dict], where: str, folder: str | None) -> list[str]:
    """Fill in the sizes of images from their files, of which only the header is read."""
    filled = 0
    for place, image in enumerate(images):
        found = [image.get('width'), image.get('height')]
        if all(type(side) is int and side > 0 for side in found):
            continue
        for key, side in zip(('width', 'height'), found, strict=True):
            if side is not None and (whole_number(side) is None or whole_number(side) < 0):
                refuse(where, 'images', place, image, f'has the {key} {side!r:.40}', 'give pixels, or leave it out')
        if all(whole_number(side) for side in found):
            image['width'], image['height'] = map(whole_number, found)
        elif folder is None:
            image.pop('width', None)  # `mend` then knows that there is no size.
            continue
        else:
            image['width'], image['height'] = image_size(os.path.join(folder, image['file_name']), where)
        filled += 1
    return [f'filled in or corrected width and height of {filled} images'] if filled else []


def image_size(path: str | Path, where: str) -> tuple[int, int]:
    """Width and height of an image as mmcv loads it, out of the file's header.

    Args:
        path: The image.
        where: Name of the file that lacks the size.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no image.
    """
    try:
        with Image.open(path) as image:
            lies = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
            return (image.height, image.width) if lies else image.size
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{where} name '{path}', which does not exist; add it or leave it out of the file"
        ) from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{where} lack the size of '{path}', which cannot be decoded ({error}); replace it or leave it out"
        ) from None


def _boxes(content: dict, found: Objects, sizes: dict, where: str) -> list[str]:
    """Lines about boxes that mmdet leaves out of training, and an error for boxes in another format."""
    annotations = content['annotations']
    count = len(annotations)
    if count and found.tiny == count:
        raise ValueError(
            f'{where}: all {count} boxes have a side below a pixel, the first is {annotations[0]["bbox"]}; {BOXES}, '
            'not fractions of the image'
        )
    if len(found.beyond) > count / 2:
        place = found.beyond[0]
        width, height = sizes[annotations[place]['image_id']]
        raise ValueError(
            f'{where}: {len(found.beyond)} of {count} boxes reach out of their images, annotations[{place}] '
            f'(id {annotations[place]["id"]}) is {annotations[place]["bbox"]} in {width} × {height} pixels; {BOXES}, '
            'not x1, y1, x2, y2'
        )
    left_out = []
    if found.tiny:
        left_out.append(f'{found.tiny} with a side below a pixel')
    if found.outside:
        left_out.append(f'{found.outside} outside their image')
    if not left_out:
        return []
    return [
        f'{where}: of {count} boxes, mmdet leaves out of training {" and ".join(left_out)}; when scored, '
        'these count as objects that were not found'
    ]
