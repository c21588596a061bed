"""Check a data set against the model that trains on it: the number of classes, and the size of crops."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import nn

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
