"""Draw what a config trains on, after its pipeline: scenes with their ground truth, or views of a distillation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor

from distill.base.seeding import seed_everything
from distill.data.shards import NO_LABEL
from distill.data.stream_views import StreamViews
from distill.downstream.pictures import draw_boxes, draw_labels, enlarge, side_by_side
from distill.training.experiment import SCOPES
from distill.training.runner import named_data

MIN_SIDE = 320
"""Pixels that the longer side of a drawn image has at the least."""
VIEWS = 4
"""Number of views of an image in a distillation's picture: those of the first epochs."""


def browse(config: Config, split: str, count: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Draw samples of a config's data set after its pipeline.

    Args:
        config: A config of any task.
        split: ``train``, ``val`` or ``test``.
        count: Number of samples, evenly chosen.
        seed: Seed of the augmentation.

    Yields:
        A name for the file, and the picture, uint8 [3, H, W].
    """
    settings = config[f'{split}_dataloader'].dataset
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')), named_data(settings):
        dataset = DATASETS.build(settings)
    if config.get('default_scope') in SCOPES:
        check_scenes(dataset)
    if isinstance(dataset, StreamViews):  # Its first images, since nobody knows how many there are.
        yield from (draw_views(dataset, place) for place in range(count))
        return
    chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()
    for index in chosen:
        if config.get('default_scope') in SCOPES:
            seed_everything(seed, 0, index, 1)
            yield draw_scene(dataset[index], dataset.metainfo['classes'], index)
        else:
            yield draw_views(dataset, index)


def check_scenes(dataset) -> None:
    """Check the files of a detector's or segmenter's data set; views of a student are drawn without mmcv and mmdet."""
    from distill.downstream.checks.files import check_files
    from distill.downstream.checks.hook import base_datasets
    from distill.downstream.checks.sample import name_label_maps

    for base in base_datasets(dataset):
        check_files(base)
        name_label_maps(base.pipeline)


def draw_scene(sample: dict, classes: tuple[str, ...], index: int) -> tuple[str, Tensor]:
    """Draw a packed sample of mmdet or mmseg, whose image is BGR, and beside it the image with its ground truth.

    Args:
        sample: What the last step of a pipeline returns.
        classes: Names of the classes.
        index: Number of the sample, for the name.

    Returns:
        A name for the file, and the picture, uint8 [3, H, W].
    """
    canvas, zoom = enlarge(sample['inputs'].flip(0).to(torch.uint8), MIN_SIDE)
    truth = sample['data_samples']
    if 'gt_instances' in truth:
        drawn = draw_boxes(canvas, truth.gt_instances, zoom, classes)
    else:
        drawn = draw_labels(canvas, truth.gt_sem_seg.data[0], zoom, len(classes))
    return f'{index:06d}_{Path(truth.img_path).stem}', side_by_side([canvas, drawn])


def draw_views(dataset, index: int) -> tuple[str, Tensor]:
    """Draw some views of an image of a `distill.data.views.Views` set in a row, below them corrupted
    copies if there are any; the name has the class.

    A stream shows one view of an image in a pass, and that alone is drawn.
    """
    is_stream = isinstance(dataset, StreamViews)
    views = [dataset[index]] if is_stream else [dataset[index, view] for view in range(VIEWS)]
    images = [enlarge(torch.as_tensor(np.asarray(image)), MIN_SIDE)[0] for image, *_ in views]
    label = views[0][1]
    name = f'{index:06d}' if label == NO_LABEL else f'{index:06d}_{dataset.classes[label]}'
    rows = [side_by_side(images)]
    if getattr(dataset, 'corruption', None) is not None:
        rows.append(side_by_side([enlarge(view[5][0], MIN_SIDE)[0] for view in views]))
    return name, torch.cat(rows, dim=1)
