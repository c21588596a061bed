"""Wrong data is an error that names the file, before a detector or segmenter trains where that can be known then.

Before training: classes of data and model, every image and label map that is named is there, sizes of encoded masks,
the crop; and samples are loaded for some seconds, which are all of a small set. Every sample is checked again when it
is read in training: decoding all label maps of ADE20K in advance would take minutes.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel
from mmengine.registry import DATASETS, HOOKS, TRANSFORMS
from torch import nn

from distill.base.processes import unwrap

LOADED_BEFORE = 32
"""Samples of each set that are loaded before training starts at the least."""
LOADING_S = 5.0
"""How long more of them are loaded."""
OTHER_CLASSES = ('rpn_head', 'semantic_head')
"""Parts of detectors whose number of classes is not the data set's."""


@TRANSFORMS.register_module()
class CheckSample(BaseTransform):
    """Stop at a sample whose image, annotations and label map do not fit; comes after loading.

    Args:
        num_classes: Labels must be below; None for pipelines without label maps.
        ignore_index: The label that is allowed besides.
    """

    def __init__(self, num_classes: int | None = None, ignore_index: int = 255):
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Check one sample.

        Raises:
            ValueError: The image or the label map is of another size than it should be, or a label is out of range.
        """
        size = tuple(results['ori_shape'][:2])
        expected = (results.get('height', size[0]), results.get('width', size[1]))
        if size != expected:
            raise ValueError(
                f"image '{results['img_path']}' has {_pixels(size)} but its annotations are for "
                f'{_pixels(expected)}; annotate it again or put the right image there'
            )
        labels = results.get('gt_seg_map')
        if labels is not None:
            self._check_labels(labels, size, results['seg_map_path'], results['img_path'])
        return results

    def _check_labels(self, labels: np.ndarray, size: tuple[int, int], path: str, image: str) -> None:
        if labels.shape != size:
            raise ValueError(
                f"label map '{path}' has {_pixels(labels.shape)} and its image '{image}' {_pixels(size)}; "
                'they must be of one size'
            )
        if self.num_classes is None:
            return
        wrong = labels[(labels >= self.num_classes) & (labels != self.ignore_index)]
        if wrong.size:
            raise ValueError(
                f"label map '{path}' has label {wrong.max()} ({wrong.size} pixels) but the model has "
                f'{self.num_classes} classes, 0 to {self.num_classes - 1} after loading, and {self.ignore_index} for '
                'none; set num_classes, reduce_zero_label or the labels right'
            )


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Check data and model against each other before training, or before a test."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.checked_test = False

    def before_train(self, runner) -> None:
        """Check the training and validation sets.

        Raises:
            ValueError: They do not fit each other or the model.
            FileNotFoundError: Something that they name is not there.
        """
        parts = {'training': runner.train_loop.dataloader}
        if runner.val_loop is not None:
            parts['validation'] = runner.val_loop.dataloader
        self._check(runner, parts)
        for dataset in base_datasets(runner.train_loop.dataloader.dataset):
            check_crop(dataset, getattr(getattr(_bare(runner.model), 'backbone', None), 'strides', ()))

    def before_test(self, runner) -> None:
        """Check the test set, once for all tests of a runner."""
        if not self.checked_test:
            self._check(runner, {'test': runner.test_loop.dataloader})
        self.checked_test = True

    def _check(self, runner, loaders: dict) -> None:
        for part, loader in loaders.items():
            for dataset in base_datasets(loader.dataset):
                check_classes(dataset, _bare(runner.model), part)
                if is_main_process():
                    check_files(dataset)
                    check_samples(dataset)


def insert_checks(config: Config) -> None:
    """Put `CheckSample` after the loading steps of an mmdet or mmseg config's pipelines."""
    head = config.model.get('module', config.model).get('decode_head') or {}
    head = head[-1] if isinstance(head, Sequence) else head
    check = dict(type='CheckSample', num_classes=head.get('num_classes'), ignore_index=head.get('ignore_index', 255))
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in _with_pipelines((config.get(name) or {}).get('dataset') or {}):
            steps = [str(step['type']).rpartition('.')[2] for step in dataset.pipeline]
            loading = [place for place, step in enumerate(steps) if step.startswith('Load')]
            if loading and 'CheckSample' not in steps:
                place = loading[-1] + 1
                dataset.pipeline = [*dataset.pipeline[:place], check, *dataset.pipeline[place:]]


