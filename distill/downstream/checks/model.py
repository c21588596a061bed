"""Check a data set against the model that trains on it: classes, also those of checkpoints, and the size of crops."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from distill.base.classes import first, match_classes

OTHER_CLASSES = ('rpn_head', 'semantic_head')
"""Parts of detectors whose number of classes is not the data set's."""


def check_classes(dataset, model: nn.Module, part: str) -> None:
    """Check the number of classes.

    Args:
        dataset: A data set with ``metainfo``.
        model: A detector or segmenter.
        part: The data set's name in messages: ``training``, ``validation`` or ``test``.

    Raises:
        ValueError: A head has another number, or the annotations lack a class.
    """
    classes = dataset.metainfo.get('classes') or ()
    named = ', '.join(classes[:4]) + (', …' if len(classes) > 4 else '')
    if len(getattr(dataset, 'cat_ids', classes)) != len(classes):
        known = [category['name'] for category in json.loads(Path(dataset.ann_file).read_text())['categories']]
        lacking = [name for name in classes if name not in known]
        raise ValueError(
            f"annotations '{dataset.ann_file}' lack the class '{lacking[0]}' ({len(lacking)} such) of the {part} set; "
            f'they have {", ".join(known[:6])}{", …" if len(known) > 6 else ""}: set metainfo.classes to these'
        )
    for name, module in model.named_modules():
        count = getattr(module, 'num_classes', None)
        if not name or name.startswith('backbone') or name.endswith(OTHER_CLASSES) or not isinstance(count, int):
            continue
        if count != len(classes):
            raise ValueError(
                f'the {part} set has {len(classes)} classes ({named}) and model.{name} has {count}; '
                f'set its num_classes={len(classes)}'
            )


def check_crop(dataset, strides: Sequence[int]) -> None:
    """Check that a segmenter's crop is not smaller than a pixel of its feature maps.

    Args:
        dataset: A data set with a pipeline.
        strides: The backbone's strides in pixels.

    Raises:
        ValueError: The crop is smaller than the largest stride.
    """
    for step in dataset.pipeline.transforms:
        crop = getattr(step, 'crop_size', None)
        if crop is not None and strides and 1 <= min(crop) < max(strides):
            raise ValueError(
                f'{type(step).__name__}.crop_size {tuple(crop)} is smaller than the largest stride of the backbone, '
                f'{max(strides)}; choose at least {max(strides)} pixels a side'
            )


def check_order(classes: Sequence[str], found_in: str, expected: Sequence[str], expected_in: str) -> None:
    """Check that two lists name the same classes in the same order.

    Raises:
        ValueError: Names or order differ; the message has the difference.
    """
    places = match_classes(classes, expected, found_in, expected_in)
    if places != sorted(places):
        place = next(k for k, other in enumerate(places) if k != other)
        raise ValueError(
            f"{found_in} has '{classes[place]}' in place {place}, where {expected_in} has '{expected[place]}'; "
            f'set metainfo.classes of both to one order: {first(expected)}'
        )


def check_checkpoint(meta: dict, classes: Sequence[str], path: str, starts: bool) -> str | None:
    """Compare the classes that a checkpoint was trained with, if it says so, with those of the data.

    Args:
        meta: The checkpoint's ``meta``.
        classes: The data set's classes.
        path: The checkpoint.
        starts: The checkpoint only starts another training (``load_from``), which may have other classes.

    Returns:
        A line for the log where the training begins with weights of other classes.

    Raises:
        ValueError: Names or order differ.
    """
    saved = saved_classes(meta)
    if saved is None or not classes:
        return None
    if starts and set(saved) != set(classes):
        return f"checkpoint '{path}' was trained with other classes ({first(saved)}); training goes on from its weights"
    check_order(saved, f"checkpoint '{path}'", classes, 'metainfo.classes')
    return None


def saved_classes(meta: dict) -> Sequence[str] | None:
    """The classes in a checkpoint's ``meta``, where this project, mmengine or earlier versions of mmdet put them."""
    places = [place for place in (meta.get('dataset_meta'), meta) if isinstance(place, dict)]
    found = [place[key] for place in places for key in ('classes', 'CLASSES') if place.get(key)]
    return found[0] if found and not isinstance(found[0], str) else None
