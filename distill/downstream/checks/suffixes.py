"""Files that a segmentation set leaves out, because it lists images by one suffix."""

import os
from collections import Counter
from collections.abc import Iterable

from distill.base.folders import is_image
from distill.base.suffixes import count_suffixes, files_inside, images_that_are_none

__all__ = ['check_suffixes', 'count_suffixes']


def check_suffixes(dataset) -> list[str]:
    """Check what mmseg's listing by ``img_suffix`` and ``seg_map_suffix`` leaves out of a data set's folders.

    Images with another ending are a part of the set if they have a label map; OpenMMLab would train without them.
    Sets that list their images in a file, and those of detectors, say themselves which they have. Nor is anything known
    of data sets with a listing of their own.

    Returns:
        Lines for the log about files that belong to nothing.

    Raises:
        FileNotFoundError: A label map has no image.
        ValueError: Images that have a label map are left out, or what is named like an image is none.
    """
    suffix = getattr(dataset, 'img_suffix', None)
    listing = getattr(type(dataset).load_data_list, '__qualname__', '')
    if suffix is None or listing != 'BaseSegDataset.load_data_list':
        return []
    if dataset.ann_file and not os.path.isdir(dataset.ann_file):
        return twice_named(dataset)
    folder, labels = (dataset.data_prefix.get(key) or '' for key in ('img_path', 'seg_map_path'))
    none = [os.path.join(place, name) for place in (folder, labels) for name in images_that_are_none(place)]
    if none:
        raise ValueError(
            f"'{none[0]}' ({len(none)} such) is named like an image but is a folder or a link to nothing; put the "
            'image there or take it away'
        )
    images = files_inside(folder)
    maps = images if labels == folder else files_inside(labels) if labels else []
    read = {name.removesuffix(suffix) for name in images if name.endswith(suffix)}
    mapped = {name.removesuffix(dataset.seg_map_suffix) for name in maps if name.endswith(dataset.seg_map_suffix)}
    ending = os.path.splitext(suffix)[1]
    others = {name: other_stem(name, suffix) for name in images if is_other(name, ending)}
    others = {name: stem for name, stem in others.items() if stem not in read}
    if labels == folder:
        others = {name: stem for name, stem in others.items() if not name.endswith(dataset.seg_map_suffix)}
    anything = mapped | {os.path.splitext(name)[0] for name in maps} if labels != folder else mapped
    lost = sorted(name for name, stem in others.items() if stem in anything)
    if lost:
        found = Counter({suffix: len(read)}) + Counter(os.path.splitext(name)[1] for name in lost)
        raise ValueError(
            f"images in '{folder}' end in {', '.join(f'{end} ({count})' for end, count in found.items())}, and "
            f"img_suffix='{suffix}' leaves out {len(lost)} with a label map (e.g. '{lost[0]}'); give all one "
            'suffix and set img_suffix to it, or move the others away'
        )
    lines = []
    if others:
        lines.append(
            f"left out of '{folder}', because they neither end in img_suffix='{suffix}' nor have a label map: "
            f"{len(others)} (e.g. '{min(others)}')"
        )
    idle = sorted(mapped - read) if labels != folder else []
    elsewhere = images_beside(folder, labels) if idle else set()
    missing = [stem for stem in idle if os.path.basename(f'{stem}{suffix}') not in elsewhere]
    if missing:
        raise FileNotFoundError(
            f"'{os.path.join(folder, missing[0] + suffix)}' ({len(missing)} such) does not exist, and its label map "
            f"'{os.path.join(labels, missing[0] + dataset.seg_map_suffix)}' does; add the image or take the map away"
        )
    if idle:
        lines.append(f"'{labels}' has {len(idle)} label maps of images that are not in '{folder}' but beside it")
    return lines


def images_beside(folder: str, labels: str) -> set[str]:
    """Names of the files in folders beside an image folder that may share its label maps: they have none of their own.

    Args:
        folder: Folder of images, such as ``images/val``.
        labels: Folder of their label maps, such as ``masks``; or ``masks/val``, which ``images/train`` does not share.
    """
    parent, beside_labels = (os.path.dirname(place.rstrip('/')) for place in (folder, labels))
    names: set[str] = set()
    for other in os.listdir(parent or '.'):
        path = os.path.join(parent, other)
        own = parent != beside_labels and os.path.isdir(os.path.join(beside_labels, other))
        if os.path.isdir(path) and not own and path not in (folder.rstrip('/'), labels.rstrip('/')):
            names.update(os.path.basename(name) for name in files_inside(path))
    return names


def is_other(name: str, ending: str) -> bool:
    """Whether a file is an image of another ending. Those of the same, such as views of the other eye, are a choice."""
    own = os.path.splitext(name)[1]
    return own != ending and is_image(os.path.basename(name))


def other_stem(name: str, suffix: str) -> str:
    """The name of an image without what stands in the place of ``img_suffix``, such as ``_leftImg8bit.png``."""
    return os.path.splitext(name)[0].removesuffix(os.path.splitext(suffix)[0])


def twice_named(dataset) -> list[str]:
    """A line about images that a set's list names more than once."""
    names: Iterable[str] = (dataset.get_data_info(index)['img_path'] for index in range(len(dataset)))
    twice = [name for name, count in Counter(names).items() if count > 1]
    return [f"'{dataset.ann_file}' names '{twice[0]}' more than once ({len(twice)} such)"] if twice else []