def check_annotations(config: Config) -> None:
    """Check both ends of annotation files that are there; mmdet would say where reading stopped, but not in which file.

    Raises:
        ValueError: One is no JSON object, or a part of one.
    """
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in _with_pipelines((config.get(name) or {}).get('dataset') or {}):
            path = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
            if path.suffix == '.json' and path.is_file():
                with open(path, 'rb') as file:
                    start = file.read(64).strip()
                    file.seek(max(0, path.stat().st_size - 64))
                    end = file.read().strip()
                if not (start.startswith(b'{') and end.endswith(b'}')):
                    raise ValueError(f"annotations '{path}' are no whole JSON file; download or write them again")


def _with_pipelines(dataset: dict) -> Iterator[dict]:
    """Configs of the data sets inside, as wrappers nest them."""
    if 'pipeline' in dataset and 'dataset' not in dataset:
        yield dataset
    for inner in [dataset.get('dataset'), *dataset.get('datasets', ())]:
        if inner:
            yield from _with_pipelines(inner)


def base_datasets(dataset) -> list:
    """The data sets that read files, within whatever wraps them."""
    inside = vars(dataset)
    inner = [inside['dataset']] if 'dataset' in inside else inside.get('datasets', [])
    return [base for one in inner for base in base_datasets(one)] if inner else [dataset]


def build_not_empty(dataset: dict):
    """Build a training set from its config.

    Raises:
        ValueError: No image is left after the data set has filtered them.
    """
    try:
        built = DATASETS.build(dataset)
        if len(built):
            return built
    except ValueError as error:
        if 'at least one array' not in str(error):  # What numpy says when mmengine puts no annotations together.
            raise
    base = next(_with_pipelines(dataset), dataset)
    source = os.path.join(base.get('data_root', ''), base.get('ann_file', ''))
    classes = ', '.join((base.get('metainfo') or {}).get('classes', ())[:4]) or 'of the data set'
    raise ValueError(
        f"training set '{source}' has no image with an object of the classes {classes}, …; "
        'set metainfo.classes and filter_cfg to what the annotations have'
    )


def check_classes(dataset, model: nn.Module, part: str) -> None:
    """Check the number of classes.

    Args:
        dataset: A data set with ``metainfo``.
        model: A detector or segmenter.
        part: What to call the data set.

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


def check_files(dataset) -> None:
    """Check that images and label maps are there, and the sizes of encoded masks.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A mask is of another size than its image.
    """
    listings: dict[str, set[str]] = {}
    missing = []
    local = not getattr(dataset, 'backend_args', None)
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
        for instance in info.get('instances', ()):
            mask = instance.get('mask')
            size = (info.get('height'), info.get('width'))
            if isinstance(mask, dict) and tuple(mask['size']) != size:
                raise ValueError(
                    f"annotations '{dataset.ann_file}' have a mask of {_pixels(mask['size'])} for the image "
                    f"'{info['img_path']}' of {_pixels(size)}; they must be of one size"
                )
    if missing:
        source = f"annotations '{dataset.ann_file}' name" if getattr(dataset, 'ann_file', '') else 'the data set needs'
        raise FileNotFoundError(
            f"{source} '{missing[0]}' ({len(missing)} such), which does not exist; add it or leave it out"
        )


def check_samples(dataset) -> None:
    """Load samples in random order, for some seconds, as far as `CheckSample`, which checks them."""
    steps = dataset.pipeline.transforms
    end = next((place for place, step in enumerate(steps, 1) if isinstance(step, CheckSample)), 0)
    start = time.monotonic()
    for count, index in enumerate(np.random.default_rng(0).permutation(len(dataset)).tolist()):
        if count >= LOADED_BEFORE and time.monotonic() - start > LOADING_S:
            break
        results = dataset.get_data_info(index)
        for step in steps[:end]:
            results = step(results)


def check_crop(dataset, strides: Sequence[int]) -> None:
    """Check that a segmenter's crop is not smaller than a pixel of its maps.

    Raises:
        ValueError: It is.
    """
    for step in dataset.pipeline.transforms:
        crop = getattr(step, 'crop_size', None)
        if crop is not None and strides and 1 <= min(crop) < max(strides):
            raise ValueError(
                f'{type(step).__name__}.crop_size {tuple(crop)} is smaller than the largest stride of the backbone, '
                f'{max(strides)}; choose at least {max(strides)} pixels a side'
            )


def _bare(model: nn.Module) -> nn.Module:
    model = unwrap(model)
    return model.module if isinstance(model, BaseTTAModel) else model


def _pixels(size: Sequence[int]) -> str:
    return '×'.join(map(str, size)) + ' pixels (height × width)'
