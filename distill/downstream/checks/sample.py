"""Check one sample at a time: an image against its annotations, a label map against the classes."""

import os
import re
import time
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image

from distill.downstream.checks.files import size_text
from distill.downstream.checks.labels import NONE, LabelCensus, check_label_file, colour_message, damaged_labels
from distill.downstream.loading import damaged

LOADED_BEFORE = 32
"""Samples of each set that are loaded before training starts at the least."""
LOADING_S = 5.0
"""Seconds for which more of them are loaded; and then label maps alone, if all so far have the same label."""
ENDINGS = {b'\xff\xd8': b'\xff\xd9', b'\x89P': b'IEND\xaeB`\x82'}
"""First bytes of a JPEG and a PNG, and what a whole file has among its last."""


@TRANSFORMS.register_module()
class CheckSample(BaseTransform):
    """Stop at a sample whose image, annotations and label map do not fit; comes after the steps that load them.

    Args:
        num_classes: Labels must be smaller. None leaves it to `CheckDataHook`, which fills in the number of the
            segmenter's classes; without that hook labels are not checked.
        ignore_index: The label that is allowed besides; None as above.
    """

    def __init__(self, num_classes: int | None = None, ignore_index: int | None = None):
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        """Check one sample.

        Raises:
            ValueError: The image is incomplete, the image or the label map is of another size than it should be, the
                label map is stored in a way that changes labels, or a label is out of range.
        """
        check_whole(results.get('img_path'))
        size = tuple(results['ori_shape'][:2])
        expected = (results.get('height', size[0]), results.get('width', size[1]))
        if size != expected:
            raise ValueError(
                f"image '{results['img_path']}' has {size_text(size)} but its annotations are for "
                f'{size_text(expected)}; annotate it again or put the right image there'
            )
        if results.get('seg_map_path'):
            check_label_file(results['seg_map_path'])
        labels = results.get('gt_seg_map')
        if labels is not None:
            self._check_labels(labels, size, results['seg_map_path'], results['img_path'])
        return results

    def _check_labels(self, labels: np.ndarray, size: tuple[int, int], path: str, image: str) -> None:
        if labels.ndim == 3:
            raise ValueError(colour_message(path, labels))
        if labels.shape != size:
            raise ValueError(
                f"label map '{path}' has {size_text(labels.shape)} and its image '{image}' {size_text(size)}; "
                'they must be of one size'
            )
        if self.num_classes is None:
            return
        ignored = NONE if self.ignore_index is None else self.ignore_index
        wrong = labels[(labels >= self.num_classes) & (labels != ignored)]
        if wrong.size:
            raise ValueError(
                f"label map '{path}' has label {wrong.max()} ({wrong.size} pixels) but the model has "
                f'{self.num_classes} classes, 0 to {self.num_classes - 1} after loading, and {ignored} for '
                'none; set num_classes, reduce_zero_label or the labels right'
            )

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes}, ignore_index={self.ignore_index})'


def check_whole(path: str | None) -> None:
    """Check that an image on this machine's disks is not cut off; OpenCV shows grey in place of what is missing.

    The last bytes of a JPEG or a PNG tell. Where they do not, Pillow decodes the image, since some programs write
    something of their own behind it.

    Raises:
        ValueError: The image is cut off.
    """
    try:
        with open(path or '', 'rb') as file:
            ending = ENDINGS.get(file.read(2))
            file.seek(-min(64, file.seek(0, os.SEEK_END)), os.SEEK_END)
            if ending is None or ending in file.read():
                return
    except OSError:
        return
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError) as error:
        raise damaged(path, error) from None


