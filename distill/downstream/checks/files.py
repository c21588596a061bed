"""Check that the files which a data set names are there, that there are objects, and that masks fit their images."""

import os
from collections.abc import Mapping, Sequence

from distill.base.classes import first
from distill.downstream.checks.suffixes import check_suffixes, count_suffixes


def check_files(dataset) -> list[str]:
    """Check that images and label maps exist, that none is left out for its suffix, and the sizes of encoded masks.

    Returns:
        Lines for the log.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A mask is of another size than its image, or images with a label map are left out.
    """
    local = not getattr(dataset, 'backend_args', None)
    lines = check_suffixes(dataset) if local else []
    listings: dict[str, set[str]] = {}
    missing = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        for path in (info['img_path'], info.get('seg_map_path')):
            if path is None or not local:
                continue
            folder, name = os.path.split(path)
            # One listing a folder: asking for each file would take minutes on a network drive.
            if folder not in listings:
                listings[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            if name not in listings[folder]:
                missing.append(path)
        check_masks(dataset, info)
    if missing:
        source = f"annotations '{dataset.ann_file}' name" if getattr(dataset, 'ann_file', '') else 'the data set needs'
        raise FileNotFoundError(
            f"{source} '{missing[0]}' ({len(missing)} such), which does not exist; {way_out(missing[0], listings)}"
        )
    return lines


def way_out(path: str, listings: Mapping[str, set[str]]) -> str:
    """What can be done about a missing file, given the names in its folder."""
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    names = listings[folder]
    if stem in names:
        return f"'{stem}' does: leave the suffix out of the list, img_suffix or seg_map_suffix adds it"
    if name.startswith('.') and not suffix:
        return 'take the empty lines out of the list'
    others = sorted(other for other in names if os.path.splitext(other)[0] == stem)
    if others:
        ending = os.path.splitext(others[0])[1]
        return (
            f"'{others[0]}' does: its folder has {count_suffixes(names)}; give all files one suffix and set it "
            f"(img_suffix='{ending}' for images, seg_map_suffix='{ending}' for label maps), or correct the annotations"
        )
    return 'add it or leave it out'


def check_objects(datasets: Sequence) -> None:
    """Check that a detector has at least one object to learn from.

    Args:
        datasets: The training sets. One alone may have none, as the unlabelled part of a half-labelled set.

    Raises:
        ValueError: All images are without objects.
    """
    for dataset in datasets:
        for index in range(len(dataset)):
            instances = dataset.get_data_info(index).get('instances')
            if instances is None or not all(instance.get('ignore_flag') for instance in instances):
                return  # Of a segmenter; or there is one.
    count = sum(map(len, datasets))
    raise ValueError(
        f"none of the {count} training images of '{datasets[0].ann_file}' has an object of the classes "
        f'{first(datasets[0].metainfo["classes"])} that is no crowd; set metainfo.classes and ann_file right'
    )


def check_masks(dataset, info: dict) -> None:
    """Check the sizes of an image's run-length encoded masks.

    Args:
        dataset: The data set of the image.
        info: What the data set knows of the image (`get_data_info`).

    Raises:
        ValueError: A mask is of another size than its image.
    """
    size = (info.get('height'), info.get('width'))
    for instance in info.get('instances', ()):
        mask = instance.get('mask')
        if isinstance(mask, dict) and tuple(mask['size']) != size:
            raise ValueError(
                f"annotations '{dataset.ann_file}' have a mask of {size_text(mask['size'])} for the image "
                f"'{info['img_path']}' of {size_text(size)}; they must be of one size"
            )


def size_text(size: Sequence[int]) -> str:
    """A height and width for people."""
    return '×'.join(map(str, size)) + ' pixels (height × width)'
