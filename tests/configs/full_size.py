"""Full-size configs of this project: their data in little, and what a test changes to make a step of one cheap."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from PIL import Image

from distill.base.seeding import seed_everything

STEPS_AN_EPOCH = 1000
SIZES = {'n01440764': ((500, 375), (375, 500)), 'n01443537': ((500, 333), (500, 500))}
"""Width and height of the images of two classes, as most of ImageNet's are."""


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A photograph-like picture, whose file has about the size of one: smooth areas with a little noise."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    pixels = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray((pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8))


def write_imagenet(root: Path) -> None:
    """Write two classes of ImageNet's layout, of JPEG files with ImageNet's sizes."""
    for split in ('train', 'val'):
        for number, (name, sizes) in enumerate(SIZES.items()):
            folder = root / split / name
            folder.mkdir(parents=True)
            for place, size in enumerate(sizes):
                picture(10 * number + place, size).save(folder / f'{name}_{place}.JPEG', quality=90)


def first_of(settings: Config, scope: str = 'mmengine', **changes) -> Any:
    """The first batch of a config's loader, which runs in this process.

    Args:
        settings: The loader.
        scope: The config's ``default_scope``.
        changes: Settings in place of the config's.
    """
    settings = copy.deepcopy(settings)
    settings.update(num_workers=0, persistent_workers=False, **changes)
    seed_everything(0)  # Pipelines draw from the generators of the process.
    with DefaultScope.overwrite_default_scope(scope):
        return next(iter(Runner.build_dataloader(settings, seed=0)))


def schedulers_of(config: Config, wrapper: OptimWrapper) -> list:
    """A config's schedules for its optimizer."""
    return [
        PARAM_SCHEDULERS.build(
            copy.deepcopy(settings), default_args=dict(optimizer=wrapper, epoch_length=STEPS_AN_EPOCH)
        )
        for settings in config.param_scheduler
    ]


def write_coco(root: Path) -> None:
    """Write COCO's layout: images of its sizes, two wide and two high, with three objects each, of its 80 classes."""
    from mmdet.datasets import CocoDataset

    names = CocoDataset.METAINFO['classes']
    categories = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
    for split in ('train', 'val'):
        (root / f'{split}2017').mkdir(parents=True)
        images, annotations = [], []
        for number, (width, height) in enumerate([(640, 480), (427, 640), (640, 427), (480, 640)], 1):
            picture(number, (width, height)).save(root / f'{split}2017' / f'{number:012}.jpg', quality=90)
            images.append(dict(id=number, file_name=f'{number:012}.jpg', width=width, height=height))
            for place in range(3):
                x, y, w, h = 20 + 120 * place, 30 + 90 * place, 150, 190
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=number, category_id=1 + (29 * len(annotations)) % 80,
                    bbox=[x, y, w, h], area=w * h, iscrowd=0, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                ))  # fmt: skip
        (root / 'annotations').mkdir(exist_ok=True)
        content = json.dumps(dict(images=images, annotations=annotations, categories=categories))
        (root / 'annotations' / f'instances_{split}2017.json').write_text(content)


def write_ade20k(root: Path) -> None:
    """Write ADE20K's layout: images of its sizes, whose maps hold the label 0 and the first and last class."""
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True)
        for number, (width, height) in enumerate([(683, 512), (512, 683), (256, 256), (1280, 960)], 1):
            picture(number, (width, height)).save(root / 'images' / split / f'ADE_{number:08}.jpg', quality=90)
            labels = np.repeat(np.array([0, 1, 150, 75], np.uint8), -(-width // 4))[:width]
            Image.fromarray(np.tile(labels, (height, 1))).save(root / 'annotations' / split / f'ADE_{number:08}.png')