def check_samples(dataset, census: LabelCensus | None = None, log: Callable[[str], None] | None = None) -> None:
    """Load samples in random order, for some seconds, as far as `CheckSample`, which checks them.

    Args:
        dataset: A data set with a pipeline; without a `CheckSample` in it nothing is loaded.
        census: Counts the labels.
        log: Takes each warning of the samples once. Workers then leave it out.

    Raises:
        ValueError: A sample is wrong, or cannot be loaded.
    """
    steps = dataset.pipeline.transforms
    end = next((place for place, step in enumerate(steps, 1) if isinstance(step, CheckSample)), 0)
    if not end:
        return
    census = census or LabelCensus()
    census.learn(dataset, steps[end - 1])
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    with warnings.catch_warnings(record=log is not None) as found:
        read = load_until(dataset, order, steps[:end], census, LOADED_BEFORE, lambda: True)
        maps = [step for step in steps_inside(dataset.pipeline) if getattr(step, 'with_seg', False)][:1]
        if maps and not census.paths:  # Test-time augmentation loads them later.
            read = load_until(dataset, order, maps, census, 0, lambda: True)
        elif maps and census.doubtful:
            # Label maps alone take a fraction of the time.
            read += load_until(dataset, order[read:], maps, census, 0, lambda: census.doubtful)
    census.complete &= read == len(order)
    for message in dict.fromkeys(str(warning.message) for warning in found or ()):
        log(message)
        warnings.filterwarnings('ignore', message=re.escape(message))


def steps_inside(pipeline) -> Iterator:
    """The steps of a pipeline, those of test-time augmentation too."""
    for step in pipeline.transforms:
        yield step
        for inside in getattr(step, 'subroutines', ()):
            yield from steps_inside(inside)


def load_until(dataset, order: list[int], steps: list, census: LabelCensus, least: int, go_on: Callable) -> int:
    """Load samples by some steps of a pipeline until the time is over.

    Args:
        dataset: A data set.
        order: Indices of the samples.
        steps: Steps of its pipeline.
        census: Counts the labels.
        least: Samples that are loaded whatever the time.
        go_on: Says whether to load the next one.

    Returns:
        Number of samples that were loaded.
    """
    start = time.monotonic()
    for count, index in enumerate(order):
        if not go_on() or (count >= least and time.monotonic() - start > LOADING_S):
            return count
        results = dataset.get_data_info(index)
        for step in steps:
            results = step(results)
            if results is None:  # mmcv's ignore_empty
                break
        labels = (results or {}).get('gt_seg_map')
        if labels is not None and labels.dtype == np.uint8:
            census.add(labels, results['seg_map_path'])
    return len(order)


class LoadNamed:
    """A pipeline's step that loads label maps, with the file's name in the errors of its decoder.

    `CheckDataHook` puts it around the step, which otherwise says in a worker that some file is truncated.

    Args:
        step: The step, whose attributes this has too.
    """

    def __init__(self, step: Callable):
        self.step = step

    def __call__(self, results: dict) -> dict | None:
        """Load a label map.

        Raises:
            ValueError: It cannot be decoded, or the data set and the step differ in ``reduce_zero_label``.
        """
        try:
            return self.step(results)
        except FileNotFoundError:
            raise
        except (OSError, SyntaxError, UnicodeError, Image.DecompressionBombError) as error:
            raise damaged_labels(results['seg_map_path'], error) from None
        except AssertionError as error:
            own, expected = getattr(self.step, 'reduce_zero_label', None), results.get('reduce_zero_label')
            if own == expected:
                raise
            raise ValueError(
                f'the data set has reduce_zero_label={expected} and {type(self.step).__name__} in its pipeline '
                f'reduce_zero_label={own}; set both alike, or leave it out of the pipeline'
            ) from error

    def __getattr__(self, name: str):
        if name == 'step':  # Not yet there while a worker unpickles.
            raise AttributeError(name)
        return getattr(self.step, name)

    def __repr__(self) -> str:
        return repr(self.step)


def name_label_maps(pipeline) -> None:
    """Put `LoadNamed` around the steps of a pipeline that load label maps."""
    for place, step in enumerate(pipeline.transforms):
        if getattr(step, 'with_seg', False) and not isinstance(step, LoadNamed):
            pipeline.transforms[place] = LoadNamed(step)
        for inside in getattr(step, 'subroutines', ()):
            name_label_maps(inside)
